"""The registry of parameters under its legacy path: `cfg`, `get`, `set`, `params`."""

from ptycho_config.legacy import params as _registry

__all__ = ["cfg", "get", "params", "set"]

cfg = _registry.cfg
get = _registry.get
set = _registry.set
params = _registry.params
