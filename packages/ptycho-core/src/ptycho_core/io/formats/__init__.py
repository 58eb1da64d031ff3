"""Beamline files: one module for each format, and the place where a file's format is recognised."""

from ptycho_core.io.formats.reading import read_scan_file

__all__ = ["read_scan_file"]
