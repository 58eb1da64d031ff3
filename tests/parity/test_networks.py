"""The same weights and the same frames give the same patches, rates, losses and gradients in both cores."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

torch = pytest.importorskip("torch", reason="PyTorch is not installed")
pytest.importorskip("ptycho_core_torch.network", reason="the PyTorch core is not installed")
pytest.importorskip("ptycho_core_tf.network", reason="the TensorFlow core is not installed")

from ptycho_config.models import ModelConfig  # noqa: E402
from ptycho_core_tf.framework import tf  # noqa: E402
from ptycho_core_tf.network import Batch as TensorFlowBatch  # noqa: E402
from ptycho_core_tf.network import PtychoNetwork as TensorFlowNetwork  # noqa: E402
from ptycho_core_tf.weights import canonical, named_variables, write_weights  # noqa: E402
from ptycho_core_torch.network import Batch as TorchBatch  # noqa: E402
from ptycho_core_torch.network import PtychoNetwork as TorchNetwork  # noqa: E402

#: Of outputs, of losses, of gradients.
ALLOWED = {"float32": (1e-5, 1e-5, 1e-4), "float64": (1e-10, 1e-10, 1e-8)}
ARCHITECTURES = ("unet", "cnn", "fno", "fno_vanilla", "ffno")
SMALL = {"n_filters_scale": 1, "fno_width": 8, "fno_blocks": 2, "fno_cnn_blocks": 1}
INTENSITY_SCALE = 20.0

# Each example is seconds of work: one that fails is shown as it is, and not made smaller for many minutes.
PHASES = (Phase.explicit, Phase.reuse, Phase.generate)
EXAMPLES = {"float32": 5, "float64": 3}


@st.composite
def models(draw: Any, architecture: str) -> ModelConfig:
    """Any configuration of a network, its layers narrow so that many can be tried."""
    # `unet` is wide and looks at frames one by one: its large ones, and groups of them, would add time alone.
    sizes = [(n, g) for n in (32, 64, 128) for g in (1, 2, 3) if architecture != "unet" or n * g <= 64]
    n, gridsize = draw(st.sampled_from(sizes))
    chosen: dict[str, Any] = {
        "architecture": architecture,
        "N": n,
        "gridsize": gridsize,
        "probe_gauge": draw(st.sampled_from(["power", "legacy"])),
        "probe_mask": draw(st.booleans()),
    }
    if architecture == "unet":
        chosen["overlap_constraint"] = draw(st.sampled_from(["none", "group", "batch"]))
        chosen["unet_passes"] = draw(st.integers(1, 2))
        if chosen["unet_passes"] == 1:
            chosen["input_channels"] = draw(st.sampled_from(["amplitude", "backprojection"]))
        return ModelConfig(**chosen)
    chosen["object_big"] = draw(st.booleans())
    if architecture == "cnn":
        chosen["pad_object"], chosen["probe_big"] = draw(st.booleans()), draw(st.booleans())
        # `relu` has patches of nothing, and a wave of nothing has no direction.
        chosen["amp_activation"] = draw(st.sampled_from(["sigmoid", "swish", "softplus"]))
    else:
        chosen["fno_input_transform"] = draw(st.sampled_from(["none", "sqrt", "log1p", "instancenorm"]))
        modes = ["real_imag", "amp_phase_logits", "amp_phase"]
        chosen["generator_output_mode"] = draw(st.sampled_from(modes))
    return ModelConfig(**chosen, **SMALL)


class Pair:
    """One network in both cores, on the same weights, with the same frames and the same probe."""

    def __init__(self, model: ModelConfig, n_modes: int, precision: str, seed: int) -> None:
        random = np.random.default_rng(seed)
        n, groups = model.N, 2 if model.N == 32 else 1
        frames = groups * model.gridsize**2
        probe = random.normal(size=(n_modes, n, n)) + 1j * random.normal(size=(n_modes, n, n))
        torch.manual_seed(seed)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # of swish
            self.torch = TorchNetwork(model, probe, INTENSITY_SCALE)
            self.tensorflow = TensorFlowNetwork(model, probe, INTENSITY_SCALE, dtype=precision)
        if precision == "float64":
            self.torch.double()
        state = self.torch.network.state_dict()
        if model.architecture == "unet":
            # It starts at zero, where no gradient goes further down than to itself.
            for part in ("weight", "bias"):
                torch.nn.init.normal_(state[f"output.{part}"], std=0.01)
        write_weights(self.tensorflow.network, {name: tensor.numpy() for name, tensor in state.items()})
        self.torch.hold_probe(torch.view_as_real(torch.from_numpy(self.tensorflow.probe.numpy())))
        self.tensorflow.log_scale.assign(self.torch.log_scale.detach().numpy())
        counts = random.poisson(random.uniform(1, 30, (frames, n, n))).astype(precision)
        parts = (
            np.sqrt(counts) / np.sqrt(counts.mean()) / 2,
            counts,
            random.integers(0, n // 4, (frames, 2)),
            random.uniform(-0.5, 0.5, (frames, 2)).astype(precision),
            (random.random((1, n, n)) > 0.1).astype(precision),
        )
        self.torch_batch = TorchBatch(*(torch.from_numpy(part) for part in parts))
        self.tensorflow_batch = TensorFlowBatch(*(tf.constant(part) for part in parts))
        self.torch.calibrate(self.torch_batch.amplitude)
        self.tensorflow.calibrate(self.tensorflow_batch.amplitude)

    def torch_results(self, loss: Any) -> tuple[Any, Any, Any]:
        """Patches and rates of the last pass, and the loss of all, over the mean count as in training."""
        batch = self.torch_batch
        passes = list(self.torch.passes(batch))
        losses = torch.stack([loss(rate, batch.counts, batch.good) for _, rate in passes])
        return *passes[-1], losses.mean() / batch.counts.mean()

    def tensorflow_results(self, loss: Any) -> tuple[Any, Any, Any]:
        """The same in the other core."""
        batch = self.tensorflow_batch
        passes = list(self.tensorflow.passes(batch))
        losses = tf.stack([loss(rate, batch.counts, batch.good) for _, rate in passes])
        return *passes[-1], tf.reduce_mean(losses) / tf.reduce_mean(batch.counts)


def gradients(pair: Pair, cores: Any) -> tuple[Any, Any, dict[str, tuple[np.ndarray, np.ndarray]]]:
    """Run both cores: their results, and the gradients by every weight in the canonical layout."""
    here = pair.torch_results(cores[0].losses.poisson_deviance)
    here[-1].backward()
    with tf.GradientTape() as tape:
        there = pair.tensorflow_results(cores[1].losses.poisson_deviance)
    variables = {**named_variables(pair.tensorflow.network), "log_scale": pair.tensorflow.log_scale}
    found = tape.gradient(there[-1], [*variables.values()])
    expected = {**dict(pair.torch.network.named_parameters()), "log_scale": pair.torch.log_scale}
    assert set(expected) == set(variables)
    both = {
        name: (expected[name].grad.numpy(), canonical(variable, np.asarray(gradient)))
        for (name, variable), gradient in zip(variables.items(), found, strict=True)
    }
    return [part.detach().numpy() for part in here], [part.numpy() for part in there], both


def distances(both: dict[str, tuple[np.ndarray, np.ndarray]], *, least: float) -> dict[str, float]:
    """Hold what lies between the gradients by each weight against their size.

    Args:
        least: share of the whole gradient below which one weight's is held against that share. Where nothing
            but a common phase depends on a weight, its gradient is rounding and no more.
    """
    whole = np.sqrt(sum(float((one**2).sum()) for one, _ in both.values()))
    return {
        name: float(np.linalg.norm(one - other) / max(np.linalg.norm(one), least * whole))
        for name, (one, other) in both.items()
    }


def check_rounding(single: dict[str, Any], double: dict[str, Any]) -> None:
    """Where float32 keeps two cores apart, both must be off the float64 gradient alike.

    Rounding that the network magnifies spoils both, of which one may be lucky; a core that computes in fewer
    digits than it says (in half precision, say) is off alone.
    """
    whole = np.sqrt(sum(float((one**2).sum()) for one, _ in double.values()))
    off = [
        np.sqrt(sum(float(((single[name][core] - double[name][core]) ** 2).sum()) for name in double)) / whole
        for core in (0, 1)
    ]
    assert max(off) <= 30 * max(min(off), 1e-5), (
        f"float32 is off by {off[0]:.2g} in PyTorch, {off[1]:.2g} in TensorFlow"
    )


@pytest.mark.parametrize(
    ("architecture", "precision"),
    [
        # The widest one, in float64, takes longest; in float32 it falls back on it where that is needed.
        pytest.param(one, other, marks=pytest.mark.slow if (one, other) == ("unet", "float64") else [])
        for one in ARCHITECTURES
        for other in ("float32", "float64")
    ],
)
def test_networks_agree(cores: Any, agree: Any, architecture: str, precision: str) -> None:
    output_tolerance, loss_tolerance, gradient_tolerance = ALLOWED[precision]
    told_in_double: list[bool] = []

    # `unet` is the widest by far.
    examples = EXAMPLES[precision] - (architecture == "unet")

    def outputs(here: Any, there: Any) -> dict[str, tuple[float, np.ndarray, np.ndarray]]:
        tolerances = (output_tolerance, output_tolerance, loss_tolerance)
        names = ("patches", "rates", "loss")
        return {
            name: (tolerance, np.asarray(other), np.asarray(one))
            for name, tolerance, one, other in zip(names, tolerances, here, there, strict=True)
        }

    @settings(max_examples=examples, deadline=None, phases=PHASES)
    @given(models(architecture), st.integers(1, 3), st.integers(0, 2**32 - 1))
    def law(model: ModelConfig, n_modes: int, seed: int) -> None:
        here, there, both = gradients(Pair(model, n_modes, precision, seed), cores)
        apart = distances(both, least=1.0 if precision == "float32" else 1e-4)
        # ReLU has a jump in its derivative, where rounding decides the side; and of a small rest of large
        # terms as many digits are left as their order leaves, which a library chooses by the processor. No
        # two ways to compute it agree in float32 then; the same example must in float64.
        far = any(
            np.abs(one - other).max() > tolerance * np.abs(other).max()
            for tolerance, one, other in outputs(here, there).values()
        )
        in_double = precision == "float32" and (far or max(apart.values()) > gradient_tolerance)
        told_in_double.append(in_double)
        if in_double:
            here, there, exact = gradients(Pair(model, n_modes, "float64", seed), cores)
            if architecture != "cnn":  # one core may stand on the right side of a jump, the other not
                check_rounding(both, exact)
            both, apart = exact, distances(exact, least=1e-4)
        allowed = ALLOWED["float64" if in_double else precision]
        for name, (_, found, expected) in outputs(here, there).items():
            agree(f"{name} of {architecture}", allowed[1 if name == "loss" else 0], found, expected)
        for name, distance in apart.items():
            agree.within(f"gradients of {architecture}", allowed[-1], both[name][0], distance, 1.0)

    law()
    assert sum(told_in_double) <= len(told_in_double) / 2, "what happens in most examples is no accident"
