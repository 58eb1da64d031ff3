"""One function a finding: whether a run kept it, as far as the run's record can show."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from ptycho_config import hardware
from ptycho_config.errors import BundleError, BundleNotFoundError
from ptycho_config.execution import EXECUTION, SHARED_WITH_TRAINING
from ptycho_config.models import CANONICAL
from ptycho_dispatch.audit.run_record import RunRecord
from ptycho_dispatch.network_record import sha256_of

__all__ = [
    "Found",
    "accelerator",
    "accumulation",
    "bundle",
    "data",
    "labels",
    "logger",
    "manual_accumulation",
    "oversampling",
    "separation",
]

_SHA256 = re.compile(r"[0-9a-f]{64}")
#: What the solver calls the device that each choice of an accelerator means.
_DEVICES = {"cpu": "cpu", "cuda": "cuda", "gpu": "cuda", "mps": "mps"}


@dataclass(frozen=True)
class Found:
    """Whether a rule was kept, and by what one can see it.

    Attributes:
        judged: False where the run's record does not show it either way.
    """

    kept: bool
    evidence: str
    judged: bool = True

    @property
    def outcome(self) -> str:
        """`passed`, `failed` or `not judged`."""
        return "not judged" if not self.judged else "passed" if self.kept else "failed"


def _unseen(why: str) -> Found:
    return Found(True, why, judged=False)


def accelerator(run: RunRecord) -> Found:
    """POLICY-001: explicit choices ran as they were, and a fallback came with exactly one event."""
    if run.kind != "solver":
        return _of_network(run.execution, run.policy_events, _chosen(run))
    found = [] if not run.execution else [_of_solver(run)]
    if run.network is not None:
        found.append(_of_network(run.network["execution"], run.network.get("policy_events", ()), None))
    broken = [one for one in found if not one.kept]
    return broken[0] if broken else Found(True, "; ".join(one.evidence for one in found))


def _chosen(run: RunRecord) -> Any:
    """Give the accelerator that the settings hold, where it was chosen."""
    chosen = run.source("execution", "accelerator") not in (None, "default")
    return run.value("execution", "accelerator") if chosen else None


def _of_network(execution: Mapping[str, Any], events: Iterable[Mapping[str, Any]], chosen: Any) -> Found:
    requested, resolved = execution.get("requested"), execution.get("resolved")
    reason = str(execution.get("reason"))
    if requested not in hardware.ACCELERATORS or resolved not in hardware.ACCELERATORS or resolved == "auto":
        return Found(False, f"`execution` says {requested!r} became {resolved!r}, which are no accelerators")
    said = sum(event.get("finding") == "POLICY-001" for event in events)
    if requested != "auto" and resolved != requested:
        return Found(False, f"explicit {requested!r} was rewritten to {resolved!r}")
    if chosen not in (None, resolved):
        return Found(False, f"the settings hold an explicit {chosen!r}, and {resolved!r} ran")
    fell_back = requested == "auto" and resolved == "cpu"
    if said != int(fell_back):
        what = "a fallback to the CPU" if fell_back else f"{requested!r} that ran on {resolved!r}"
        return Found(False, f"{what} came with {said} POLICY-001 events; expected {int(fell_back)}")
    if requested == "auto" and (hardware.NO_CUDA in reason) != fell_back:
        return Found(False, f"'auto' became {resolved!r} because: {reason}")
    return Found(True, f"{requested!r} ran on {resolved!r} ({reason}), {said} POLICY-001 events")


def _of_solver(run: RunRecord) -> Found:
    requested, resolved = run.execution.get("requested"), run.execution.get("resolved")
    if not isinstance(requested, Mapping) or not isinstance(resolved, Mapping):
        return Found(False, "`execution` does not say what was requested and what it became")
    asked, device = requested.get("accelerator"), resolved.get("device")
    settings = run.value("execution", "accelerator")
    if settings not in (None, asked):
        return Found(False, f"the settings hold {settings!r}, and the solver was asked for {asked!r}")
    if asked != "auto" and _DEVICES.get(str(asked)) != device:
        return Found(False, f"explicit {asked!r} ran on {device!r}")
    wanted, arrays = requested.get("arrays"), resolved.get("arrays")
    if wanted not in ("auto", arrays):
        return Found(False, f"explicit arrays {wanted!r} became {arrays!r}")
    return Found(True, f"the solver was asked for {asked!r} and ran with {arrays} on {device}")


def separation(run: RunRecord) -> Found:
    """CONFIG-002: no execution field among the canonical settings, none of theirs among the execution's."""
    shared = set(SHARED_WITH_TRAINING)
    execution = {name for kind in EXECUTION for name in kind.model_fields} - shared
    canonical = {name for kind in CANONICAL for name in kind.model_fields} - shared
    configured = run.everything.get("configuration") or {}
    if run.network is not None:
        configured = {**configured, **(run.network.get("configuration") or {})}
    sections = {**run.settings, **{f"configuration.{name}": part for name, part in configured.items()}}
    count = 0
    for section, fields in sections.items():
        forbidden = canonical if section == "execution" else execution
        names = {name.rpartition(".")[2] for name in fields}
        count += len(names)
        strays = sorted(names & forbidden)
        if strays:
            return Found(False, f"`{section}` holds {', '.join(strays)}")
    return Found(True, f"{count} settings, each on its side")


def logger(run: RunRecord) -> Found:
    """CONFIG-LOGGER-001: csv unless another was chosen, and metrics on disk."""
    chosen, source = run.value("execution", "logger_backend"), run.source("execution", "logger_backend")
    if source == "default" and chosen != "csv":
        return Found(False, f"no logger was chosen, and it was {chosen!r}")
    if not (run.directory / "metrics.csv").is_file():
        return Found(False, "there is no metrics.csv")
    if run.kind == "training" and chosen == "csv":
        logs = [path for path in run.directory.rglob("metrics.csv") if path.parent != run.directory]
        if not logs:
            return Found(False, "the logger was csv, and the training left no metrics.csv of its own")
        return Found(True, f"csv ({source}), {len(logs)} of its files and metrics.csv are there")
    return Found(True, "metrics.csv is there" + (f", logger {chosen} ({source})" if source else ""))


def accumulation(run: RunRecord) -> Found:
    """EXEC-ACCUM-002: an epoch held at least one whole accumulation."""
    steps = run.value("execution", "accum_steps")
    if run.kind != "training" or not isinstance(steps, int):
        return _unseen("nothing was accumulated: no training")
    batches = run.everything.get("batches_per_epoch")
    if not isinstance(batches, int):
        return Found(False, "`batches_per_epoch` is missing") if steps > 1 else Found(True, "accum_steps 1")
    return Found(steps <= batches, f"accum_steps {steps}, {batches} batches an epoch")


def manual_accumulation(run: RunRecord) -> Found:
    """EXEC-ACCUM-001: as far as the number of steps shows it."""
    steps = run.value("execution", "accum_steps")
    if run.kind != "training" or not isinstance(steps, int):
        return _unseen("nothing was accumulated: no training")
    if steps > 1:
        return _unseen(f"accum_steps {steps}; the record does not say how the network was optimised")
    return Found(True, "accum_steps 1")


def bundle(run: RunRecord) -> Found:
    """BUNDLE-001: the bundle beside the record is the one that the run wrote, and reads back."""
    from ptycho_core.bundle import BUNDLE_FILE, read_bundle

    path = run.directory / BUNDLE_FILE
    if run.kind != "training" and not path.exists():
        return _unseen("no bundle here")
    try:
        read = read_bundle(path)
    except BundleNotFoundError:
        return Found(False, f"the training's {BUNDLE_FILE} is missing")
    except BundleError as error:
        return Found(False, " ".join(str(error).split()).removeprefix("BUNDLE-001: "))
    strays = {name for kind in EXECUTION for name in kind.model_fields} - set(SHARED_WITH_TRAINING)
    strays &= {*read.training, *read.model}
    if strays:
        return Found(False, f"the bundle's configuration holds {', '.join(sorted(strays))}")
    declared = run.everything.get("bundle_sha256")
    if run.kind == "training" and declared != sha256_of(path):
        return Found(False, f"{BUNDLE_FILE} is not the file that this run wrote: its sha256 differs")
    return Found(True, f"{BUNDLE_FILE} reads back, every checksum is right, {len(read.weights)} tensors")


def data(run: RunRecord) -> Found:
    """DATA-001: what was decided about the scan is on record."""
    known = run.everything.get("input")
    if not isinstance(known, Mapping):
        return Found(False, "`input` is missing")
    measurement, place, checksum = known.get("measurement"), known.get("dc"), known.get("sha256")
    if measurement not in ("amplitude", "counts") or place not in ("center", "corner"):
        return Found(False, f"`input` says measurement {measurement!r} and zero frequency {place!r}")
    if known.get("file") is not None and not _SHA256.fullmatch(str(checksum)):
        return Found(False, f"the scan's sha256 is {checksum!r}")
    return Found(True, f"{known.get('scan')}: {measurement}, zero frequency in the {place}")


def labels(run: RunRecord) -> Found:
    """DATA-SUP-001: a training that looked at labels had some."""
    supervised = run.value("training", "model.model_type") == "supervised"
    if run.kind != "training" or not (supervised or run.value("training", "realspace_mae_weight")):
        return _unseen("no labels were asked for")
    known = run.everything.get("input")
    there = isinstance(known, Mapping) and known.get("ground_truth") is True
    return Found(
        there, f"labels were asked for, and the scan came with{'' if there else 'out'} a ground truth"
    )


def oversampling(run: RunRecord) -> Found:
    """OVERSAMPLING-001: more groups than frames only where that was chosen."""
    groups, gridsize = run.value("training", "n_groups"), run.value("training", "model.gridsize")
    frames = run.everything.get("n_frames")
    if run.kind != "training" or not isinstance(groups, int) or not isinstance(gridsize, int):
        return _unseen("no number of groups was asked for")
    if run.value("training", "test_data_file") is not None or not isinstance(frames, int):
        return _unseen("the record does not say how many frames were trained on")
    over = gridsize > 1 and groups > frames
    allowed = run.value("training", "enable_oversampling") is True
    return Found(
        not over or allowed, f"{groups} groups of {gridsize**2} from {frames} frames, oversampling {allowed}"
    )
