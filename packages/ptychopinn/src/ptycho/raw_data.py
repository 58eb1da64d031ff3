"""`RawData` under its legacy path: the arrays of a scan by their old names, over one checked `Scan`.

Two constructors mean two things. `from_coords_without_pc` is the client's: the frames are counts whatever
their type, positions count pixel centres, the shape of `objectGuess` is the canvas of the result, and samples
are counted per scan point. All others follow the rules of scan files (`docs/reference/scan-format.md`) and
count groups in total. Positions and offsets are (x, y) here, and nowhere below.
"""

from __future__ import annotations

import logging
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np

from ptycho import _watch
from ptycho._offsets import Origin
from ptycho_config.errors import ConfigError, DataError
from ptycho_core import scan_from_arrays
from ptycho_core.io import open_scan, save_scan
from ptycho_core.physics.normalisation import unit_factor
from ptycho_core.scan import Scan
from ptycho_core.scan.grouping import Groups, choose_frames, group_frames

__all__ = ["RawData"]

_LOG = logging.getLogger("ptychopinn")


class RawData:
    """A scan by its legacy names."""

    def __init__(
        self,
        xcoords: np.ndarray,
        ycoords: np.ndarray,
        xcoords_start: np.ndarray | None,
        ycoords_start: np.ndarray | None,
        diff3d: np.ndarray,
        probeGuess: np.ndarray | None,
        scan_index: np.ndarray | None = None,
        objectGuess: np.ndarray | None = None,
        Y: np.ndarray | None = None,
    ) -> None:
        """Check the arrays as a scan file would be.

        Raises:
            DataError: they make no scan; one line says why.
        """
        scan = _scan_of(xcoords, ycoords, diff3d, probeGuess, "auto", "auto", "index", Y)
        self._adopt(scan, diff3d, probeGuess, scan_index, objectGuess, (xcoords_start, ycoords_start))

    def _adopt(
        self,
        scan: Scan,
        diff3d: np.ndarray,
        probe: np.ndarray | None,
        scan_index: np.ndarray | None,
        obj: np.ndarray | None,
        starts: tuple[np.ndarray | None, np.ndarray | None] = (None, None),
        *,
        from_client: bool = False,
    ) -> None:
        self.scan, self._from_client = scan, from_client
        self.diff3d = diff3d
        self.probeGuess = scan.probe if probe is None else probe
        self.objectGuess = obj
        n = scan.n_frames
        self.scan_index = np.zeros(n, np.int64) if scan_index is None else np.asarray(scan_index)[:n]
        self.xcoords, self.ycoords = self._given_positions.T
        self.xcoords_start = self.xcoords if starts[0] is None else np.asarray(starts[0])
        self.ycoords_start = self.ycoords if starts[1] is None else np.asarray(starts[1])
        self.Y = scan.patch_truth

    @classmethod
    def from_file(cls, train_data_file_path: str | Path) -> RawData:
        """Read a scan file; counts and amplitudes are told apart, `bad_pixels` is used.

        Raises:
            DataError: the file is missing, damaged or no scan.
        """
        _watch.watch_over_this_process()
        return cls.from_scan(open_scan(train_data_file_path))

    @classmethod
    def from_scan(cls, scan: Scan) -> RawData:
        """Give a scan the legacy names."""
        frames = np.asarray(scan.frames)
        if scan.dc != "center":
            frames = np.fft.fftshift(frames, axes=(-2, -1))
        raw = cls.__new__(cls)
        raw._adopt(scan, frames, None, None, scan.ground_truth)
        return raw

    @classmethod
    def from_files(
        cls, train_data_file_path: str | Path, test_data_file_path: str | Path
    ) -> tuple[RawData, RawData]:
        """Read the scan to train on and the one to test on."""
        return cls.from_file(train_data_file_path), cls.from_file(test_data_file_path)

    @classmethod
    def from_coords_without_pc(
        cls,
        xcoords: np.ndarray,
        ycoords: np.ndarray,
        diff3d: np.ndarray,
        probeGuess: np.ndarray | None,
        scan_index: np.ndarray | None = None,
        objectGuess: np.ndarray | None = None,
    ) -> RawData:
        """Take what the client has in memory: counts, and positions in pixels of its object.

        Raises:
            DataError: the arrays make no scan: not finite, not square, not one position for each frame.
        """
        _watch.watch_over_this_process()
        scan = _scan_of(xcoords, ycoords, diff3d, probeGuess, "counts", "center", "center", None)
        raw = cls.__new__(cls)
        raw._adopt(scan, np.asarray(diff3d), probeGuess, scan_index, objectGuess, from_client=True)
        return raw

    def to_file(self, file_path: str | Path) -> Path:
        """Write the scan as a scan file.

        Raises:
            OutputError: it could not be written.
        """
        return save_scan(self.labelled, file_path)

    @cached_property
    def labelled(self) -> Scan:
        """The scan with its object as the truth that supervised training learns."""
        if self.objectGuess is None or self.scan.ground_truth is not None:
            return self.scan
        obj = np.ascontiguousarray(np.squeeze(self.objectGuess)).astype(np.complex64)
        if obj.ndim != 2:
            raise DataError(f"`objectGuess` has shape {obj.shape}; expected one layer, (rows, columns).")
        return replace(self.scan, ground_truth=obj)

    @property
    def canvas(self) -> tuple[int, int] | None:
        """Rows and columns of the client's object; None where the result has a canvas of its own."""
        if not self._from_client or self.objectGuess is None:
            return None
        rows, columns = np.squeeze(self.objectGuess).shape[-2:]
        return rows, columns

    def generate_grouped_data(
        self,
        N: int,
        K: int = 4,
        nsamples: int | None = 1,
        dataset_path: str | None = None,
        seed: int | None = None,
        sequential_sampling: bool = False,
        gridsize: int | None = None,
        enable_oversampling: bool = False,
        neighbor_pool_size: int | None = None,
        n_subsample: int | None = None,
        subsample_seed: int | None = None,
    ) -> dict[str, Any]:
        """Group the frames and return the arrays of the groups.

        Args:
            N: side of a frame.
            K: nearest neighbours that a group is drawn from; without a meaning for gridsize 1.
            nsamples: groups in total, or for the client's data samples per scan point; all frames when None.
            dataset_path: ignored.
            gridsize: that of the registry when not given.
        Returns:
            Arrays by name; see `docs/reference/legacy.md`.
        Raises:
            ConfigError: `N` is another than that of the frames, too few neighbours, OVERSAMPLING-001.
            DataError: fewer frames than a group has.
        """
        scan = self.scan
        if scan.frame_px != N:
            raise ConfigError(
                f"`N` is {N} and the frames are {scan.frame_px} px wide. Use frames of `N` px, or another "
                "model."
            )
        side: int = _registered("gridsize", 1) if gridsize is None else gridsize
        members = side**2
        if members > 1 and members > K + 1:
            raise ConfigError(
                f"`K` (number of nearest neighbours) is {K} and gridsize {side} needs {members - 1} "
                f"neighbours beside each frame. Set it to {members - 1} or more, or gridsize to 1."
            )
        chosen = None
        if n_subsample is not None:
            chosen = choose_frames(scan.n_frames, n_subsample, subsample_seed)
            scan = scan.select(chosen)
        wanted = scan.n_frames if nsamples is None else nsamples
        if self._from_client and nsamples is not None:
            wanted, enable_oversampling = nsamples * scan.n_frames, nsamples > 1
        if members == 1:
            wanted = min(wanted, scan.n_frames)  # the same frame again says nothing new
        groups = group_frames(
            scan.positions_px,
            side,
            neighbor_count=max(1, K),
            n_groups=wanted,
            seed=seed,
            sequential=sequential_sampling,
            enable_oversampling=enable_oversampling,
            neighbor_pool_size=neighbor_pool_size,
        )
        grouped = _arrays(scan, groups, self.canvas)
        grouped |= {"objectGuess": self.objectGuess}
        return grouped if chosen is None else {**grouped, "sample_indices": chosen}

    @property
    def _given_positions(self) -> np.ndarray:
        """Positions (x, y) as they were given."""
        half = 0.5 if self.scan.position_convention == "center" else 0.0
        return self.scan.positions_px[:, ::-1] - half


def _scan_of(
    xcoords: np.ndarray,
    ycoords: np.ndarray,
    frames: np.ndarray,
    probe: np.ndarray | None,
    measurement: Literal["auto", "counts"],
    dc: Literal["auto", "center"],
    convention: Literal["index", "center"],
    patch_truth: np.ndarray | None,
) -> Scan:
    x, y = np.asarray(xcoords, np.float64).ravel(), np.asarray(ycoords, np.float64).ravel()
    if x.shape != y.shape:
        raise DataError(f"`xcoords` has {x.size} values and `ycoords` {y.size}; expected as many of each.")
    return scan_from_arrays(
        np.asarray(frames),
        np.column_stack([y, x]),
        None if probe is None else np.asarray(probe),
        measurement=measurement,
        dc=dc,
        position_convention=convention,
        patch_truth=patch_truth,
        bad_frames="off",  # the client counts on as many as it gave
        counts_per_photon=1.0,  # and on their unit
    )


def _arrays(scan: Scan, groups: Groups, canvas: tuple[int, int] | None) -> dict[str, Any]:
    """Lay frames and offsets out by group: (G, N, N, C), and (G, 1, 2, C) in the order (x, y)."""
    from ptycho._offsets import Offsets

    g, c = groups.indices.shape
    members = scan.amplitude(groups.indices.ravel()).reshape(g, c, scan.frame_px, scan.frame_px)
    alpha = unit_factor(members)
    amplitude = np.ascontiguousarray(np.moveaxis(members, 1, -1))
    origin = Origin(scan, groups, alpha, canvas)
    absolute = np.moveaxis(groups.positions_px()[..., ::-1], 1, -1)[:, None]
    relative = Offsets.of(np.moveaxis(groups.relative[..., ::-1], 1, -1)[:, None], origin)
    offsets = Offsets.of(groups.offsets[:, None, ::-1, None], origin)
    truth = None
    if scan.patch_truth is not None:
        truth = np.moveaxis(scan.patch_truth[groups.indices], 1, -1)
    return {
        "nn_indices": groups.indices,
        "diffraction": amplitude,
        "X_full": amplitude * np.float32(alpha),
        "coords_nn": absolute,
        "coords_start_nn": absolute,
        "coords_offsets": offsets,
        "coords_start_offsets": offsets,
        "coords_relative": relative,
        "coords_start_relative": relative,
        "Y": truth,
    }


def _registered(name: str, default: Any) -> Any:
    """Read an argument that the legacy call leaves out."""
    import ptycho.params

    return ptycho.params.get(name, default)
