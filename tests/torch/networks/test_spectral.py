"""Spectral convolutions, judged by plain sums in float64."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="torch is not installed")
pytest.importorskip("ptycho_core_torch", reason="ptycho-core-torch is not installed")

from ptycho_config.errors import DataError  # noqa: E402
from ptycho_core_torch.networks import spectral  # noqa: E402


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


def waves(side_px: int, modes: range) -> np.ndarray:
    """exp(2 pi i k r / n) for each kept k and each place r."""
    return np.exp(2j * np.pi * np.outer(list(modes), np.arange(side_px)) / side_px)


def expected_image(images: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Sum of all kept waves; a column frequency above 0 stands for its negative twin as well."""
    height, width = images.shape[-2:]
    modes = weight.shape[3]
    columns = waves(width, range(modes))
    twins = np.where(np.arange(modes) > 0, 2.0, 1.0)
    result = np.zeros((len(images), weight.shape[2], height, width))
    for sign, kept in enumerate((range(modes), range(-modes, 0))):
        rows = waves(height, kept)
        spectrum = np.einsum("bchw,kh,lw->bckl", images, rows.conj(), columns.conj())
        mixed = np.einsum(
            "bikl,iokl,l->bokl", spectrum, weight[sign, ..., 0] + 1j * weight[sign, ..., 1], twins
        )
        result += np.einsum("bokl,kh,lw->bohw", mixed, rows, columns).real
    return result / (height * width)


def expected_rows(images: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """The same along the last axis alone."""
    columns = waves(images.shape[-1], range(weight.shape[2]))
    twins = np.where(np.arange(weight.shape[2]) > 0, 2.0, 1.0)
    spectrum = np.einsum("bihw,lw->bihl", images, columns.conj())
    mixed = np.einsum("bihl,iol,l->bohl", spectrum, weight[..., 0] + 1j * weight[..., 1], twins)
    return np.einsum("bohl,lw->bohw", mixed, columns).real / images.shape[-1]


def assert_equal_to_single_precision(found: Any, expected: np.ndarray) -> None:
    assert np.abs(found.detach().numpy() - expected).max() <= 1e-5 * np.abs(expected).max()


@pytest.mark.parametrize(("height", "width", "modes"), [(16, 16, 5), (12, 20, 6), (32, 32, 12)])
def test_the_spectral_convolution_is_the_sum_of_its_waves(height: int, width: int, modes: int) -> None:
    torch.manual_seed(0)
    layer = spectral.SpectralConvolution(3, 4, modes)
    images = torch.randn(2, 3, height, width)
    expected = expected_image(images.double().numpy(), layer.weight.detach().double().numpy())
    assert_equal_to_single_precision(layer(images), expected)


def test_the_pair_is_the_sum_of_the_waves_along_both_axes() -> None:
    torch.manual_seed(0)
    pair = spectral.SpectralPair(3, 5)
    images = torch.randn(2, 3, 12, 16)
    plain = images.double().numpy()
    along_x = expected_rows(plain, pair.x.weight.detach().double().numpy())
    turned = expected_rows(plain.swapaxes(-1, -2), pair.y.weight.detach().double().numpy())
    assert_equal_to_single_precision(pair(images), along_x + turned.swapaxes(-1, -2))


@pytest.mark.parametrize("layer", [spectral.SpectralConvolution(1, 1, 9), spectral.AxisConvolution(1, 1, 9)])
def test_an_image_too_small_for_its_modes_is_refused(layer: Any) -> None:
    with pytest.raises(DataError, match="at least 18 px"):
        layer(torch.zeros(1, 1, 16, 16))
