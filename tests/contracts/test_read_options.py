"""How a scan is read is said thrice: by the keywords of `open_scan`, `ReadOptions` and the configuration."""

from __future__ import annotations

import inspect
from dataclasses import fields
from typing import get_type_hints

from ptycho_config.models import RunConfig
from ptycho_core.io import ReadOptions, open_scan
from ptycho_dispatch.settings import READING_FIELDS, read_options

DEFAULTS = {field.name: field.default for field in fields(ReadOptions)}


def test_the_keywords_of_open_scan_are_the_options() -> None:
    keywords = dict(inspect.signature(open_scan).parameters)
    source = keywords.pop("source")
    assert source.default is source.empty
    assert {name: keyword.default for name, keyword in keywords.items()} == DEFAULTS
    assert list(keywords) == list(DEFAULTS)
    assert {keyword.kind for keyword in keywords.values()} == {inspect.Parameter.KEYWORD_ONLY}
    said, meant = get_type_hints(open_scan), get_type_hints(ReadOptions)
    assert {name: said[name] for name in DEFAULTS} == meant


def test_open_scan_documents_every_option() -> None:
    for name in DEFAULTS:
        assert name in (inspect.getdoc(open_scan) or "")
        assert name in (inspect.getdoc(ReadOptions) or "")


def test_the_configuration_has_every_option_with_its_default() -> None:
    assert tuple(DEFAULTS) == READING_FIELDS
    assert {name: RunConfig.model_fields[name].default for name in DEFAULTS} == DEFAULTS


def test_the_configuration_hands_over_what_it_was_told() -> None:
    told = {
        "measurement": "counts",
        "dc": "corner",
        "probe_file": "probe.npz",
        "probe_start": "conjugate",
        "pixel_size_m": 8e-9,
        "energy_ev": 8000.0,
        "electrons": 80e3,
        "distance_m": 2.0,
        "detector_pixel_m": 75e-6,
        "frames_key": "entry/data",
        "positions_key": "y,x",
        "probe_key": "probe",
        "positions_file": "positions.csv",
        "positions_unit": "um",
        "scan_step": "31.25A",
        "scan_shape": (24, 24),
        "positions_orientation": "flip-y",
        "positions_scale": (1.02, 0.98),
        "positions_turn_deg": 12.5,
        "frames_orientation": "transpose",
        "crop_px": 64,
        "beam_center_px": (70, 60),
        "rebin": 2,
        "dark": "dark.npy",
        "flat": "flat.npy",
        "counts_per_photon": 12.5,
        "bad_pixels": "file",
        "mask": "mask.npy",
        "mask_invert": True,
        "bad_frames": "off",
        "frames": "0:100",
        "exclude_frames": "3,5",
        "region": "0:10,:50",
        "missing_positions": "interpolate",
    }
    assert set(told) == set(DEFAULTS)
    options = read_options(RunConfig.model_validate(told))
    for name, value in told.items():
        held = getattr(options, name)
        assert (str(held) if name.endswith(("_file", "mask", "dark", "flat")) else held) == value
