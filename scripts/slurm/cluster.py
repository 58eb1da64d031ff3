"""A cluster of one node: Debian's SLURM on this machine, with keys, files and ports of its own."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

__all__ = ["cluster", "installed", "why_not"]

PACKAGES = ("slurmctld", "slurmd", "slurm-client", "munge")
_STARTED_WITHIN_S = 60
#: SLURM kills a job that was cancelled after so long, whatever it still does; slow machines need it.
_KILL_WAIT_S = 120

_CONFIGURATION = """
ClusterName=loopback
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={controller}
SlurmdPort={node}
AuthType=auth/munge
AuthInfo=socket={place}/munge.socket
CredType=cred/munge
SlurmUser=root
SlurmdUser=root
StateSaveLocation={place}/state
SlurmdSpoolDir={place}/spool
SlurmctldPidFile={place}/slurmctld.pid
SlurmdPidFile={place}/slurmd.pid
SlurmctldLogFile={place}/slurmctld.log
SlurmdLogFile={place}/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=pmi2
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
ReturnToService=2
SchedulerParameters=batch_sched_delay=0,sched_interval=1
KillWait={kill_wait}
NodeName={host} NodeAddr=127.0.0.1 CPUs={cores} RealMemory={memory} State=UNKNOWN
PartitionName=all Nodes={host} Default=YES MaxTime=INFINITE State=UP
"""


def why_not() -> str:
    """Say why there can be no such cluster here; nothing where there can."""
    if os.name != "posix" or not Path("/etc/debian_version").exists():
        return "this is no Debian, whose SLURM is installed"
    if os.geteuid() != 0:
        return "SLURM's daemons and apt-get need root"
    if shutil.which("apt-get") is None and not installed():
        return "there is no apt-get here"
    return ""


def installed() -> bool:
    """Whether all programs of the cluster are here."""
    programs = ("slurmctld", "slurmd", "sbatch", "scancel", "munged")
    path = os.environ.get("PATH", "") + ":/usr/sbin:/sbin"
    return all(shutil.which(program, path=path) for program in programs)


def install() -> str:
    """Install the packages; what failed, nothing where all went well."""
    environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive", "RUNLEVEL": "1"}
    for words in (["update", "-q"], ["install", "-q", "-y", "--no-install-recommends", *PACKAGES]):
        done = subprocess.run(
            ["apt-get", *words], env=environment, capture_output=True, text=True, check=False
        )
        if done.returncode:
            return f"apt-get {words[0]}: {(done.stderr or done.stdout).strip().splitlines()[-1]}"
    return ""


@contextlib.contextmanager
def cluster(place: Path) -> Iterator[dict[str, str]]:
    """Start the daemons in a folder of their own, and end them.

    Yields:
        The environment in which `sbatch` and the others talk to this cluster.
    Raises:
        RuntimeError: a daemon does not come up; with the end of its log.
    """
    for name in ("state", "spool"):
        (place / name).mkdir(parents=True)
    key = place / "munge.key"
    key.write_bytes(secrets.token_bytes(128))
    key.chmod(0o400)
    host = socket.gethostname().partition(".")[0]
    pages, page_bytes = os.sysconf("SC_PHYS_PAGES"), os.sysconf("SC_PAGE_SIZE")
    controller, node = _free_ports(2)
    (place / "slurm.conf").write_text(
        _CONFIGURATION.format(
            host=host,
            place=place,
            controller=controller,
            node=node,
            cores=os.cpu_count(),
            memory=(pages * page_bytes >> 20) * 9 // 10,
            kill_wait=_KILL_WAIT_S,
        )
    )
    path = os.environ.get("PATH", "") + ":/usr/sbin:/sbin"
    # A step's variables of a cluster around this one are none of its business.
    outside = {name: value for name, value in os.environ.items() if not name.startswith(("SLURM", "PMI"))}
    environment = outside | {"SLURM_CONF": str(place / "slurm.conf"), "PATH": path}
    daemons = {
        "munged": ["munged", "--foreground", "--force", f"--key-file={key}"],
        "slurmctld": ["slurmctld", "-D", "-i"],
        "slurmd": ["slurmd", "-D", "-N", host],
    }
    daemons["munged"] += [f"--{name}-file={place}/munged.{name}" for name in ("pid", "log", "seed")]
    daemons["munged"].append(f"--socket={place}/munge.socket")
    started: list[subprocess.Popen[bytes]] = []
    try:
        for name, words in daemons.items():
            with (place / f"{name}.out").open("wb") as said:
                started.append(subprocess.Popen(words, env=environment, stdout=said, stderr=said))
            if name == "munged":
                _wait_for(lambda: (place / "munge.socket").exists(), place, "munged", started[-1])
        _wait_for(lambda: "idle" in _sinfo(environment), place, "slurmd", started[-1])
        yield environment
    finally:
        for daemon in reversed(started):
            daemon.terminate()
            try:
                daemon.wait(timeout=20)
            except subprocess.TimeoutExpired:
                daemon.kill()
                daemon.wait()


def _sinfo(environment: dict[str, str]) -> str:
    words = ["sinfo", "--noheader", "--format=%T"]
    return subprocess.run(words, env=environment, capture_output=True, text=True, check=False).stdout


def _wait_for(ready, place: Path, name: str, daemon: subprocess.Popen[bytes]) -> None:
    end = time.monotonic() + _STARTED_WITHIN_S
    while not ready():
        if daemon.poll() is not None or time.monotonic() > end:
            logs = [path.read_text(errors="replace")[-2000:] for path in sorted(place.glob(f"{name}.*o*"))]
            raise RuntimeError(f"{name} does not come up:\n" + "\n".join(logs))
        time.sleep(0.2)


def _free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as held:
        sockets = [held.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [int(one.getsockname()[1]) for one in sockets]
