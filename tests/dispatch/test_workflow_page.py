"""The commands of `docs/workflows/pytorch.md`, run in their order; what they print is what the page shows.

Times and speeds are left out of the comparison, figures of merit may differ by what another processor rounds.
`python tests/dispatch/test_workflow_page.py` writes what the commands print now into the page.
"""

from __future__ import annotations

import importlib.util
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "workflows" / "pytorch.md"
SESSION = re.compile(r"^```shell-session\n(.*?)^```$", re.MULTILINE | re.DOTALL)
#: Times, speeds and shares that rounding changes, with the words that follow them.
CLOCK = re.compile(r"\d+(\.\d+)?(?= s\b| frames/s\b| % of what| times the photon noise)")
FIGURE = re.compile(r"\d+\.\d{4}\b")
PROGRAMS = {"python": (sys.executable,), "ptycho": (sys.executable, "-m", "ptycho_dispatch")}
#: Relative: sums over some hundred thousand weights in single precision, in another order.
ROUNDING = 0.02


def commands(block: str) -> Iterator[tuple[str, list[str]]]:
    """Take a block apart: each command as it stands, continuations included, and the lines it printed."""
    for part in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
        match = re.match(r"(?:.*\\\n)*.*\n", part)
        assert match is not None
        yield match[0], part[match.end() :].splitlines()


class Shell:
    """Runs the page's commands in a folder that holds what they name, on a host that shows no GPU."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._code = folder, 0
        for name in ("scripts", "configs"):
            shutil.copytree(ROOT / name, folder / name)

    def __call__(self, command: str) -> list[str]:
        """Return the lines that a terminal would show."""
        if command.strip() == "echo $?":
            return [str(self._code)]
        program, *words = shlex.split(command.replace("\\\n", " "))
        done = subprocess.run(
            [*PROGRAMS[program], *words],
            cwd=self._folder,
            env=os.environ | {"CUDA_VISIBLE_DEVICES": ""},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=300,
            check=False,
        )
        self._code = done.returncode
        return [line.rstrip() for line in done.stdout.splitlines()]


def without_times(line: str) -> str:
    return " ".join(CLOCK.sub("#", line).split())


def assert_same(shown: list[str], printed: list[str]) -> None:
    """Compare line by line: words and counts exactly, figures with four decimals by what rounding may do."""
    shown, printed = [*map(without_times, shown)], [*map(without_times, printed)]
    assert [FIGURE.sub("#", line) for line in printed] == [FIGURE.sub("#", line) for line in shown]
    figures = [float(figure) for line in shown for figure in FIGURE.findall(line)]
    assert [float(figure) for line in printed for figure in FIGURE.findall(line)] == pytest.approx(
        figures, rel=ROUNDING
    )


@pytest.mark.finding("POLICY-001")
def test_the_page_shows_what_its_commands_print(tmp_path: Path) -> None:
    for needed in ("ptycho_core_torch", "torch", "lightning"):
        pytest.importorskip(needed, reason=f"{needed} is not installed")
    shell = Shell(tmp_path)
    blocks = SESSION.findall(PAGE.read_text("utf-8"))
    assert len(blocks) == 5
    for block in blocks:
        for command, shown in commands(block):
            assert shown, f"the page shows nothing of `{command}`"
            assert_same(shown, shell(command))


@pytest.mark.parametrize(
    ("shown", "printed"),
    [
        (["INFO a"], ["WARNING a"]),
        (["INFO a"], ["INFO a", "INFO a"]),
        (["residual R 0.4013"], ["residual R 0.4213"]),
        (["16 frames"], ["12 frames"]),
    ],
)
def test_the_comparison_finds_differences(shown: list[str], printed: list[str]) -> None:
    with pytest.raises(AssertionError):
        assert_same(shown, printed)


def test_the_comparison_leaves_times_out() -> None:
    assert_same(
        ["time  6.3 s", "R 0.4013, 30 frames/s, at most 0 s left"],
        ["time  12.9 s", "R 0.4014, 7 frames/s, at most 11 s left"],
    )


@pytest.mark.finding("POLICY-001")
def test_the_lines_of_a_gpu_host_are_those_that_a_gpu_test_expects() -> None:
    path = Path(__file__).with_name("test_command_line_evidence.py")
    spec = importlib.util.spec_from_file_location("command_line_evidence", path)
    assert spec is not None and spec.loader is not None
    evidence = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = evidence  # dataclasses look for their module there
    spec.loader.exec_module(evidence)
    del sys.modules[spec.name]
    page = PAGE.read_text("utf-8").splitlines()
    for line in (evidence.INSTANTIATED, evidence.MOVED, evidence.ACCELERATOR):
        assert f"INFO {line.format(device='cuda')}" in page


def rewrite() -> None:
    """Put into the page what its commands print now."""
    with tempfile.TemporaryDirectory() as folder:
        shell = Shell(Path(folder))

        def run(session: re.Match[str]) -> str:
            parts = [
                f"$ {command}" + "".join(f"{line}\n" for line in shell(command))
                for command, _ in commands(session[1])
            ]
            return f"```shell-session\n{''.join(parts)}```"

        PAGE.write_text(SESSION.sub(run, PAGE.read_text("utf-8")), encoding="utf-8")


if __name__ == "__main__":
    rewrite()
