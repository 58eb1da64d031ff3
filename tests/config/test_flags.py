"""Flags come from the models: each setting has one, and what was not given leaves no trace."""

from __future__ import annotations

import argparse
import re
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import Field

from ptycho_config import (
    ConfigError,
    InferenceConfig,
    ModelConfig,
    PyTorchExecutionConfig,
    RunConfig,
    SolverConfig,
    SolverExecutionConfig,
    TrainingConfig,
    load,
)
from ptycho_config.commandline import FlagHelp, FlagParser
from ptycho_config.flags import FlagSpec, add_flags, flag_specs, given_flags
from ptycho_config.models import Config
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


class Odd(Config):
    """What no model of ours has."""

    bare: int
    percent: float = Field(default=0.5, description="share in %")
    whole: float = Field(default=4.0, description="a number")


@pytest.mark.parametrize(
    ("model_class", "flag", "spec"),
    [
        (
            SolverConfig,
            "--effort",
            FlagSpec(
                "--effort",
                "effort",
                "choice",
                "how long to look for a better image (default: default)",
                "{fast,default,thorough}",
                default="default",
            ),
        ),
        (
            SolverConfig,
            "--probe-search",
            FlagSpec(
                "--probe-search",
                "probe_search",
                "boolean",
                "look for a better start probe before the reconstruction (default: true)",
                "{true,false}",
                aliases=("--probe_search",),
                default=True,
                alone="true",
            ),
        ),
        (
            SolverConfig,
            "--seed",
            FlagSpec(
                "--seed", "seed", "integer", "seed of everything random (default: 0)", "INTEGER", default=0
            ),
        ),
        (
            SolverConfig,
            "--max-time",
            FlagSpec(
                "--max-time",
                "max_time",
                "duration",
                "stop after this wall-clock time: 90s, 3m, 1h or seconds",
                "TIME",
                aliases=("--max_time",),
            ),
        ),
        (
            TrainingConfig,
            "--plateau-min-lr",
            FlagSpec(
                "--plateau-min-lr",
                "plateau_min_lr",
                "number",
                "lowest learning rate (default: 5e-05)",
                "NUMBER",
                aliases=("--plateau_min_lr",),
                default=5e-5,
            ),
        ),
        (
            TrainingConfig,
            "--torch-plateau-min-lr",
            FlagSpec(
                "--torch-plateau-min-lr",
                "torch_plateau_min_lr",
                "number",
                "same as --plateau-min-lr",
                "NUMBER",
                aliases=("--torch_plateau_min_lr",),
                hidden=True,
            ),
        ),
        (
            InferenceConfig,
            "--model-path",
            FlagSpec(
                "--model-path",
                "model_path",
                "path",
                "trained network: a bundle or the directory of its run",
                "PATH",
                aliases=("--model_path",),
            ),
        ),
        (
            RunConfig,
            "--output-dir",
            FlagSpec(
                "--output-dir",
                "output_dir",
                "path",
                "directory of the results (default: reconstruction)",
                "PATH",
                aliases=("--output_dir",),
                default=Path("reconstruction"),
            ),
        ),
        (
            RunConfig,
            "--quiet",
            FlagSpec("--quiet", "quiet", "switch", "same as --console-level WARNING", "", alone="true"),
        ),
        (
            ModelConfig,
            "--no-probe-mask",
            FlagSpec(
                "--no-probe-mask",
                "no_probe_mask",
                "switch",
                "same as --probe-mask false",
                "",
                aliases=("--no_probe_mask",),
                alone="true",
                hidden=True,
            ),
        ),
        (Odd, "--bare", FlagSpec("--bare", "bare", "integer", "", "INTEGER")),
        (
            Odd,
            "--whole",
            FlagSpec("--whole", "whole", "number", "a number (default: 4)", "NUMBER", default=4.0),
        ),
        (
            Odd,
            "--percent",
            FlagSpec("--percent", "percent", "number", "share in % (default: 0.5)", "NUMBER", default=0.5),
        ),
    ],
)
def test_a_flag_takes_after_its_field(model_class, flag: str, spec: FlagSpec) -> None:
    assert _spec(flag_specs(model_class), flag) == spec


@pytest.mark.parametrize(
    ("flag", "kind", "metavar", "default", "alone"),
    [
        ("--torch-devices", "integer", "INTEGER|auto", 1, None),
        ("--torch-deterministic", "choice", "{true,false,warn}", True, "true"),
        ("--torch-logger-backend", "choice", "{csv,tensorboard,mlflow,none}", "csv", None),
        ("--torch-recon-log-fixed-indices", "list", "I,J,...", None, None),
        ("--torch-strategy", "text", "TEXT", "auto", None),
        ("--deterministic", "choice", "{true,false,warn}", None, "true"),
        ("--no-deterministic", "switch", "", None, "true"),
        ("--num-workers", "integer", "INTEGER", None, None),
        ("--enable-checkpointing", "boolean", "{true,false}", None, "true"),
        ("--torch-logger", "choice", "{csv,tensorboard,mlflow,none}", None, None),
    ],
)
def test_a_flag_and_an_older_name_of_it_take_the_same(flag, kind, metavar, default, alone) -> None:
    spec = _spec(flag_specs(TORCH), flag)
    assert (spec.kind, spec.metavar, spec.default, spec.alone) == (kind, metavar, default, alone)


@pytest.mark.parametrize(
    ("words", "value"), [(["--dump"], ""), (["--dump", "here"], "here"), (["--dump=there"], "there")]
)
def test_a_flag_with_an_optional_word_takes_it(words: list[str], value: str) -> None:
    parser = FlagParser(prog="ptycho")
    parser.add_argument("--dump", nargs="?", const="", metavar="DIR")
    assert parser.parse_args(words).dump == value


def test_a_bare_model_may_have_a_prefix_and_other_names() -> None:
    names = [spec.name for spec in flag_specs(Odd, prefix="odd_", rename={"percent": "share"})]
    assert names == ["--odd-bare", "--share", "--odd-whole"]


def test_an_older_name_gives_way_to_a_setting_of_just_that_name() -> None:
    for parts in ((TORCH, SolverExecutionConfig), (SolverExecutionConfig, TORCH)):
        specs = add_flags(FlagParser(), *parts)
        [accelerator] = [spec for spec in specs if spec.dest == "accelerator"]
        assert accelerator.help.startswith("processor")
    alone = add_flags(FlagParser(), TORCH)
    assert _spec(alone, "--accelerator").help == "same as --torch-accelerator"


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
    assert "Effort, model and steps of the solver; the defaults need no tuning:" in text
    assert "-h, --help show this help message and exit" in text


def test_the_help_text_names_positionals_values_and_percents() -> None:
    parser = FlagParser(prog="ptycho")
    parser.add_argument("scan", metavar="SCAN", help="a file")
    parser.add_argument("--picture", "--pic", help="a file")
    parser.add_argument("--two", nargs=2, help="two of them")
    parser.add_argument("-n", "--number", "--num", metavar="N", help="a number")
    add_flags(parser, Odd, RunConfig)
    text = " ".join(parser.format_help().split())
    assert "SCAN a file" in text
    assert "--picture PICTURE a file" in text
    assert "--two TWO TWO two of them" in text
    assert "-n, --number N a number" in text
    assert "share in % (default: 0.5)" in text
    assert "--quiet same as --console-level WARNING" in text
    assert "--percent NUMBER share" in text


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
    assert set(vars(namespace)) == {"command", "scan", "flags_given"}


def test_the_words_of_the_process_are_taken_where_none_are_given(monkeypatch) -> None:
    monkeypatch.setattr(sys, "argv", ["ptycho", "reconstruct", "scan.npz", "--seed", "3"])
    assert given_flags(_parser().parse_args()) == {"seed": "3"}


def test_a_namespace_that_is_given_is_filled() -> None:
    namespace = argparse.Namespace(mine=1)
    assert _parser().parse_args(["reconstruct", "scan.npz"], namespace) is namespace
    assert (namespace.mine, namespace.scan) == (1, "scan.npz")


def test_what_stands_after_two_hyphens_is_no_flag() -> None:
    words = ["--seed", "3", "--", "--resume"]
    namespace = _parser().parse_args(["reconstruct", *words])
    assert (namespace.scan, given_flags(namespace)) == ("--resume", {"seed": "3"})


def test_a_single_hyphen_is_a_word() -> None:
    assert _parser().parse_args(["reconstruct", "-"]).scan == "-"
    assert FlagParser().parse_known_args(["-"])[1] == ["-"]


def test_a_flag_is_never_abbreviated_and_may_hold_an_equals_sign() -> None:
    parser = FlagParser(prog="ptycho")
    add_flags(parser, SolverConfig)
    for words, flag in (
        (["--probe-m", "3"], "--probe-m"),
        (["--x=3=4"], "--x"),
        (["-x=3"], "-x"),
        (["-x"], "-x"),
    ):
        with pytest.raises(ConfigError, match=f"^unknown flag `{flag}`"):
            parser.parse_args(words)
    assert given_flags(parser.parse_args(["--max-time=a=b"])) == {"max_time": "a=b"}


def test_a_parser_may_be_given_a_name_and_a_look() -> None:
    class Look(FlagHelp):
        pass

    assert FlagParser("mine").prog == "mine"
    assert FlagParser().formatter_class is FlagHelp
    assert FlagParser(formatter_class=Look).formatter_class is Look


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


def test_the_field_s_name_of_the_probe_variations_is_understood_and_shown() -> None:
    parser = FlagParser()
    add_flags(parser, SolverConfig)
    namespace = parser.parse_args(["--opr-modes", "2"])
    assert load(SolverConfig, flags=given_flags(namespace)).config.probe_variations == 2
    assert "--opr-modes INTEGER same as --probe-variations" in " ".join(parser.format_help().split())


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
