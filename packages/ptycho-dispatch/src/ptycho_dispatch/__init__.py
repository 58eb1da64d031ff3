"""The `ptycho` command line: chooses, logs, reports and exits with a code; computes nothing itself.

Nothing else is loaded here: before `ptycho_dispatch.__main__`, no signal is heard.
"""

import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from importlib.machinery import ModuleSpec
    from types import ModuleType


class _OldPathsAtLast:
    """Asked for a module that nobody else has found: loads what knows those that moved, and asks it."""

    @classmethod
    def find_spec(
        cls, fullname: str, path: "Sequence[str] | None", target: "ModuleType | None" = None
    ) -> "ModuleSpec | None":
        if not fullname.startswith(f"{__name__}."):
            return None
        from ptycho_config.moved import keep_old_paths
        from ptycho_dispatch.moved import MOVED

        if cls in sys.meta_path:
            sys.meta_path.remove(cls)
            keep_old_paths(MOVED)
        return sys.meta_path[-1].find_spec(fullname, path, target)


sys.meta_path.append(_OldPathsAtLast)
