"""`ptycho inspect SCAN --plan` foretells a run, and what cannot fit is refused before anything is made."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ptycho_core.costs import needs

PARTS = ("memory", "scratch", "epochs", "files", "time")


def test_a_plan_tells_memory_scratch_and_time(ptycho, scan_file: Path, tmp_path: Path) -> None:
    done = ptycho("inspect", scan_file, "--plan", "--effort", "fast", "--json", tmp_path / "plan.json")
    assert done.code == 0, done.err
    for part in PARTS:
        assert part in done.out
    assert "reconstruct it: ptycho reconstruct" in done.out
    assert "--effort fast" in done.out
    plan = json.loads((tmp_path / "plan.json").read_text())
    assert plan["frames"] == 40
    assert plan["fits"]
    assert plan["total_s"] > 0


def test_ranks_share_the_frames(ptycho, scan_file: Path, tmp_path: Path) -> None:
    done = ptycho("inspect", scan_file, "--plan", "--ranks", 4, "--json", tmp_path / "plan.json")
    assert done.code == 0, done.err
    assert "for each rank" in done.out
    assert json.loads((tmp_path / "plan.json").read_text())["ranks"] == 4


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (("--effort", "fast"), "`--effort`"),
        (("--ranks", "2"), "`--ranks`"),
        (("--json", "plan.json"), "`--json`"),
        (("--plan", "--ranks", "0"), "from 1"),
        (("--plan", "--picture", "a.png"), "`--picture`"),
    ],
)
def test_settings_without_effect_are_refused(
    ptycho, scan_file: Path, flags: tuple[str, ...], said: str
) -> None:
    done = ptycho("inspect", scan_file, *flags)
    assert done.code == 2
    assert said in done.err


def test_what_cannot_fit_is_refused_before_anything_is_written(
    ptycho, scan_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(needs, "memory_bytes", lambda: 100 << 20)
    done = ptycho("reconstruct", scan_file, "--output-dir", tmp_path / "out")
    assert done.code == 3
    assert "this process may have 100 MiB" in done.err
    assert "--rebin 2" in done.err
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["ptycho.log"]
    planned = ptycho("inspect", scan_file, "--plan")
    assert planned.code == 3
    assert "memory" in planned.out
