"""Submit the scripts of docs/how-to/cluster.md to a real SLURM, and look at what becomes of them.

`python scripts/slurm` needs ptycho and mpich in its environment; `nox -s slurm` makes one. `--why-not` says
why it cannot run here, and nothing where it can.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
from cluster import cluster, install, installed, why_not

PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "cluster.md"
#: What a cluster of one node gives in place of what the page asks for.
HERE = ("--nodes=1", "--ntasks-per-node=2", "--cpus-per-task=1", "--mem-per-cpu=500M", "--time=20")
#: Of one job, on a machine that has other things to do.
_LONGEST_S = 900


def page_script() -> str:
    """Return the first script of the page, as it stands there."""
    scripts = re.findall(r"^```bash\n(.*?)^```", PAGE.read_text("utf-8"), re.MULTILINE | re.DOTALL)
    return next(script for script in scripts if "#SBATCH" in script)


class Session:
    """Jobs in one folder, as a user submits them."""

    def __init__(self, folder: Path, environment: dict[str, str]) -> None:
        self.folder = folder
        home, programs = folder / "home", Path(sys.executable).parent
        (home / "ptycho" / "bin").mkdir(parents=True)
        # The page's environment is this one.
        (home / "ptycho" / "bin" / "activate").write_text(f'PATH="{programs}:$PATH"\n')
        self.environment = environment | {"HOME": str(home), "PTYCHO_DIAGNOSE": "off"}
        self.environment["PATH"] = f"{programs}:{environment['PATH']}"

    def call(self, *words: str) -> str:
        """Run a command; what it says.

        Raises:
            RuntimeError: it failed.
        """
        done = subprocess.run(
            words, cwd=self.folder, env=self.environment, capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise RuntimeError(f"{' '.join(words)}: {done.stdout}{done.stderr}")
        return done.stdout

    def submit(self, *words: str) -> str:
        """Submit a job; its number."""
        number = self.call("sbatch", "--parsable", "--output=%j.log", *HERE, *words).strip()
        print(f"$ sbatch {' '.join(words)}\nSubmitted batch job {number}", flush=True)
        return number

    def state(self, job: str) -> str:
        """Return the state of a job in one word, such as COMPLETED."""
        told = self.call("scontrol", "show", "job", job)
        found = re.search(r"JobState=(\S+)", told)
        return found[1] if found else ""

    def wait(self, job: str) -> str:
        """Wait until a job has ended; its state. Its log is shown."""
        over = ("COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "NODE_FAIL", "OUT_OF_MEMORY")
        until(lambda: self.state(job) in over, f"job {job} has ended")
        state = self.state(job)
        print(self.log(job) + f"job {job}: {state}\n", flush=True)
        return state

    def log(self, job: str) -> str:
        """Return what a job has written so far."""
        path = self.folder / f"{job}.log"
        return path.read_text(errors="replace") if path.exists() else ""

    def record(self, *place: str) -> dict[str, object]:
        """Return the `run.json` of a result."""
        return json.loads(self.folder.joinpath(*place, "run.json").read_text("utf-8"))


def until(true: Callable[[], bool], what: str) -> None:
    """Wait for something.

    Raises:
        RuntimeError: it takes too long.
    """
    end = time.monotonic() + _LONGEST_S
    while not true():
        if time.monotonic() > end:
            raise RuntimeError(f"{_LONGEST_S} s, and not yet: {what}")
        time.sleep(0.3)


def check(true: bool, what: str) -> None:
    """Say that something is as it should be.

    Raises:
        RuntimeError: it is not.
    """
    if not true:
        raise RuntimeError(f"not so: {what}")
    print(f"ok  {what}", flush=True)


def prepare(session: Session) -> None:
    """Put three scans and the page's script there, and one of the same that takes long."""
    (session.folder / "scans").mkdir()
    for number, frames in enumerate((60, 120, 80)):
        words = ("--frames", str(frames), "--size", "32", "--seed", str(number))
        session.call("ptycho", "simulate", *words, "--output", f"scans/p{number}.npz")
    script = page_script()
    (session.folder / "page.sh").write_text(script)
    (session.folder / "long.sh").write_text(
        script.replace(
            "--output-dir projections", "--output-dir long --effort thorough --solver-epochs 100000"
        )
    )
    (session.folder / "again.sh").write_text(
        script.replace("--output-dir projections", "--output-dir long --solver-epochs 2")
    )


def the_script_of_the_page(session: Session) -> None:
    """Every scan is done once, over both tasks, and rank 0 alone speaks."""
    job = session.submit("page.sh")
    check(session.wait(job) == "COMPLETED", "the script of the page ends well")
    log = session.log(job)
    check(log.count("outcome") == 1, "one table")
    check(len(re.findall(r"done in [\d.]+ s on rank \d", log)) >= 3, "three scans are done")
    told = [session.record("projections", f"p{number}")["launched"] for number in range(3)]
    check({one["ranks"] for one in told} == {2}, "each by one of two ranks")  # pyright: ignore[reportIndexIssue]
    check(len({one["rank"] for one in told}) == 2, "both ranks took some")  # pyright: ignore[reportIndexIssue]


def a_plain_call(session: Session) -> None:
    """Inside an allocation of two tasks, without srun, there is one run."""
    script = "#!/bin/bash\nptycho reconstruct scans/p0.npz --output-dir plain --effort fast\n"
    (session.folder / "plain.sh").write_text(script)
    job = session.submit("plain.sh")
    check(session.wait(job) == "COMPLETED", "a plain call inside an allocation of two tasks ends well")
    check("launched" not in session.record("plain"), "it is one run")
    check(session.log(job).count("residual R") == 1, "and speaks once")


def cancel_and_go_on(session: Session) -> None:
    """`scancel` keeps the images so far, and the script goes on with them."""
    job = session.submit("long.sh")
    logs = [session.folder / "long" / f"p{number}" / "ptycho.log" for number in (1, 2)]
    until(lambda: all(log.exists() and "epoch 1/" in log.read_text() for log in logs), "both are at work")
    began = time.monotonic()
    session.call("scancel", job)
    print(f"$ scancel {job}", flush=True)
    check(session.wait(job) == "CANCELLED", "the job is cancelled")
    until(
        lambda: session.call("squeue", "--noheader", "--jobs", job).strip() == "", "its processes have ended"
    )
    print(f"    {time.monotonic() - began:.1f} s behind scancel", flush=True)
    check("not begun" in session.log(job), "the table came before the end")
    for number in (1, 2):
        check(session.record("long", f"p{number}")["interrupted"] is True, f"the image of p{number} is kept")
    check(not (session.folder / "long" / "p0").exists(), "no further scan was begun")
    again = session.submit("again.sh")
    check(session.wait(again) == "COMPLETED", "the script goes on")
    for number in range(3):
        check(session.record("long", f"p{number}")["interrupted"] is False, f"p{number} is finished")
    once_more = session.submit("again.sh")
    check(session.wait(once_more) == "COMPLETED", "submitted once more")
    check(session.log(once_more).count("done before") == 3, "there is nothing left to do")


def a_rank_that_dies(session: Session) -> None:
    """Where a task is killed, all end at once, and the log says which it was."""
    (session.folder / "killed.sh").write_text(
        (session.folder / "long.sh").read_text().replace("--output-dir long", "--output-dir killed")
    )
    job = session.submit("killed.sh")
    logs = [session.folder / "killed" / f"p{number}" / "ptycho.log" for number in (1, 2)]
    until(lambda: all(log.exists() and "epoch 1/" in log.read_text() for log in logs), "both are at work")
    began = time.monotonic()
    os.kill(task_of(job, 1), 9)
    check(session.wait(job) == "FAILED", "a job of which a task was killed fails")
    print(f"    {time.monotonic() - began:.1f} s behind the kill", flush=True)
    check(bool(re.search(r"ptycho: rank 1 \(.*\) has died", session.log(job))), "the rank is named")


def task_of(job: str, rank: int) -> int:
    """Return the number of a task's process; the one beside it, which answers signals, is younger."""
    wanted = {f"SLURM_JOB_ID={job}".encode(), f"SLURM_PROCID={rank}".encode(), b"SLURM_STEP_ID=0"}
    found = []
    for place in Path("/proc").glob("[0-9]*"):
        try:
            environment = set((place / "environ").read_bytes().split(b"\0"))
            words = (place / "cmdline").read_bytes()
        except OSError:
            continue
        if wanted <= environment and b"ptycho" in words and b"srun" not in words:
            found.append(int(place.name))
    return min(found)


def main() -> int:
    """Install SLURM, start it, run all checks; the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--why-not", action="store_true", help="say why this cannot run here")
    steps = (the_script_of_the_page, a_plain_call, cancel_and_go_on, a_rank_that_dies)
    names = [step.__name__ for step in steps]
    parser.add_argument("steps", nargs="*", metavar="STEP", help=f"only these: {', '.join(names)}")
    asked = parser.parse_args()
    if unknown := set(asked.steps) - set(names):
        parser.error(f"there is no step {min(unknown)}")
    reason = why_not()
    if asked.why_not or reason:
        print(reason)
        return 0
    if not installed() and (failed := install()):
        print(f"skipped: SLURM could not be installed ({failed})")
        return 0
    with tempfile.TemporaryDirectory() as place, cluster(Path(place) / "cluster") as environment:
        session = Session(Path(place) / "user", environment)
        prepare(session)
        for step in steps:
            if asked.steps and step.__name__ not in asked.steps:
                continue
            print(f"--- {step.__doc__}", flush=True)
            step(session)
    return 0


if __name__ == "__main__":
    sys.exit(main())
