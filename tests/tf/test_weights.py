"""Weights come and go by the canonical names, in the canonical layout."""

from __future__ import annotations

import numpy as np
import pytest

from ptycho_config.errors import BundleError
from ptycho_core_tf.framework import tf
from ptycho_core_tf.networks.layers import Convolution
from ptycho_core_tf.networks.unet import Unet
from ptycho_core_tf.weights import named_variables, output_axis, read_weights, write_weights


@pytest.fixture(scope="module")
def network() -> Unet:
    return Unet(3)


def test_names_are_paths_and_kernels_have_the_layout_of_bundles(network: Unet) -> None:
    weights = read_weights(network)
    assert len(weights) == 46
    assert weights["down.1.conv1.weight"].shape == (64, 32, 3, 3)
    assert tuple(named_variables(network)["down.1.conv1.weight"].shape) == (3, 3, 32, 64)
    assert weights["up.2.norm.weight"].shape == (32,)
    assert all(weight.flags.c_contiguous and weight.dtype == np.float32 for weight in weights.values())


def test_what_is_written_is_read(network: Unet) -> None:
    random = np.random.default_rng(0)
    wanted = {
        name: random.normal(size=array.shape).astype(np.float32)
        for name, array in read_weights(network).items()
    }
    write_weights(network, wanted)
    found = read_weights(network)
    assert all(np.array_equal(found[name], array) for name, array in wanted.items())


def test_a_kernel_is_the_correlation_that_bundles_mean() -> None:
    layer = Convolution(2, 3, dtype="float32")
    weight = np.zeros((3, 2, 3, 3), np.float32)
    weight[2, 1, 0, 2] = 5  # of output 2, on input 1, one row up and one column to the right
    write_weights(layer, {"weight": weight, "bias": np.zeros(3, np.float32)})
    image = np.zeros((1, 4, 4, 2), np.float32)
    image[0, 1, 2, 1] = 1
    expected = np.zeros((1, 4, 4, 3), np.float32)
    expected[0, 2, 1, 2] = 5
    assert np.array_equal(layer(tf.constant(image)).numpy(), expected)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda weights: weights.pop("stem.bias"), "stem.bias"),
        (lambda weights: weights.update(strange=np.zeros(3, np.float32)), "strange"),
        (lambda weights: weights.update({"stem.bias": np.zeros(3, np.float32)}), "stem.bias"),
        (
            lambda weights: weights.update({"stem.weight": weights["stem.weight"].transpose(2, 3, 1, 0)}),
            "stem.weight",
        ),
    ],
)
def test_other_tensors_are_refused_by_name_and_change_nothing(network: Unet, change, named: str) -> None:
    before = read_weights(network)
    weights = {name: array + 1 for name, array in before.items()}
    change(weights)
    with pytest.raises(BundleError, match=named):
        write_weights(network, weights)
    after = read_weights(network)
    assert all(np.array_equal(after[name], array) for name, array in before.items())


def test_the_outputs_of_a_layer_are_its_first_canonical_axis(network: Unet) -> None:
    variables = named_variables(network)
    assert output_axis(variables["stem.weight"]) == -1
    assert output_axis(variables["stem.bias"]) == 0
