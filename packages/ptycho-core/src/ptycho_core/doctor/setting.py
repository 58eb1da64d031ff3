"""One way to read a scan: what is changed of the way in which it was read, and the flags that say so."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Literal, get_args

import numpy as np
from jaxtyping import Float64

from ptycho_config.values import Orientation
from ptycho_core.io.geometry import turned_positions
from ptycho_core.scan import Scan
from ptycho_core.scan.estimated_probe import estimate_probe
from ptycho_core.scan.flicker import intensity_beside_neighbours

__all__ = ["AS_READ", "Setting", "composed_flags"]


@dataclass(frozen=True, kw_only=True)
class Setting:
    """Changes of how a scan was read; the defaults change nothing.

    The positions are first transposed, then scaled, then turned about their mean.

    Attributes:
        other_dc: the zero frequency is where it was not taken to be.
        other_measurement: counts are amplitudes, or the other way round.
        mask_inverted: the mask of bad pixels marks the good ones.
        transposed: y and x of the positions are exchanged.
        scale_y, scale_x: factors on the positions.
        turn_deg: angle by which the positions are turned, from y to x.
        probe: the start probe: as it came, its conjugate (defocus of the other sign), or estimated anew.
        probe_modes: incoherent modes to reconstruct with.
        refine_background: find a flat background instead of reading it off the corners.
        frame_intensity: find the intensity of each frame.
        refine_positions: correct the positions.
    """

    other_dc: bool = False
    other_measurement: bool = False
    mask_inverted: bool = False
    transposed: bool = False
    scale_y: float = 1.0
    scale_x: float = 1.0
    turn_deg: float = 0.0
    probe: Literal["as-is", "conjugate", "estimated"] = "as-is"
    probe_modes: int = 1
    refine_background: bool = False
    frame_intensity: bool = False
    refine_positions: bool = False

    @property
    def matrix(self) -> Float64[np.ndarray, "2 2"]:
        """Matrix that takes (y, x) as read to (y, x) in this setting."""
        angle = math.radians(self.turn_deg)
        turn = np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
        exchange = np.eye(2)[::-1] if self.transposed else np.eye(2)
        return turn @ np.diag((self.scale_y, self.scale_x)) @ exchange

    @property
    def changes_positions(self) -> bool:
        """Whether positions lie elsewhere."""
        return not np.array_equal(self.matrix, np.eye(2))

    def applied(self, scan: Scan) -> Scan:
        """Return the scan as it is in this setting; a probe that was estimated is estimated anew."""
        if self.changes_positions:
            middle = scan.positions_px.mean(axis=0)
            scan = replace(scan, positions_px=(scan.positions_px - middle) @ self.matrix.T + middle)
        if self.mask_inverted and scan.bad_pixels is not None:
            scan = replace(scan, bad_pixels=~scan.bad_pixels)
        if self.other_measurement:
            scan = replace(scan, measurement="amplitude" if scan.measurement == "counts" else "counts")
        if self.other_dc:
            bad = scan.bad_pixels
            bad = bad if bad is None else np.fft.fftshift(bad, axes=(-2, -1))
            scan = replace(scan, dc="corner" if scan.dc == "center" else "center", bad_pixels=bad)
        if self.frame_intensity:
            scan = _evened(scan)
        if self.probe == "conjugate":
            return replace(scan, probe=np.conj(scan.probe))
        estimated = self.probe == "estimated" or scan.probe_source == "estimated"
        if estimated and (self != AS_READ):
            return replace(scan, probe=estimate_probe(scan)[0], probe_source="estimated")
        return scan


def _evened(scan: Scan) -> Scan:
    """Give every frame the intensity of the frames around it, so that its residual is comparable."""
    beside = intensity_beside_neighbours(scan.positions_px, scan.counts_per_frame())
    frames = scan.counts() / beside[:, None, None].astype(np.float32)
    return replace(scan, frames=frames, measurement="counts", dc="center")


AS_READ = Setting()
#: Trials cannot tell smaller turns from none; the correction of positions can.
_LEAST_TURN_DEG = 1.5


def composed_flags(setting: Setting, scan: Scan, before: dict[str, str]) -> dict[str, str]:
    """Return the settings (field of `RunConfig` or `SolverConfig` -> value) that read a scan so.

    Args:
        before: those with which it was read.
    """
    flags = dict(before)
    if setting.other_dc:
        flags["dc"] = "corner" if scan.dc == "center" else "center"
    if setting.other_measurement:
        flags["measurement"] = "amplitude" if scan.measurement == "counts" else "counts"
    if setting.mask_inverted:
        flags["mask_invert"] = "false" if before.get("mask_invert") == "true" else "true"
    if setting.probe != "as-is":
        flags = _probe_flags(setting, scan, flags)
    if setting.changes_positions:
        flags = _position_flags(setting, flags)
    if setting.probe_modes > 1:
        flags["probe_modes"] = str(setting.probe_modes)
    for name in ("refine_background", "frame_intensity", "refine_positions"):
        if getattr(setting, name):
            flags[name] = "true"
    return flags


def _probe_flags(setting: Setting, scan: Scan, before: dict[str, str]) -> dict[str, str]:
    """Say which probe to start from; one that was estimated needs no flag to be estimated."""
    conjugate = setting.probe == "conjugate" and before.get("probe_start") != "conjugate"
    flags = {key: value for key, value in before.items() if key != "probe_start"}
    if conjugate:
        flags["probe_start"] = "conjugate"
    elif setting.probe == "estimated" and (
        scan.probe_source != "estimated" or before.get("probe_start") == "estimated"
    ):
        flags["probe_start"] = "estimated"
    return flags


def _position_flags(setting: Setting, before: dict[str, str]) -> dict[str, str]:
    """Compose the change with the orientation, scale and turn that the positions were read with.

    Returns:
        All flags, those of the positions replaced.
    """
    first = orientation_matrix(before.get("positions_orientation", "as-is"))
    scales = [float(part) for part in before.get("positions_scale", "1,1").split(",")]
    turned = Setting(
        scale_y=scales[0], scale_x=scales[-1], turn_deg=float(before.get("positions_turn_deg", "0"))
    )
    whole = setting.matrix @ turned.matrix @ first
    # whole = turn x scale x orientation, with the least turn that is left.
    for name in _nearest_first(whole):
        rest = whole @ np.linalg.inv(orientation_matrix(name))
        angle = math.degrees(math.atan2(rest[1, 0], rest[0, 0]))
        scale = Setting(turn_deg=-angle).matrix @ rest
        if abs(scale[0, 1]) + abs(scale[1, 0]) < 1e-6 and min(scale[0, 0], scale[1, 1]) > 0:
            break
    else:  # unequal scales before and after a turn: no flags say that
        return before
    ours = ("positions_orientation", "positions_scale", "positions_turn_deg")
    flags = {key: value for key, value in before.items() if key not in ours}
    if name != "as-is":
        flags["positions_orientation"] = name
    if max(abs(scale[0, 0] - 1), abs(scale[1, 1] - 1)) > 1e-4:
        flags["positions_scale"] = f"{scale[0, 0]:.4g},{scale[1, 1]:.4g}"
    if abs(angle) > _LEAST_TURN_DEG:
        flags["positions_turn_deg"] = f"{angle:.1f}"
    return flags


def orientation_matrix(name: str) -> Float64[np.ndarray, "2 2"]:
    """Matrix of one of the eight orientations."""
    return turned_positions(np.eye(2), name).T


def _nearest_first(matrix: np.ndarray) -> list[Orientation]:
    """Return the orientations, the one that leaves the least turn first; of two alike the plainer."""
    handed = np.sign(np.linalg.det(matrix))
    of_hand = [name for name in get_args(Orientation) if np.linalg.det(orientation_matrix(name)) == handed]

    def turn(name: str) -> float:
        rest = matrix @ np.linalg.inv(orientation_matrix(name))
        return round(abs(math.atan2(rest[1, 0] - rest[0, 1], rest[0, 0] + rest[1, 1])), 6)

    return sorted(of_hand, key=turn)
