"""Loaded by every Python that is started with this folder on PYTHONPATH: spoils what a test names.

`PTYCHO_SABOTAGE` names functions of `sabotages`, separated by commas; they act in the processes that run
checks and nowhere else. With `PTYCHO_HIDE_CORES` the installation looks like one without any core.
"""

import importlib.metadata
import os
import sys

CORES = ("ptycho_core_torch", "ptycho_core_tf")

if os.environ.get("PTYCHO_HIDE_CORES"):
    everything = importlib.metadata.entry_points

    def without_cores(**chosen: str) -> importlib.metadata.EntryPoints:
        points = everything(**chosen)
        return importlib.metadata.EntryPoints(one for one in points if not one.value.startswith(CORES))

    importlib.metadata.entry_points = without_cores
    for core in CORES:
        sys.modules[core] = None  # type: ignore[assignment]

if "ptycho_dispatch.audit.check_process" in sys.orig_argv:
    import sabotages

    for name in filter(None, os.environ.get("PTYCHO_SABOTAGE", "").split(",")):
        getattr(sabotages, name)()
