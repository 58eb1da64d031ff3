"""A start probe for scans that bring none."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from ptycho_core.scan import Scan


def estimate_probe(scan: Scan) -> Scan:
    """Estimate."""
    amp = np.sqrt(scan.mean_pattern())
    p = np.fft.fftshift(np.fft.ifft2(np.fft.ifftshift(amp), norm="ortho")).astype(np.complex64)[None]
    return replace(
        scan, probe=p, notes=(*scan.notes, "The file has no probe; it was estimated from the mean pattern.")
    ).remember(scan._statistics)
