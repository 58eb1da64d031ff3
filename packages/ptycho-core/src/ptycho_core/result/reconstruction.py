"""The result of a run: object and probe with all that is known of them."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Bool, Complex, Complex64, Float32, Float64

from ptycho_core.given import expect, expect_path
from ptycho_core.physics.variations import ProbeVariations
from ptycho_core.ranks import Ranks
from ptycho_core.result.history import RunEvent, csv_text, history_table
from ptycho_core.result.stored import (
    OPTIONAL_KEYS,
    PHYSICAL_KEYS,
    RECONSTRUCTION_FILE,
    RECONSTRUCTION_KEYS,
    UNCERTAINTY_KEYS,
    fields_of_file,
    fields_of_tiles,
)
from ptycho_core.result.stored_tiles import StoredTiles, remove_tiles, write_tile
from ptycho_core.result.verdict import Verdict

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["RECONSTRUCTION_FILE", "RECONSTRUCTION_KEYS", "Reconstruction"]

PRODUCT_FILE = "reconstruction.h5"
METRICS_FILE = "metrics.csv"
RUN_FILE = "run.json"
#: What `save` always writes.
ALWAYS_WRITTEN = (RECONSTRUCTION_FILE, PRODUCT_FILE, METRICS_FILE, RUN_FILE)
#: What `save` writes only where it is asked for, or where there is something to show.
FILES_ON_REQUEST = (
    *(
        "overview.png",
        "amplitude.png",
        "phase.png",
        "phase_unwrapped.png",
        "positions.png",
        "uncertainty.png",
    ),
    *("amplitude.tif", "phase.tif", "phase_unwrapped.tif", "reconstruction.mat"),
)
#: Every name under which `save` writes or removes a file.
RESULT_FILES = (*ALWAYS_WRITTEN, *FILES_ON_REQUEST)


@dataclass(frozen=True, eq=False, kw_only=True, repr=False)
class Reconstruction:
    """An object and its probe, recovered from a scan. Immutable.

    Arrays with one value for each frame have M entries, one for each frame of the file, whether it was used
    or not. `positions_given_px` are the positions before their correction, None where nothing was corrected.
    `pixel_size_m` is the width of a pixel, `pixel_aspect` its height over its width.
    `probe_variations` and `variation_weights` are the OPR modes and their weights in each frame, together
    `variations`; None where the probe does not vary. `frame_weight` is None where all frames were used fully,
    `bad_pixels` where all pixels are good.
    `dose_carries_image` is what was expected before any work; `verdict` is the judgement behind it, and
    `image_reliable` says that it is good. `amplitude_std` and `phase_std_rad` are what
    `ptycho_core.verdict.with_uncertainty` found, else None.

    Canvas pixel [i, j] has the scan coordinate `origin_px + (i, j)`; the window of frame m has its index
    N/2 at canvas coordinate `positions_px[m] - origin_px`, whose whole-pixel part places the window and
    whose remainder moves the probe.
    """

    object: Complex64[np.ndarray, "height width"]
    probe: Complex64[np.ndarray, "mode n n"]
    origin_px: Float64[np.ndarray, "2"]
    positions_px: Float64[np.ndarray, "frame 2"]
    coverage: Float32[np.ndarray, "height width"]
    residual_per_frame: Float32[np.ndarray, "frame"]
    data_residual: float
    method: str
    scan_name: str
    history: tuple[Mapping[str, Any], ...] = ()
    events: tuple[RunEvent, ...] = ()
    timings: Mapping[str, float] = field(default_factory=dict)
    provenance: Mapping[str, Any] = field(default_factory=dict)
    interrupted: bool = False
    image_reliable: bool = True
    dose_carries_image: bool = True
    verdict: Verdict | None = None
    pixel_size_m: float | None = None
    pixel_aspect: float = 1.0
    energy_ev: float | None = None
    distance_m: float | None = None
    positions_given_px: Float64[np.ndarray, "frame 2"] | None = None
    frame_intensity: Float64[np.ndarray, " frame"] | None = None
    probe_variations: Complex64[np.ndarray, "mode variation n n"] | None = None
    variation_weights: Float64[np.ndarray, "frame variation"] | None = None
    frame_weight: Float32[np.ndarray, " frame"] | None = None
    bad_pixels: Bool[np.ndarray, "n n"] | None = None
    amplitude_std: Float32[np.ndarray, "height width"] | None = None
    phase_std_rad: Float32[np.ndarray, "height width"] | None = None

    def __repr__(self) -> str:
        height, width = self.object.shape
        return (
            f"<Reconstruction of {self.scan_name}: object {height} x {width} px, {self.n_frames} frames of "
            f"{self.frame_px} px, R = {self.data_residual:.4f}>"
        )

    def _repr_html_(self) -> str:
        """Show small pictures and the key figures, as notebooks ask for."""
        import base64
        from html import escape

        from ptycho_core.figures import object_pictures

        pictures = "".join(
            f'<img alt="{picture.name}" title="{picture.name}" style="height:180px;margin-right:8px" '
            f'src="data:image/png;base64,{base64.b64encode(picture.png).decode()}">'
            for picture in object_pictures(self, largest_px=360)
        )
        verdict = "" if self.verdict is None else f"<br>verdict {escape(str(self.verdict))}"
        return f"<div>{pictures}<div>{escape(repr(self)[1:-1])}{verdict}</div></div>"

    @property
    def variations(self) -> ProbeVariations | None:
        """How the probe varies from frame to frame, where that was found."""
        if self.probe_variations is None or self.variation_weights is None:
            return None
        return ProbeVariations(self.probe_variations, self.variation_weights)

    @property
    def n_frames(self) -> int:
        """Number of frames that were used."""
        return int(np.count_nonzero(self.frames_used))

    @property
    def frames_used(self) -> Bool[np.ndarray, " frame"]:
        """Whether each frame of the file was used."""
        if self.frame_weight is None:
            return np.ones(len(self.positions_px), dtype=bool)
        return self.frame_weight > 0

    @property
    def frame_px(self) -> int:
        """Side of a frame and of the probe window in pixels."""
        return int(self.probe.shape[-1])

    def positions_on_canvas_px(self) -> Float64[np.ndarray, "frame 2"]:
        """Canvas coordinate (y, x) of index N/2 of each frame's window."""
        return self.positions_px - self.origin_px

    def save(
        self,
        directory: str | Path,
        *,
        figures: bool = True,
        tiff: bool = False,
        mat: bool = False,
        unwrap: bool = False,
        phase_limits_rad: tuple[float | None, float | None] = (None, None),
    ) -> dict[str, Path]:
        """Write the result files into `directory`, each under its final name only when complete.

        Args:
            directory: created if absent; files of an earlier run are replaced one by one, and those that
                this one does not write are removed: they would show another image.
            figures: also draw `amplitude.png`, `phase.png` and `overview.png`; `uncertainty.png` where it
                was found.
            tiff: also write `amplitude.tif`, `phase.tif` and `phase_unwrapped.tif`.
            mat: also write `reconstruction.mat`, which MATLAB loads.
            unwrap: also draw `phase_unwrapped.png`.
            phase_limits_rad: phases that are black and white there; found from the image where None.
        Returns:
            File name -> path of everything written.
        Raises:
            OutputError: the directory cannot be written or the disk is full; names path and cause.
            TypeError: the directory is no path, or what is to be written is neither True nor False.
        """
        from ptycho_core.files import make_directory, write_json, write_text
        from ptycho_core.io.hdf5.writing import library_answers
        from ptycho_core.io.product import write_product

        expect_path(directory, "Reconstruction.save", "a directory")
        for one in (figures, tiff, mat, unwrap):
            expect(one, (bool, np.bool_), "Reconstruction.save", "True or False for what is written")
        root = make_directory(directory)
        files = {name: root / name for name in ALWAYS_WRITTEN}
        self.save_arrays(root)
        if library_answers():
            used, intensity = self.frames_used, self.frame_intensity
            write_product(
                files[PRODUCT_FILE],
                obj=self.object,
                probe=self.probe,
                positions_px=self.positions_px[used],
                frame_numbers=np.flatnonzero(used),
                variations=None if self.variations is None else self.variations.select(used),
                frame_intensity=None if intensity is None else intensity[used],
                origin_px=self.origin_px,
                name=self.scan_name,
                comments=f"{self.method} reconstruction; data residual R = {self.data_residual:.4f}.",
                losses=[row["residual"] for row in self.history],
                pixel_size_m=self.pixel_size_m,
                pixel_aspect=self.pixel_aspect,
                energy_ev=self.energy_ev,
                distance_m=self.distance_m,
            )
        else:
            (files.pop(PRODUCT_FILE)).unlink(missing_ok=True)  # an earlier one would show another image
            warnings.warn(
                f"{PRODUCT_FILE} is left out: another thread waits in the HDF5 library for a file that does "
                f"not answer. {RECONSTRUCTION_FILE} is complete; save it again.",
                UserWarning,
                stacklevel=2,
            )
        write_text(files[METRICS_FILE], csv_text(self.history))
        if figures:
            from ptycho_core.figures import write_figures

            files |= write_figures(self, root, phase_limits_rad=phase_limits_rad)
            if self.amplitude_std is not None:
                from ptycho_core.figures import UNCERTAINTY_FILE, write_uncertainty

                files[UNCERTAINTY_FILE] = write_uncertainty(self, root / UNCERTAINTY_FILE)
        if tiff or mat or unwrap:
            from ptycho_core.result import exports

            if tiff:
                files |= exports.write_tiffs(self, root)
            if mat:
                files[exports.MATLAB_FILE] = exports.write_mat(self, root)
            if unwrap:
                from ptycho_core.figures import UNWRAPPED_FILE, write_unwrapped

                phase = exports.unwrapped_phase(self)
                files[UNWRAPPED_FILE] = write_unwrapped(self, phase, root / UNWRAPPED_FILE)
        write_json(files[RUN_FILE], self.run_record())
        for name in FILES_ON_REQUEST:
            if name not in files:
                (root / name).unlink(missing_ok=True)
        return files

    def plot(self, *panels: str, axes: Axes | Iterable[Axes] | None = None) -> dict[str, Axes]:
        """Draw the result on axes of matplotlib, to be looked at and changed.

        Args:
            panels: what to draw, of `amplitude`, `phase`, `epochs`, `probe_amplitude`, `probe`, `coverage`
                and `residual`; the whole result at a glance where none is named.
            axes: where to draw, one for each panel; those of a new pyplot figure where None.
        Returns:
            Name of a panel -> its axes. Object, coverage and residual share the coordinates of the scan: a
            frame stands at (x, y) = `positions_px[m, ::-1]`.
        Raises:
            ValueError: there is no such panel, or there are not as many axes as panels.
            TypeError: what was given as axes is none.
        """
        from ptycho_core.figures import plot_result

        return plot_result(self, panels, axes)

    def compare(
        self,
        other: Reconstruction | Complex[np.ndarray, "_ _"],
        *panels: str,
        axes: Axes | Iterable[Axes] | None = None,
        names: tuple[str, str] = ("this", "other"),
    ) -> dict[str, Axes]:
        """Draw this result beside another one, or beside the truth, after they were moved onto each other.

        The scores as numbers are `ptycho_core.metrics.compare(result, other).values`.

        Args:
            other: another result of the same scan, or the true object: (H, W) complex, whose pixel [0, 0] is
                the scan coordinate (0, 0), as `Scan.ground_truth` is.
            panels: what to draw, of `amplitude`, `other_amplitude`, `difference`, `phase`, `other_phase` and
                `correlation`, that of Fourier rings; all of them where none is named.
            axes: where to draw, one for each panel; those of a new pyplot figure where None.
            names: of both, for the titles.
        Returns:
            Name of a panel -> its axes, in the coordinates of the scan in pixels.
        Raises:
            DataError: they have no window in common, or nothing varies in it.
            ValueError: there is no such panel, or there are not as many axes as panels.
            TypeError: `other` is no result and no array, or what was given as axes is none.
        """
        from ptycho_core.figures import AlignedPair, plot_comparison
        from ptycho_core.metrics import compare

        expect(
            other,
            (Reconstruction, np.ndarray),
            "Reconstruction.compare",
            "another result, or the true object as an array",
        )
        found = compare(self, other)
        pair = AlignedPair(
            found.aligned,
            found.truth,
            found.region,
            names=names,
            frc=found.ring_correlation,
            corner_px=(float(found.window_origin_px[0]), float(found.window_origin_px[1])),
        )
        error, detail = found.values["object_error"], found.values["frc50_half_period_px"]
        alike = f"object error {error:.4f}, correlation above 1/2 down to {detail:.2f} px"
        heading = f"{names[0]} and {names[1]}: {alike}"
        return plot_comparison(pair, panels, axes, heading=heading)

    def cropped(self) -> Reconstruction:
        """Return the result with the object cut to the rectangle that holds its illuminated part.

        Frames at the rim then reach beyond the canvas, so that the residual can no longer be recomputed
        from it.
        """
        from ptycho_core.figures.display import covered_region

        seen = covered_region(self.coverage)
        rows, columns = np.flatnonzero(seen.any(axis=1)), np.flatnonzero(seen.any(axis=0))
        box = slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)
        return replace(
            self,
            object=np.ascontiguousarray(self.object[box]),
            coverage=np.ascontiguousarray(self.coverage[box]),
            **{
                key: np.ascontiguousarray(getattr(self, key)[box])
                for key in UNCERTAINTY_KEYS
                if getattr(self, key) is not None
            },
            origin_px=self.origin_px + np.array([rows[0], columns[0]], np.float64),
        )

    def save_arrays(self, directory: str | Path) -> Path:
        """Write `reconstruction.npz` alone, which is all that `load` needs.

        Raises:
            OutputError: as for `save`.
        """
        from ptycho_core.files import make_directory, write_npz

        expect_path(directory, "Reconstruction.save_arrays", "a directory")
        path = make_directory(directory) / RECONSTRUCTION_FILE
        write_npz(path, self._arrays())
        remove_tiles(path.parent)
        return path

    def save_tile(self, directory: str | Path, ranks: Ranks) -> Path:
        """Write this rank's tile of a state on the way; `load` of the directory puts all of them together.

        All ranks call this, whose objects cover the canvas without a gap and do not overlap. The state is
        there when every tile is complete, in place of the one before it; `save_arrays` removes it.

        Raises:
            OutputError: on all ranks where one could not write; names the rank.
        """
        expect_path(directory, "Reconstruction.save_tile", "a directory")
        return write_tile(self._arrays(), Path(directory), ranks)

    def run_record(self) -> dict[str, Any]:
        """Return what `run.json` holds: figures of merit, events, timings and provenance."""
        return {
            "method": self.method,
            "scan": self.scan_name,
            "n_frames": self.n_frames,
            "frames_left_out": np.flatnonzero(~self.frames_used).tolist(),
            "bad_pixels": 0 if self.bad_pixels is None else int(np.count_nonzero(self.bad_pixels)),
            "frame_px": self.frame_px,
            "probe_modes": int(self.probe.shape[0]),
            "canvas_px": list(self.object.shape),
            "data_residual": self.data_residual,
            "interrupted": self.interrupted,
            "image_reliable": self.image_reliable,
            "dose_carries_image": self.dose_carries_image,
            "verdict": None if self.verdict is None else self.verdict.record(),
            "pixel_size_m": self.pixel_size_m,
            "pixel_aspect": self.pixel_aspect,
            "energy_ev": self.energy_ev,
            "distance_m": self.distance_m,
            "position_corrections": self._position_record(),
            "uncertainty": self.uncertainty(),
            "timings_s": dict(self.timings),
            "events": [{"kind": e.kind, "message": e.message, "data": dict(e.data)} for e in self.events],
            **self.provenance,
        }

    def position_corrections_px(self) -> Float64[np.ndarray, "frame 2"]:
        """By how much each position was moved, (y, x); zeros where none was."""
        given = self.positions_px if self.positions_given_px is None else self.positions_given_px
        return self.positions_px - given

    def uncertainty(self) -> dict[str, Any] | None:
        """Medians of the standard deviations of amplitude and phase, with how they were found where that is
        known; None where they were not asked for."""
        if self.amplitude_std is None or self.phase_std_rad is None:
            return None
        told = [event.data for event in self.events if event.kind == "uncertainty"]
        return {
            "median_amplitude": float(np.nanmedian(self.amplitude_std)),
            "median_phase_rad": float(np.nanmedian(self.phase_std_rad)),
            **(told[-1] if told else {}),
        }

    def _position_record(self) -> dict[str, Any] | None:
        if self.positions_given_px is None:
            return None
        used = self.frames_used
        moved = self.position_corrections_px()[used]
        given = self.positions_given_px[used]
        centred = given - given.mean(axis=0)
        strain = np.linalg.lstsq(centred, moved, rcond=None)[0].T
        length = np.linalg.norm(moved, axis=1)
        return {
            "mean_px": float(length.mean()),
            "largest_px": float(length.max()),
            "mean_without_strain_px": float(np.linalg.norm(moved - centred @ strain.T, axis=1).mean()),
            "strain": strain.tolist(),
            "corrections_px": np.round(self.position_corrections_px(), 4).tolist(),
        }

    def _arrays(self) -> dict[str, np.ndarray]:
        return {key: np.asarray(getattr(self, key)) for key in RECONSTRUCTION_KEYS} | {
            "method": np.asarray(self.method),
            "scan_name": np.asarray(self.scan_name),
            "history": history_table(self.history),
            "interrupted": np.asarray(self.interrupted),
            "image_reliable": np.asarray(self.image_reliable),
            "dose_carries_image": np.asarray(self.dose_carries_image),
            **({} if self.pixel_aspect == 1 else {"pixel_aspect": np.asarray(self.pixel_aspect)}),
            **({} if self.verdict is None else {"verdict": np.asarray(json.dumps(self.verdict.record()))}),
            **{key: np.asarray(getattr(self, key) or np.nan, np.float64) for key in PHYSICAL_KEYS},
            **{
                key: getattr(self, key)
                for key in (*OPTIONAL_KEYS, *UNCERTAINTY_KEYS)
                if getattr(self, key) is not None
            },
            "frames_used": self.frames_used,
            "frame_weight": self.frames_used.astype(np.float32)
            if self.frame_weight is None
            else self.frame_weight,
            "bad_pixels": np.zeros((self.frame_px, self.frame_px), bool)
            if self.bad_pixels is None
            else self.bad_pixels,
        }

    @classmethod
    def load(cls, path: str | Path) -> Reconstruction:
        """Read a result back from `reconstruction.npz` or from the directory that holds it.

        A product file, or a result of PtyPy (`.ptyr`), is read too; what such a file does not tell, as the
        residual, is NaN there.

        Raises:
            DataError: there is no such file, or it is not a result of this program; says what is missing, or
                what in it cannot be.
            TypeError: `path` is none.
        """
        expect(path, (str, Path), "Reconstruction.load", "the path of a result or of its directory")
        return cls(**fields_of_file(Path(path)))

    @classmethod
    def load_near(
        cls,
        path: str | Path,
        near: Callable[[Reconstruction], Float64[np.ndarray, "2 2"]],
    ) -> Reconstruction:
        """Read back of a state in tiles only what lies near some place; any other result as `load` does.

        Args:
            path: the directory.
            near: gets the result with one pixel of its object, and returns the lowest and the highest scan
                coordinate (y, x) of what is wanted; infinite where there is no end.

        Returns:
            The result with object and coverage of that part, and `origin_px` of its pixel [0, 0].
        Raises:
            DataError: as `load`.
        """
        tiles = StoredTiles.of(Path(path))
        if tiles is None:
            return cls.load(path)
        first = cls(**fields_of_tiles(tiles, (slice(0, 1), slice(0, 1))))
        low, high = near(first) - first.origin_px
        begin = np.clip(np.floor(low), 0, np.subtract(tiles.canvas, 1)).astype(int)
        end = np.clip(np.ceil(high) + 1, begin + 1, tiles.canvas).astype(int)
        rows, columns = (slice(int(a), int(b)) for a, b in zip(begin, end, strict=True))
        return cls(**fields_of_tiles(tiles, (rows, columns)))
