"""How good a reconstruction is, given the truth or another one. R, which needs neither, is in `residual`."""

from .object_error import ObjectError, lit_region, object_error

__all__ = ["ObjectError", "lit_region", "object_error"]
