"""`mpiexec ptycho reconstruct`: one command over several tasks, never several copies of it."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from ptycho_core import Reconstruction
from ptycho_core.io import save_scan
from ptycho_core.simulate import simulate_scan

PTYCHO = (sys.executable, "-m", "ptycho_dispatch")
FAST = ("--effort", "fast", "--frc", "false", "--threads", "1")
LONG = ("--effort", "thorough", "--solver-epochs", "100000", "--threads", "1")
#: As a task of a launcher that this process is not.
OPEN_MPI = {
    "OMPI_COMM_WORLD_SIZE": "4",
    "OMPI_COMM_WORLD_RANK": "0",
    "OMPI_COMM_WORLD_LOCAL_RANK": "0",
}


@pytest.fixture(scope="module")
def scans(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Three small scans, the second the largest."""
    folder = tmp_path_factory.mktemp("scans")
    paths = []
    for number, frames in enumerate((30, 60, 40)):
        made = simulate_scan(object_kind="star", frames=frames, frame_px=32, seed=number)
        paths.append(folder / f"s{number}.npz")
        save_scan(made.scan, paths[-1])
    return paths


@pytest.fixture
def start(mpiexec: tuple[str, ...], tmp_path: Path) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Start `ptycho` over several tasks; whatever is left of it ends with the test."""
    started: list[subprocess.Popen[str]] = []

    def call(*tasks: object, count: int = 2, first: tuple[str, ...] = ()) -> subprocess.Popen[str]:
        words = [*mpiexec, *first, "-n", str(count), *PTYCHO, *map(str, tasks)]
        started.append(
            subprocess.Popen(words, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        )
        return started[-1]

    yield call
    for process in started:
        if process.poll() is None:
            process.terminate()
            process.communicate(timeout=60)


def finished(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    out, err = process.communicate(timeout=120)
    return process.returncode, out, err


def wait_for_epochs(root: Path, count: int, process: subprocess.Popen[str]) -> None:
    """Wait until so many scans are at work."""
    end = time.monotonic() + 60
    while time.monotonic() < end and process.poll() is None:
        if sum("epoch 1/" in log.read_text() for log in root.glob("*/ptycho.log")) >= count:
            return
        time.sleep(0.05)
    raise AssertionError("the scans were not begun")


def test_scans_are_shared_and_one_that_fails_stops_no_other(
    start, ptycho, scans: list[Path], tmp_path: Path
) -> None:
    (tmp_path / "broken.npz").write_bytes(b"PK no archive")
    words = ("reconstruct", *scans[:2], "broken.npz", "--output-dir", "out", *FAST)
    code, out, err = finished(start(*words, count=3))
    assert code == 3, err
    table = out.splitlines()[-3:]
    where = [bool(re.search(r"done in [\d.]+ s on rank \d", row)) for row in table]
    assert where == [True, True, False]
    assert "failed" in table[2]
    assert out.count("outcome") == 1
    assert "WARNING 3 ranks and 2 scans to do: 1 rank has nothing to do." in err
    assert "(2 of 2, 0 at work)" in err
    records = [json.loads((tmp_path / "out" / f"s{n}" / "run.json").read_text()) for n in range(2)]
    assert len({one["launched"]["rank"] for one in records}) == 2
    assert {one["launched"]["ranks"] for one in records} == {3}
    alone = ptycho("reconstruct", scans[1], "--output-dir", "alone", *FAST)
    assert alone.code == 0, alone.err
    assert np.array_equal(
        Reconstruction.load(tmp_path / "alone").object, Reconstruction.load(tmp_path / "out" / "s1").object
    )
    assert not list((tmp_path / "out").glob(".*"))


def test_a_request_to_one_rank_stops_all_and_resume_goes_on(
    start, tasks_of, ptycho, scans: list[Path], tmp_path: Path
) -> None:
    process = start("reconstruct", *scans, "--output-dir", "out", *LONG)
    wait_for_epochs(tmp_path / "out", 2, process)
    os.kill(tasks_of(process)[1], signal.SIGTERM)
    code, out, err = finished(process)
    assert code == 143, err
    assert out.count("interrupted  out/") == 2
    assert "not begun" in out
    for name in ("s1", "s2"):
        assert Reconstruction.load(tmp_path / "out" / name).interrupted
    again = ptycho("reconstruct", *scans, "--output-dir", "out", "--resume", "--solver-epochs", "1", *FAST)
    assert again.code == 0, again.err
    assert again.out.count("done in") == 3
    once_more = ptycho("reconstruct", *scans, "--output-dir", "out", "--resume", *FAST)
    assert once_more.out.count("done before") == 3


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (("s0.npz", "broken.npz", *FAST), "3"),
        (("--no-such-flag",), "2"),
        pytest.param(("broken.npz", *FAST), "3", marks=pytest.mark.slow),
        pytest.param(("missing.npz", "--mpi", "frames"), "3", marks=pytest.mark.slow),
        pytest.param(("s0.npz", "s2.npz", *FAST), "0", marks=pytest.mark.slow),
    ],
    ids=["one of two broken", "flag", "broken", "missing", "good"],
)
def test_all_ranks_end_with_the_code_of_the_first(
    mpiexec: tuple[str, ...], scans: list[Path], tmp_path: Path, words: tuple[str, ...], code: str
) -> None:
    # A launcher may pass on that of any rank.
    for scan in scans:
        shutil.copy(scan, tmp_path)
    (tmp_path / "broken.npz").write_bytes(b"PK no archive")
    script = '"$@"; echo $? > code-$PMI_RANK'
    told = ["sh", "-c", script, "sh", *PTYCHO, "reconstruct", *words, "--output-dir", "out"]
    subprocess.run([*mpiexec, "-n", "2", *told], cwd=tmp_path, capture_output=True, timeout=120, check=False)
    assert [(tmp_path / f"code-{rank}").read_text().strip() for rank in range(2)] == [code, code]


@pytest.mark.parametrize("rank", [0, pytest.param(1, marks=pytest.mark.slow)])
def test_a_rank_that_dies_ends_all_in_one_line_that_names_it(
    start, tasks_of, mpiexec: tuple[str, ...], scans: list[Path], tmp_path: Path, rank: int
) -> None:
    # As launchers that do not look after the others do.
    first = ("-disable-auto-cleanup",) if len(mpiexec) == 1 else ()
    process = start("reconstruct", *scans, "--output-dir", "out", *LONG, first=first)
    wait_for_epochs(tmp_path / "out", 2, process)
    ranks = tasks_of(process)
    died = time.monotonic()
    os.kill(ranks[rank], signal.SIGKILL)
    code, _, err = finished(process)
    assert time.monotonic() - died < 10
    assert code != 0
    told = [line for line in err.splitlines() if line.startswith("ptycho:")]
    assert len(told) == 1
    assert re.match(rf"ptycho: rank {rank} \(\S+, process {ranks[rank]}\) has died", told[0])


@pytest.mark.parametrize(
    ("rank", "how"),
    [
        pytest.param(0, "error", marks=pytest.mark.slow),
        (1, "error"),
        pytest.param(2, "agreed", marks=pytest.mark.slow),
        (1, "interrupt"),
    ],
)
def test_what_fails_on_one_rank_ends_all_that_wait_for_it(
    mpiexec: tuple[str, ...], tmp_path: Path, rank: int, how: str
) -> None:
    program = Path(__file__).parent / "one_task.py"
    words = [*mpiexec, "-n", "3", sys.executable, str(program), str(rank), how]
    done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == (130 if how == "interrupt" else 3)
    told = [line for line in done.stderr.splitlines() if line.startswith("ptycho:")]
    assert len(told) == 1
    where = "" if rank == 0 else rf"rank {rank} \(\S+\): "
    what = "interrupted" if how == "interrupt" else r"the frames are gone\."
    assert re.fullmatch(f"ptycho: {where}{what}", told[0])


def test_ranks_beyond_what_the_frames_allow_have_nothing_to_do(
    start, scans: list[Path], tmp_path: Path
) -> None:
    words = ("reconstruct", scans[0], "--frames", "0:8", "--output-dir", "out", *FAST)
    code, out, err = finished(start(*words, count=3))
    assert code == 0, err
    assert err.count("WARNING s0: 8 frames are enough for 2 ranks of 3: 1 rank has nothing to do.") == 1
    assert out.count("residual R") == 1
    launched = json.loads((tmp_path / "out" / "run.json").read_text())["launched"]
    assert (launched["ranks"], launched["idle"], len(launched["bytes_sent"])) == (3, 1, 2)


def test_a_part_of_the_ranks_that_fails_ends_all_alike(
    mpiexec: tuple[str, ...], scans: list[Path], tmp_path: Path
) -> None:
    # A file stands where the directory has to be, which rank 0 alone finds out when all others are at work.
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "reconstruction.npz").mkdir()
    script = '"$@"; echo $? > code-$PMI_RANK'
    words = ["reconstruct", str(scans[0]), "--frames", "0:8", "--output-dir", "out", *FAST]
    told = [*mpiexec, "-n", "3", "sh", "-c", script, "sh", *PTYCHO, *words]
    done = subprocess.run(told, cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False)
    codes = {(tmp_path / f"code-{rank}").read_text().strip() for rank in range(3)}
    assert len(codes) == 1, done.stderr
    assert codes != {"0"}


@pytest.mark.parametrize(
    ("before", "behind", "code", "said"),
    [
        (("env", "PTYCHO_SEED=7"), (), 2, r"`solver.seed` is 7 there and 0 on rank 0\."),
        pytest.param(
            (), ("--seed", "3"), 2, "it was started with other words than rank 0", marks=pytest.mark.slow
        ),
        pytest.param(
            ("env", "-C", "other"), (), 1, "out is not the directory that rank 0 sees", marks=pytest.mark.slow
        ),
    ],
    ids=["environment", "words", "directory"],
)
def test_tasks_that_differ_are_refused_with_the_rank(
    mpiexec: tuple[str, ...],
    scans: list[Path],
    tmp_path: Path,
    before: tuple[str, ...],
    behind: tuple[str, ...],
    code: int,
    said: str,
) -> None:
    words = [*PTYCHO, "reconstruct", *map(str, scans), "--output-dir", "out"]
    (tmp_path / "other").mkdir()
    command = [*mpiexec, "-n", "1", *words, ":", "-n", "1", *before, *words, *behind]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr.count("\n")) == (code, 1)
    assert re.match(rf"ptycho: rank 1 \(\S+\): .*{said}", done.stderr)
    assert code == 1 or not (tmp_path / "out").exists()


def test_ranks_that_share_frames_must_see_one_directory(
    mpiexec: tuple[str, ...], scans: list[Path], tmp_path: Path
) -> None:
    (tmp_path / "other").mkdir()
    words = [*PTYCHO, "reconstruct", str(scans[0]), "--output-dir", "out"]
    command = [*mpiexec, "-n", "1", *words, ":", "-n", "1", "env", "-C", str(tmp_path / "other"), *words]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1
    assert re.fullmatch(
        r"ptycho: rank 1 \(\S+\): out is not the directory that rank 0 sees\..*\n", done.stderr
    )


def test_a_wrong_word_is_told_once(start, scans: list[Path]) -> None:
    code, out, err = finished(start("reconstruct", *scans, "--outptu-dir", "out"))
    assert (code, out) == (2, "")
    assert err == "ptycho: unknown flag `--outptu-dir`; did you mean `--output-dir`?\n"


def test_without_mpi4py_nothing_is_written(ptycho_process, scans: list[Path], tmp_path: Path) -> None:
    hidden = tmp_path / "hidden" / "mpi4py"
    hidden.mkdir(parents=True)
    (hidden / "__init__.py").write_text("raise ImportError('hidden')\n")
    path = os.pathsep.join([str(hidden.parent), os.environ.get("PYTHONPATH", "")])
    words = ("reconstruct", scans[0], "--output-dir", "out")
    done = ptycho_process(*words, environment=OPEN_MPI | {"PYTHONPATH": path})
    assert done.code == 4
    assert re.match(r"ptycho: Open MPI started 4 tasks, .*pip install 'ptycho-dispatch\[mpi\]'", done.err)
    assert not (tmp_path / "out").exists()


def test_an_mpi_that_does_not_see_the_others_is_refused(
    mpiexec: tuple[str, ...], ptycho_process, scans: list[Path], tmp_path: Path
) -> None:
    if len(mpiexec) > 1:
        pytest.skip("the MPI of mpi4py is Open MPI, which would look for the launcher")
    done = ptycho_process("reconstruct", scans[0], "--output-dir", "out", environment=OPEN_MPI)
    assert done.code == 2
    assert "sees only one: mpi4py uses another MPI than the launcher" in done.err
    assert done.err.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_other_commands_work_in_one_task(ptycho_process, scans: list[Path]) -> None:
    first = ptycho_process("inspect", scans[0], environment=OPEN_MPI)
    assert first.code == 0
    assert "WARNING `ptycho inspect` works in one task; the other 3 do nothing." in first.err
    other = ptycho_process("inspect", scans[0], environment=OPEN_MPI | {"OMPI_COMM_WORLD_RANK": "1"})
    assert (other.code, other.out, other.err) == (0, "", "")
    refused = ptycho_process("train", "--train-data-file", scans[0], environment=OPEN_MPI)
    assert refused.code == 2
    assert "each would train for itself" in refused.err
