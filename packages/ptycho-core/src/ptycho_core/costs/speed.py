"""How fast this host is: seconds for each part of a run, measured on steps of the solver itself.

It takes a second or two and is kept in the user's cache, in a file for every host, version and kernel.
"""

from __future__ import annotations

import hashlib
import json
import math
import platform
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np

from ptycho_config.errors import OutputError
from ptycho_config.execution import SolverExecutionConfig
from ptycho_core.arrays import Arrays
from ptycho_core.coded_frames import CodedFrames
from ptycho_core.cores import usable_cores
from ptycho_core.files import cache_directory, make_directory, write_json
from ptycho_core.kernel import Misfit, Steps
from ptycho_core.physics.residual import data_residual
from ptycho_core.solver.batches import Batch, cut_evenly
from ptycho_core.solver.device import ArraysChoice, choose_arrays
from ptycho_core.solver.frame_parameters import FrameModel, FrameParameters
from ptycho_core.solver.frames import OrderedFrames
from ptycho_core.solver.level import Level
from ptycho_core.solver.posterior import Posterior
from ptycho_core.solver.prior import Prior

__all__ = ["Speed", "measured_speed"]

#: Raised when what is measured changes its meaning; files of another form are not read.
_FORM = 1
#: Sides of the frames that are timed; between them, and beyond, the time of a pixel grows with log(side).
_SIDES = (32, 64, 128, 256)
_FRAMES, _FRAMES_PER_BATCH = 48, 24
#: So many times these frames are judged at a time, to give each thread its part.
_JUDGED = 4
#: Canvas on which steps of the prior are timed.
_CANVAS = (640, 640)
#: Each part is timed for so long, and so often at least.
_SECONDS, _ROUNDS = 0.08, 4
_STEPS = Steps(0.5, 0.5, 0.5, 0.5)


@dataclass(frozen=True)
class Speed:
    """Seconds on all the threads of a run.

    Attributes:
        step_s: side -> of one frame and mode in a step of the descent.
        batch_s: side -> of a step beside its frames: the probe at all its shifts, and its gradient.
        gradient_s: side -> of one frame and mode in a gradient of the likelihood, which the prior needs.
        residual_s: side -> of one frame and mode that is predicted to judge the result.
        more_modes: part of its time that a mode beside the first costs.
        moving, varied: what a step costs with positions and intensities, with an OPR mode; 1 without.
        canvas_s: of a pixel of the object in one step of the prior.
        coding_s: of a pixel that is brought to two bytes.
    """

    step_s: Mapping[int, float]
    batch_s: Mapping[int, float]
    gradient_s: Mapping[int, float]
    residual_s: Mapping[int, float]
    more_modes: float
    moving: float
    varied: float
    canvas_s: float
    coding_s: float

    def step(self, side_px: int) -> float:
        """Seconds of one frame of this side in a step."""
        return _between(self.step_s, side_px)

    def batch(self, side_px: int) -> float:
        """Seconds of a step at this side beside its frames."""
        return _between(self.batch_s, side_px)

    def gradient(self, side_px: int) -> float:
        """Seconds of one frame of this side in a gradient."""
        return _between(self.gradient_s, side_px)

    def residual(self, side_px: int) -> float:
        """Seconds of one frame of this side where it is judged."""
        return _between(self.residual_s, side_px)


def _between(seconds: Mapping[int, float], side_px: int) -> float:
    """Interpolate the time of a pixel over the logarithm of the side."""
    sides = sorted(seconds)
    each = [seconds[side] / side**2 for side in sides]
    if side_px > sides[-1]:  # transforms: n^2 log n
        return side_px**2 * each[-1] * math.log(side_px) / math.log(sides[-1])
    return side_px**2 * float(np.interp(math.log(side_px), np.log(sides), each))


def measured_speed(execution: SolverExecutionConfig | None = None) -> Speed:
    """Return how fast this host is with these settings; measured where the cache does not know it.

    Raises:
        BackendUnavailableError, PolicyError: as `choose_arrays`.
    """
    arrays, choice = choose_arrays(execution or SolverExecutionConfig())
    about = _about(choice)
    key = hashlib.sha256(json.dumps(about, sort_keys=True).encode()).hexdigest()[:20]
    path = cache_directory() / "speed" / f"{key}.json"
    known = _read(path, about)
    if known is not None:
        return known
    with arrays.limits():
        speed = _measured(arrays)
    # A cache that cannot be written costs the second again, and nothing else.
    with suppress(OutputError):
        make_directory(path.parent)
        write_json(path, {"form": _FORM, "about": about, "seconds": asdict(speed)})
    return speed


def _about(choice: ArraysChoice) -> dict[str, Any]:
    """Return everything on which the speed hangs."""
    from importlib.metadata import PackageNotFoundError, version

    try:
        release = version("ptycho-core")
    except PackageNotFoundError:
        release = "unknown"
    return {
        "host": platform.node(),
        "processor": _processor(),
        "cores": usable_cores(),
        "version": release,
        "arrays": choice.arrays,
        "device": choice.device,
        "threads": choice.threads,
        "kernel": choice.kernel_origin,
    }


def _processor() -> str:
    with suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith(("model name", "CPU part")):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _read(path: Path, about: Mapping[str, Any]) -> Speed | None:
    """Return what a file says, None where it is not there, not whole, or of something else."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        if found["form"] != _FORM or found["about"] != about:
            return None
        seconds = found["seconds"]
        values: dict[str, Any] = {}
        for field in fields(Speed):
            value = seconds[field.name]
            if isinstance(value, dict):
                value = {int(side): float(each) for side, each in value.items()}
                each = list(value.values())
            else:
                value = float(value)
                each = [value]
            if not each or not all(math.isfinite(one) and one > 0 for one in each):
                return None
            values[field.name] = value
        return Speed(**values)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None


def _measured(arrays: Arrays) -> Speed:
    plain = {side: _level(arrays, side) for side in _SIDES}
    epoch, step, batch = {}, {}, {}
    for side, level in plain.items():
        smaller = _level(arrays, side, frames_per_batch=_FRAMES_PER_BATCH // 4)
        epoch[side], in_small_batches = _timed(_epoch(level), _epoch(smaller))
        few, many = _FRAMES // _FRAMES_PER_BATCH, 4 * _FRAMES // _FRAMES_PER_BATCH
        batch[side] = max((in_small_batches - epoch[side]) / (many - few), 1e-3 * epoch[side])
        step[side] = max(epoch[side] - few * batch[side], 0.3 * epoch[side]) / _FRAMES
    likely = {side: _level(arrays, side, misfit="roots") for side in (64, 128)}
    gradient: dict[int, float] = {}
    for side, level in likely.items():
        gradient[side] = _timed(_gradient(level.level))[0] / len(level)
    others = {
        "modes": _level(arrays, 64, modes=3),
        "moving": _level(arrays, 64, model=FrameModel(5.0, intensity=True)),
        "varied": _level(arrays, 64, model=FrameModel(variations=1)),
    }
    usual, *seconds = _timed(_epoch(plain[64]), *map(_epoch, others.values()))
    of = {name: each / usual for name, each in zip(others, seconds, strict=True)}
    residual = {side: _timed(_judgement(plain[side]))[0] / (_JUDGED * len(plain[side])) for side in (64, 128)}
    return Speed(
        step_s=step,
        batch_s=batch,
        gradient_s=gradient,
        residual_s=residual,
        more_modes=max(0.1, (of["modes"] - 1) / 2),
        moving=max(1.0, of["moving"]),
        varied=max(1.0, of["varied"]),
        canvas_s=_canvas_s(arrays, gradient[64]),
        coding_s=_coding_s(),
    )


@dataclass(frozen=True, eq=False)
class _Case:
    """A level on frames of noise, which take as long as any others."""

    level: Level
    frames: OrderedFrames
    positions_px: np.ndarray
    probe: np.ndarray

    def __len__(self) -> int:
        return len(self.frames)


def _level(
    arrays: Arrays,
    side: int,
    *,
    frames_per_batch: int | None = None,
    modes: int = 1,
    model: FrameModel | None = None,
    misfit: Misfit = "moduli",
    shape: tuple[int, int] | None = None,
) -> _Case:
    random = np.random.default_rng(0)
    # The counts do not matter; one frame stands for all.
    one = np.sqrt(random.poisson(20.0, (side, side))).astype(np.float32)
    amplitude = np.ascontiguousarray(np.broadcast_to(one, (_FRAMES, side, side)))
    positions = random.uniform(0, side / 2, (_FRAMES, 2)) + side
    frames, whole = OrderedFrames(amplitude, None, positions), slice(0, _FRAMES)
    n_batches = _FRAMES // (frames_per_batch or _FRAMES_PER_BATCH)
    batches = [Batch(batch, whole) for batch in cut_evenly(whole, n_batches)]
    parameters = None
    if model is not None:
        parameters = FrameParameters(model, positions, np.arange(_FRAMES))
    level = Level(
        frames,
        arrays,
        batches=batches,
        size_px=side,
        background=0.0,
        softening=0.1 if misfit == "moduli" else 0.0,
        object_floor=0.25,
        parameters=parameters,
        margin_px=16,
        shape=shape,
        misfit=misfit,
        count_softening=0.0 if misfit == "moduli" else 0.1,
    )
    spectra = random.normal(size=(modes, side, side)) + 1j * random.normal(size=(modes, side, side))
    level.start((spectra * math.sqrt(20.0 / 2)).astype(np.complex64))
    return _Case(level, frames, positions, spectra.astype(np.complex64))


def _epoch(case: _Case) -> Callable[[], object]:
    level = case.level

    def epoch() -> None:
        for index in range(len(level.batches)):
            level.step(index, _STEPS)
        level.settle(2.0)

    return epoch


def _gradient(level: Level) -> Callable[[], object]:
    return lambda: level.gradient(level.object, level.spectrum, with_probe=True)


def _judgement(case: _Case) -> Callable[[], object]:
    """What is predicted of few frames is kept between the scale and the distance: one pass over them."""
    side, n_frames = case.probe.shape[-1], len(case.frames)
    obj = np.ones((3 * side, 3 * side), np.complex64)
    positions = np.tile(case.positions_px, (_JUDGED, 1))
    measured = case.frames.as_measured()

    def amplitude(chunk: slice) -> np.ndarray:
        return measured.amplitude(np.arange(chunk.start, chunk.stop) % n_frames)

    return lambda: data_residual(obj, case.probe, positions, amplitude)


def _canvas_s(arrays: Arrays, gradient_s: float) -> float:
    """Time steps of the prior on a canvas that is large for its frames, and take their gradients off."""
    case = _level(arrays, 64, misfit="roots", shape=_CANVAS)
    level = case.level
    posterior = Posterior(
        level,
        arrays,
        spectrum=level.spectrum,
        obj=level.object,
        n_frames=len(case),
        counts_per_frame=20.0 * 64**2,
        mean_pattern=np.full((64, 64), 20.0),
    )
    steps = 5
    (seconds,) = _timed(lambda: posterior.improve(Prior("log", 5.0), iterations=steps, probe="free"))
    return max(seconds / steps - gradient_s * len(case), 0.1 * seconds / steps) / math.prod(_CANVAS)


def _coding_s() -> float:
    amplitude = np.sqrt(np.arange(1 << 18, dtype=np.float32) % 4096).reshape(-1, 64, 64)
    room = CodedFrames(np.zeros(amplitude.shape, np.uint16))
    return _timed(lambda: room.__setitem__(slice(None), amplitude))[0] / amplitude.size


def _timed(*works: Callable[[], object]) -> list[float]:
    """Return the least of the seconds that each of some works takes, which take turns.

    What else a host does meanwhile is not its speed.
    """
    found = [math.inf] * len(works)
    for work in works:
        work()
    rounds, until = 0, time.perf_counter() + _SECONDS * len(works)
    while rounds < _ROUNDS or time.perf_counter() < until:
        for index, work in enumerate(works):
            began = time.perf_counter()
            work()
            found[index] = min(found[index], time.perf_counter() - began)
        rounds += 1
    return found
