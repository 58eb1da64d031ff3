"""The process that checks run in: `python -m ptycho_dispatch.audit.check_process`.

Reads from stdin what to run, writes one line of JSON for each check and answer of the hardware to stdout.
What checks print goes to stderr.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from importlib import import_module
from typing import Any, TypeVar

__all__ = ["main"]

Found = TypeVar("Found")


def main() -> int:
    """Run the checks under each answer of the hardware, and report each as soon as it is done."""
    from ptycho_config.naming import ENV_PREFIX
    from ptycho_dispatch.audit.checking import ANSWERS
    from ptycho_dispatch.cli import collect_less_often

    collect_less_often()
    for name in [name for name in os.environ if name.startswith(ENV_PREFIX)]:
        del os.environ[name]  # settings of this shell would change what is probed
    order = json.load(sys.stdin)
    with os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8") as report:
        os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
        for cuda in ANSWERS if order["symbols"] else ():
            steps, _ = _under(cuda, lambda: _flow(order["symbols"]))
            print(json.dumps({"cuda": cuda, "flow": steps}), file=report, flush=True)
        for finding, path in order["checks"]:
            found, asked = {}, True
            for cuda in ANSWERS:
                if asked:  # otherwise no answer can change what it finds
                    found, asked = _under(cuda, lambda path=path: _checked(path))
                record = {"finding": finding, "check": path, "cuda": cuda, **found}
                print(json.dumps(record, default=str), file=report, flush=True)
    return 0


def _under(cuda: bool, call: Callable[[], Found]) -> tuple[Found, bool]:
    """Call something where the hardware gives this answer; also tell whether it was asked at all."""
    from ptycho_config import hardware

    asked = False

    def answer() -> bool:
        nonlocal asked
        asked = True
        return cuda

    with hardware.asking(answer):
        found = call()
    return found, asked


def _flow(symbols: list[str]) -> list[str]:
    from ptycho_dispatch.checks.flow import dispatcher_flow

    try:
        return dispatcher_flow(symbols)
    except Exception as error:
        # The checks say which rule is broken; that the way is broken too is part of the report.
        return [f"failed: {type(error).__name__}: {error}"]


def _checked(path: str) -> dict[str, Any]:
    from ptycho_config.errors import BackendUnavailableError

    module, _, name = path.rpartition(".")
    try:
        check: Callable[[], dict[str, Any]] = getattr(import_module(module), name)
        return {"outcome": "passed", "evidence": check()}
    except BackendUnavailableError as error:
        return {"outcome": "not installed", "message": _line(error)}
    except Exception as error:
        # Whatever a check ends with, the rule was not shown to hold.
        return {"outcome": "failed", "message": _line(error)}


def _line(error: Exception) -> str:
    text = " ".join(str(error).split())
    named = type(error).__name__
    return text if named == "CheckError" else f"{named}: {text}"


if __name__ == "__main__":
    sys.exit(main())
