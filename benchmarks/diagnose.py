"""Forty scans read wrongly and forty read rightly: does `diagnose` name the fault, and what says the verdict?

    nox -s bench -- diagnose [--budget 20] [--only NAME] [--write-docs]
    nox -s bench -- diagnose --beyond          what no flag of the reading puts right, outside the forty

Three simulated objects and, where they are here (`PTYCHO_DATA_DIR`), two real X-ray scans. The forty faults are listed
below. A fault is named where the first finding is of its kind and its flags undo it; half a turn more or less counts as the
same, since no data tell the two apart. Of what lies beyond the forty (frames blurred by the detector, samples too thick for one
slice) it counts what is said in the findings or in the remarks.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import frame
import numpy as np
from scipy.ndimage import gaussian_filter

from ptycho_config.execution import SolverExecutionConfig
from ptycho_config.models import SolverConfig
from ptycho_core import Scan, diagnose, open_scan, solve
from ptycho_core.metrics.compare import compare
from ptycho_core.simulate import simulate_scan
from ptycho_core.simulate.objects import make_object
from ptycho_core.simulate.scan import expected_intensity
from ptycho_core.verdict import judged

TURNED, SCALED = "positions turned or mirrored", "positions scaled"
DC, MODES, BACKGROUND = (
    "zero frequency elsewhere",
    "partial coherence: more probe modes",
    "an unknown flat background",
)
MEASURED = "counts taken for amplitudes"
BLURRED, THICK = "detector blur", "too thick for one slice"
FLICKER, OFF = "an intensity that varies from frame to frame", "positions that are a little wrong"
NUMPY = SolverExecutionConfig(arrays="numpy")
SIMULATED = {
    "polygons": {
        "object_kind": "polygons",
        "probe_kind": "focus",
        "overlap": 0.75,
        "photons": 1e6,
        "seed": 1,
    },
    "discs": {"object_kind": "discs", "probe_kind": "gaussian", "overlap": 0.7, "photons": 1e6, "seed": 2},
    "texture": {
        "object_kind": "texture",
        "probe_kind": "speckle",
        "overlap": 0.75,
        "photons": 1e5,
        "seed": 3,
    },
}
#: (fault, kind of finding) for every simulated object: ten each.
FAULTS = (
    ("other dc", DC),
    ("transposed", TURNED),
    ("mirrored", TURNED),
    ("turned 23", TURNED),
    ("as amplitude", MEASURED),
    ("scaled 0.7", SCALED),
    ("scaled 1.4", SCALED),
    ("stretched 1.3", SCALED),
    ("three modes", MODES),
    ("flicker", FLICKER),
)
#: And for the real scans: five each.
REAL_FAULTS = (
    ("other dc", DC),
    ("transposed", TURNED),
    ("mirrored", TURNED),
    ("turned 23", TURNED),
    ("scaled 1.4", SCALED),
)
RIGHT_SEEDS = tuple(range(10, 22))


@dataclass(frozen=True)
class Case:
    """A scan as it is read, what is wrong with it ("" where nothing is), and the true object where it is known."""

    name: str
    scan: Scan
    kind: str
    truth: np.ndarray | None
    modes: int = 1


def faulty(scan: Scan, fault: str) -> Scan:
    """Return a scan read with a fault."""
    middle = scan.positions_px.mean(axis=0)
    away = scan.positions_px - middle
    word, _, number = fault.partition(" ")
    if fault == "as amplitude":
        return replace(scan, measurement="amplitude")
    if fault == "other dc":
        return replace(scan, dc="corner" if scan.dc == "center" else "center")
    if word == "transposed":
        away = away[:, ::-1]
    elif word == "mirrored":
        away = away * (-1, 1)
    elif word == "turned":
        angle = np.radians(float(number))
        away = away @ np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    elif word == "scaled":
        away = away * float(number)
    elif word == "stretched":
        away = away * (float(number), 1)
    return replace(scan, positions_px=np.ascontiguousarray(away + middle))


def simulated_cases() -> Iterator[Case]:
    """Thirty faults of simulated scans."""
    for name, settings in SIMULATED.items():
        plain = {"frames": 150, "frame_px": 64, **settings}
        made = simulate_scan(**plain)
        for fault, kind in FAULTS:
            scan, truth, modes = faulty(made.scan, fault), made.obj, 1
            if fault == "three modes":
                mixed = simulate_scan(**plain, modes=3)
                scan, truth = mixed.scan, mixed.obj
            elif fault == "flicker":
                random = np.random.default_rng(5)
                level = np.exp(random.normal(0, 0.3, made.scan.n_frames))
                counts = random.poisson(made.scan.counts() * level[:, None, None]).astype(np.float32)
                scan = replace(made.scan, frames=counts, measurement="counts", dc="center")
            yield Case(f"{name}, {fault}", scan, kind, truth, modes)


def real_scans() -> dict[str, tuple[Scan, int]]:
    """The real scans that are here, rightly read."""
    found = {"siemens-star": (open_scan("siemens-star"), 1)}
    labyrinth = Path(os.environ.get("PTYCHO_DATA_DIR", ".")) / "labyrinth.npz"
    if labyrinth.is_file():
        found["labyrinth"] = (open_scan(labyrinth), 3)
    else:
        print("labyrinth.npz is not here: its five faults are left out")
    return found


def cases() -> Iterator[Case]:
    yield from simulated_cases()
    for name, (scan, modes) in real_scans().items():
        for fault, kind in REAL_FAULTS:
            yield Case(f"{name}, {fault}", faulty(scan, fault), kind, None, modes)


def right_cases() -> Iterator[Case]:
    """As many scans that are read rightly."""
    for name, settings in SIMULATED.items():
        for seed in RIGHT_SEEDS:
            made = simulate_scan(**{"frames": 150, "frame_px": 64, **settings, "seed": seed})
            yield Case(f"{name}, seed {seed}", made.scan, "", made.obj)
    for name, (scan, modes) in real_scans().items():
        yield Case(name, scan, "", None, modes)
        yield Case(f"{name}, every second frame", scan.select(slice(0, None, 2)), "", None, modes)


def counted(scan: Scan, light: np.ndarray) -> Scan:
    """The scan with Poisson counts of this light, as many as it had."""
    mean = scan.mean_counts_per_frame()
    counts = np.random.default_rng(3).poisson(light * (mean / light.sum(axis=(1, 2)).mean()))
    return replace(scan, frames=counts.astype(np.float32), measurement="counts", dc="center")


def two_slices(scan: Scan, probe: np.ndarray, first: np.ndarray, second: np.ndarray, apart: float) -> Scan:
    """The scan behind two slices; `apart` is wavelength x distance in squares of a pixel, 5 a depth of field."""
    n = scan.frame_px
    k = np.fft.fftfreq(n)
    way = np.exp(-1j * np.pi * apart * (k[:, None] ** 2 + k**2))
    light = np.empty((scan.n_frames, n, n))
    for number, position in enumerate(scan.positions_px):
        corner = np.floor(position - n // 2 + 0.5).astype(int)
        rest = position - n // 2 - corner
        ramp = np.exp(-2j * np.pi * (k[:, None] * rest[0] + k * rest[1]))
        window = (slice(corner[0], corner[0] + n), slice(corner[1], corner[1] + n))
        wave = np.fft.ifft2(np.fft.fft2(probe) * ramp) * first[window]
        wave = np.fft.ifft2(np.fft.fft2(wave) * way) * second[window]
        light[number] = np.fft.fftshift(np.abs(np.fft.fft2(wave)) ** 2)
    return counted(scan, light)


def mends(flags: Mapping[str, str], name: str) -> bool:
    """Whether these flags undo the fault that a case is named for: its scale within a tenth, its angle within
    five degrees. Of what cannot be told apart, as a mirror and the one across it, either will do."""
    word, _, number = name.partition(", ")[2].partition(" ")
    if word == "transposed":
        return "transpose" in flags.get("positions_orientation", "")
    if word == "mirrored":
        return "flip" in flags.get("positions_orientation", "")
    if word == "turned":
        return abs(float(flags.get("positions_turn_deg", "0")) + float(number)) <= 5
    if word in ("scaled", "stretched"):
        y, x = (float(side) for side in flags.get("positions_scale", "1,1").split(","))
        wanted = 1 / float(number)
        return abs(y / wanted - 1) <= 0.1 and abs(x / (wanted if word == "scaled" else 1) - 1) <= 0.1
    return True


def cases_beyond() -> Iterator[Case]:
    """Faults that no way of reading puts right, and how they are to be called."""
    for name, settings in SIMULATED.items():
        made = simulate_scan(**{"frames": 120, "frame_px": 64, **settings})
        light = expected_intensity(made.obj, made.probe, made.scan.positions_px).astype(np.float64)
        for blur_px in (0.7, 1.0, 1.5):
            scan = counted(made.scan, gaussian_filter(light, (0, blur_px, blur_px)))
            yield Case(f"{name}, blurred {blur_px}", scan, BLURRED, made.obj)
        behind = make_object(settings["object_kind"], made.obj.shape, np.random.default_rng(8))
        for apart in (20.0, 40.0, 60.0):
            scan = two_slices(made.scan, made.probe[0], made.obj, behind, apart)
            yield Case(f"{name}, thick {apart:.0f}", scan, THICK, made.obj)


def main() -> None:
    parser = frame.parser(__doc__)
    parser.add_argument("--budget", type=float, default=20.0, help="seconds for each diagnosis (20)")
    parser.add_argument("--only", action="append", default=[], help="the beginning of a name")
    parser.add_argument("--right", action="store_true", help="the right readings alone")
    parser.add_argument("--wrong", action="store_true", help="the faults alone")
    parser.add_argument("--beyond", action="store_true", help="what lies beyond the forty, alone")
    arguments = parser.parse_args()
    rows = []
    chosen = [*([] if arguments.right else cases()), *([] if arguments.wrong else right_cases())]
    if arguments.beyond:
        chosen = [*cases_beyond()]
    for case in chosen:
        if arguments.only and not case.name.startswith(tuple(arguments.only)):
            continue
        began = time.perf_counter()
        found = diagnose(case.scan, budget_s=arguments.budget, execution=NUMPY)
        seconds = time.perf_counter() - began
        named = found.findings[0].name if found.findings else "right as read"
        result = judged(
            case.scan, solve(case.scan, SolverConfig(probe_modes=case.modes), NUMPY), execution=NUMPY
        )
        error = float("nan")
        if case.truth is not None:
            error = compare(result, case.truth.astype(np.complex64)).values["object_error"]
        ok = named.startswith(case.kind) if case.kind else not found.findings
        ok = ok and mends(found.flags, case.name)
        said = [finding.name for finding in found.findings] + list(found.remarks)
        if case.kind in (BLURRED, THICK):
            ok = any(case.kind in words for words in said)
        elif not case.kind:
            ok = ok and not any(THICK in words for words in said)
        grade = "" if result.verdict is None else result.verdict.grade
        flags = " ".join(f"{key}={value}" for key, value in found.flags.items())
        rows.append([case.name, case.kind or "none", named, flags, "yes" if ok else "no", grade,
                     f"{error:.3f}", f"{seconds:.0f}"])  # fmt: skip
        print(*rows[-1], sep=" | ", flush=True)
    header = ["scan", "fault", "named first", "flags", "right", "verdict", "object error", "s"]
    wrong = [row for row in rows if row[1] != "none"]
    right = [row for row in rows if row[1] == "none"]
    summary = (
        f"Named first: {sum(row[4] == 'yes' for row in wrong)} of {len(wrong)} faults. False alarms: "
        f"{sum(row[4] == 'no' for row in right)} of {len(right)} right readings. Verdict good: "
        f"{sum(row[5] == 'good' for row in wrong)} of the faults, {sum(row[5] == 'good' for row in right)} of the right."
    )
    opening = frame.opening("Scans read wrongly", "nox -s bench -- diagnose --write-docs")
    text = f"{opening}\n{summary}\n\n{frame.markdown_table(header, rows)}\n"
    counted = [{"readings": "faults", "named": sum(row[4] == "yes" for row in wrong) / max(len(wrong), 1)}]
    frame.finish("diagnose", arguments, text, {"rows": rows}, frame.figures(counted, ("readings",), "named"))


if __name__ == "__main__":
    main()
