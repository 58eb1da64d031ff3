"""What an execution asks for is what TensorFlow does: devices, number types, XLA, determinism, silence."""

from __future__ import annotations

import json
import subprocess
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ptycho_config.errors import ConfigError, PolicyError, PolicyWarning, TrainingError, exit_code
from ptycho_config.execution import TensorFlowExecutionConfig
from ptycho_config.models import ModelConfig, TrainingConfig
from ptycho_core import Scan
from ptycho_core.backend import get_backend
from ptycho_core.io import save_scan
from ptycho_core.learning.prepare import Prepared, prepare
from ptycho_core_tf.devices import Placement, place_run
from ptycho_core_tf.first_weights import seeded
from ptycho_core_tf.framework import tf
from ptycho_core_tf.keras_model import LossScale, PtychoKeras
from ptycho_core_tf.loaders import Loader, make_loader
from ptycho_core_tf.network import PtychoNetwork
from ptycho_core_tf.optimisers import optimiser_for
from ptycho_core_tf.trained import TrainedNetwork
from ptycho_core_tf.weights import read_weights

PROGRAM = Path(__file__).parent / "train_mirrored.py"
SMALL = ModelConfig(architecture="fno_vanilla", fno_width=8, fno_blocks=2)
#: Building each training twice takes its time; the first one says most.
TOGETHER = (
    "averaged",
    *(pytest.param(name, marks=pytest.mark.slow) for name in ("clipped", "groups", "neighbourhoods")),
)


@pytest.fixture(scope="module")
def scan(simulated) -> Scan:
    """24 frames of 32 x 32 with the true probe."""
    return simulated(frames=24, frame_px=32, start_kind="true", seed=2).scan


def on_cpu(**settings: Any) -> TensorFlowExecutionConfig:
    return TensorFlowExecutionConfig(**{"accelerator": "cpu", "logger_backend": None, **settings})


def train(scan: Scan, execution: TensorFlowExecutionConfig | None = None, **settings: Any) -> TrainedNetwork:
    config = TrainingConfig(**{"model": SMALL, "batch_size": 12, "nepochs": 2, "seed": 1, **settings})
    return get_backend("tensorflow").train(scan, config, execution or on_cpu())


def weights(trained: TrainedNetwork) -> dict[str, np.ndarray]:
    scale = {"log_scale": trained.network.log_scale.numpy()}
    return read_weights(trained.network.network) | scale


def distance(one: dict[str, np.ndarray], other: dict[str, np.ndarray]) -> float:
    """Largest difference, over the largest weight."""
    assert set(one) == set(other)
    apart = max(float(np.abs(one[name] - other[name]).max()) for name in one)
    return apart / max(float(np.abs(value).max()) for value in one.values())


# Several devices


@pytest.fixture(scope="module")
def together(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The folder in which two devices, and one in their place, left the results of a training."""
    made: dict[str, Path] = {}

    def trained(name: str) -> Path:
        if name not in made:
            made[name] = train_apart(tmp_path_factory.mktemp("together"), name)
        return made[name]

    return trained


def train_apart(out: Path, name: str) -> Path:
    """TensorFlow divides a processor only before it starts, so this is a process of its own."""
    command = [sys.executable, str(PROGRAM), str(out), name]
    done = subprocess.run(command, capture_output=True, text=True, timeout=900, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return out


def left(out: Path, name: str) -> dict[str, np.ndarray]:
    with np.load(out / f"{name}.npz") as file:
        return dict(file)


def report(out: Path) -> dict[str, Any]:
    return json.loads((out / "report.json").read_text())


@pytest.mark.parametrize("name", TOGETHER)
def test_two_devices_learn_what_one_does_from_the_same_batches(
    together: Callable[[str], Path], name: str
) -> None:
    """So gradients are averaged and not added up, and clipped after that and not before."""
    two, one, begun = (left(together(name), f"{name}-{which}") for which in ("two", "one", "begun"))
    assert distance(one, two) < 1e-5
    moved = max(float(np.abs(one[key] - begun[key]).max()) for key in one)
    assert moved > 1e-3
    assert max(float(np.abs(one[key] - two[key]).max()) for key in one) < 1e-3 * moved


@pytest.mark.parametrize("name", TOGETHER)
def test_what_two_devices_learned_images_alike_and_told_the_same_losses(
    together: Callable[[str], Path], name: str
) -> None:
    two, one = (left(together(name), f"{name}-{which}-seen") for which in ("two", "one"))
    assert np.abs(two["image"] - one["image"]).max() < 1e-5 * np.abs(one["image"]).max()
    assert two["losses"] == pytest.approx(one["losses"], rel=1e-5)


def test_two_devices_report_once_a_step(together: Callable[[str], Path]) -> None:
    told = report(together("averaged"))["averaged"]
    assert told["steps"] == [[1, 1, 24], [1, 2, 48], [2, 1, 24], [2, 2, 48]]
    assert told["heard"] == ["checkpoints", "epoch 1", "epoch 2"]


def test_a_loss_that_is_no_number_on_one_device_stops_both_and_keeps_the_last_good_weights(
    together: Callable[[str], Path],
) -> None:
    said = report(together("averaged"))["not-finite"]
    assert said.startswith("TrainingError: The loss is not finite at step 4: the patches are")
    assert "The last good weights are in" in said
    kept = get_backend("tensorflow").load(together("averaged") / "not-finite", on_cpu())
    assert [row["epoch"] for row in kept.history] == [1]
    assert all(np.isfinite(weight).all() for weight in weights(kept).values())


def test_a_training_on_two_devices_goes_on_from_its_checkpoint(together: Callable[[str], Path]) -> None:
    assert report(together("averaged"))["resumed"] == {"epochs": [1, 2, 3], "devices": 2}


def test_more_devices_than_there_are_are_refused(together: Callable[[str], Path], scan: Scan) -> None:
    said = "ConfigError: `--tensorflow-devices 3` and TensorFlow sees 2 of the kind CPU. "
    assert report(together("averaged"))["too-many"] == f"{said}Use `--tensorflow-devices 2`."
    with pytest.raises(ConfigError, match=r"sees 1 of the kind CPU\. Use `--tensorflow-devices 1`"):
        train(scan, on_cpu(devices=2))


def test_one_device_may_be_mirrored() -> None:
    mirrored = place_run(on_cpu(strategy="mirrored")).strategy
    assert isinstance(mirrored, tf.distribute.MirroredStrategy)
    assert isinstance(place_run(on_cpu()).strategy, tf.distribute.OneDeviceStrategy)


# The choice of the device (POLICY-001)


@pytest.fixture
def two_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let TensorFlow answer that it sees two GPUs."""
    physical, logical = tf.config.list_physical_devices, tf.config.list_logical_devices

    def with_gpus(real: Any, device: Any, prefix: str) -> Any:
        gpus = [device(f"/{prefix}device:GPU:{number}", "GPU") for number in (0, 1)]
        return lambda kind=None: gpus if kind == "GPU" else real(kind)

    monkeypatch.setattr(
        tf.config, "list_physical_devices", with_gpus(physical, tf.config.PhysicalDevice, "physical_")
    )
    monkeypatch.setattr(tf.config, "list_logical_devices", with_gpus(logical, tf.config.LogicalDevice, ""))


@pytest.fixture
def no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let TensorFlow answer that it sees no GPU."""
    real = tf.config.list_physical_devices
    monkeypatch.setattr(
        tf.config, "list_physical_devices", lambda kind=None: [] if kind == "GPU" else real(kind)
    )


def placed(**settings: Any) -> tuple[Placement, list[Any]]:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        placement = place_run(TensorFlowExecutionConfig(**settings))
    return placement, [warning.message for warning in caught]


@pytest.mark.finding("POLICY-001")
@pytest.mark.usefixtures("two_gpus")
@pytest.mark.parametrize("accelerator", ["auto", "cuda", "gpu"])
def test_a_gpu_is_taken_where_there_is_one(accelerator: str) -> None:
    placement, warned = placed(accelerator=accelerator)
    assert (placement.device, placement.n_devices, placement.on_gpu) == ("/GPU:0", 1, True)
    assert placement.resolution.resolved == ("cuda" if accelerator == "auto" else accelerator)
    assert not warned
    assert placement.record["policy_warnings"] == []


@pytest.mark.finding("POLICY-001")
@pytest.mark.usefixtures("two_gpus")
def test_the_cpu_is_taken_where_it_is_chosen_beside_gpus() -> None:
    placement, warned = placed(accelerator="cpu")
    assert (placement.device, placement.on_gpu) == ("/CPU:0", False)
    assert not warned


@pytest.mark.finding("POLICY-001")
@pytest.mark.usefixtures("no_gpu")
def test_without_a_gpu_auto_is_the_cpu_with_one_warning(scan: Scan, tmp_path: Path) -> None:
    said = r"POLICY-001: No CUDA device detected .*`--tensorflow-accelerator cpu`"
    auto = TensorFlowExecutionConfig(logger_backend=None)
    with pytest.warns(PolicyWarning, match=said) as warned:
        trained = train(scan, auto, nepochs=1)
    assert len(warned) == 1
    bundle = trained.save(tmp_path)
    with pytest.warns(PolicyWarning, match=said) as warned:
        again = get_backend("tensorflow").load(bundle, auto)
    assert len(warned) == 1
    result = again.reconstruct(scan)
    assert result.provenance["execution"]["resolved"] == "cpu"
    assert len(result.provenance["policy_warnings"]) == 1


@pytest.mark.finding("POLICY-001")
@pytest.mark.usefixtures("no_gpu")
def test_without_a_gpu_the_chosen_cpu_is_no_matter_of_a_warning() -> None:
    assert placed(accelerator="cpu")[1] == []


@pytest.mark.finding("POLICY-001")
@pytest.mark.usefixtures("no_gpu")
@pytest.mark.parametrize("accelerator", ["cuda", "gpu"])
def test_a_chosen_gpu_that_is_absent_is_refused(accelerator: str, scan: Scan) -> None:
    execution = TensorFlowExecutionConfig(accelerator=accelerator)
    backend = get_backend("tensorflow")
    for work in (
        lambda: backend.train(scan, TrainingConfig(), execution),
        lambda: backend.load("no-bundle", execution),
        lambda: place_run(execution),
    ):
        with pytest.raises(PolicyError, match=r"POLICY-001: .*--tensorflow-accelerator auto") as refused:
            work()
        assert exit_code(refused.value) == 5


def test_what_only_the_other_core_runs_on_is_refused_with_its_name(scan: Scan) -> None:
    with pytest.raises(ConfigError, match=r"'mps'.*`--backend pytorch`"):
        train(scan, TensorFlowExecutionConfig(accelerator="mps"))


# Seeds and determinism


def test_the_same_seed_gives_the_same_bits(scan: Scan) -> None:
    first, second, other = (weights(train(scan, seed=seed)) for seed in (3, 3, 4))
    assert all(np.array_equal(first[name], second[name]) for name in first)
    assert not all(np.array_equal(first[name], other[name]) for name in first)


def test_a_training_leaves_the_seeds_of_the_process_alone(scan: Scan) -> None:
    def draw(between: Any) -> tuple[Any, ...]:
        # Not Python's own numbers: beartype, which checks types in these tests, draws from them.
        np.random.seed(5)  # noqa: NPY002  # the state that others rely on
        tf.random.set_seed(5)
        between()
        return np.random.random(), float(tf.random.uniform([]))  # noqa: NPY002

    assert draw(lambda: train(scan, nepochs=1)) == draw(lambda: None)


def test_a_network_needs_no_seed_of_tensorflow_where_everything_is_deterministic(scan: Scan) -> None:
    tf.config.experimental.enable_op_determinism()
    tf.random.set_seed(None)
    PtychoNetwork(ModelConfig(N=32), scan.probe, 1.0)


# Half precision


@pytest.mark.parametrize("precision", [pytest.param("bf16-mixed", marks=pytest.mark.slow), "16-mixed"])
def test_half_precision_learns_and_images_and_its_weights_stay_whole(scan: Scan, precision: str) -> None:
    execution = on_cpu(precision=precision)
    trained = train(scan, execution, nepochs=6)
    losses = [row["train_loss"] for row in trained.history]
    assert losses[-1] < losses[0]
    assert {value.dtype for value in weights(trained).values()} == {np.dtype(np.float32)}
    half = trained.reconstruct(scan)
    from dataclasses import replace

    whole = replace(trained, execution=on_cpu()).reconstruct(scan)
    apart = np.abs(half.object - whole.object).max() / np.abs(whole.object).max()
    assert 1e-6 < apart < 0.05
    assert half.data_residual == pytest.approx(whole.data_residual, abs=0.01)


def test_an_epoch_goes_on_with_the_same_stream_of_batches(
    scan: Scan, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A stream begun anew costs the time of several steps, and draws thinned photons that nobody sees."""
    begun: list[str] = []
    batches = Loader._batches

    def counted(self: Loader) -> Any:
        begun.append("begun" if self._begun else "looked at")
        return batches(self)

    monkeypatch.setattr(Loader, "_batches", counted)
    assert len(train(scan, nepochs=5).history) == 5
    assert begun.count("begun") == 1


def test_nothing_tunes_the_stream_of_batches(scan: Scan) -> None:
    """Whoever ends an iterator waits for the thread that does, with all of Python, for up to a minute."""
    execution = on_cpu()
    prepared = prepare(scan, TrainingConfig(model=SMALL, batch_size=12, seed=1), execution)
    batches = make_loader(prepared.frames, prepared.config, 0).dataset
    shared_out = place_run(execution).strategy.experimental_distribute_dataset(batches)
    for dataset in (batches, *shared_out._cloned_datasets):
        assert dataset.options().autotune.enabled is False


class Steps:
    """A network and what trains it, step by step and without Keras's loop."""

    def __init__(self, scan: Scan, *, mean_counts_per_pixel: float | None = None, **settings: Any) -> None:
        execution = on_cpu(precision="16-mixed")
        config = TrainingConfig(model=SMALL, batch_size=12, seed=1, **settings)
        self.prepared: Prepared = prepare(scan, config, execution)
        config, frames = self.prepared.config, self.prepared.frames
        with seeded(1):
            network = PtychoNetwork(config.model, scan.probe, frames.intensity_scale)
        network.compute_dtype = "float16"
        mean = mean_counts_per_pixel or self.prepared.mean_counts_per_pixel
        self.module = PtychoKeras(network, config, execution, mean_counts_per_pixel=mean)
        self.optimiser = optimiser_for(config, self.module.learned, 1e-3)
        self.module.compile(optimizer=self.optimiser, jit_compile=False)
        self.data = next(iter(make_loader(frames, config, 0).dataset))
        self.step = tf.function(self.module.train_step)

    def state(self) -> list[np.ndarray]:
        """Weights, moments and the number of steps."""
        held = [*self.module.learned, *(variable.value for variable in self.optimiser.variables)]
        return [np.array(variable.numpy()) for variable in held]

    def take(self) -> dict[str, float]:
        return {name: float(value) for name, value in self.step(self.data).items()}


@pytest.mark.parametrize("algorithm", ["norm", "value", "agc"])
def test_a_step_that_overflows_is_skipped_whole_and_the_next_ones_are_smaller(
    scan: Scan, algorithm: str
) -> None:
    steps = Steps(scan, gradient_clip_val=0.1, gradient_clip_algorithm=algorithm)
    assert steps.take()["finite"] == 1  # so that there are moments, which would move the weights further
    scale = steps.module.loss_scale
    assert scale is not None
    scale.value.assign(2.0**60)
    before = steps.state()
    for halvings in (1, 2, 3):
        assert steps.take()["finite"] == 1
        assert float(scale.value) == 2.0 ** (60 - halvings)
    assert all(np.array_equal(one, other) for one, other in zip(before, steps.state(), strict=True))
    scale.value.assign(2.0**10)
    steps.take()
    assert float(scale.value) == 2.0**10
    pairs = zip(before[:3], steps.state()[:3], strict=True)
    assert not any(np.array_equal(one, other) for one, other in pairs)


def test_gradients_that_overflow_however_small_the_loss_is_made_stop_the_run_in_time(scan: Scan) -> None:
    steps = Steps(scan, mean_counts_per_pixel=1e-30)
    before = steps.state()
    told = [steps.take() for _ in range(17)]
    assert [row["finite"] for row in told] == [1.0] * 16 + [0.0]
    assert all(np.array_equal(one, other) for one, other in zip(before, steps.state(), strict=True))
    said = steps.module.why_not_finite(17, told[-1])
    assert said.startswith("The gradients are not finite at step 17")
    assert "use `--tensorflow-precision 32-true`" in said


def test_a_loss_that_is_no_number_stops_half_precision_at_once(scan: Scan) -> None:
    """The scale of the loss has nothing to do with it: lowering that would help nobody."""
    steps = Steps(scan)
    before = steps.state()
    steps.data = {**steps.data, "counts": steps.data["counts"] * float("inf")}
    told = steps.take()
    assert (told["finite"], told["loss_finite"]) == (0, 0)
    assert all(np.array_equal(one, other) for one, other in zip(before, steps.state(), strict=True))
    assert steps.module.why_not_finite(1, told).startswith("The loss is not finite at step 1")


def test_the_scale_of_the_loss_rises_again_after_many_good_steps() -> None:
    scale = LossScale(first=8.0, good_steps=3)
    values = []
    for good in (True, True, False, True, True, True, True):
        scale.update(tf.constant(good))
        values.append(float(scale.value))
    assert values == [8, 8, 4, 4, 4, 8, 8]


# XLA


@pytest.mark.parametrize(
    "model",
    [
        SMALL,
        pytest.param(ModelConfig(architecture="cnn", n_filters_scale=1), marks=pytest.mark.slow),
        pytest.param(ModelConfig(), marks=pytest.mark.slow),
    ],
    ids=str,
)
def test_a_compiled_network_learns_and_images_the_same(scan: Scan, model: ModelConfig) -> None:
    compiled, plain = (train(scan, on_cpu(jit_compile=jit), model=model) for jit in (True, False))
    assert distance(weights(plain), weights(compiled)) < 1e-5
    one, other = (trained.reconstruct(scan).object for trained in (plain, compiled))
    assert np.abs(one - other).max() < 1e-5 * np.abs(one).max()


# Silence


@pytest.mark.slow
def test_training_and_imaging_from_python_write_nothing_on_the_screen() -> None:
    code = f"""
from ptycho_config.execution import TensorFlowExecutionConfig
from ptycho_config.models import ModelConfig, TrainingConfig
from ptycho_core.backend import get_backend
from ptycho_core.simulate import simulate_scan

scan = simulate_scan(frames=24, frame_px=32, start_kind="true").scan
execution = TensorFlowExecutionConfig(accelerator="cpu", logger_backend=None, jit_compile=True)
model = ModelConfig(**{SMALL.model_dump(include={"architecture", "fno_width", "fno_blocks"})})
config = TrainingConfig(model=model, nepochs=1)
trained = get_backend("tensorflow").train(scan, config, execution)
for n_images in range(3):
    trained.reconstruct(scan)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.slow
def test_the_command_line_keeps_tensorflow_s_notes_for_its_log(scan: Scan, tmp_path: Path) -> None:
    save_scan(scan, tmp_path / "scan.npz")
    words = ["train", "--backend", "tensorflow", "--train-data-file", "scan.npz", "--output-dir", "out"]
    words += ["--nepochs", "1", "--architecture", "fno_vanilla", "--fno-width", "8", "--probe-refinement"]
    words += ["false", "--tensorflow-accelerator", "cpu", "--console-level", "WARNING"]
    done = subprocess.run(
        [sys.executable, "-m", "ptycho_dispatch", *words],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    log = (tmp_path / "out" / "ptycho.log").read_text()
    assert "The bundle is out/wts.h5.zip." in log


def test_an_absurd_learning_rate_ends_with_its_name(scan: Scan) -> None:
    with pytest.raises(TrainingError, match=r"lower `--tensorflow-learning-rate`"):
        train(scan, on_cpu(learning_rate=1e30), nepochs=4, gradient_clip_val=0.0)
