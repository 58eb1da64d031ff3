"""The scan: frames, positions and probe as they were measured, and what is found by looking at them."""

from ptycho_core.scan.scan import FrameIndices, Scan

__all__ = ["FrameIndices", "Scan"]
