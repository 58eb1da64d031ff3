"""What a run starts from.

`look_at` reads off the scan what is known before anything is solved: photons, background, the order of the
frames. Then the start is made, of the scan (`start_from_scan`, with the search of a probe) or of an earlier
result (`earlier_result.py`). All of them return what they found out; `events` of each says it in sentences.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Complex64, Float64, Int64

from ptycho_config.errors import ConfigError
from ptycho_config.models import SolverConfig
from ptycho_core.arrays import Arrays
from ptycho_core.physics import whole_and_rest
from ptycho_core.physics.lattice import lattice_of
from ptycho_core.ranks import ALONE, Ranks
from ptycho_core.result.history import RunEvent
from ptycho_core.result.reconstruction import Reconstruction
from ptycho_core.scan import Scan
from ptycho_core.scan.dose import (
    HOPELESS_NOISE_FLOOR,
    ScanStatistics,
    central,
    mean_and_good,
    scan_statistics,
)
from ptycho_core.scan.flicker import flickers, intensity_beside_neighbours
from ptycho_core.scan.shared_survey import surveyed
from ptycho_core.solver.background import FlatBackground, darkest_counts
from ptycho_core.solver.batches import Batch, plan_batches
from ptycho_core.solver.frame_parameters import FrameModel, FrameParameters, reach_px
from ptycho_core.solver.frames import OrderedFrames
from ptycho_core.solver.monitor import Progress
from ptycho_core.solver.probe_search import StartProbe, search_start_probe
from ptycho_core.solver.schedule import LevelSchedule, plan_levels
from ptycho_core.solver.spectra import scaled_spectrum, seed_modes, spectrum_of
from ptycho_core.solver.state import Solution
from ptycho_core.solver.team import ON_ITS_OWN, Team
from ptycho_core.solver.windows import MARGIN_PX, canvas_shape

__all__ = [
    "Look",
    "Start",
    "background_of",
    "begin_again",
    "carries_an_image",
    "corrected_positions",
    "leave_out",
    "levels_of",
    "look_at",
    "margin_of",
    "no_variations",
    "of_our_frames",
    "once_more",
    "parameters_of",
    "probe_search_wanted",
    "probes_can_be_ranked",
    "softening_counts",
    "start_from_scan",
]

#: Counts under the square root, as a part of the mean counts per pixel.
_SOFTENING = 1e-5
#: Above this noise floor of R the coarse residuals of start probes cannot be told apart.
_SEARCHABLE_FLOOR = 0.29


@dataclass(frozen=True, eq=False)
class Look:
    """What is known before anything is solved.

    Attributes:
        scan: with the positions to start from.
        positions_given_px: those that the scan came with, where the result has others; else None.
        order: which frame of the scan is solved in which place; those of other ranks are solved there.
        batches: slices of that order.
        dose_carries_image: the photons can carry an image; where not, the object is left transparent.
        softening: counts per pixel that keep the square root smooth at zero.
        margin_px: canvas pixels around the windows of all frames.
        positions_are_near: a search has found the positions to a few pixels, and no strain.
        team: the ranks that solve the scan together.
    """

    scan: Scan
    config: SolverConfig
    statistics: ScanStatistics
    order: Int64[np.ndarray, " own"]
    batches: Sequence[Batch]
    dose_carries_image: bool
    softening: float
    margin_px: int
    positions_given_px: Float64[np.ndarray, "frame 2"] | None
    positions_of_earlier_result: bool
    positions_are_near: bool = False
    team: Team = ON_ITS_OWN

    @property
    def fitted_px(self) -> int:
        """Side of the central square of a frame that is fitted."""
        return min(self.config.final_size or self.statistics.speckled_px, self.scan.frame_px)

    @property
    def with_prior_px(self) -> int:
        """Side of the central square that is fitted together with a prior, which keeps the noise beyond the
        signal from the object."""
        return min(self.config.final_size or self.scan.frame_px, self.scan.frame_px)

    def full_canvas(
        self, shift_px: Float64[np.ndarray, " 2"]
    ) -> tuple[tuple[int, int], Float64[np.ndarray, " 2"]]:
        """Return the shape of the canvas at the pixel of the full frame, and where its pixel [0, 0] lies in
        the scan.

        Args:
            shift_px: by which all positions are moved on the canvas.
        """
        positions_px, side = self.scan.positions_px, self.scan.frame_px
        on_canvas_px = positions_px - positions_px.min(axis=0) + shift_px + self.margin_px
        corners, _ = whole_and_rest(on_canvas_px)
        return (
            canvas_shape(corners, side, self.margin_px),
            positions_px[0] - (on_canvas_px[0] + side // 2),
        )

    def events(self, *, to_be_tried: bool = False) -> list[RunEvent]:
        """Say what the scan tells, and what to do where there are too few photons.

        Args:
            to_be_tried: however few the photons are, an image is looked for.
        """
        counts, floor = self.statistics.counts_per_frame, self.statistics.noise_floor
        events: list[RunEvent] = []
        if self.positions_of_earlier_result:
            text = "The positions are those that the result to start from had corrected."
            events.append(RunEvent("positions", text))
        noise = (
            "noise level unknown" if floor is None else f"noise floor of R {floor:.3f} where the signal is"
        )
        background = self.statistics.background
        events.append(
            RunEvent(
                "statistics",
                f"{counts:.4g} counts per frame, background {background:.3g} counts per pixel, {noise}.",
                {"counts_per_frame": counts, "background": background, "noise_floor": floor},
            )
        )
        if lattice_of(self.scan.positions_px) is not None:
            text = (
                "The positions are an exact raster: a pattern with the period of its steps can lie in "
                "the object "
                "or in the probe, and is put into the probe. A spiral, or steps that vary by a pixel, "
                "determine it."
            )
            events.append(RunEvent("lattice", text))
        inside, side = self.fitted_px, self.scan.frame_px
        if inside < side and self.config.final_size is None:
            text = (
                f"Beyond the central {inside} of {side} pixels the frames hold background alone, which does "
                f"not vary with the sample: nothing is fitted there. `--final-size {side}` fits it."
            )
            events.append(RunEvent("signal", text, {"speckled_px": inside}))
        if not self.dose_carries_image and not to_be_tried:
            events.append(
                RunEvent(
                    "dose",
                    f"{counts:.3g} counts per frame of {side} x {side} pixels cannot carry an image: "
                    f"the noise exceeds the signal (noise floor of R {floor:.2f}). "
                    "The object is left transparent. Measure longer, or bin the detector; or train a network "
                    f"on a bright scan with the same probe: `ptycho train --thin-to {counts:.0f}`.",
                    {"noise_floor": floor},
                )
            )
        return events


@dataclass(frozen=True, eq=False)
class Start:
    """What the descent starts from, and the levels that it goes through.

    Attributes:
        solution: object and probe.
        levels: from coarse to full; none where the photons carry no image.
        frame_parameters: what is found for each frame; None where nothing is. The descent changes them.
        flat_background: a background to find; None where it is kept. The descent changes it.
        searched: the start probe that a search found; None where there was no search.
        search_refused: a search was wanted, but the photons are too few to tell probes apart.
        taken_up: what of an earlier result was taken up, and what was not, in sentences.
    """

    solution: Solution
    levels: Sequence[LevelSchedule]
    frame_parameters: FrameParameters | None
    flat_background: FlatBackground | None
    searched: StartProbe | None = None
    search_refused: bool = False
    taken_up: Sequence[RunEvent] = ()

    def events(self) -> list[RunEvent]:
        """Say what is found for each frame, and which probe the run starts from."""
        events = list(self.taken_up)
        if self.frame_parameters is not None:
            named = self.frame_parameters.model.describe()
            text = f"Found for each frame: {named}."
            events.append(RunEvent("frame_parameters", text))
        if self.search_refused:
            text = "Too few counts to search a start probe; the given one is used."
            events.append(RunEvent("start_probe", text))
        if self.searched is not None:
            events.append(self.searched.event())
        return events


def look_at(
    scan: Scan,
    config: SolverConfig,
    random: np.random.Generator,
    *,
    earlier: Reconstruction | None = None,
    given_px: Float64[np.ndarray, "frame 2"] | None = None,
    positions_are_near: bool = False,
    ranks: Ranks = ALONE,
) -> Look:
    """Find out what the scan tells, and in which batches its frames are solved.

    Args:
        random: the common source of chance; several ranks draw their batches from one of their own.
        ranks: that solve the scan together.
        earlier: a result of this scan to start from; positions that it corrected are taken over.
        given_px: the positions that the scan came with, where they have been searched since.
        positions_are_near: the search found them to a few pixels, and no strain.
    Raises:
        ConfigError: the frames of the earlier result had another size.
    """
    given_px, corrected = scan.positions_px if given_px is None else given_px, False
    if earlier is not None:
        if earlier.frame_px != scan.frame_px:
            raise ConfigError(
                f"`start` has a probe of {earlier.frame_px} px and the scan has frames of {scan.frame_px} px."
                " Start from a result of frames of the same size."
            )
        corrected = corrected_positions(earlier, scan)
        if corrected:
            scan = scan.moved_to(of_our_frames(earlier.positions_px, scan))
    scan = surveyed(scan, ranks)
    statistics = scan_statistics(scan, estimate_background=config.background == "auto")
    team = Team.of(ranks, scan.positions_px)
    order, batches = plan_batches(
        scan.positions_px,
        frame_px=scan.frame_px,
        frames_per_batch=config.frames_per_batch,
        random=team.random(random, config.seed),
        members=team.mine(scan.n_frames),
        ranks=ranks.count,
    )
    return Look(
        scan=scan,
        config=config,
        statistics=statistics,
        order=order,
        batches=batches,
        dose_carries_image=carries_an_image(statistics),
        softening=softening_counts(statistics, scan.frame_px),
        margin_px=margin_of(config, scan.positions_px),
        positions_given_px=given_px if config.refine_positions or corrected else None,
        positions_of_earlier_result=corrected,
        positions_are_near=positions_are_near,
        team=team,
    )


def softening_counts(statistics: ScanStatistics, frame_px: int) -> float:
    """Counts per pixel that keep the square root of a prediction smooth at zero."""
    return _SOFTENING * statistics.counts_per_frame / frame_px**2


def carries_an_image(statistics: ScanStatistics) -> bool:
    """Return whether there are photons enough for an image."""
    return statistics.noise_floor is None or statistics.noise_floor < HOPELESS_NOISE_FLOOR


def probe_search_wanted(config: SolverConfig) -> bool:
    """Return whether a better start probe is to be looked for; a known one is held."""
    return config.probe_search and config.effort != "fast" and config.probe_step > 0


def probes_can_be_ranked(statistics: ScanStatistics) -> bool:
    """Return whether there are photons enough to tell start probes apart by their coarse residuals."""
    return statistics.noise_floor is None or statistics.noise_floor < _SEARCHABLE_FLOOR


def start_from_scan(
    look: Look,
    frames: OrderedFrames,
    arrays: Arrays,
    random: np.random.Generator,
    progress: Progress,
) -> Start:
    """Start from a transparent object and the scan's probe, or a better one that a search found."""
    scan, config, statistics = look.scan, look.config, look.statistics
    parameters = parameters_of(look)
    wanted = look.dose_carries_image and probe_search_wanted(config)
    searched: StartProbe | None = None
    if wanted and probes_can_be_ranked(statistics):
        searched = search_start_probe(
            scan,
            frames,
            statistics,
            arrays,
            softening=look.softening,
            object_floor=config.object_floor,
            random=random,
            progress=progress,
            team=look.team,
        )
    spectra = _start_spectra(searched, scan, statistics.counts_per_frame, config.probe_modes)
    if look.fitted_px < scan.frame_px and config.final_size is None:
        spectra = _within(spectra, look.fitted_px)
    return Start(
        Solution(spectra, np.zeros(2), no_variations(config, spectra)),
        levels=levels_of(look, warm_start=False) if look.dose_carries_image else (),
        frame_parameters=parameters,
        flat_background=background_of(look),
        searched=searched,
        search_refused=wanted and searched is None,
    )


def leave_out(
    outlying: Int64[np.ndarray, " outlying"], look: Look, random: np.random.Generator
) -> tuple[Look, RunEvent]:
    """Look again at the scan without some of its frames, and say which those are.

    Args:
        outlying: numbers in the scan of the frames that a coarse solution could not explain.
    """
    scan = look.scan
    kept = np.setdiff1d(np.arange(scan.n_frames), outlying)
    numbers = np.arange(scan.n_frames) if scan.frame_numbers is None else scan.frame_numbers
    everywhere = scan.positions_px if scan.all_positions_px is None else scan.all_positions_px
    without = replace(
        scan.select(kept),
        frame_numbers=numbers[kept],
        all_positions_px=everywhere,
        n_frames_asked_for=scan.n_frames_asked_for,
    )
    named = ", ".join(map(str, numbers[outlying[:12]])) + (", ..." if outlying.size > 12 else "")
    text = (
        f"{outlying.size} of {scan.n_frames} frames do not fit what all others say of object and probe, and "
        f"are left out: {named}. `--leave-out-frames false` keeps them."
    )
    event = RunEvent("frames_left_out", text, {"frames": numbers[outlying].tolist()})
    return look_at(without, look.config, random, ranks=look.team.ranks), event


def margin_of(config: SolverConfig, positions_px: Float64[np.ndarray, "frame 2"]) -> int:
    """Return how many pixels the canvas has around the windows of all frames."""
    return MARGIN_PX + (reach_px(config.position_bound, positions_px) if config.refine_positions else 0)


def begin_again(begun: Start, solution: Solution, look: Look) -> Start:
    """Start from the probe that was found so far, and from a transparent object."""
    return replace(
        begun,
        solution=Solution(solution.spectra, np.zeros(2), solution.variations),
        levels=levels_of(look, warm_start=False),
    )


def once_more(begun: Start, solution: Solution, look: Look) -> Start:
    """Go on from what was found so far, at full resolution."""
    return replace(begun, solution=solution, levels=levels_of(look, warm_start=True))


def _start_spectra(
    searched: StartProbe | None, scan: Scan, counts_per_frame: float, n_modes: int
) -> Complex64[np.ndarray, "mode n n"]:
    """Return the modes to start from: those of the scan, where it has several and they were kept."""
    given = scan.probe[:n_modes]
    if len(given) == 1 or (searched is not None and not searched.as_given):
        probe = scan.probe[0] if searched is None else searched.probe
        return seed_modes(scaled_spectrum(probe, scan, counts_per_frame), n_modes)
    power = np.square(np.abs(given), dtype=np.float64).sum(axis=(1, 2))
    share = np.sqrt(power / max(float(power.sum()), 1e-30)).astype(np.float32)
    spectra = np.stack(
        [
            scaled_spectrum(mode, scan, counts_per_frame) * part if part > 0 else 0 * spectrum_of(mode)
            for mode, part in zip(given, share, strict=True)
        ]
    ).astype(np.complex64)
    if len(spectra) < n_modes:
        extra = seed_modes(spectra[0], n_modes)
        spectra = np.concatenate([spectra, extra[len(spectra) :]])
    return spectra


def _within(spectra: Complex64[np.ndarray, "mode n n"], size_px: int) -> Complex64[np.ndarray, "mode n n"]:
    """Leave out of the probe what lies beyond the last level, and would never change."""
    kept = np.zeros_like(spectra)
    crop = central(size_px, spectra.shape[-1])
    kept[:, crop, crop] = spectra[:, crop, crop]
    return kept


def levels_of(look: Look, *, warm_start: bool) -> Sequence[LevelSchedule]:
    scan = look.scan
    return plan_levels(
        look.config,
        coarse_px=scan.frame_px if warm_start else look.statistics.coarse_px,
        frame_px=scan.frame_px,
        fitted_px=look.fitted_px,
        n_frames=scan.n_frames,
        warm_start=warm_start,
        positions_are_near=look.positions_are_near,
    )


def parameters_of(look: Look) -> FrameParameters | None:
    model = FrameModel.of(look.config, common_moves=not look.positions_are_near)
    if model.empty:
        return None
    parameters = FrameParameters(model, look.scan.positions_px[look.order], look.order, team=look.team)
    counts = look.scan.counts_per_frame()
    if model.intensity and flickers(look.scan.positions_px, counts):
        beside = intensity_beside_neighbours(look.scan.positions_px, counts)
        parameters.begin_with_intensity(beside[look.order])
    return parameters


def background_of(look: Look) -> FlatBackground | None:
    if not look.config.refine_background:
        return None
    return FlatBackground(look.statistics.background, at_most=darkest_counts(*mean_and_good(look.scan)))


def no_variations(
    config: SolverConfig, spectra: Complex64[np.ndarray, "mode n n"]
) -> Complex64[np.ndarray, "mode variation n n"]:
    """Variations of the probe, all of them 0: there are weights, and the first step makes them."""
    return np.zeros((len(spectra), config.probe_variations, *spectra.shape[1:]), np.complex64)


def corrected_positions(earlier: Reconstruction, scan: Scan) -> bool:
    """Return whether an earlier result corrected the positions of this scan."""
    given_px = earlier.positions_given_px
    if given_px is None:
        return False
    given_px = of_our_frames(given_px, scan)
    return given_px.shape == scan.positions_px.shape and np.allclose(given_px, scan.positions_px)


def of_our_frames(values: np.ndarray, scan: Scan) -> np.ndarray:
    """Return, of one value for each frame of the file, those of the scan's frames."""
    all_px = scan.all_positions_px
    return values[scan.frame_numbers] if all_px is not None and len(values) == len(all_px) else values
