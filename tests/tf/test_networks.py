"""The networks of the TensorFlow core by themselves; what they compute is compared in tests/parity."""

from __future__ import annotations

import math
import warnings
from typing import Any

import numpy as np
import pytest

from ptycho_config.errors import ConfigError, DataError
from ptycho_config.models import ModelConfig
from ptycho_core_tf.first_weights import seeded
from ptycho_core_tf.framework import tf
from ptycho_core_tf.networks.classic import classic_network
from ptycho_core_tf.networks.pooling import compiled_whole, largest_of_four
from ptycho_core_tf.networks.spectral import SpectralConvolution
from ptycho_core_tf.networks.unet import LARGEST_AMPLITUDE, Unet
from ptycho_core_tf.weights import named_variables, output_axis, read_weights

NATIVE = ("cnn", "ffno", "fno", "fno_vanilla")
SMALL = {"n_filters_scale": 1, "fno_width": 8, "fno_blocks": 2, "fno_cnn_blocks": 1}

each_architecture = pytest.mark.parametrize("architecture", NATIVE)


def build(**settings: Any) -> Any:
    return classic_network(ModelConfig(**{"architecture": "cnn", **SMALL, **settings}))


def frames(side_px: int, gridsize: int = 1, groups: int = 2) -> Any:
    return tf.constant(np.random.default_rng(7).random((groups, gridsize**2, side_px, side_px), np.float32))


@pytest.mark.parametrize(
    ("frame_px", "gridsize", "expected"),
    [
        (64, 1, 2_331_772),
        (64, 2, 2_340_208),
        (128, 1, 4_661_212),
        (128, 2, 4_667_056),
        (256, 1, 12_912_268),
        (256, 2, 12_916_816),
    ],
)
def test_the_cnn_has_the_known_number_of_parameters(frame_px: int, gridsize: int, expected: int) -> None:
    network = build(N=frame_px, gridsize=gridsize, n_filters_scale=2)
    assert sum(int(tf.size(variable)) for variable in network.trainable_variables) == expected


@each_architecture
@pytest.mark.parametrize("gridsize", [1, 2])
@pytest.mark.parametrize("frame_px", [32, 48, 80])
def test_frames_become_complex_patches(architecture: str, gridsize: int, frame_px: int) -> None:
    patches = build(architecture=architecture, N=frame_px, gridsize=gridsize)(frames(frame_px, gridsize))
    assert patches.shape == (2, gridsize**2, frame_px, frame_px)
    assert patches.dtype == tf.complex64
    assert np.isfinite(patches.numpy()).all()


@each_architecture
def test_a_group_shares_one_patch_without_object_big(architecture: str) -> None:
    network = build(architecture=architecture, gridsize=2, object_big=False)
    assert network(frames(64, 2)).shape == (2, 1, 64, 64)


@each_architecture
def test_a_compiled_network_is_the_same(architecture: str) -> None:
    network = build(architecture=architecture)
    compiled = tf.function(network.__call__, jit_compile=True, autograph=False)
    expected = network(frames(64)).numpy()
    assert np.abs(compiled(frames(64)).numpy() - expected).max() <= 1e-5 * np.abs(expected).max()


@each_architecture
def test_half_precision_gives_nearly_the_same_patches_in_full_precision(architecture: str) -> None:
    network = build(architecture=architecture)
    expected = network(frames(64)).numpy()
    patches = network(tf.cast(frames(64), tf.bfloat16))
    assert patches.dtype == tf.complex64
    assert np.abs(patches.numpy() - expected).max() < 0.05 * np.abs(expected).max()


def test_the_unet_starts_nearly_transparent_and_the_same_for_every_frame() -> None:
    patches = Unet(1)(frames(64)).numpy()
    assert np.abs(patches - LARGEST_AMPLITUDE / (1 + math.exp(-2))).max() < 1e-6


def test_a_unet_with_several_outputs_orders_amplitudes_before_phases() -> None:
    network = Unet(1, 2)
    network.output.bias.assign([9.0] * 4 + [-9.0] * 4 + [0.0] * 4 + [0.5] * 4)
    patches = network(frames(64)).numpy()
    assert np.abs(patches[:, 0] - LARGEST_AMPLITUDE).max() < 1e-3
    assert np.abs(patches[:, 1]).max() < 2e-3
    assert np.angle(patches[:, 1]) == pytest.approx(math.pi * math.tanh(0.5), rel=1e-4)


@pytest.mark.parametrize("architecture", ["unet", *NATIVE])
def test_the_seed_decides_the_first_weights_and_leaves_the_seed_of_tensorflow(architecture: str) -> None:
    tf.random.set_seed(3)
    drawn = tf.random.uniform(()).numpy()
    states = []
    tf.random.set_seed(3)
    for seed in (5, 5, 6):
        with seeded(seed):
            network = Unet(1) if architecture == "unet" else build(architecture=architecture)
        states.append(read_weights(network))
    assert tf.random.uniform(()).numpy() == drawn
    assert all(np.array_equal(states[0][name], states[1][name]) for name in states[0])
    assert not all(np.array_equal(states[0][name], states[2][name]) for name in states[0])


@each_architecture
def test_convolutions_start_glorot_uniform_without_bias(architecture: str) -> None:
    with seeded(2):
        variables = named_variables(build(architecture=architecture, gridsize=2, n_filters_scale=2))
    kernels = {name: variable for name, variable in variables.items() if output_axis(variable) == -1}
    assert len(kernels) >= 4
    for name, variable in kernels.items():
        *side, channels_in, channels_out = variable.shape
        limit = math.sqrt(6 / (side[0] ** 2 * (channels_in + channels_out)))
        weight = variable.numpy()
        assert 0.8 * limit < np.abs(weight).max() <= limit * (1 + 1e-6)
        if weight.size > 1000:
            assert weight.std() == pytest.approx(limit / math.sqrt(3), rel=0.05)
        assert not variables[name.replace("weight", "bias")].numpy().any()


@pytest.mark.parametrize("rows", [3, -3], ids=["falling", "rising"])
def test_stripes_of_both_diagonal_orientations_pass(rows: int) -> None:
    layer = SpectralConvolution(1, 1, 6)
    layer.weight.assign(tf.broadcast_to(tf.constant([1.0, 0.0]), layer.weight.shape))
    index = np.arange(32)

    def stripes(rows: int) -> Any:
        waves = np.cos(2 * np.pi * (rows * index[:, None] + 4 * index) / 32)
        return tf.constant(waves[None, :, :, None].astype(np.float32))

    assert np.abs(layer(stripes(rows)) - stripes(rows)).max() < 1e-5
    assert np.abs(layer(stripes(7))).max() < 1e-5


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({"architecture": "unet"}, "`unet`, which is no classic network: cnn, ffno"),
        ({"N": 0}, "`N` is not known yet"),
        ({"input_channels": "backprojection"}, "sees the amplitude alone"),
        ({"architecture": "fno", "N": 32, "fno_modes": 17}, "`fno_modes` is 17, and frames of 32 px have 16"),
        ({"architecture": "neuralop_uno", "N": 128}, "the PyTorch core has it: use `--backend pytorch`"),
    ],
)
def test_what_cannot_be_built_is_refused(settings: dict[str, Any], text: str) -> None:
    with pytest.raises(ConfigError, match=text):
        build(**settings)


def test_frames_of_another_side_are_refused() -> None:
    with pytest.raises(DataError, match=r"\(2, 1, 80, 80\).*64 x 64 px"):
        build()(frames(80))
    with pytest.raises(DataError, match=r"\(16, 16\).*12 modes"):
        build(architecture="fno")(frames(16))


@pytest.mark.parametrize(("activation", "fault"), [("swish", "negative"), ("relu", "zero")])
def test_amplitudes_that_may_vanish_or_turn_negative_warn(activation: str, fault: str) -> None:
    with pytest.warns(UserWarning, match=f"can be {fault}, in the border too"):
        build(amp_activation=activation)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        build(amp_activation="softplus")


def test_both_forms_of_pooling_are_one_function_with_one_gradient() -> None:
    """No two pixels are equal; among equals each is free to give the gradient to another."""
    pixels = tf.constant(np.random.default_rng(3).permutation(576).reshape(2, 8, 12, 3).astype(np.float32))
    found = []
    for inside in (False, True):
        with tf.GradientTape() as tape:
            tape.watch(pixels)
            if inside:
                with compiled_whole():
                    pooled = largest_of_four(pixels)
            else:
                pooled = largest_of_four(pixels)
            total = tf.reduce_sum(pooled**2 + pooled)
        found.append((pooled.numpy(), tape.gradient(total, pixels).numpy()))
    assert found[0][0].shape == (2, 4, 6, 3)
    for one, other in zip(*found, strict=True):
        assert np.array_equal(one, other)
