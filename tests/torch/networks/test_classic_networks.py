"""The classic networks: sizes and names that other programs rely on, ranges, start and refusals."""

from __future__ import annotations

import importlib.util
import math
import sys
import warnings
from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="torch is not installed")
pytest.importorskip("ptycho_core_torch", reason="ptycho-core-torch is not installed")

from ptycho_config.errors import BackendUnavailableError, ConfigError, DataError  # noqa: E402
from ptycho_config.models import ModelConfig  # noqa: E402
from ptycho_core_torch.networks import heads, spectral  # noqa: E402
from ptycho_core_torch.networks.classic import classic_network  # noqa: E402

NATIVE = ("cnn", "ffno", "fno", "fno_vanilla")
OPERATORS = NATIVE[1:]
SMALL = {"n_filters_scale": 1, "fno_width": 8, "fno_blocks": 2, "fno_cnn_blocks": 1}

each_architecture = pytest.mark.parametrize("architecture", NATIVE)
each_operator = pytest.mark.parametrize("architecture", OPERATORS)
each_group_size = pytest.mark.parametrize("gridsize", [1, 2], ids=["C=1", "C=4"])


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


def build(**settings: Any) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # swish and relu; test_..._warn below expects it
        return classic_network(ModelConfig(**{"architecture": "cnn", **SMALL, **settings}))


def frames(model_px: int, gridsize: int = 1, groups: int = 2) -> Any:
    generator = torch.Generator().manual_seed(7)
    return torch.rand((groups, gridsize**2, model_px, model_px), generator=generator)


@torch.no_grad()
def predict(network: Any, amplitude_unit: Any) -> Any:
    return network(amplitude_unit)


def loud(network: Any) -> Any:
    """Let the last layers reach far into their activations."""
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if any(part in name for part in ("inner", "head", "output")):
                parameter.mul_(1e4)
    return network


# Sizes and names


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
    # The numbers are those of the network alone: `log_scale` and the probe are not among them.
    with torch.device("meta"):
        network = build(N=frame_px, gridsize=gridsize, n_filters_scale=2)
    assert sum(parameter.numel() for parameter in network.parameters()) == expected


def with_bias(*names: str) -> set[str]:
    return {f"{name}.{part}" for name in names for part in ("weight", "bias")}


def convolutions(*names: str) -> set[str]:
    return with_bias(*(f"{name}.conv{i}" for name in names for i in (1, 2)))


def names_of_the_cnn(*last: str) -> set[str]:
    names = convolutions("encoder.0", "encoder.1", "encoder.2")
    for part in ("amp", "phase"):
        names |= convolutions(f"{part}.up.0", f"{part}.up.1")
        if "inner" in last:
            names |= with_bias(f"{part}.inner")
        if "outer" in last:
            names |= convolutions(f"{part}.outer") | with_bias(f"{part}.outer.head")
    return names


@pytest.mark.parametrize(
    ("pad_object", "probe_big", "last"),
    [
        (True, True, ("inner", "outer")),
        (True, False, ("inner",)),
        (False, True, ("outer",)),
        (False, False, ("outer",)),
    ],
)
def test_the_cnn_has_the_canonical_names(pad_object: bool, probe_big: bool, last: tuple[str, ...]) -> None:
    network = build(pad_object=pad_object, probe_big=probe_big)
    assert set(network.state_dict()) == names_of_the_cnn(*last)


BLOCKS = ("blocks.0", "blocks.1")
NAMES = {
    "fno_vanilla": convolutions("lifter")
    | {f"{block}.spectral.weight" for block in BLOCKS}
    | with_bias(*(f"{block}.local" for block in BLOCKS)),
    "ffno": convolutions("lifter", "refiners.0")
    | {"gate", "spectral.x.weight", "spectral.y.weight"}
    | with_bias(*(f"{block}.{layer}" for block in BLOCKS for layer in ("norm", "expand", "project"))),
}
NAMES["fno"] = NAMES["fno_vanilla"] | with_bias("mix", "refiners.0.conv")


@each_operator
@pytest.mark.parametrize("mode", ["real_imag", "amp_phase_logits", "amp_phase"])
def test_the_operators_have_the_canonical_names(architecture: str, mode: str) -> None:
    network = build(architecture=architecture, generator_output_mode=mode)
    last = with_bias("output_amp", "output_phase") if mode == "amp_phase" else with_bias("output")
    assert set(network.state_dict()) == NAMES[architecture] | last


def test_spectral_weights_are_real_pairs_of_the_canonical_shape() -> None:
    state = build(architecture="fno").state_dict()
    assert state["blocks.0.spectral.weight"].shape == (2, 8, 8, 12, 12, 2)
    state = build(architecture="ffno").state_dict()
    assert state["spectral.x.weight"].shape == (8, 8, 12, 2)
    assert state["gate"].shape == ()
    assert float(state["gate"]) == pytest.approx(0.1)
    assert all(not tensor.is_complex() for tensor in state.values())


# From frames to patches


@each_architecture
@each_group_size
@pytest.mark.parametrize("frame_px", [32, 48, 64, 80, 96, 112, 128])
def test_frames_become_complex_patches(architecture: str, gridsize: int, frame_px: int) -> None:
    network = build(architecture=architecture, N=frame_px, gridsize=gridsize)
    patches = predict(network, frames(frame_px, gridsize))
    assert patches.shape == (2, gridsize**2, frame_px, frame_px)
    assert patches.dtype == torch.complex64
    assert bool(torch.isfinite(torch.view_as_real(patches)).all())


@each_architecture
def test_a_group_shares_one_patch_without_object_big(architecture: str) -> None:
    network = build(architecture=architecture, gridsize=2, object_big=False)
    assert network(frames(64, 2)).shape == (2, 1, 64, 64)


def test_a_side_that_cannot_be_halved_often_enough_is_padded_and_cropped() -> None:
    # 208 = 6.5 x 2^5: the network works on 224 px.
    network = build(N=208, probe_big=False)
    patches = predict(network, frames(208, groups=1))
    assert patches.shape == (1, 1, 208, 208)
    assert_zero_outside_the_inner_half(patches.abs())


def test_the_cnn_refuses_frames_of_another_side() -> None:
    with pytest.raises(DataError, match=r"\(2, 1, 80, 80\).*64 x 64 px"):
        build()(frames(80))


def assert_zero_outside_the_inner_half(amplitude: Any) -> None:
    quarter = amplitude.shape[-1] // 4
    inner = amplitude[..., quarter:-quarter, quarter:-quarter]
    assert bool((inner > 0).all())
    assert float(amplitude.sum()) == pytest.approx(float(inner.sum()), rel=1e-6)


def test_the_border_is_zero_when_the_probe_is_small() -> None:
    assert_zero_outside_the_inner_half(predict(build(probe_big=False), frames(64)).abs())


def test_the_border_and_the_middle_are_drawn_by_their_own_branches() -> None:
    network = build()
    before = predict(network, frames(64))
    with torch.no_grad():
        network.amp.outer.head.bias += 1.0
    changed = (predict(network, frames(64)) - before).abs() > 1e-4
    assert not bool(changed[..., 16:48, 16:48].any())
    border = torch.ones(64, 64, dtype=torch.bool)
    border[16:48, 16:48] = False
    assert bool(changed[..., border].all())


# Ranges


@pytest.mark.parametrize("pad_object", [True, False])
@pytest.mark.parametrize(("gauge", "ceiling"), [("legacy", 1.0), ("power", 1.2)])
def test_the_sigmoid_reaches_from_zero_to_the_ceiling_of_the_gauge(
    gauge: str, ceiling: float, pad_object: bool
) -> None:
    network = build(probe_gauge=gauge, pad_object=pad_object)
    for logit, expected in ((-50.0, 0.0), (50.0, ceiling)):
        with torch.no_grad():
            for name, parameter in network.amp.named_parameters():
                if name in ("inner.bias", "outer.head.bias"):
                    parameter.fill_(logit)
        amplitude = predict(network, frames(64)).abs()
        torch.testing.assert_close(amplitude, torch.full_like(amplitude, expected))


@pytest.mark.parametrize(
    ("activation", "lowest"), [("sigmoid", 0.0), ("softplus", 0.0), ("relu", 0.0), ("swish", -0.2785)]
)
def test_amplitudes_and_phases_keep_their_ranges(activation: Any, lowest: float) -> None:
    logits = torch.linspace(-50, 50, 10_001)
    amplitude = heads.bounded_amplitude(logits, activation)
    assert float(amplitude.min()) >= lowest
    assert float(amplitude.max()) == pytest.approx(1.0 if activation == "sigmoid" else 50.0)
    phase = heads.bounded_phase(logits)
    assert float(phase.abs().max()) <= math.pi + 1e-6
    assert bool((phase.diff() >= 0).all())


@pytest.mark.parametrize("activation", ["sigmoid", "softplus", "relu", "swish", "silu"])
def test_the_border_has_the_activation_of_the_middle(activation: str) -> None:
    network = loud(build(amp_activation=activation))
    bottleneck = _bottleneck(network, frames(64))
    amplitude = network.amp(bottleneck).detach()
    border = torch.cat([amplitude[..., :16, :].flatten(), amplitude[..., 48:, :].flatten()])
    lowest = -0.28 if activation in ("swish", "silu") else 0.0
    assert float(border.min()) >= lowest
    if activation == "relu":
        assert float(border.min()) == 0.0
    phase = network.phase(bottleneck).detach()
    assert float(phase.abs().max()) <= math.pi + 1e-6


@torch.no_grad()
def _bottleneck(network: Any, amplitude_unit: Any) -> Any:
    for block in network.encoder:
        amplitude_unit = torch.nn.functional.max_pool2d(block(amplitude_unit), 2)
    return amplitude_unit


@pytest.mark.parametrize(
    ("activation", "fault"), [("swish", "negative"), ("silu", "negative"), ("relu", "zero")]
)
def test_amplitudes_that_may_vanish_or_turn_negative_warn(activation: str, fault: str) -> None:
    model = ModelConfig.model_validate({"architecture": "cnn", "amp_activation": activation})
    with pytest.warns(UserWarning, match=f"can be {fault}, in the border too"):
        classic_network(model)


@pytest.mark.parametrize("activation", ["sigmoid", "softplus"])
def test_amplitudes_that_stay_positive_do_not_warn(activation: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        classic_network(ModelConfig.model_validate({"architecture": "cnn", "amp_activation": activation}))


@each_operator
@pytest.mark.parametrize("mode", ["amp_phase_logits", "amp_phase"])
def test_operators_bound_the_amplitude_where_asked(architecture: str, mode: str) -> None:
    model = {"architecture": architecture, "generator_output_mode": mode, "probe_gauge": "legacy"}
    assert float(predict(loud(build(**model)), frames(64)).abs().max()) <= 1 + 1e-6


@each_operator
def test_real_and_imaginary_part_are_unbounded(architecture: str) -> None:
    network = build(architecture=architecture)
    with torch.no_grad():
        network.output.bias.fill_(9.0)
    patches = predict(network, frames(64))
    assert float(patches.real.max()) > 5
    assert float(patches.imag.max()) > 5


@pytest.mark.parametrize("mode", ["real_imag", "amp_phase_logits"])
def test_all_first_parts_come_before_all_second_parts(mode: Any) -> None:
    model = ModelConfig(gridsize=2, generator_output_mode=mode, probe_gauge="legacy")
    outputs = torch.randn(1, 8, 6, 6, generator=torch.Generator().manual_seed(3))
    patches = heads.object_from_outputs(outputs, model)
    first, second = outputs[:, :4], outputs[:, 4:]
    if mode == "real_imag":
        expected = first + 1j * second
    else:
        expected = torch.sigmoid(first) * torch.exp(1j * math.pi * torch.tanh(second))
    torch.testing.assert_close(patches, expected)


@pytest.mark.parametrize("amplitude", [-0.2, 0.0, 0.7])
def test_the_gradient_of_the_amplitude_has_the_right_sign(amplitude: float) -> None:
    modulus = torch.tensor([amplitude], requires_grad=True)
    heads.complex_object(modulus, torch.tensor([0.3])).real.sum().backward()
    assert float(modulus.grad) == pytest.approx(math.cos(0.3))


def stripes(rows: int, columns: int, side_px: int = 32) -> Any:
    index = torch.arange(side_px, dtype=torch.float32)
    return torch.cos(2 * math.pi * (rows * index[:, None] + columns * index) / side_px)[None, None]


@pytest.mark.parametrize("rows", [3, -3], ids=["falling", "rising"])
def test_stripes_of_both_diagonal_orientations_pass(rows: int) -> None:
    layer = spectral.SpectralConvolution(1, 1, 6)
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([1.0, 0.0]).expand_as(layer.weight))
    image = stripes(rows, 4)
    torch.testing.assert_close(layer(image), image, atol=1e-5, rtol=0)
    torch.testing.assert_close(layer(stripes(7, 4)), torch.zeros(1, 1, 32, 32), atol=1e-5, rtol=0)
    # Each orientation has weights of its own: without those of its sign, it does not pass.
    with torch.no_grad():
        layer.weight[0 if rows > 0 else 1] = 0
    torch.testing.assert_close(layer(image), torch.zeros_like(image), atol=1e-5, rtol=0)


def test_half_precision_around_a_spectral_convolution_is_allowed() -> None:
    network = build(architecture="fno")
    with torch.autocast("cpu", dtype=torch.bfloat16):
        patches = predict(network, frames(64))
    assert patches.dtype == torch.complex64


# Start and training


@each_architecture
@each_group_size
@pytest.mark.parametrize("mode", ["real_imag", "amp_phase"])
def test_every_parameter_gets_a_finite_gradient(architecture: str, gridsize: int, mode: str) -> None:
    torch.manual_seed(1)
    network = build(architecture=architecture, N=32, gridsize=gridsize, generator_output_mode=mode)
    (network(frames(32, gridsize)) - (0.9 + 0.2j)).abs().square().mean().backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None, name
        assert bool(torch.isfinite(parameter.grad).all()), name
        assert bool((parameter.grad != 0).any()), name


@each_architecture
def test_convolutions_start_glorot_uniform_without_bias(architecture: str) -> None:
    torch.manual_seed(2)
    network = build(architecture=architecture, gridsize=2, n_filters_scale=2, fno_width=32)
    layers = [layer for layer in network.modules() if isinstance(layer, torch.nn.Conv2d)]
    for layer in layers:
        places = layer.kernel_size[0] ** 2
        limit = math.sqrt(6 / (places * (layer.in_channels + layer.out_channels)))
        weight = layer.weight.detach()
        assert 0.9 * limit < float(weight.abs().max()) <= limit
        if weight.numel() > 1000:
            assert float(weight.std()) == pytest.approx(limit / math.sqrt(3), rel=0.05)
        assert not bool(layer.bias.detach().any())


def test_a_spectral_convolution_keeps_the_energy_of_what_it_passes() -> None:
    torch.manual_seed(3)
    layer = spectral.SpectralConvolution(32, 32, 12)
    images = torch.nn.functional.interpolate(torch.randn(4, 32, 8, 8), size=64, mode="bicubic")
    passed = spectral.SpectralConvolution(32, 32, 12)
    with torch.no_grad():
        passed.weight.zero_()
        passed.weight[:, range(32), range(32), ..., 0] = 1
    energy, energy_before = (float(predict(one, images).square().mean()) for one in (layer, passed))
    assert energy == pytest.approx(energy_before, rel=0.1)


@each_architecture
def test_the_seed_of_torch_decides_the_weights(architecture: str) -> None:
    states = []
    for seed in (5, 5, 6):
        torch.manual_seed(seed)
        states.append(build(architecture=architecture).state_dict())
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])
    assert not all(torch.equal(states[0][name], states[2][name]) for name in states[0])


@pytest.mark.parametrize("transform", ["none", "sqrt", "log1p", "instancenorm"])
def test_the_input_transform_acts_before_the_lifter(transform: str) -> None:
    torch.manual_seed(8)
    changed = build(architecture="fno_vanilla", fno_input_transform=transform)
    plain = build(architecture="fno_vanilla")
    plain.load_state_dict(changed.state_dict())
    amplitude = frames(64) * 9
    deviation = amplitude - amplitude.mean((-2, -1), keepdim=True)
    by_hand = {
        "none": amplitude,
        "sqrt": amplitude.sqrt(),
        "log1p": torch.log1p(amplitude),
        "instancenorm": deviation / torch.sqrt(deviation.square().mean((-2, -1), keepdim=True) + 1e-5),
    }
    torch.testing.assert_close(changed(amplitude), plain(by_hand[transform]), atol=1e-5, rtol=1e-5)


# The door


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({"architecture": "unet"}, "`unet`, which is no classic network: cnn, ffno"),
        ({"N": 0}, "`N` is not known yet"),
        ({"input_channels": "backprojection"}, "sees the amplitude alone"),
        ({"architecture": "fno", "N": 32, "fno_modes": 17}, "`fno_modes` is 17, and frames of 32 px have 16"),
        ({"architecture": "neuralop_uno", "N": 64}, "`N` is 64"),
        ({"architecture": "neuralop_uno", "N": 128, "gridsize": 2}, "`gridsize` is 2"),
        (
            {"architecture": "neuralop_uno", "N": 128, "generator_output_mode": "amp_phase"},
            "`generator_output_mode` is amp_phase",
        ),
    ],
)
def test_what_cannot_be_built_is_refused(settings: dict[str, Any], text: str) -> None:
    with pytest.raises(ConfigError, match=text):
        build(**settings)


def test_without_its_package_uno_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "neuralop", None)
    monkeypatch.delitem(sys.modules, "neuralop.models", raising=False)
    with pytest.raises(BackendUnavailableError, match=r"pip install 'ptycho-core-torch\[uno\]'"):
        build(architecture="neuralop_uno", N=128)


def test_uno_maps_frames_where_its_package_is_installed(capsys: pytest.CaptureFixture[str]) -> None:
    if importlib.util.find_spec("neuralop") is None:
        with pytest.raises(BackendUnavailableError):
            build(architecture="neuralop_uno", N=128)
        return
    patches = build(architecture="neuralop_uno", N=128)(frames(128))
    assert patches.shape == (2, 1, 128, 128)
    assert patches.dtype == torch.complex64
    assert capsys.readouterr().out == ""
