"""Bundles: a trained network and all that is needed to use it, in one file that cannot run code."""

from __future__ import annotations

from ptycho_core.bundle.contents import BUNDLE_FILE, Bundle, ProbeMask, Scaling
from ptycho_core.bundle.read import read_bundle, trained_by
from ptycho_core.bundle.write import write_bundle

__all__ = ["BUNDLE_FILE", "Bundle", "ProbeMask", "Scaling", "read_bundle", "trained_by", "write_bundle"]
