"""Takes out of texts what tells who worked where: paths, names of files, of users and of hosts, addresses.

Rather too much than too little: a path that is only suspected to be one goes as well. The same thing becomes
the same words everywhere, so that a reader still sees which file is meant.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

__all__ = ["Anonymous", "tells_nothing"]

#: A list of more values than that is data, or as large as data.
_LONGEST_LIST = 256
_SUFFIXES = (
    r"npz|npy|h5|hdf5|hdf|he5|nxs|cxi|mat|zarr|tif|tiff|edf|cbf|raw|bin|dat|csv|txt|json|ya?ml|toml|ptyr|ptyd"
    r"|zip|png|html?|log|emd|mrc"
)
_END = r"""\s'"`<>|;,()"""
_QUOTED = re.compile(r"""(?<=[`'"])(?:~[\w-]*[\\/]|/|[A-Za-z]:[\\/]|\\\\)[^`'"\n]+(?=[`'"])""")
_POSIX = re.compile(rf"""(?<![\w./<>-])(?:~[\w-]*)?/[^{_END}:/][^{_END}:]*""")
_WINDOWS = re.compile(rf"""(?<![\w<>])[A-Za-z]:[\\/][^{_END}:]+|(?<![\w\\])\\\\[^{_END}:]+""")
_FILE = re.compile(rf"""(?<!>)[^{_END}:=\[\]{{}}]+\.(?:{_SUFFIXES})(?![\w])""", re.IGNORECASE)
_MAIL = re.compile(r"[\w.+-]+@[\w-]+(?:\.[\w-]+)+")
_ADDRESS = re.compile(r"(?<![\w.])\d{1,3}(?:\.\d{1,3}){3}(?![\w.])")
#: Paths inside files of NeXus and CXI, which are the same for everybody.
_INSIDE = re.compile(r"/entry(?:_\d+)?(?:/|$)")
#: Names of scans, users and hosts that tell nothing, and are words of every log.
_COMMON = frozenset(
    (
        *("scan", "scans", "data", "dataset", "frame", "frames", "run", "runs", "result", "results", "test"),
        *("tests", "small", "probe", "object", "image", "first", "second", "simulated", "root", "user"),
        *("localhost", "solver", "network", "file", "files", "out", "output"),
    )
)


def tells_nothing(name: str) -> bool:
    """Whether a name is a word that stands in every log."""
    return len(name) < 2 or name.lower() in _COMMON


class Anonymous:
    """Replaces what is known of a run's surroundings, and whatever else looks like a path or an address."""

    def __init__(self, names: Mapping[str, str], paths: Iterable[str] = (), kept: Iterable[str] = ()) -> None:
        """Take what is known.

        Args:
            names: a name of a user, a host or a scan -> what stands for it.
            paths: as they were typed or recorded; relative ones cannot be told from other words.
            kept: names of files that every run writes.
        """
        self._words: dict[str, str] = {}
        self._kept = frozenset(kept)
        known = sorted({path for path in paths if len(path) > 1 and path != ".."}, key=len, reverse=True)
        # With what lies beneath them.
        self._paths = _any_of(known, r"(?<![\w.-])", rf"(?![\w-])(?:[\\/][^{_END}:]*)?")
        self._names = {name.lower(): word for name, word in names.items() if not tells_nothing(name)}
        self._named = _any_of(
            sorted(self._names, key=len, reverse=True), r"(?<![A-Za-z0-9])", r"(?![A-Za-z0-9])"
        )

    @property
    def replaced(self) -> int:
        """How many different paths and files were replaced."""
        return len(self._words)

    def text(self, text: str) -> str:
        """Return a text without what tells who and where."""
        for pattern in (self._paths, _QUOTED, _WINDOWS, _POSIX, _FILE):
            if pattern is not None:
                text = pattern.sub(lambda found: self._path(found[0]), text)
        text = _ADDRESS.sub("<address>", _MAIL.sub("<mail>", text))
        if self._named is not None:
            text = self._named.sub(lambda found: self._names[found[0].lower()], text)
        return text

    def value(self, value: Any) -> Any:  # Any: whatever JSON can hold
        """Return what a JSON file holds without what tells who and where, and without long lists."""
        if isinstance(value, dict):
            return {self.text(str(key)): self.value(entry) for key, entry in value.items()}
        if isinstance(value, list):
            count = _leaves(value)
            return f"{count} values left out" if count > _LONGEST_LIST else [self.value(one) for one in value]
        return self.text(value) if isinstance(value, str) else value

    def _path(self, path: str) -> str:
        """Name a path: `<path 1>` and its suffix; what every installation and every run has stays."""
        path = path.rstrip(".")
        if path in self._kept or _INSIDE.match(path):
            return path
        head, slash, name = path.replace("\\", "/").rpartition("/")
        if "site-packages/" in path.replace("\\", "/"):
            return "<python>/" + path.replace("\\", "/").partition("site-packages/")[2]
        if slash and head and name in self._kept:
            return f"{self._path(head)}/{name}"
        suffix = re.search(r"\.[A-Za-z]\w{0,7}$", name)
        word = self._words.setdefault(path, f"<path {len(self._words) + 1}>")
        return word + (suffix[0] if suffix else "")


def _any_of(texts: Iterable[str], before: str, behind: str) -> re.Pattern[str] | None:
    some = [re.escape(text) for text in texts]
    return re.compile(f"{before}(?:{'|'.join(some)}){behind}", re.IGNORECASE) if some else None


def _leaves(value: Any) -> int:
    """Count the values in lists of lists."""
    return sum(_leaves(one) for one in value) if isinstance(value, list) else 1
