"""The pictures of a result under the names that older scripts look for."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

__all__ = ["write_legacy_pictures"]

_NAMES = {
    "amplitude.png": "reconstructed_amplitude.png",
    "phase.png": "reconstructed_phase.png",
}


def write_legacy_pictures(files: Mapping[str, Path], directory: Path) -> list[str]:
    """Write the pictures among the files of a result once more, each whole or not at all.

    Args:
        files: by name, as `Reconstruction.save` returns them.
    Returns:
        The names written.
    Raises:
        OutputError: the directory cannot be written.
    """
    from ptycho_core.io.writes import atomic_path

    written = []
    for name, legacy in _NAMES.items():
        if name in files:
            with atomic_path(directory / legacy) as temporary:
                temporary.write_bytes(files[name].read_bytes())
            written.append(legacy)
    return written
