"""Sixty faults of all classes, two hundred among the slow tests: the reduced form of `nox -s faults`."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).parent
ROOT = FOLDER.parents[1]
pytestmark = pytest.mark.skipif(not hasattr(os, "pidfd_open"), reason="it needs Linux")


def faults(*words: object) -> subprocess.CompletedProcess[str]:
    """Run it as the session does, in a process that has no threads and may be forked."""
    command = [sys.executable, str(FOLDER), *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)


@pytest.fixture(scope="module")
def ground(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which the first run leaves the sound files for the others."""
    return tmp_path_factory.mktemp("faults") / "ground"


@pytest.mark.parametrize("cases", [60, pytest.param(200, marks=pytest.mark.slow)])
def test_faults_do_no_harm(cases: int, ground: Path, tmp_path: Path) -> None:
    done = faults("--cases", cases, "--seed", 7, "--found", tmp_path / "found", "--ground", ground)
    assert done.returncode == 0, f"{done.stdout[-8000:]}\n{done.stderr[-2000:]}"
    (total,) = re.findall(r"^\| \*\*all\*\* \| (\d+) \|", done.stdout, re.MULTILINE)
    assert int(total) == cases
    assert not (tmp_path / "found").exists()


#: What a product with that fault would do -> how it is told.
BROKEN = {
    "raise ValueError('no line')": "traceback",
    "import time; time.sleep(100)": "hang",
    "import os; os.kill(os.getpid(), 11)": "crash by signal",
    "open('out.npz', 'wb').write(b'PK half')": "half-written file",
    "import sys; sys.exit(4)": "wrong exit code",
    "bytearray(1 << 28)": "too much memory",
    "print(chr(27))": "broken promise",
    "open('given', 'ab').write(b'x')": "broken promise",
    "import pathlib; pathlib.Path('.x.1a2b.part').touch()": "half-written file",
    "print('all is well')": "clean",
}


@pytest.mark.parametrize("program", BROKEN)
def test_every_kind_of_harm_is_seen(program: str, tmp_path: Path) -> None:
    asked = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "from pathlib import Path\n"
        "from injection.case import Act\n"
        "from injection.judging import inputs_of, judged\n"
        "from injection.running import run_act\n"
        "place, screens = Path(sys.argv[2]), Path(sys.argv[3])\n"
        "(place / 'given').write_bytes(b'sound')\n"
        "act = Act(program=sys.argv[4], patience_s=3, memory_bytes=200 << 20, codes=frozenset({0}))\n"
        "before = inputs_of(place)\n"
        "print(judged(act, run_act(act, place, screens), place, before, keeps_parts=False)[0])\n"
    )
    for name in ("place", "screens"):
        (tmp_path / name).mkdir()
    words = [
        sys.executable,
        "-c",
        asked,
        str(FOLDER),
        *(str(tmp_path / name) for name in ("place", "screens")),
    ]
    done = subprocess.run([*words, program], capture_output=True, text=True, check=False)
    assert done.stdout.strip() == BROKEN[program], done.stderr


def test_the_same_seed_draws_the_same_cases_and_another_one_others(ground: Path) -> None:
    words = ("--cases", 150, "--seed", 1, 1, 2, "--list", "--ground", ground)
    _, *listed = faults(*words).stdout.split("seed ")
    first, again, other = (part.splitlines()[1:] for part in listed)
    assert first == again != other
    assert len(set(first)) == 150


def test_a_failure_is_written_as_a_program_that_shows_it_again(tmp_path: Path) -> None:
    asked = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "from pathlib import Path\n"
        "from injection.case import Act, Case\n"
        "from injection.programs import write_program\n"
        "place = Path(sys.argv[2])\n"
        "(place / 'read.txt').write_text('spoiled')\n"
        "act = Act(program=\"import sys; print(open('read.txt').read()); sys.exit(7)\")\n"
        "case = Case('made up', 'a name\\x1b', lambda place: [act])\n"
        "found = ('wrong exit code', '7')\n"
        "print(write_program(case, [act], 0, place, found, place.parent / 'found', 'number 3'))\n"
    )
    (tmp_path / "place").mkdir()
    written = subprocess.run(
        [sys.executable, "-c", asked, str(FOLDER), str(tmp_path / "place")],
        capture_output=True,
        text=True,
        check=True,
    )
    done = subprocess.run(
        [sys.executable, written.stdout.strip()], capture_output=True, text=True, check=True
    )
    assert "spoiled" in done.stdout
    assert "exit 7" in done.stdout


def test_the_page_shows_every_seed_and_what_all_of_them_came_to(tmp_path: Path) -> None:
    asked = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "from pathlib import Path\n"
        "from injection import page\n"
        "from injection.command import Outcome\n"
        "page.PAGE = Path(sys.argv[2])\n"
        "page.PAGE.write_text(f'by hand\\n{page.MARK}\\nold')\n"
        "one = Outcome('api', 'a', ('clean', ''), 1.0)\n"
        "other = Outcome('readers', 'b', ('hang', ''), 1.0)\n"
        "page.write_page([(2, [one, other], 60.0), (3, [one], 60.0)])\n"
    )
    page = tmp_path / "faults.md"
    subprocess.run([sys.executable, "-c", asked, str(FOLDER), str(page)], check=True)
    text = page.read_text("utf-8")
    assert text.startswith("by hand\n")
    assert "old" not in text
    assert re.findall(r"^## (.*)$", text, re.MULTILINE) == ["All seeds", "Seed 2", "Seed 3"]
    rows = [
        line.split(" | ")[:5] for line in text.splitlines() if line.startswith(("| 2 ", "| 3 ", "| **all"))
    ]
    assert rows[:3] == [
        ["| 2", "2", "1", "0", "1"],
        ["| 3", "1", "1", "0", "0"],
        ["| **all**", "3", "2", "0", "1"],
    ]
