"""A probe that was trained goes back to its gauge after every epoch, and no rate changes by it."""

from __future__ import annotations

import torch
from ptycho_config.models import ModelConfig
from ptycho_core.simulate import simulate_scan
from ptycho_core_torch.network import PtychoNetwork


def test_the_gauge_changes_no_rate_and_the_mask_stays() -> None:
    scan = simulate_scan(frames=9, frame_px=32, start_kind="true", seed=1).scan
    network = PtychoNetwork(ModelConfig(N=32, probe_mask=True), scan.probe, 3.0)
    masked = network.probe == 0
    patches = torch.full((2, 32, 32), 0.5 + 0.5j)
    with torch.no_grad():
        network.probe_parts.mul_(1.7)
        before = network.rate(patches, torch.zeros(2, 2))
        network.probe_parts[masked] = 0.1
        network.rescale_probe()
        after = network.rate(patches, torch.zeros(2, 2))
    assert masked.any()
    assert not network.probe[masked].any()
    assert torch.allclose(after, before, rtol=0, atol=1e-6 * float(before.max()))
