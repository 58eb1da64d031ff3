"""`ptycho.model` under its legacy path: older clients read the registry through it."""

from __future__ import annotations

import ptycho.params

__all__ = ["params"]

params = ptycho.params.params
