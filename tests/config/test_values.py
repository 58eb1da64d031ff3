"""Which frames: what ranges, lists and regions of frames are read, and what is refused and how."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import TypeAdapter, ValidationError

from ptycho_config.values import FrameList, FrameRange, Region, Voltage

RANGES = TypeAdapter(FrameRange)
LISTS = TypeAdapter(FrameList)
REGIONS = TypeAdapter(Region)
VOLTAGES = TypeAdapter(Voltage)


def said(kind: TypeAdapter[str], value: object) -> str:
    with pytest.raises(ValidationError) as refused:
        kind.validate_python(value)
    return refused.value.errors()[0]["msg"]


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ("0:500", "0:500"),
        ("::2", "::2"),
        ("-100:", "-100:"),
        (":-1:3", ":-1:3"),
        (" 5 : 10 ", "5:10"),
        ("3:9:", "3:9:"),
        ("0" * 98 + ":1", "0" * 98 + ":1"),
    ],
)
def test_a_range_is_a_slice_without_its_spaces(written: str, read: str) -> None:
    assert RANGES.validate_python(written) == read


@pytest.mark.parametrize("written", ["", "5", "1:2:0", "1:2:-1", "a:b", "1:2:3:4", "0" * 99 + ":1", "1;2:3"])
def test_what_is_no_slice_is_refused(written: str) -> None:
    expected = "expected START:STOP or START:STOP:STEP as Python slices, such as 0:500 or ::2"
    assert said(RANGES, written) == f"Value error, {expected}"


@pytest.mark.parametrize(
    "written", ["10:,:250", ":,:", "0:1,2:3.5", "-1e-6:2e-6, :3", "-inf:inf,0:1", " 1 : 2 , 3 : 4 "]
)
def test_a_region_is_kept_as_it_was_written(written: str) -> None:
    assert REGIONS.validate_python(written) == written


@pytest.mark.parametrize(
    "written", ["", "1:2", "1:2,3", "1,3:4", "1:2:3,4:5", "1:2,3:4:5", "1:2,3:4,5:6", "a:2,3:4", "nan:2,3:4"]
)
def test_what_is_no_rectangle_is_refused(written: str) -> None:
    expected = "expected Y0:Y1,X0:X1, in the unit of the positions; an end left out is open, such as 10:,:250"
    assert said(REGIONS, written) == f"Value error, {expected}"


@pytest.mark.parametrize(
    ("given", "read"),
    [
        ("3,17,40:45", "3,17,40:45"),
        ([3, 17], "3,17"),
        ((5,), "5"),
        (7, "7"),
        (Path("bad.txt"), "bad.txt"),
    ],
)
def test_a_list_of_frames_is_what_the_flag_would_be(given: object, read: str) -> None:
    assert LISTS.validate_python(given) == read


@pytest.mark.parametrize("given", [[1, 2.5], ["3", "4"], [True, 2], True, 1.5, None])
def test_other_lists_of_frames_are_refused(given: object) -> None:
    assert said(LISTS, given) == "Input should be a valid string"


def test_no_frames_at_all_are_no_list() -> None:
    assert said(LISTS, []) == "String should have at least 1 character"


@pytest.mark.parametrize(
    ("written", "volts"),
    [
        ("80kV", 80e3),
        (" 80 KV ", 80e3),
        ("0.3MV", 300e3),
        (".5kv", 500.0),
        ("200000", 200e3),
        ("2e5 V", 200e3),
        ("2E-1mv", 200e3),
        (1.5e5, 150e3),
        ("0" * 98 + "5V", 5.0),
    ],
)
def test_a_voltage_has_a_unit_or_is_in_volts(written: object, volts: float) -> None:
    assert VOLTAGES.validate_python(written) == pytest.approx(volts, rel=1e-12)


@pytest.mark.parametrize("written", ["", "fast", "80 kW", "kV", "1.2.3kV", "80kVV", True, "0" * 99 + "5V"])
def test_what_is_no_voltage_is_refused(written: object) -> None:
    assert said(VOLTAGES, written) == "Value error, expected a voltage such as 80kV, or a number of volts"


def test_a_voltage_is_above_nothing() -> None:
    assert said(VOLTAGES, "0kV") == "Input should be greater than 0"
