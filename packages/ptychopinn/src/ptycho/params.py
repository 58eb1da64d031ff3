"""The registry of parameters under its legacy path: every function of `ptycho_config.legacy.params`."""

from ptycho_config.legacy import params as _registry

__all__ = [
    "cfg",
    "get",
    "get_bigN",
    "get_padded_size",
    "get_padding_size",
    "params",
    "print_params",
    "seal",
    "set",
    "unseal",
    "validate",
]

cfg = _registry.cfg
get = _registry.get
get_bigN = _registry.get_bigN
get_padded_size = _registry.get_padded_size
get_padding_size = _registry.get_padding_size
params = _registry.params
print_params = _registry.print_params
seal = _registry.seal
set = _registry.set
unseal = _registry.unseal
validate = _registry.validate
