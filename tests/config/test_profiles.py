"""The profile decides how many examples are drawn, and the last lines of a run say how many it was."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

CONFTEST = Path(__file__).parents[1] / "conftest.py"
TESTS = """
import json
from pathlib import Path
from hypothesis import assume, given, settings, strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule

drawn = []

@given(st.integers(min_value=0))
def test_default(number):
    assume(number != 3)
    drawn.append("default")

@settings(max_examples=40)
@given(st.integers(min_value=0))
def test_number_of_its_own(number):
    drawn.append("own")

class Machine(RuleBasedStateMachine):
    def __init__(self):
        super().__init__()
        drawn.append("machine")

    @rule(number=st.integers())
    def step(self, number):
        pass

Machine.TestCase.settings = settings(settings.default, stateful_step_count=3)
TestMachine = Machine.TestCase

def test_plain():
    Path("drawn.json").write_text(json.dumps({kind: drawn.count(kind) for kind in set(drawn)}))
"""


def _run(folder: Path, **environment: str) -> tuple[str, dict[str, int]]:
    """Run the tests above under this repository's conftest.py: the line at the end, and what was drawn."""
    import json

    shutil.copy(CONFTEST, folder / "conftest.py")
    (folder / "test_some.py").write_text(TESTS)
    clean = {name: value for name, value in os.environ.items() if name not in ("CI", "HYPOTHESIS_PROFILE")}
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-q", "test_some.py"],
        cwd=folder,
        env={**clean, **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    [line] = re.findall("^hypothesis: .*$", done.stdout, re.MULTILINE)
    return line, json.loads((folder / "drawn.json").read_text())


@pytest.mark.parametrize(
    ("environment", "profile", "default", "own"),
    [
        ({}, "dev", 25, 10),
        ({"CI": "true"}, "ci", 100, 40),
        ({"HYPOTHESIS_PROFILE": "ci"}, "ci", 100, 40),
        ({"CI": "true", "HYPOTHESIS_PROFILE": "thorough"}, "thorough", 1000, 400),
    ],
    ids=["desk", "verdict", "named", "thorough"],
)
def test_the_profile_decides_and_the_count_is_right(
    tmp_path: Path, environment: dict[str, str], profile: str, default: int, own: int
) -> None:
    line, drawn = _run(tmp_path, **environment)
    machines = drawn.pop("machine")
    assert drawn == {"default": default, "own": own}
    assert machines >= default  # one is made for each example that is discarded, too
    total = 2 * default + own
    assert line == f"hypothesis: {total} examples in 3 property tests, profile {profile}"
