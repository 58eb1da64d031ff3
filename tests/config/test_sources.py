"""Flag > environment > YAML > default, in every spelling, with the source of each value on record."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ptycho_config import (
    ConfigError,
    InferenceConfig,
    ModelConfig,
    PyTorchExecutionConfig,
    RunConfig,
    SolverConfig,
    SolverExecutionConfig,
    TensorFlowExecutionConfig,
    TrainingConfig,
    load,
)
from ptycho_config.naming import Part, places
from ptycho_config.sources import Setting, load_parts

MODELS = (
    ModelConfig,
    TrainingConfig,
    InferenceConfig,
    SolverConfig,
    RunConfig,
    SolverExecutionConfig,
    PyTorchExecutionConfig,
    TensorFlowExecutionConfig,
)


def _flat(values: dict[str, Any]) -> dict[str, Any]:
    return {**{name: value for name, value in values.items() if name != "model"}, **values.get("model", {})}


def _as_text(value: Any) -> str:
    """Write a value the way it stands on a command line."""
    if value is None:
        return "none"
    if isinstance(value, list):
        return ",".join(map(str, value))
    return str(value).lower() if isinstance(value, bool) else str(value)


@pytest.mark.parametrize("model_class", MODELS, ids=lambda kind: kind.__name__)
@given(data=st.data())
def test_the_highest_source_that_sets_a_field_wins(
    settings_of, hardware_of_a_property, model_class, data
) -> None:
    hardware_of_a_property.has_cuda = True
    drawn = settings_of(model_class)
    flags, env, yaml = (_flat(data.draw(drawn, label=label)) for label in ("flags", "env", "yaml"))
    if model_class is PyTorchExecutionConfig:
        for source in (flags, env, yaml):
            source.pop("persistent_workers", None)
    spelling = data.draw(st.sampled_from(["--{}", "{}"]))
    hyphens = data.draw(st.booleans())
    loaded = load(
        model_class,
        flags={
            spelling.format(name.replace("_", "-") if hyphens else name): _as_text(value)
            for name, value in flags.items()
        },
        env={f"PTYCHO_{name.upper()}": _as_text(value) for name, value in env.items()},
        yaml=yaml,
    )
    winners = {**yaml, **env, **flags}
    nested: dict[str, Any] = {}
    for place in places(Part(model_class)):
        if place.name in winners:
            target = nested.setdefault("model", {}) if len(place.path) > 1 else nested
            target[place.path[-1]] = winners[place.name]
    assert loaded.config == model_class.model_validate(nested)
    for place in places(Part(model_class)):
        ranking = (("flag", flags), ("environment", env), ("yaml", yaml))
        expected = next((source for source, values in ranking if place.name in values), "default")
        assert loaded.source_of(place.dotted) == expected


@pytest.mark.parametrize(
    "flags", [{"--train-data-file": "a.npz"}, {"--train_data_file": "a.npz"}, {"train-data-file": "a.npz"}]
)
def test_both_spellings_of_a_flag_work(flags: dict[str, str]) -> None:
    loaded = load(TrainingConfig, flags=flags)
    assert loaded.config.train_data_file == Path("a.npz")
    assert loaded.settings["train_data_file"] == Setting(
        "train_data_file", "train_data_file", Path("a.npz"), "flag", "`--train-data-file`"
    )


def test_a_setting_of_a_section_knows_its_place_in_the_model() -> None:
    loaded = load(TrainingConfig, yaml={"model": {"N": 128}})
    origin = "`model.N` in the configuration"
    assert loaded.settings["model.N"] == Setting("N", "model.N", 128, "yaml", origin)
    assert loaded.settings["nepochs"] == Setting("nepochs", "nepochs", 50, "default", "default")


@pytest.mark.parametrize("word", ["none", "None", "null", "NULL"])
def test_a_setting_may_be_given_as_none(word: str) -> None:
    config = load(TrainingConfig, flags={"seed": word, "nphotons": word}).config
    assert (config.seed, config.nphotons) == (None, None)
    assert config.model_fields_set == {"seed", "nphotons"}
    with pytest.raises(ConfigError, match="`nepochs`"):
        load(TrainingConfig, flags={"nepochs": word})


@pytest.mark.parametrize(
    ("yaml", "gridsize"), [({"gridsize": 2}, 2), ({"model": {"gridsize": 2}}, 2), ({"model": {}}, 1)]
)
def test_flat_keys_and_the_model_section_mean_the_same(yaml: dict[str, Any], gridsize: int) -> None:
    assert load(TrainingConfig, yaml=yaml).config.model.gridsize == gridsize


def test_two_values_for_one_setting_in_a_file_are_an_error() -> None:
    assert load(TrainingConfig, yaml={"N": 128, "model": {"N": 128}}).config.model.N == 128
    with pytest.raises(ConfigError, match=r"`N` in .* is 128, but `model.N` in .* is 64"):
        load(TrainingConfig, yaml={"N": 128, "model": {"N": 64}})
    with pytest.raises(ConfigError, match="`batch-size`"):
        load(TrainingConfig, yaml={"batch_size": 4, "batch-size": 8})


def test_a_flag_beats_a_nested_model_section() -> None:
    loaded = load(TrainingConfig, flags={"N": "128"}, yaml={"model": {"N": 64, "gridsize": 2}})
    assert (loaded.config.model.N, loaded.config.model.gridsize) == (128, 2)


@pytest.mark.parametrize(
    ("yaml", "message"),
    [
        ({"nepoch": 3}, "`nepoch` in the configuration is not a setting; did you mean `nepochs`?"),
        ({"model": {"grid_size": 2}}, "`model.grid_size` in the configuration is not a setting"),
        ({"model": 3}, "`model` in the configuration is 3; expected a section"),
        (
            {"nepochs": 0},
            "`nepochs` is 0 (from `nepochs` in the configuration); expected a whole number of 1 or more.",
        ),
        ({"object_big": "perhaps"}, "(from `object_big` in the configuration); expected true or false."),
        ({"resolution": ["auto", "cuda", "so"]}, "is not a setting"),
    ],
)
def test_wrong_keys_and_values_name_the_place_they_stand(yaml: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load(TrainingConfig, yaml=yaml)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_wrong_flags_and_variables_name_the_place_they_stand() -> None:
    with pytest.raises(ConfigError, match=r"unknown flag `--efort`; did you mean `--effort`\?"):
        load(SolverConfig, flags={"efort": "fast"})
    with pytest.raises(ConfigError, match="from `--seed`"):
        load(SolverConfig, flags={"seed": "x"})
    with pytest.raises(ConfigError, match="from the environment variable `PTYCHO_SEED`"):
        load(SolverConfig, env={"PTYCHO_SEED": "x"})


def test_what_is_required_names_its_flag() -> None:
    with pytest.raises(ConfigError, match="`model_path` is required; give it with `--model-path`"):
        load(InferenceConfig, flags={"test_data": "scan.npz"})


def test_what_is_required_and_cannot_be_given_is_named_alone() -> None:
    part = Part(InferenceConfig, exclude=frozenset({"model_path"}))
    with pytest.raises(ConfigError) as caught:
        load_parts([part], flags={"test_data": "scan.npz"})
    assert str(caught.value) == "`model_path` is required."


def test_other_variables_and_empty_ones_are_left_alone() -> None:
    env = {"PTYCHO_DATA_DIR": "/data", "PTYCHO_SEED": "", "SEED": "3", "ptycho_seed": "4"}
    assert load(SolverConfig, env=env).config.model_fields_set == set()


def test_nothing_given_means_nothing_chosen() -> None:
    loaded = load(TrainingConfig)
    assert loaded.config == TrainingConfig()
    assert loaded.config.model_fields_set == set()
    assert {setting.source for setting in loaded.settings.values()} == {"default"}


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("nphotons: 1e6", 1e6),
        ("nphotons: 1.0e+6", 1e6),
        ("nphotons: '1e6'", 1e6),
        ("n_groups: 1e3", 1000),
        ("max_time: 3m", 180.0),
        ("probe_mask: true", True),
        ("n_groups: null", None),
        ("output_dir: 1e6", Path("1e6")),
    ],
)
def test_a_file_is_read_as_it_was_meant(tmp_path: Path, text: str, value: object) -> None:
    path = tmp_path / "run.yaml"
    path.write_text(text, encoding="utf-8")
    loaded = load(TrainingConfig, yaml=path)
    [setting] = [setting for setting in loaded.settings.values() if setting.source == "yaml"]
    assert setting.value == value
    assert type(setting.value) is type(value)
    assert setting.origin == f"`{setting.name}` in {path}, line 1"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "does not exist"),
        (b"", None),
        (b"# nothing but a comment\n", None),
        (b"- a\n- b\n", "holds a list; expected settings, one `name: value` per line"),
        (b"a: [1, 2", "is not YAML"),
        (b"nepochs: 1\nnepochs: 2\n", "line 2: `nepochs` stands there twice"),
        (b"\xff\xfe\x00", "cannot be read"),
        (
            b"a: !!python/object/apply:os.system ['true']",
            "line 1: `!!python/object/apply:os.system` is a tag",
        ),
    ],
)
def test_a_file_that_is_no_configuration_is_refused_in_one_line(
    tmp_path: Path, content: bytes | None, message: str | None
) -> None:
    path = tmp_path / "run.yaml"
    if content is not None:
        path.write_bytes(content)
    if message is None:
        assert load(TrainingConfig, yaml=path).config == TrainingConfig()
        return
    with pytest.raises(ConfigError) as caught:
        load(TrainingConfig, yaml=path)
    assert message in str(caught.value)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


TORCH = Part(PyTorchExecutionConfig, prefix="torch_")


#: Older flag and its value -> setting of today and what it becomes there; of training, PyTorch and run.
OLDER_FLAGS = {
    ("--accelerator", "cpu"): ("torch.accelerator", "cpu"),
    ("--deterministic", "warn"): ("torch.deterministic", "warn"),
    ("--no-deterministic", "true"): ("torch.deterministic", False),
    ("--num-workers", "2"): ("torch.num_workers", 2),
    ("--learning-rate", "1e-2"): ("torch.learning_rate", 1e-2),
    ("--scheduler", "Exponential"): ("training.scheduler", "Exponential"),
    ("--accumulate-grad-batches", "3"): ("torch.accum_steps", 3),
    ("--logger", "none"): ("torch.logger_backend", None),
    ("--enable-checkpointing", "false"): ("torch.enable_checkpointing", False),
    ("--disable-checkpointing", "true"): ("torch.enable_checkpointing", False),
    ("--checkpoint-save-top-k", "-1"): ("torch.checkpoint_save_top_k", -1),
    ("--checkpoint-monitor", "train_loss"): ("torch.checkpoint_monitor_metric", "train_loss"),
    ("--checkpoint-mode", "max"): ("torch.checkpoint_mode", "max"),
    ("--early-stop-patience", "7"): ("torch.early_stop_patience", 7),
    ("--inference-batch-size", "8"): ("torch.inference_batch_size", 8),
    ("--max_epochs", "9"): ("training.nepochs", 9),
    ("--gridsize", "2"): ("training.model.gridsize", 2),
    ("--torch-loss-mode", "mae"): ("training.torch_loss_mode", "mae"),
    ("--probe-mask", "true"): ("training.model.probe_mask", True),
    ("--no-probe-mask", "true"): ("training.model.probe_mask", False),
    ("--probe-mask-sigma", "2"): ("training.model.probe_mask_sigma", 2.0),
    ("--probe-mask-diameter", "20"): ("training.model.probe_mask_diameter", 20.0),
    ("--torch-deterministic", "false"): ("torch.deterministic", False),
    ("--torch-num-workers", "2"): ("torch.num_workers", 2),
    ("--torch-accumulate-grad-batches", "3"): ("torch.accum_steps", 3),
    ("--torch-learning-rate", "1e-2"): ("torch.learning_rate", 1e-2),
    ("--torch-scheduler", "Exponential"): ("torch.scheduler", "Exponential"),
    ("--torch-plateau-factor", "0.25"): ("training.plateau_factor", 0.25),
    ("--torch-plateau-patience", "4"): ("training.plateau_patience", 4),
    ("--torch-plateau-min-lr", "1e-6"): ("training.plateau_min_lr", 1e-6),
    ("--torch-plateau-threshold", "0.1"): ("training.plateau_threshold", 0.1),
    ("--torch-logger", "tensorboard"): ("torch.logger_backend", "tensorboard"),
    ("--torch-recon-log-every-n-epochs", "5"): ("torch.recon_log_every_n_epochs", 5),
    ("--torch-recon-log-num-patches", "5"): ("torch.recon_log_num_patches", 5),
    ("--torch-recon-log-fixed-indices", "0,5"): ("torch.recon_log_fixed_indices", (0, 5)),
    ("--torch-recon-log-stitch", "true"): ("torch.recon_log_stitch", True),
    ("--torch-recon-log-max-stitch-samples", "5"): ("torch.recon_log_max_stitch_samples", 5),
    ("--torch-enable-checkpointing", "false"): ("torch.enable_checkpointing", False),
    ("--torch-checkpoint-save-top-k", "2"): ("torch.checkpoint_save_top_k", 2),
    ("--torch-checkpoint-monitor", "train_loss"): ("torch.checkpoint_monitor_metric", "train_loss"),
    ("--torch-inference-batch-size", "8"): ("torch.inference_batch_size", 8),
    ("--test_data", "scan.npz"): ("training.test_data_file", Path("scan.npz")),
    ("--quiet", "true"): ("run.console_level", "WARNING"),
    ("--verbose", "1"): ("run.console_level", "DEBUG"),
    ("--verbose", "0"): ("run.console_level", "INFO"),
    ("--quiet", "False"): ("run.console_level", "INFO"),
}


@pytest.mark.parametrize(
    ("flag", "value", "setting", "expected"),
    [(*old, *new) for old, new in OLDER_FLAGS.items()],
    ids=[" ".join(old) for old in OLDER_FLAGS],
)
def test_a_flag_of_older_commands_reaches_its_setting_of_today(
    cuda, flag: str, value: str, setting: str, expected: object
) -> None:
    cuda.has_cuda = True
    parts = (Part(TrainingConfig), TORCH, Part(RunConfig, exclude=frozenset({"output_dir"})))
    training, torch, run = load_parts(parts, flags={flag: value})
    section, *path = setting.split(".")
    found: Any = {"training": training, "torch": torch, "run": run}[section].config
    for name in path:
        found = getattr(found, name)
    assert found == expected
    assert type(found) is type(expected)


def test_the_older_names_of_an_execution_reach_both_cores() -> None:
    tensorflow = Part(TensorFlowExecutionConfig, prefix="tensorflow_")
    flags = {"accelerator": "cpu", "learning_rate": "0.01", "logger": "none", "early_stop_patience": "7"}
    for loaded in load_parts([TORCH, tensorflow], flags=flags):
        config = loaded.config
        assert (config.accelerator, config.learning_rate) == ("cpu", 0.01)
        assert (config.logger_backend, config.early_stop_patience) == (None, 7)


def test_older_names_reach_the_settings_of_today() -> None:
    execution, training = load_parts(
        [TORCH, Part(TrainingConfig)],
        flags={
            "torch_accelerator": "cpu",
            "torch_logger": "tensorboard",
            "torch-accumulate-grad-batches": "2",
            "torch_plateau_min_lr": "1e-6",
            "learning_rate": "0.01",
            "test_data": "scan.npz",
        },
    )
    assert execution.config.logger_backend == "tensorboard"
    assert execution.config.accum_steps == 2
    assert execution.config.learning_rate == 0.01
    assert training.config.plateau_min_lr == 1e-6
    assert training.config.test_data_file == Path("scan.npz")


def test_deprecated_names_warn_and_lose_against_the_names_of_today() -> None:
    with pytest.warns(DeprecationWarning, match="`--device` is deprecated; use `--torch-accelerator`"):
        (loaded,) = load_parts([TORCH], flags={"device": "cpu"})
    assert loaded.config.accelerator == "cpu"
    with pytest.warns(DeprecationWarning):
        (loaded,) = load_parts([TORCH], flags={"device": "cuda", "torch-accelerator": "cpu"})
    assert loaded.config.accelerator == "cpu"
    with pytest.warns(DeprecationWarning, match="use `--torch-logger-backend none`"):
        (loaded,) = load_parts([TORCH], flags={"disable_mlflow": "true", "torch_accelerator": "cpu"})
    assert loaded.config.logger_backend is None
    with pytest.warns(DeprecationWarning, match="use `--n-groups`"):
        training = load(TrainingConfig, flags={"n_images": "7"})
    assert training.config.n_groups == 7
    assert training.source_of("n_groups") == "flag"


def test_quiet_and_verbose_set_the_console_level() -> None:
    assert load(RunConfig, flags={"quiet": "true"}).config.console_level == "WARNING"
    assert load(RunConfig, flags={"verbose": "true"}).config.console_level == "DEBUG"
    assert load(RunConfig, flags={"quiet": "false"}).config.console_level == "INFO"
    assert load(RunConfig, flags={"quiet": "false", "verbose": "true"}).config.console_level == "DEBUG"
    assert load(RunConfig, yaml={"console_level": "error"}).config.console_level == "ERROR"


def test_models_share_a_name_and_take_their_own_where_renamed() -> None:
    solver, training = load_parts(
        [Part(SolverConfig, rename={"epochs": "solver_epochs"}), Part(TrainingConfig)],
        flags={"seed": "3", "solver-epochs": "12"},
        env={"PTYCHO_MAX_TIME": "3m"},
    )
    assert (solver.config.seed, training.config.seed) == (3, 3)
    assert (solver.config.max_time, training.config.max_time) == (180.0, 180.0)
    assert solver.config.epochs == 12
    assert solver.settings["epochs"].origin == "`--solver-epochs`"


def test_a_prefixed_model_has_its_own_section() -> None:
    (loaded,) = load_parts([TORCH], yaml={"torch": {"accelerator": "cpu"}, "torch_accum_steps": 4})
    assert (loaded.config.accelerator, loaded.config.accum_steps) == ("cpu", 4)
    with pytest.raises(ConfigError, match=r"`torch.accelerate` .*did you mean `torch_accelerator`"):
        load_parts([TORCH], yaml={"torch": {"accelerate": "cpu"}})


def test_keys_of_other_models_are_kept_where_they_are_expected() -> None:
    loaded = load(TrainingConfig, yaml={"learning_rate": 1e-2, "stitch_crop_size": 20})
    assert loaded.elsewhere == {"learning_rate": 1e-2, "stitch_crop_size": 20}
    (training,) = load_parts([Part(TrainingConfig)], yaml={"effort": "fast"}, also=[Part(SolverConfig)])
    assert training.elsewhere == {"effort": "fast"}
    with pytest.raises(ConfigError, match="`effort`"):
        load(TrainingConfig, yaml={"effort": "fast"})
    for wrong, right in (("efort", "effort"), ("learning_rte", "learning_rate"), ("nepoch", "nepochs")):
        with pytest.raises(ConfigError, match=f"is not a setting; did you mean `{right}`"):
            load_parts([Part(TrainingConfig)], yaml={wrong: 1}, also=[Part(SolverConfig)])


def test_an_excluded_field_cannot_be_set() -> None:
    part = Part(TrainingConfig, exclude=frozenset({"output_dir"}))
    (loaded,) = load_parts([part])
    assert "output_dir" not in loaded.settings
    with pytest.raises(ConfigError, match="unknown flag `--output-dir`"):
        load_parts([part], flags={"output_dir": "here"})
    inside = Part(TrainingConfig, exclude=frozenset({"N"}))
    assert "N" not in [place.name for place in places(inside)]
    with pytest.raises(ConfigError, match="unknown flag `--N`"):
        load_parts([inside], flags={"N": "64"})


def test_the_provenance_is_plain_json() -> None:
    loaded = load(TrainingConfig, flags={"N": "128"}, yaml={"output_dir": "here"})
    record = loaded.provenance()
    assert json.loads(json.dumps(record)) == record
    assert record["model.N"] == {"value": 128, "source": "flag", "origin": "`--N`"}
    assert record["output_dir"]["value"] == "here"
    assert record["nepochs"] == {"value": 50, "source": "default", "origin": "default"}


def test_a_list_in_the_provenance_is_a_list() -> None:
    flags = {"torch-accelerator": "cpu", "torch-recon-log-fixed-indices": "0,5"}
    (loaded,) = load_parts([TORCH], flags=flags)
    record = loaded.provenance()
    assert record["recon_log_fixed_indices"]["value"] == [0, 5]
    assert json.loads(json.dumps(record)) == record
