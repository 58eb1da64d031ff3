"""What the system refuses: one line, never the blame of a sound file, never a wait without end."""

from __future__ import annotations

import re
import resource
from pathlib import Path

import pytest


@pytest.mark.parametrize(
    "limit_mib",
    [150, 380, 480, *(pytest.param(limit, marks=pytest.mark.slow) for limit in (256, 420, 560, 640))],
)
def test_too_little_memory_is_said_and_not_taken_for_a_damaged_file(
    ptycho_process, scan_file: Path, limit_mib: int
) -> None:
    limit = limit_mib << 20
    done = ptycho_process(
        *("reconstruct", scan_file, "--effort", "fast", "--output-dir", "out", "--quiet"),
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (limit, limit)),
    )
    assert "Traceback" not in done.err
    assert "damaged" not in done.err
    if done.code != 0 and "OpenBLAS error" not in done.err:  # a library that ends the process says so itself
        assert done.code == 1
        last = done.err.splitlines()[-1]
        assert last.startswith("ptycho: the memory that this process may use does not suffice"), done.err
    assert done.code in (0, 1)


@pytest.mark.parametrize(
    "words",
    [
        ["inspect", "LONG"],
        ["report", "LONG"],
        ["view", "LONG", "--page"],
        ["bug-report", "LONG"],
        ["audit", "LONG"],
        ["watch", "LONG"],
        ["compare", "LONG", "LONG"],
        ["reconstruct", "SCAN", "--start", "LONG"],
        ["reconstruct", "SCAN", "--mask", "LONG"],
        ["reconstruct", "SCAN", "--exclude-frames", "LONG"],
    ],
    ids=" ".join,
)
@pytest.mark.parametrize("path", ["x" * 300, "/".join(["d" * 200] * 25)], ids=["name", "path"])
def test_a_path_that_no_file_system_takes_is_named_and_nothing_else_is_blamed(
    ptycho, scan_file: Path, words: list[str], path: str
) -> None:
    done = ptycho(*(path if word == "LONG" else str(scan_file) if word == "SCAN" else word for word in words))
    assert done.code in (2, 3), done.err
    (said,) = [line for line in done.err.splitlines() if not line.startswith("INFO")]
    assert path[:20] in said
    assert re.search("too long|at most 255 bytes|no such file|Expected", said), said
    assert not re.search("damaged|Errno", said), said


@pytest.mark.parametrize(
    ("flag", "value"),
    [
        ("--frames", "1e12"),
        ("--frames", "100000000"),
        ("--frames", str(2**63)),
        ("--frames", str(10**30)),
        ("--photons", "1e300"),
        ("--photons", "nan"),
        ("--background", "1e300"),
        ("--seed", str(10**30)),
        ("--modes", str(10**30)),
    ],
)
def test_numbers_that_nobody_simulates_are_refused_before_anything_is_made(
    ptycho, tmp_path: Path, flag: str, value: str
) -> None:
    done = ptycho("simulate", flag, value)
    assert done.code == 2, done.err
    assert len(done.err.splitlines()) == 1
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("words", "flag"),
    [
        (["simulate", "--frames", "20", "--size", "32", "--output"], "--output"),
        (["inspect", "SCAN", "--picture"], "--picture"),
        (["audit", "--only", "CONFIG-002", "--output"], "--output"),
    ],
    ids=lambda given: given[0] if isinstance(given, list) else "",
)
def test_a_file_that_cannot_be_written_is_named_with_its_own_flag(
    ptycho, scan_file: Path, tmp_path: Path, words: list[str], flag: str
) -> None:
    (tmp_path / "file").touch()
    place = tmp_path / "file" / "made"  # nothing can be made within a file, not by root either
    done = ptycho(*(str(scan_file) if word == "SCAN" else word for word in words), str(place))
    assert done.code == 1, done.err
    said = done.err.splitlines()[-1]
    assert str(tmp_path / "file") in said and "cannot be written" in said
    assert f"`{flag}`" in said


def test_whole_numbers_beyond_64_bits_are_refused_wherever_they_stand(ptycho, tmp_path: Path) -> None:
    (tmp_path / "big.yaml").write_text(f"seed: {10**25}\ncrop_px: {10**25}\n")
    for words in (
        ("config", "show", "--config", "big.yaml"),
        ("config", "show", "--probe-modes", str(10**25)),
        ("config", "show", "--crop-px", f"-{10**25}"),
        ("config", "show", "--beam-center-px", f"{10**25},3"),
        ("config", "show", "--solver-epochs", "1e25"),
    ):
        done = ptycho(*words)
        assert done.code == 2, (words, done.out)
        assert len([line for line in done.err.splitlines() if line.startswith("ptycho: ")]) == 1


def test_mps_where_there_is_none_is_refused_as_cuda_is(ptycho, scan_file: Path) -> None:
    from ptycho_config import hardware

    if hardware.mps_available():
        pytest.skip("this host has one")
    done = ptycho("reconstruct", scan_file, "--accelerator", "mps", "--output-dir", "out")
    assert done.code == 5
    assert "POLICY-001: accelerator 'mps' was asked for" in done.err.splitlines()[-1]
