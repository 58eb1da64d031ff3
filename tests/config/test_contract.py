"""The contract as a table: every field of every model, its default, and what it accepts.

What a field accepts is read from its annotation, the same words that a refused value is answered with. The
table is the whole of it: a field, a default, a bound or a choice that changes must change here too.
"""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
from pydantic import Field, ValidationError

from ptycho_config import (
    InferenceConfig,
    ModelConfig,
    PyTorchExecutionConfig,
    RunConfig,
    RuntimeExecutionConfig,
    SolverConfig,
    SolverExecutionConfig,
    TensorFlowExecutionConfig,
    TrainingConfig,
    WatchConfig,
    models,
)
from ptycho_config.accepted import accepted, field_at
from ptycho_config.execution import ExecutionConfig, UnresolvedPyTorchExecution
from ptycho_config.models import CanonicalConfig, Config
from ptycho_config.values import Accepts

REQUIRED = object()
ORIENTATIONS = (
    "'as-is', 'flip-y', 'flip-x', 'rotate-180', 'transpose', 'rotate-90', 'rotate-270' or 'anti-transpose'"
)
CONTRACT: dict[type[Config], dict[str, tuple[object, str]]] = {
    ModelConfig: {
        "N": (64, "a multiple of 16 from 32 to 1024, or 0 for not known yet"),
        "gridsize": (1, "a whole number from 1 to 5"),
        "n_filters_scale": (2, "a whole number of 1 or more"),
        "model_type": ("pinn", "'pinn' or 'supervised'"),
        "architecture": ("unet", "'unet', 'cnn', 'ffno', 'fno', 'fno_vanilla' or 'neuralop_uno'"),
        "fno_modes": (12, "a whole number of 1 or more"),
        "fno_width": (32, "a whole number of 1 or more"),
        "fno_blocks": (4, "a whole number of 1 or more"),
        "fno_cnn_blocks": (2, "a whole number of 1 or more"),
        "fno_input_transform": ("none", "'none', 'sqrt', 'log1p' or 'instancenorm'"),
        "generator_output_mode": ("real_imag", "'real_imag', 'amp_phase_logits' or 'amp_phase'"),
        "amp_activation": ("sigmoid", "'sigmoid', 'swish', 'softplus' or 'relu'"),
        "object_big": (True, "true or false"),
        "probe_big": (True, "true or false"),
        "probe_mask": (False, "true or false"),
        "probe_mask_sigma": (1.0, "a number of 0 or more"),
        "probe_mask_diameter": (None, "a number above 0, or none"),
        "pad_object": (True, "true or false"),
        "probe_scale": (4.0, "a number above 0"),
        "gaussian_smoothing_sigma": (0.0, "a number of 0 or more"),
        "input_channels": ("backprojection", "'amplitude' or 'backprojection'"),
        "overlap_constraint": ("batch", "'none', 'group' or 'batch'"),
        "unet_passes": (1, "a whole number from 1 to 8"),
        "probe_gauge": ("power", "'power' or 'legacy'"),
    },
    TrainingConfig: {
        "model": (ModelConfig(), "a section of settings"),
        "train_data_file": (None, "a path, or none"),
        "test_data_file": (None, "a path, or none"),
        "batch_size": (None, "a whole number of 1 or more, or none"),
        "nepochs": (50, "a whole number of 1 or more"),
        "mae_weight": (0.0, "a number from 0 to 1"),
        "nll_weight": (1.0, "a number from 0 to 1"),
        "realspace_mae_weight": (0.0, "a number of 0 or more"),
        "realspace_weight": (0.0, "a number of 0 or more"),
        "tv_weight": (0.0, "a number of 0 or more"),
        "nphotons": (None, "a number above 0, or none"),
        "thin_to": (None, "a number above 0, or none"),
        "view_share": (None, "a number from 0 to 1, or none"),
        "n_groups": (None, "a whole number of 1 or more, or none"),
        "n_images": (None, "a whole number of 1 or more, or none"),
        "n_subsample": (None, "a whole number of 1 or more, or none"),
        "subsample_seed": (None, "a whole number from 0 to 4294967295, or none"),
        "neighbor_count": (4, "a whole number of 1 or more"),
        "enable_oversampling": (False, "true or false"),
        "neighbor_pool_size": (None, "a whole number of 1 or more, or none"),
        "positions_provided": (True, "true or false"),
        "probe_trainable": (False, "true or false"),
        "intensity_scale_trainable": (True, "true or false"),
        "output_dir": (Path("training_outputs"), "a path"),
        "sequential_sampling": (False, "true or false"),
        "backend": ("pytorch", "'pytorch' or 'tensorflow'"),
        "torch_loss_mode": ("poisson", "'poisson' or 'mae'"),
        "gradient_clip_val": (None, "a number of 0 or more, or none"),
        "gradient_clip_algorithm": ("norm", "'norm', 'value' or 'agc'"),
        "optimizer": ("adam", "'adam', 'adamw' or 'sgd'"),
        "momentum": (0.9, "a number from 0 to below 1"),
        "weight_decay": (0.0, "a number of 0 or more"),
        "adam_beta1": (0.9, "a number from 0 to below 1"),
        "adam_beta2": (0.999, "a number from 0 to below 1"),
        "scheduler": ("Default", "'Default', 'Exponential', 'WarmupCosine' or 'ReduceLROnPlateau'"),
        "lr_warmup_epochs": (0, "a whole number of 0 or more"),
        "lr_min_ratio": (0.1, "a number from 0 to 1"),
        "plateau_factor": (0.5, "a number from 0 to below 1"),
        "plateau_patience": (2, "a whole number of 0 or more"),
        "plateau_min_lr": (5e-05, "a number of 0 or more"),
        "plateau_threshold": (0.0, "a number of 0 or more"),
        "seed": (None, "a whole number from 0 to 4294967295, or none"),
        "max_time": (None, "a duration such as 90s, 3m or 1h, or a number of seconds, or none"),
    },
    SolverConfig: {
        "effort": ("default", "'fast', 'default' or 'thorough'"),
        "probe_search": (True, "true or false"),
        "background": ("auto", "'auto' or 'off'"),
        "refine_background": (False, "true or false"),
        "probe_modes": (1, "a whole number from 1 to 8"),
        "epochs": (None, "a whole number of 1 or more, or none"),
        "final_size": (None, "a whole number of 1 or more, or none"),
        "frames_per_batch": (24, "a whole number of 1 or more"),
        "object_step": (1.0, "a number above 0"),
        "probe_step": (1.0, "a number of 0 or more"),
        "probe_momentum": (0.75, "a number from 0 to below 1"),
        "object_floor": (0.25, "a number above 0"),
        "refine_positions": (False, "true or false"),
        "position_bound": (10.0, "a number above 0"),
        "frame_intensity": (False, "true or false"),
        "probe_variations": (0, "a whole number from 0 to 4"),
        "leave_out_frames": (True, "true or false"),
        "prior": ("auto", "'auto', 'none', 'tv', 'huber' or 'log'"),
        "prior_strength": (None, "a number above 0, or none"),
        "max_time": (None, "a duration such as 90s, 3m or 1h, or a number of seconds, or none"),
        "seed": (0, "a whole number from 0 to 4294967295"),
    },
    RunConfig: {
        "method": ("auto", "'auto', 'solver', 'network' or 'both'"),
        "backend": ("pytorch", "'pytorch' or 'tensorflow'"),
        "output_dir": (Path("reconstruction"), "a path"),
        "resume": (False, "true or false"),
        "start": (None, "a path, or none"),
        "prior_bundle": (None, "a path, or none"),
        "probe_file": (None, "a path, or none"),
        "probe_start": ("given", "'given', 'estimated' or 'conjugate'"),
        "probe_refinement": (True, "true or false"),
        "share_probe": (None, "true, false or none"),
        "do_stitching": (False, "true or false"),
        "measurement": ("auto", "'auto', 'amplitude' or 'counts'"),
        "dc": ("auto", "'auto', 'center' or 'corner'"),
        "pixel_size_m": (None, "a number above 0, or none"),
        "energy_ev": (None, "a number above 0, or none"),
        "electrons": (None, "a voltage such as 80kV, or a number of volts, or none"),
        "distance_m": (None, "a number above 0, or none"),
        "detector_pixel_m": (None, "a number above 0, or none"),
        "frames_key": (None, "text or none"),
        "positions_key": (None, "text or none"),
        "probe_key": (None, "text or none"),
        "positions_file": (None, "a path, or none"),
        "positions_unit": ("auto", "'auto', 'px', 'm', 'mm', 'um' or 'nm'"),
        "scan_step": (None, "text or none"),
        "scan_shape": (None, "two whole numbers, y and x, such as 512,530, or none"),
        "positions_orientation": ("as-is", ORIENTATIONS),
        "positions_scale": (
            (1.0,),
            "a positive number, or two, those of y and of x, such as 1.02,0.98",
        ),
        "positions_turn_deg": (0.0, "a number"),
        "frames_orientation": ("as-is", ORIENTATIONS),
        "crop_px": (None, "a whole number of 1 or more, or none"),
        "beam_center_px": (None, "two whole numbers, y and x, such as 512,530, or none"),
        "rebin": (1, "a whole number of 1 or more"),
        "dark": (None, "a path, or none"),
        "flat": (None, "a path, or none"),
        "counts_per_photon": (None, "a number above 0, or none"),
        "bad_pixels": ("auto", "'auto', 'file' or 'off'"),
        "mask": (None, "a path, or none"),
        "mask_invert": (False, "true or false"),
        "bad_frames": ("auto", "'auto' or 'off'"),
        "frames": (None, "START:STOP or START:STOP:STEP as Python slices, such as 0:500 or ::2, or none"),
        "exclude_frames": (
            None,
            "frame numbers and ranges such as 3,17,40:45, or a text file or NPY file that holds them, or "
            "none",
        ),
        "region": (
            None,
            "Y0:Y1,X0:X1, in the unit of the positions; an end left out is open, such as 10:,:250, or none",
        ),
        "missing_positions": ("drop", "'drop' or 'interpolate'"),
        "diagnose": ("auto", "'auto' or 'off'"),
        "frc": (None, "true, false or none"),
        "uncertainty": (False, "true or false"),
        "strict": (False, "true or false"),
        "save_tiff": (False, "true or false"),
        "save_mat": (False, "true or false"),
        "unwrap": (False, "true or false"),
        "crop_result": (False, "true or false"),
        "console_level": ("INFO", "'DEBUG', 'INFO', 'WARNING' or 'ERROR'"),
    },
    WatchConfig: {
        "replay": (None, "a number above 0, or none"),
        "refresh": (0.25, "a number above 0, up to 1"),
        "timeout": (10.0, "a duration such as 90s, 3m or 1h, or a number of seconds"),
        "expected_frames": (None, "a whole number of 1 or more, or none"),
        "first_number": (None, "a whole number of 0 or more, or none"),
        "finish": ("solve", "'solve', 'polish' or 'none'"),
        "model_path": (None, "a path, or none"),
    },
    InferenceConfig: {
        "model": (ModelConfig(), "a section of settings"),
        "model_path": (REQUIRED, "a path"),
        "test_data_file": (REQUIRED, "a path"),
        "n_groups": (None, "a whole number of 1 or more, or none"),
        "n_images": (None, "a whole number of 1 or more, or none"),
        "n_subsample": (None, "a whole number of 1 or more, or none"),
        "subsample_seed": (None, "a whole number from 0 to 4294967295, or none"),
        "neighbor_count": (4, "a whole number of 1 or more"),
        "enable_oversampling": (False, "true or false"),
        "neighbor_pool_size": (None, "a whole number of 1 or more, or none"),
        "debug": (False, "true or false"),
        "output_dir": (Path("inference_outputs"), "a path"),
        "backend": (None, "'pytorch', 'tensorflow' or none"),
        "runtime": (None, "'onnx', 'openvino' or none"),
    },
    PyTorchExecutionConfig: {
        "accelerator": ("auto", "'auto', 'cpu', 'gpu', 'cuda' or 'mps'"),
        "devices": (1, "a whole number of 1 or more, or 'auto'"),
        "num_nodes": (1, "a whole number of 1 or more"),
        "strategy": ("auto", "text"),
        "deterministic": (True, "true, false or 'warn'"),
        "precision": ("32-true", "'32-true', '16-mixed' or 'bf16-mixed'"),
        "gradient_clip_val": (None, "a number of 0 or more, or none"),
        "gradient_clip_algorithm": ("norm", "'norm', 'value' or 'agc'"),
        "accum_steps": (1, "a whole number of 1 or more"),
        "num_workers": (0, "a whole number of 0 or more"),
        "pin_memory": (False, "true or false"),
        "persistent_workers": (False, "true or false"),
        "prefetch_factor": (None, "a whole number of 1 or more, or none"),
        "learning_rate": (0.001, "a number above 0"),
        "scheduler": ("Default", "'Default', 'Exponential', 'WarmupCosine' or 'ReduceLROnPlateau'"),
        "enable_progress_bar": (False, "true or false"),
        "enable_checkpointing": (True, "true or false"),
        "checkpoint_save_top_k": (1, "a whole number of -1 or more"),
        "checkpoint_monitor_metric": ("val_loss", "text"),
        "checkpoint_mode": ("min", "'min' or 'max'"),
        "recon_log_every_n_epochs": (None, "a whole number of 1 or more, or none"),
        "recon_log_num_patches": (4, "a whole number of 1 or more"),
        "recon_log_fixed_indices": (None, "frame numbers such as 0,5,9, or none"),
        "recon_log_stitch": (False, "true or false"),
        "recon_log_max_stitch_samples": (None, "a whole number of 1 or more, or none"),
        "early_stop_patience": (100, "a whole number of 1 or more"),
        "logger_backend": ("csv", "'csv', 'tensorboard', 'mlflow' or none"),
        "inference_batch_size": (None, "a whole number of 1 or more, or none"),
        "middle_trim": (0, "a whole number of 0 or more"),
        "pad_eval": (False, "true or false"),
    },
    TensorFlowExecutionConfig: {
        "accelerator": ("auto", "'auto', 'cpu', 'gpu', 'cuda' or 'mps'"),
        "devices": (1, "a whole number of 1 or more, or 'auto'"),
        "strategy": ("auto", "'auto' or 'mirrored'"),
        "deterministic": (True, "true or false"),
        "precision": ("32-true", "'32-true', '16-mixed' or 'bf16-mixed'"),
        "jit_compile": ("auto", "true, false or 'auto'"),
        "learning_rate": (0.001, "a number above 0"),
        "logger_backend": ("csv", "'csv', 'tensorboard', 'mlflow' or none"),
        "enable_checkpointing": (True, "true or false"),
        "checkpoint_save_top_k": (1, "a whole number of -1 or more"),
        "checkpoint_monitor_metric": ("val_loss", "text"),
        "checkpoint_mode": ("min", "'min' or 'max'"),
        "early_stop_patience": (100, "a whole number of 1 or more"),
        "inference_batch_size": (None, "a whole number of 1 or more, or none"),
    },
    SolverExecutionConfig: {
        "arrays": ("auto", "'auto', 'numpy' or 'torch'"),
        "accelerator": ("auto", "'auto', 'cpu', 'gpu', 'cuda' or 'mps'"),
        "kernel": ("auto", "'auto', 'off', 'required', 'wheel' or 'compiled'"),
        "threads": (None, "a whole number of 1 or more, or none"),
        "mpi": ("auto", "'auto', 'frames', 'scans' or 'off'"),
    },
    RuntimeExecutionConfig: {
        "threads": (None, "a whole number of 1 or more, or none"),
        "precision": ("float32", "'float32' or 'bfloat16'"),
        "inference_batch_size": (None, "a whole number of 1 or more, or none"),
    },
}
#: (model, field) -> default and what the field accepts.
EVERY_FIELD = {
    (model_class, name): row for model_class, fields in CONTRACT.items() for name, row in fields.items()
}
# `n_images` warns and becomes `n_groups`; `accelerator` asks the hardware. Both have tests of their own.
JUDGED_BY_THEIR_ROW = [field for field in EVERY_FIELD if field[1] not in ("n_images", "accelerator")]


def test_the_table_has_every_model() -> None:
    canonical = {kind for kind in vars(models).values() if inspect.isclass(kind) and issubclass(kind, Config)}
    executions = {*ExecutionConfig.__subclasses__()}
    # The bare fields, before `auto` is resolved, are those of the class that resolves them.
    assert PyTorchExecutionConfig.model_fields.keys() >= UnresolvedPyTorchExecution.model_fields.keys()
    executions = executions - {UnresolvedPyTorchExecution} | {PyTorchExecutionConfig}
    assert set(CONTRACT) == {*canonical, *executions} - {Config, CanonicalConfig}


@pytest.mark.parametrize("model_class", CONTRACT, ids=lambda kind: kind.__name__)
def test_the_fields_are_those_of_the_contract(model_class: type[Config]) -> None:
    assert [*CONTRACT[model_class]] == [name for name in model_class.model_fields if name != "resolution"]


def test_every_field_has_the_default_and_takes_the_values_of_the_contract() -> None:
    found = {field: _row(*field) for field in EVERY_FIELD}
    assert found == EVERY_FIELD
    assert {field: type(default) for field, (default, _) in found.items()} == {
        field: type(default) for field, (default, _) in EVERY_FIELD.items()
    }


def _row(model_class: type[Config], name: str) -> tuple[object, str]:
    info = model_class.model_fields[name]
    if info.is_required():
        return REQUIRED, accepted(info)
    return info.get_default(call_default_factory=True), accepted(info)  # pyright: ignore[reportCallIssue]


def test_every_field_describes_itself_without_a_full_stop() -> None:
    described = {field: field[0].model_fields[field[1]].description or "" for field in EVERY_FIELD}
    assert [field for field, text in described.items() if not text.split() or text.endswith(".")] == []


@pytest.mark.parametrize(
    "model_class",
    [kind for kind in CONTRACT if kind is not PyTorchExecutionConfig],
    ids=lambda kind: kind.__name__,
)
def test_an_untouched_model_holds_its_defaults(model_class: type[Config]) -> None:
    required = {
        name: Path("x") for name, (default, _) in CONTRACT[model_class].items() if default is REQUIRED
    }
    config = model_class.model_validate(required)
    assert config.model_fields_set == set(required)
    for name, (default, _) in CONTRACT[model_class].items():
        assert getattr(config, name) == required.get(name, default)


def test_derived_fields_belong_to_no_source() -> None:
    derived = {kind.__name__: set(kind.derived_fields) for kind in CONTRACT if kind.derived_fields}
    assert derived == {
        "TrainingConfig": {"n_images"},
        "InferenceConfig": {"n_images"},
        "PyTorchExecutionConfig": {"resolution"},
    }


@pytest.mark.parametrize("model_class", CONTRACT, ids=lambda kind: kind.__name__)
def test_every_model_has_a_json_schema_that_forbids_other_names(model_class: type[Config]) -> None:
    schema = json.loads(json.dumps(model_class.model_json_schema()))
    assert schema["additionalProperties"] is False
    assert set(schema["properties"]) == set(model_class.model_fields)


def _edges(words: str) -> tuple[list[Any], list[Any]]:
    """Read a row of the table: values that must be taken, and values just outside that must not."""
    kind = words.removesuffix(", or none")
    unit = 1 if kind.startswith("a whole number") else 0.5
    *_, last = kind.split()
    if " from " in kind and not kind.startswith("a multiple"):
        low, high = (float(number) for number in kind.split(" from ")[1].replace("below ", "").split(" to "))
        highest = high - 1e-9 if "below" in kind else high
        return [low, highest], [low - unit, high if "below" in kind else high + unit]
    if kind.startswith(("a whole number of", "a number of")):
        low = float(kind.split(" of ")[1].split(" or ")[0])
        return [low, low + unit], [low - unit]
    if ", up to " in kind:
        above, most = (float(number) for number in kind.split(" above ")[1].split(", up to "))
        return [above + 1e-9, most], [above, most + unit]
    if kind.startswith("a number above"):
        return [float(last) + 1e-9], [float(last)]
    if kind.startswith("true"):
        return [True, False, "true", "false", *re.findall("'(.*)'", kind)], ["perhaps", 2]
    if kind.startswith("'"):
        choices = [word.strip("'") for word in kind.replace(" or ", ", ").split(", ") if word != "none"]
        return choices, ["", "something else", choices[0] + "x"]
    return [], [["a list"], {"a": "mapping"}]


def test_every_field_takes_just_what_its_row_says() -> None:
    offences = [
        f"{model_class.__name__}.{name}: {offence}"
        for model_class, name in JUDGED_BY_THEIR_ROW
        for offence in _against_its_row(model_class, name, EVERY_FIELD[model_class, name][1])
    ]
    assert offences == []


def _against_its_row(model_class: type[Config], name: str, words: str) -> Iterator[str]:
    """Try the values at the edges of a row; say which were taken or refused against it."""
    base: dict[str, Any] = {
        field: "x" for field, (value, _) in CONTRACT[model_class].items() if value is REQUIRED
    }
    if model_class is PyTorchExecutionConfig:
        base |= {"accelerator": "cpu", "num_workers": 1}
    takes, refuses = _edges(words)
    takes += [None] if words.endswith("none") and not words.startswith("'none'") else []
    refuses += [] if None in takes else [None]
    for value in takes:
        meant = {"true": True, "false": False}.get(value, value) if isinstance(value, str) else value
        try:
            found = getattr(model_class.model_validate({**base, name: value}), name)
        except ValidationError as error:
            yield f"{value!r} is refused: {error}"
        else:
            if found != meant:
                yield f"{value!r} became {found!r}"
    for value in refuses:
        try:
            model_class.model_validate({**base, name: value})
        except ValidationError as error:
            if name not in str(error):
                yield f"{value!r} is refused without the field's name: {error}"
        else:
            yield f"{value!r} is taken"


@pytest.mark.parametrize(
    ("words", "offence"),
    [
        ("a whole number from 2 to 8", "1.0 is taken"),
        ("a whole number from 1 to 9", "9.0 is refused"),
        ("'fast' or 'default'", "None is taken"),
    ],
)
def test_a_row_that_says_something_else_is_found(words: str, offence: str) -> None:
    optional = InferenceConfig if words.startswith("'") else SolverConfig
    name = "backend" if words.startswith("'") else "probe_modes"
    assert any(found.startswith(offence) for found in _against_its_row(optional, name, words))


def test_both_cores_mean_the_same_by_the_same_name() -> None:
    ours, theirs = CONTRACT[PyTorchExecutionConfig], CONTRACT[TensorFlowExecutionConfig]
    differing = {name for name in {*ours} & {*theirs} if ours[name] != theirs[name]}
    assert differing == {"strategy", "deterministic"}  # Lightning's names; TensorFlow has no `warn`
    assert {*theirs} - {*ours} == {"jit_compile"}


class Odd(Config):
    """What no model of ours has."""

    word_or_number: Literal["a"] | Annotated[int, Field(gt=3)] | None
    between: Annotated[float, Field(ge=2.0, le=1e7)]
    below: Annotated[float, Field(ge=0.5, lt=7.5)]
    inner: SolverConfig
    said: Annotated[int, Accepts("this"), Accepts("that")]


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("word_or_number", "'a', a whole number above 3, or none"),
        ("between", "a number from 2 to 1e+07"),
        ("below", "a number from 0.5 to below 7.5"),
        ("inner", "a section of settings"),
        ("said", "this"),
    ],
)
def test_what_a_field_accepts_is_said_in_words(name: str, words: str) -> None:
    assert accepted(Odd.model_fields[name]) == words


def test_the_path_of_an_error_leads_to_its_field() -> None:
    assert field_at(TrainingConfig, ("model", "N")) is ModelConfig.model_fields["N"]
    assert field_at(TrainingConfig, ("model",)) is TrainingConfig.model_fields["model"]
    assert field_at(TrainingConfig, ("model", "nothing")) is TrainingConfig.model_fields["model"]
    indices = PyTorchExecutionConfig.model_fields["recon_log_fixed_indices"]
    assert field_at(PyTorchExecutionConfig, ("recon_log_fixed_indices", 0)) is indices
    assert field_at(TrainingConfig, ("nothing", "N")) is None
    assert field_at(TrainingConfig, ()) is None
