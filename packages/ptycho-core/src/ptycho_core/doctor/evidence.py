"""What frames tell without a reconstruction: how positions are turned, where the zero frequency is, whether
they are diffraction patterns at all.

The frames' centres of mass are, up to a factor, the gradient of the phase of the object where the beam is, so
along the way from one position to the next they add up to a potential. They do so only when the positions are
turned as the detector is: a gradient has no curl.

Source of the first: R. Landauer's centre of mass in 4D-STEM, K. Müller et al., Nat. Commun. 5 (2014) 5653,
10.1038/ncomms6653; the turn by the least curl as in C. Ophus, Microsc. Microanal. 25 (2019) 563,
10.1017/S1431927619000497. Here for any positions, by least squares over pairs of neighbours.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64

from ptycho_core.scan import Scan
from ptycho_core.scan.dose import mean_and_good, signal_pixels
from ptycho_core.scan.zero_frequency import probe_likeness

__all__ = [
    "TurnEvidence",
    "follows_the_positions",
    "probe_speaks_for_other_dc",
    "turn_by_centre_of_mass",
    "values_speak_for_other_measurement",
]

_NEIGHBOURS = 6
_FEWEST_FRAMES = 12


@dataclass(frozen=True)
class TurnEvidence:
    """The turn of the positions that leaves the least curl, for one handedness.

    Attributes:
        transposed: y and x of the positions are exchanged before the turn.
        turn_deg: the turn, 0 to 180; half a turn more has the same curl.
        curl: share of the field that is no gradient, at this turn.
        curl_at_worst: the same at the worst turn; close to `curl` where the frames do not tell.
    """

    transposed: bool
    turn_deg: float
    curl: float
    curl_at_worst: float


def turn_by_centre_of_mass(scan: Scan) -> tuple[TurnEvidence, ...]:
    """Return the likeliest turn for each handedness, the smaller curl first; none for a handful of frames."""
    from scipy import sparse
    from scipy.sparse.linalg import lsqr
    from scipy.spatial import cKDTree

    if scan.n_frames < _FEWEST_FRAMES:
        return ()
    centre_px = centres_of_mass_px(scan)
    found = cKDTree(scan.positions_px).query(scan.positions_px, k=_NEIGHBOURS + 1)
    nearest = np.asarray(found[1])
    first = np.repeat(np.arange(scan.n_frames), _NEIGHBOURS)
    pairs = np.unique(np.sort(np.stack([first, nearest[:, 1:].ravel()], axis=1), axis=1), axis=0)
    way = scan.positions_px[pairs[:, 1]] - scan.positions_px[pairs[:, 0]]
    length = np.hypot(*way.T)
    pairs, way, length = pairs[length > 0], way[length > 0], length[length > 0]
    if len(pairs) < scan.n_frames:
        return ()
    field = (centre_px[pairs[:, 0]] + centre_px[pairs[:, 1]]) / 2
    rows = np.arange(len(pairs))
    ends = (np.r_[-1 / length, 1 / length], (np.r_[rows, rows], np.r_[pairs[:, 0], pairs[:, 1]]))
    difference = sparse.csr_matrix(ends, shape=(len(pairs), scan.n_frames))
    evidence = []
    for transposed in (False, True):
        along = field[:, ::-1] if transposed else field
        # The field along the turned way is cos(turn) x parts[0] + sin(turn) x parts[1].
        parts = np.stack([(along * way).sum(1), along[:, 0] * way[:, 1] - along[:, 1] * way[:, 0]]) / length
        left = np.stack([part - difference @ lsqr(difference, part)[0] for part in parts])
        turns = np.radians(np.arange(0.0, 180.0, 0.5))
        weights = np.stack([np.cos(turns), np.sin(turns)])
        whole = np.einsum("it,ij,jt->t", weights, parts @ parts.T, weights)
        curl = np.einsum("it,ij,jt->t", weights, left @ left.T, weights) / np.maximum(whole, 1e-30)
        best = int(np.argmin(curl))
        turn = math.degrees(turns[best])
        evidence.append(
            TurnEvidence(
                transposed=transposed,
                turn_deg=turn if transposed else (180.0 - turn) % 180.0,
                curl=float(curl[best]),
                curl_at_worst=float(curl.max()),
            )
        )
    return tuple(sorted(evidence, key=lambda one: one.curl))


def centres_of_mass_px(scan: Scan, *, frames_at_once: int = 64) -> Float64[np.ndarray, "frame 2"]:
    """Centre of mass (y, x) of each frame where the signal is, relative to the mean over the frames."""
    n = scan.frame_px
    axis = np.arange(n) - n // 2
    # Far from the beam there are single photons and dark counts, which pull a centre about for nothing.
    signal = signal_pixels(*mean_and_good(scan))
    centre_px = np.zeros((scan.n_frames, 2))
    for start in range(0, scan.n_frames, frames_at_once):
        part = slice(start, start + frames_at_once)
        counts = scan.counts(part).astype(np.float64) * signal
        total = np.maximum(counts.sum(axis=(1, 2)), 1e-30)
        centre_px[part, 0] = counts.sum(axis=2) @ axis / total
        centre_px[part, 1] = counts.sum(axis=1) @ axis / total
    return centre_px - centre_px.mean(axis=0)


def probe_speaks_for_other_dc(scan: Scan) -> tuple[float, float] | None:
    """Compare the transform of a given probe with the mean pattern, as read and with the halves exchanged.

    The object scatters the probe's own far field, so the mean pattern resembles it; where a stop hides the
    centre, brightness is no evidence and this still is.

    Returns:
        Both correlations, of the moduli; None where the probe was estimated from the pattern itself.
    """
    if scan.probe_source == "estimated":
        return None
    good = scan.good_pixels([0])[0] if scan.bad_pixels is not None and scan.bad_pixels.ndim == 3 else None
    return probe_likeness(scan.probe, scan.mean_pattern(), scan.good_pixels() if good is None else good)


def follows_the_positions(scan: Scan, *, pairs_at_most: int = 80) -> float:
    """Tell how well what is in the frames moves as the positions do, 0 to 1.

    Far from the sample a pattern stays where it is, and its speckles change, while the sample moves. An image
    of the near field, a shadow or a hologram, moves with the sample. So the shift at which two neighbouring
    frames are most alike is compared with the step between them, by a linear map.

    Returns:
        The share of the shifts' variance that the steps explain; 0 where the frames hardly shift.
    """
    from scipy import fft
    from scipy.spatial import cKDTree

    if scan.n_frames < _FEWEST_FRAMES:
        return 0.0
    found = cKDTree(scan.positions_px).query(scan.positions_px, k=3)
    nearest = np.asarray(found[1])
    first = np.repeat(np.arange(scan.n_frames), 2)
    pairs = np.unique(np.sort(np.stack([first, nearest[:, 1:].ravel()], axis=1), axis=1), axis=0)
    pairs = pairs[:: max(1, len(pairs) // pairs_at_most)]
    # What all frames share, the beam, moves with none of them.
    still = np.sqrt(np.maximum(scan.mean_pattern(), 0))
    n = scan.frame_px
    shifts = np.zeros((len(pairs), 2))
    for row, (here, there) in enumerate(pairs):
        one, other = (scan.amplitude(slice(int(k), int(k) + 1))[0] - still for k in (here, there))
        alike = fft.irfft2(np.conj(fft.rfft2(one)) * fft.rfft2(other), s=(n, n))
        peak = np.array(np.unravel_index(int(np.argmax(alike)), alike.shape))
        shifts[row] = (peak + n // 2) % n - n // 2
    steps = scan.positions_px[pairs[:, 1]] - scan.positions_px[pairs[:, 0]]
    whole = float(np.square(shifts).sum())
    if whole < len(pairs):  # less than a pixel each
        return 0.0
    left = shifts - steps @ np.linalg.lstsq(steps, shifts, rcond=None)[0]
    return 1 - float(np.square(left).sum()) / whole


def values_speak_for_other_measurement(scan: Scan, *, frames_at_most: int = 8) -> bool:
    """Tell whether counts were taken for amplitudes, or amplitudes for counts.

    Counts are whole multiples of the smallest, whatever they were scaled by; amplitudes are roots, of which
    the squares are.
    """
    chosen = np.unique(np.linspace(0, scan.n_frames - 1, min(scan.n_frames, frames_at_most)).astype(int))
    good = scan.good_pixels()
    values = np.asarray(scan.frames[chosen], dtype=np.float64)
    if scan.dc == "corner":
        values = np.fft.fftshift(values, axes=(1, 2))
    values = values[:, good] if good.ndim == 2 else values[good[chosen]]
    values = values[np.isfinite(values) & (values > 0)]
    if values.size == 0:
        return False
    counts = _are_whole(values / values.min())
    if scan.measurement == "amplitude":
        return counts
    return not counts and _are_whole(np.square(values / values.min()))


def _are_whole(values: Float64[np.ndarray, " value"]) -> bool:
    """Whether values are whole numbers, of several sizes, up to what single precision rounds."""
    nearest = np.round(values)
    return float(nearest.max()) > 1 and bool(np.all(np.abs(values - nearest) <= 1e-4 + 1e-6 * values))
