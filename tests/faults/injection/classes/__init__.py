"""The classes of cases: each module has `draw`, which draws one case."""

from __future__ import annotations

from injection.case import Draw
from injection.classes import (
    api,
    bundles,
    environments,
    kernel_cache,
    kills,
    live,
    readers,
    result_files,
    settings,
    signals,
    trees,
)

__all__ = ["CLASSES"]

#: Class -> how it is drawn, its share of the cases, and what it is about.
CLASSES: dict[str, tuple[Draw, float, str]] = {
    "readers": (readers.draw, 0.33, "every format, damaged or hostile, given to a command"),
    "trees": (trees.draw, 0.10, "HDF5 and NPZ files of arbitrary content, as hypothesis draws them"),
    "settings": (settings.draw, 0.18, "flags, variables and YAML with extreme values"),
    "results": (result_files.draw, 0.12, "a spoiled result, given to every command that reads one"),
    "bundles": (bundles.draw, 0.07, "a spoiled bundle, its checksums right or wrong"),
    "api": (api.draw, 0.06, "wrong types and values given from Python"),
    "live": (live.draw, 0.03, "a watch with bad elements among the frames"),
    "kills": (kills.draw, 0.04, "kill -9 at random moments, then going on"),
    "signals": (signals.draw, 0.03, "SIGINT, SIGTERM and SIGHUP at random moments"),
    "cache": (kernel_cache.draw, 0.01, "the compiled kernel in the cache, damaged or another's"),
    "environment": (environments.draw, 0.03, "locales, closed or full outputs, folders, limits"),
}
