"""Flags come from the models: each setting has one, and what was not given leaves no trace."""

from __future__ import annotations

import argparse
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ptycho_config import (
    ConfigError,
    PyTorchExecutionConfig,
    RunConfig,
    SolverConfig,
    SolverExecutionConfig,
    TrainingConfig,
    load,
)
from ptycho_config.commandline import FlagParser
from ptycho_config.flags import FlagSpec, add_flags, flag_specs, given_flags
from ptycho_config.naming import Part, places
from ptycho_config.sources import load_parts

TORCH = Part(PyTorchExecutionConfig, prefix="torch_", title="PyTorch")


def _parser() -> FlagParser:
    parser = FlagParser(prog="ptycho")
    commands = parser.add_subparsers(dest="command", required=True)
    reconstruct = commands.add_parser("reconstruct")
    reconstruct.add_argument("scan")
    add_flags(
        reconstruct,
        Part(SolverConfig, rename={"epochs": "solver_epochs"}),
        RunConfig,
        SolverExecutionConfig,
        TORCH,
        Part(TrainingConfig, exclude=frozenset({"output_dir"})),
    )
    return parser


def _spec(specs: list[FlagSpec], name: str) -> FlagSpec:
    return next(spec for spec in specs if spec.name == name)


@pytest.mark.parametrize("model_class", [SolverConfig, RunConfig, TrainingConfig, SolverExecutionConfig])
def test_every_setting_has_a_flag_with_help_and_both_spellings(model_class) -> None:
    specs = flag_specs(model_class)
    for place in places(Part(model_class)):
        spec = _spec(specs, place.flag)
        assert spec.dest == place.name
        assert spec.help
        assert {f"--{place.name}", f"--{place.name.replace('_', '-')}"} == set(spec.options)


@pytest.mark.parametrize(
    ("model_class", "flag", "kind", "metavar", "default", "alone"),
    [
        (SolverConfig, "--effort", "choice", "{fast,default,thorough}", "default", None),
        (SolverConfig, "--probe-search", "boolean", "{true,false}", True, "true"),
        (SolverConfig, "--probe-modes", "integer", "INTEGER", 1, None),
        (SolverConfig, "--epochs", "integer", "INTEGER", None, None),
        (SolverConfig, "--object-step", "number", "NUMBER", 1.0, None),
        (SolverConfig, "--max-time", "duration", "TIME", None, None),
        (RunConfig, "--start", "path", "PATH", None, None),
        (RunConfig, "--console-level", "choice", "{DEBUG,INFO,WARNING,ERROR}", "INFO", None),
        (PyTorchExecutionConfig, "--devices", "integer", "INTEGER|auto", 1, None),
        (PyTorchExecutionConfig, "--deterministic", "choice", "{true,false,warn}", True, "true"),
        (PyTorchExecutionConfig, "--logger-backend", "choice", "{csv,tensorboard,mlflow,none}", "csv", None),
        (PyTorchExecutionConfig, "--recon-log-fixed-indices", "list", "I,J,...", None, None),
        (PyTorchExecutionConfig, "--strategy", "text", "TEXT", "auto", None),
    ],
)
def test_a_flag_takes_after_its_field(model_class, flag, kind, metavar, default, alone) -> None:
    spec = _spec(flag_specs(model_class), flag)
    assert (spec.kind, spec.metavar, spec.default, spec.alone) == (kind, metavar, default, alone)


def test_the_help_text_shows_each_flag_once_with_its_default() -> None:
    parser = FlagParser(prog="ptycho")
    add_flags(parser, SolverConfig, TORCH)
    text = " ".join(parser.format_help().split())
    assert "--probe-search [{true,false}] look for a better start probe" in text
    assert "incoherent probe modes, 1 to 8 (default: 1)" in text
    assert "--probe_search" not in text
    assert "--torch-logger " not in text
    assert "--device" not in text
    assert "PyTorch:" in text


def test_only_flags_really_given_are_reported() -> None:
    line = "reconstruct siemens-star --N 128 --object_big false --max-time=3m --quiet"
    namespace = _parser().parse_args(line.split())
    assert namespace.scan == "siemens-star"
    assert given_flags(namespace) == {
        "N": "128",
        "object_big": "false",
        "max_time": "3m",
        "quiet": "true",
    }
    assert given_flags(argparse.Namespace()) == {}


@pytest.mark.parametrize(
    ("words", "value"),
    [
        (["--resume", "scan.npz"], "true"),
        (["scan.npz", "--resume"], "true"),
        (["--resume", "false", "scan.npz"], "false"),
        (["--resume=false", "scan.npz"], "false"),
        (["--resume", "--", "scan.npz"], "true"),
        (["--resume", "--seed", "3", "scan.npz"], "true"),
    ],
)
def test_a_boolean_flag_never_swallows_the_scan(words: list[str], value: str) -> None:
    namespace = _parser().parse_args(["reconstruct", *words])
    assert namespace.scan == "scan.npz"
    assert given_flags(namespace)["resume"] == value


def test_a_flag_that_can_be_true_false_or_a_word_takes_all_three() -> None:
    for words, value in (([], "true"), (["warn"], "warn"), (["false"], "false")):
        namespace = _parser().parse_args(["reconstruct", "scan.npz", "--torch-deterministic", *words])
        assert given_flags(namespace)["torch_deterministic"] == value


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("reconstruct s --probe-sarch", "unknown flag `--probe-sarch`; did you mean `--probe-search`?"),
        ("reconstruct s --probe-m 3", "unknown flag `--probe-m`"),
        ("reconstrut s", "Did you mean `reconstruct`?"),
        ("reconstruct", "the following arguments are required: scan"),
        ("reconstruct s --seed", "argument --seed: expected one argument"),
        ("reconstruct s t", "unrecognized arguments: t"),
    ],
)
def test_a_wrong_command_line_is_one_line_with_a_hint(line: str, message: str, capsys) -> None:
    with pytest.raises(ConfigError) as caught:
        _parser().parse_args(line.split())
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
    assert capsys.readouterr() == ("", "")


def test_the_flags_work_on_a_plain_parser_too() -> None:
    parser = argparse.ArgumentParser()
    add_flags(parser, SolverConfig)
    namespace = parser.parse_args(["--seed", "3", "--probe_search", "false"])
    assert load(SolverConfig, flags=given_flags(namespace)).config == SolverConfig(seed=3, probe_search=False)


def test_deprecated_flags_are_understood_but_not_shown() -> None:
    parser = FlagParser()
    add_flags(parser, TORCH)
    namespace = parser.parse_args(["--device", "cpu", "--disable_mlflow", "--torch-logger", "csv"])
    with pytest.warns(DeprecationWarning, match="deprecated"):
        (loaded,) = load_parts([TORCH], flags=given_flags(namespace))
    assert loaded.config.accelerator == "cpu"


@given(data=st.data())
def test_a_command_line_gives_the_config_it_spells(settings_of, data) -> None:
    values = data.draw(settings_of(SolverConfig))
    words: list[str] = []
    for name, value in values.items():
        flag = f"--{data.draw(st.sampled_from([name, name.replace('_', '-')]))}"
        text = "none" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
        words += data.draw(st.sampled_from([[f"{flag}={text}"], [flag, text]]))
    parser = FlagParser()
    add_flags(parser, SolverConfig)
    loaded = load(SolverConfig, flags=given_flags(parser.parse_args(words)))
    assert loaded.config == SolverConfig(**values)
    assert loaded.config.model_fields_set == set(values)


def test_no_flag_of_a_command_is_ambiguous() -> None:
    parser = FlagParser()
    specs = add_flags(parser, Part(SolverConfig, rename={"epochs": "solver_epochs"}), TORCH, TrainingConfig)
    options = [option for spec in specs for option in spec.options]
    assert len(options) == len(set(options))
    assert all(re.fullmatch(r"--[A-Za-z0-9_-]+", option) for option in options)
