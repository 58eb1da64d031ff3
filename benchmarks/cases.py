"""The scans of the fidelity table: a centre case, one factor at a time, and the hardest corners; and few photons.

Every case is N = 64 and starts, unless it says otherwise, from a probe that is as wrong as that of the real
Siemens-star scan. The design was fixed before the table was first filled.
"""

from __future__ import annotations

import hashlib
import json
from itertools import product
from typing import Any

from ptycho_core.simulate import SimulatedScan, simulate_scan

__all__ = ["CASES", "CENTRE", "FEW_PHOTONS", "OBJECTS", "SEEDS", "build_case", "case_hash", "in_scope"]

CENTRE: dict[str, Any] = {
    "object_kind": "polygons",
    "probe_kind": "focus",
    "position_kind": "spiral",
    "start_kind": "scan-like",
    "overlap": 0.7,
    "photons": 1e6,
    "frames": 150,
    "frame_px": 64,
    "modes": 1,
    "background": 0.0,
    "bad_pixel_fraction": 0.0,
    "seed": 0,
}

OBJECTS, SEEDS = ("polygons", "star", "discs", "texture", "gradient"), (1, 2, 3)


def _design() -> dict[str, dict[str, Any]]:
    cases: dict[str, dict[str, Any]] = {"centre": {}}
    cases |= {f"object {kind}": {"object_kind": kind} for kind in ("discs", "star", "gradient")}
    cases |= {f"probe {kind}": {"probe_kind": kind} for kind in ("gaussian", "speckle")}
    cases |= {f"photons {dose:.0e}": {"photons": dose} for dose in (1e2, 1e3, 1e4, 1e5, 1e7, 1e8)}
    cases |= {f"overlap {o:.0%}": {"overlap": o} for o in (0.3, 0.4, 0.5, 0.6, 0.8, 0.9)}
    cases |= {f"positions {kind}": {"position_kind": kind} for kind in ("raster", "random")}
    cases |= {f"start {kind}": {"start_kind": kind} for kind in ("true", "defocus", "amplitude", "disc")}
    cases |= {f"frames {count}": {"frames": count} for count in (60, 400)}
    cases |= {
        "two modes": {"modes": 2},
        "background 10%": {"background": 0.1},
        "bad pixels 2%": {"bad_pixel_fraction": 0.02},
        "seed 1": {"seed": 1},
        "seed 2": {"seed": 2},
    }
    kinds = (
        ("discs", "gaussian"),
        ("star", "speckle"),
        ("polygons", "focus"),
        ("gradient", "focus"),
        ("star", "gaussian"),
        ("discs", "focus"),
        ("polygons", "speckle"),
        ("star", "focus"),
    )
    corners = product((1e4, 1e8), (0.5, 0.85), ("raster", "random"))
    for (dose, overlap, path), (obj, probe) in zip(corners, kinds, strict=True):
        cases[f"corner {dose:.0e}, {overlap:.0%}, {path}, {obj}, {probe}"] = {
            "photons": dose,
            "overlap": overlap,
            "position_kind": path,
            "object_kind": obj,
            "probe_kind": probe,
        }
    return {name: CENTRE | change for name, change in cases.items()}


def _few_photons() -> dict[str, dict[str, Any]]:
    """Three seeds of each: few photons with five objects and both start probes; every dose; little overlap."""
    found: dict[str, dict[str, Any]] = {}
    for dose, kind, start in product((1e2, 1e3, 1e4), OBJECTS, ("true", "scan-like")):
        found[f"{dose:.0e}, {kind}, {'true' if start == 'true' else 'wrong'} probe"] = {
            "photons": dose,
            "object_kind": kind,
            "start_kind": start,
            "frames": 200,
        }
    found |= {f"centre, {dose:.0e}": {"photons": dose} for dose in (1e2, 1e3, 1e4, 1e5, 1e6, 1e8)}
    found |= {f"centre, overlap {o:.0%}": {"overlap": o} for o in (0.3, 0.5, 0.8)}
    return {
        f"{name}, seed {seed}": CENTRE | change | {"seed": seed}
        for name, change in found.items()
        for seed in SEEDS
    }


CASES, FEW_PHOTONS = _design(), _few_photons()


def build_case(name: str) -> SimulatedScan:
    """Simulate the scan of a case."""
    return simulate_scan(**(CASES | FEW_PHOTONS)[name])


def case_hash(*parts: object) -> str:
    """Identify what a stored result of the peer was made of, so that it is used for nothing else."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]


def in_scope(name: str) -> bool:
    """Return whether the bars apply: at least 1e4 photons per frame and half the probe's width as overlap."""
    return CASES[name]["photons"] >= 1e4 and CASES[name]["overlap"] >= 0.5
