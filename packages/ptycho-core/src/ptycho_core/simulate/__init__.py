"""Scans with known truth: objects, probes, paths, doses, and start probes that are wrong in a known way."""

from ptycho_core.simulate.objects import OBJECT_KINDS, ObjectKind, make_object
from ptycho_core.simulate.positions import POSITION_KINDS, PositionKind, make_positions
from ptycho_core.simulate.probes import PROBE_KINDS, ProbeKind, effective_diameter_px, make_probe
from ptycho_core.simulate.scan import SimulatedScan, simulate_scan, simulate_twin
from ptycho_core.simulate.start_probe import START_KINDS, StartKind, make_start_probe

__all__ = [
    "OBJECT_KINDS",
    "POSITION_KINDS",
    "PROBE_KINDS",
    "START_KINDS",
    "ObjectKind",
    "PositionKind",
    "ProbeKind",
    "SimulatedScan",
    "StartKind",
    "effective_diameter_px",
    "make_object",
    "make_positions",
    "make_probe",
    "make_start_probe",
    "simulate_scan",
    "simulate_twin",
]
