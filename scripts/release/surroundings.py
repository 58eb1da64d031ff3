"""How the commands of a trial are run: without what this host tells Python and pip, and without a network."""

from __future__ import annotations

import functools
import os
import shutil
import subprocess
from pathlib import Path

__all__ = ["call", "without_network"]


def call(*words: str, otherwise: str, network: bool = False, cwd: Path | None = None) -> None:
    """Run a command that has to succeed.

    Args:
        otherwise: what to do where it fails.
        network: it may use one, with pip as the host has it set up; any other command has none where the host
            can take it away, and hears nothing of the host's indexes and folders of wheels.

    Raises:
        SystemExit: it failed; its own words stand above.
    """
    print("$", *words, flush=True)
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    if not network:
        kept = {name: value for name, value in kept.items() if not name.startswith("PIP_")}
        kept |= {"PIP_CONFIG_FILE": os.devnull, "PIP_NO_INDEX": "1"}
        words = (*without_network(), *words)
    code = subprocess.run(words, cwd=cwd, env=kept, check=False).returncode
    if code:
        raise SystemExit(f"exit code {code} of {' '.join(words)}\n{otherwise}")


@functools.cache
def without_network() -> tuple[str, ...]:
    """Find what takes the network from a command that follows it; nothing where this host has no such thing.

    Linux gives a process a network of its own, without any device. Containers may forbid that.
    """
    unshare = shutil.which("unshare")
    if unshare is None:
        return ()
    for words in ((unshare, "--net", "--"), (unshare, "--user", "--map-root-user", "--net", "--")):
        if subprocess.run([*words, "true"], capture_output=True, check=False).returncode == 0:
            return words
    return ()
