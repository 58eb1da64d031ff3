"""From a scan to object and probe, with nothing to tune and no framework needed.

`solve` is the public interface. Beforehand, `choose_arrays` says where it would run and `noise_floor` how
far the photons carry; from `HOPELESS_NOISE_FLOOR` on they carry no image.

The way through this room is `solve`: look, start, descend, finish.

- `start` looks at the scan and makes what a run starts from, of the scan or of an earlier result;
  `probe_search` finds a better probe, `schedule` plans the levels, `batches` the frames of a step.
- `descent` goes through the levels. A `level` takes one step after another; it is made of `frames` and
  `windows` (the data and where they lie), `misfit` (the distance and its gradient), `state` (object and
  probe). `frame_parameters` and `frame_updates` are what is found for each frame besides, `background` what
  is found for the detector.
- What is expected of an object joins in `posterior`, with a `prior`, its `proximal` step and a `prior_mean`;
  `most_probable` sets its strength by a rule, `selection` by `tries` that photons held out judge.
- `finish` makes a judged result of the solution.
- `team` and `tiles` let several processes solve one scan: each has its frames and its tile of the canvas, and
  `from_tiles` makes one result of all. What they agree on, and when, is in `level`.
- `spectra` and `shifts` hold the probe in frequencies and move it by fractions of a pixel, `device` chooses
  the arrays, `monitor` tells of it all.

Functions decide and return; what they found out is told in `solve`, by the `events` of what they return.
"""

from typing import Any

from ptycho_config.moved import moved_name
from ptycho_core.scan.dose import HOPELESS_NOISE_FLOOR, noise_floor
from ptycho_core.solver.device import choose_arrays
from ptycho_core.solver.prior_mean import PriorMean
from ptycho_core.solver.solve import solve

__all__ = [
    "HOPELESS_NOISE_FLOOR",
    "PriorMean",
    "choose_arrays",
    "noise_floor",
    "solve",
]

_MOVED = {"LiveFrames": "ptycho_core.live.solver", "LiveSolver": "ptycho_core.live.solver"}


def __getattr__(name: str) -> Any:
    return moved_name(__name__, name, _MOVED)
