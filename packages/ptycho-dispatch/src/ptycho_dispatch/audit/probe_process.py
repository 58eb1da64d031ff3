"""The process that probes run in: `python -m ptycho_dispatch.audit.probe_process yes|no`.

Reads from stdin what to run, writes one line of JSON for each probe to stdout. What probes print goes to
stderr.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from importlib import import_module
from typing import Any

__all__ = ["main"]


def main(arguments: list[str]) -> int:
    """Replace the hardware's answer, run the probes, and report each as soon as it is done."""
    from ptycho_config import hardware
    from ptycho_config.naming import ENV_PREFIX

    for name in [name for name in os.environ if name.startswith(ENV_PREFIX)]:
        del os.environ[name]  # settings of this shell would change what is probed
    answer = arguments == ["yes"]
    hardware.cuda_available = lambda: answer
    order = json.load(sys.stdin)
    with os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8") as report:
        os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
        if order["symbols"]:
            print(json.dumps({"flow": _flow(order["symbols"])}), file=report, flush=True)
        for finding, path in order["probes"]:
            record = {"finding": finding, "probe": path, **_probed(path)}
            print(json.dumps(record, default=str), file=report, flush=True)
    return 0


def _flow(symbols: list[str]) -> list[str]:
    from ptycho_dispatch.checks.flow import dispatcher_flow

    try:
        return dispatcher_flow(symbols)
    except Exception as error:
        # The probes say which rule is broken; that the way is broken too is part of the report.
        return [f"failed: {type(error).__name__}: {error}"]


def _probed(path: str) -> dict[str, Any]:
    from ptycho_config.errors import BackendUnavailableError

    module, _, name = path.rpartition(".")
    try:
        probe: Callable[[], dict[str, Any]] = getattr(import_module(module), name)
        return {"outcome": "passed", "evidence": probe()}
    except BackendUnavailableError as error:
        return {"outcome": "not installed", "message": _line(error)}
    except Exception as error:
        # Whatever a probe ends with, the rule was not shown to hold.
        return {"outcome": "failed", "message": _line(error)}


def _line(error: Exception) -> str:
    text = " ".join(str(error).split())
    named = type(error).__name__
    return text if named == "ProbeError" else f"{named}: {text}"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
