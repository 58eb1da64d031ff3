"""A network together with its physics: shapes, groups, passes, and the same in a graph as by itself."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest

from ptycho_config.errors import ConfigError
from ptycho_config.models import ModelConfig
from ptycho_core_tf.framework import tf
from ptycho_core_tf.network import Batch, PtychoNetwork
from ptycho_core_tf.weights import read_weights

SMALL = {"n_filters_scale": 1, "fno_width": 8, "fno_blocks": 2, "fno_cnn_blocks": 1}


def probe(n: int = 32, n_modes: int = 2) -> np.ndarray:
    random = np.random.default_rng(0)
    return random.normal(size=(n_modes, n, n)) + 1j * random.normal(size=(n_modes, n, n))


def batch(frames: int, n: int = 32) -> Batch:
    random = np.random.default_rng(1)
    counts = random.poisson(9, (frames, n, n)).astype(np.float32)
    return Batch(
        amplitude=tf.constant(np.sqrt(counts) / 6),
        counts=tf.constant(counts),
        corners=tf.constant(random.integers(0, 9, (frames, 2))),
        rests_px=tf.constant(random.uniform(-0.5, 0.5, (frames, 2)).astype(np.float32)),
    )


def network(**settings: Any) -> PtychoNetwork:
    tf.random.set_seed(3)
    return PtychoNetwork(ModelConfig(**{"N": 32, **SMALL, **settings}), probe(), 10.0)


def loud(wrapped: PtychoNetwork) -> PtychoNetwork:
    """Let the last layer of the unet say something."""
    wrapped.network.output.weight.assign(tf.random.normal(wrapped.network.output.weight.shape, stddev=0.02))
    return wrapped


CONFIGURATIONS = [
    {},
    {"input_channels": "amplitude", "overlap_constraint": "none"},
    pytest.param({"unet_passes": 2}, marks=pytest.mark.slow),
    {"gridsize": 2, "overlap_constraint": "group"},
    {"architecture": "cnn", "gridsize": 2},
    pytest.param({"architecture": "cnn", "gridsize": 2, "object_big": False}, marks=pytest.mark.slow),
    {"architecture": "fno", "gridsize": 2, "overlap_constraint": "batch"},
]
each_configuration = pytest.mark.parametrize("settings", CONFIGURATIONS, ids=str)


@each_configuration
def test_frames_become_patches_and_rates(settings: dict[str, Any]) -> None:
    patches, rate = network(**settings)(batch(8))
    assert (patches.shape, patches.dtype) == ((8, 32, 32), tf.complex64)
    assert (rate.shape, rate.dtype) == ((8, 32, 32), tf.float32)
    assert np.isfinite(rate.numpy()).all()
    assert (rate.numpy() >= 0).all()


@each_configuration
def test_a_graph_computes_what_its_lines_compute_for_any_number_of_frames(settings: dict[str, Any]) -> None:
    wrapped = network(**settings)
    any_number = [tf.TensorSpec([None, *part.shape[1:]], part.dtype) for part in batch(4) if part is not None]
    in_graph = tf.function(lambda *parts: wrapped(Batch(*parts)), input_signature=any_number, autograph=False)
    for frames in (4, 8):
        given = batch(frames)
        for found, expected in zip(in_graph(*given[:4]), wrapped(given), strict=True):
            size = np.abs(expected.numpy()).max()
            assert np.abs(found.numpy() - expected.numpy()).max() <= 1e-5 * size


@each_configuration
def test_every_parameter_gets_a_finite_gradient(settings: dict[str, Any]) -> None:
    wrapped = network(**settings)
    wrapped = loud(wrapped) if wrapped.model.architecture == "unet" else wrapped
    with tf.GradientTape() as tape:
        patches, rate = wrapped(batch(8))
        # A common phase is no secret to this loss, as it is to the rates.
        loss = tf.reduce_mean(tf.square(rate - 9)) + tf.reduce_mean(tf.square(tf.math.real(patches) - 0.9))
    gradients = tape.gradient(loss, wrapped.parameters)
    assert len(gradients) == len(read_weights(wrapped.network)) + 1
    for gradient, parameter in zip(gradients, wrapped.parameters, strict=True):
        assert gradient is not None, parameter.name
        assert np.isfinite(gradient.numpy()).all(), parameter.name
        assert (gradient.numpy() != 0).any(), parameter.name


@pytest.mark.parametrize("groups", [15, 16, 17])
def test_groups_do_not_see_each_other_however_many_there_are(groups: int) -> None:
    wrapped = network(architecture="cnn", gridsize=2)
    random = np.random.default_rng(2)
    patches = random.normal(size=(4 * groups, 32, 32)) + 1j * random.normal(size=(4 * groups, 32, 32))
    patches, corners = tf.constant(patches.astype(np.complex64)), batch(4 * groups).corners
    together = wrapped.agreed(patches, corners).numpy()
    for group in range(0, groups, 5):
        members = slice(4 * group, 4 * group + 4)
        alone = wrapped.agreed(patches[members], corners[members]).numpy()
        assert np.abs(alone - together[members]).max() < 1e-6


def test_another_probe_leaves_the_weights_and_changes_the_rates() -> None:
    wrapped = loud(network())
    wrapped.calibrate(batch(4).amplitude)
    other = wrapped.with_probe(probe()[:, ::-1])
    one, another = read_weights(wrapped.network), read_weights(other.network)
    assert all(np.array_equal(one[name], another[name]) for name in one)
    assert float(other.log_scale) == float(wrapped.log_scale)
    assert float(other.back_projection_std) == float(wrapped.back_projection_std)
    assert np.abs(other.probe.numpy() - wrapped.probe.numpy()).max() > 0.1
    wrapped.network.stem.bias.assign_add(tf.ones(32))
    assert not np.array_equal(other.network.stem.bias.numpy(), wrapped.network.stem.bias.numpy())


def test_back_projections_have_the_calibrated_spread() -> None:
    wrapped, given = network(), batch(8)
    wrapped.calibrate(given.amplitude)
    images = wrapped.inputs(given).numpy()
    assert images.shape == (8, 3, 32, 32)
    assert (images[:, 1:] ** 2).mean() == pytest.approx(1, rel=1e-4)


def test_half_precision_is_of_the_network_alone() -> None:
    wrapped = loud(network())
    patches, rate = wrapped(batch(4))
    wrapped.compute_dtype = "bfloat16"
    half_patches, half_rate = wrapped(batch(4))
    assert (half_patches.dtype, half_rate.dtype) == (tf.complex64, tf.float32)
    assert 0 < np.abs(half_patches.numpy() - patches.numpy()).max() < 0.1
    assert np.abs(half_rate.numpy() - rate.numpy()).max() < 0.2 * rate.numpy().max()


def compiled_nodes(wrapped: PtychoNetwork) -> set[str]:
    """What XLA compiles of a step: the names of functions, without their numbers."""
    graph = tf.function(lambda *parts: wrapped.patches(Batch(*parts)), autograph=False)
    function = graph.get_concrete_function(*batch(4)[:4]).graph.as_graph_def()
    nodes = [*function.node, *(node for part in function.library.function for node in part.node_def)]
    compiled = [node for node in nodes if "_XlaMustCompile" in node.attr and node.attr["_XlaMustCompile"].b]
    names = (node.attr["f"].func.name.removeprefix("__inference_") for node in compiled)
    return {re.sub(r"_\d+$", "", name) for name in names}


def test_what_is_compiled_is_what_jit_compile_says() -> None:
    wrapped = network()
    by_hand = {"_gelu", "_values", "_squares", "_scaled_gelu"}
    for jit_compile, expected in ((False, set()), ("auto", by_hand), (True, {"_traced_whole"})):
        wrapped.jit_compile = jit_compile
        assert compiled_nodes(wrapped) == expected


@pytest.mark.parametrize(
    "settings",
    [{}, pytest.param({"architecture": "fno"}, marks=pytest.mark.slow), {"architecture": "ffno"}],
    ids=str,
)
def test_however_much_is_compiled_the_patches_are_the_same(settings: dict[str, Any]) -> None:
    wrapped, given = network(**settings), batch(4)
    wrapped = loud(wrapped) if wrapped.model.architecture == "unet" else wrapped
    patches = []
    for jit_compile in (False, "auto", True):
        wrapped.jit_compile = jit_compile
        patches.append(wrapped.patches(given).numpy())
    for compiled in patches[1:]:
        assert np.abs(compiled - patches[0]).max() <= 1e-5 * np.abs(patches[0]).max()


def test_another_probe_leaves_what_computes_and_how() -> None:
    wrapped = network()
    wrapped.jit_compile, wrapped.compute_dtype = False, "bfloat16"
    other = wrapped.with_probe(probe())
    assert (other.jit_compile, other.compute_dtype) == (False, "bfloat16")


def test_passes_are_the_steps_that_can_be_taken_by_hand() -> None:
    wrapped, given = loud(network(unet_passes=2)), batch(4)
    image = None
    for patches, rate in wrapped.passes(given):
        by_hand = wrapped.agreed(wrapped.patches(given, image), given.corners)
        image = patches
        assert np.abs(by_hand - patches).max() <= 1e-6 * np.abs(patches).max()
        expected = wrapped.rate(patches, given.rests_px).numpy()
        assert np.abs(rate.numpy() - expected).max() <= 1e-6 * expected.max()


def test_a_batch_moves_as_one() -> None:
    moved = batch(2).to("cpu:0")
    assert moved.good is None
    assert np.array_equal(moved.counts.numpy(), batch(2).counts.numpy())


def test_a_probe_of_another_side_is_refused() -> None:
    with pytest.raises(ConfigError, match="`N` is 64 and the probe 32 px wide"):
        PtychoNetwork(ModelConfig(N=64), probe(32), 1.0)
