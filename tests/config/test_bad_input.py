"""Bad input is refused once, in one clear line: field, value, what is accepted, nearest name, source."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ptycho_config import (
    ConfigError,
    PyTorchExecutionConfig,
    RunConfig,
    SolverConfig,
    TrainingConfig,
    load,
)
from ptycho_config.commandline import FlagParser
from ptycho_config.flags import add_flags
from ptycho_config.naming import Part, nearest, shortened, shown
from ptycho_config.sources import load_parts

TORCH = Part(PyTorchExecutionConfig, prefix="torch_")
LONG = "a" * 1000
CUT = "a" * 56 + "..."


def _message(act: Callable[[], object]) -> str:
    """Return the one line of the refusal."""
    with pytest.raises(ConfigError) as caught:
        act()
    text = str(caught.value)
    assert "\n" not in text
    assert len(text) < 400
    return text


def _file(tmp_path: Path, content: str | bytes) -> Path:
    path = tmp_path / "run.yaml"
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def _refused(tmp_path: Path, content: str | bytes) -> str:
    """Load a file, and return why it was refused, with the folder left out."""
    path = _file(tmp_path, content)
    parts = [Part(TrainingConfig), Part(RunConfig, exclude=frozenset({"output_dir"})), TORCH]
    text = _message(lambda: load_parts(parts, flags={"torch_accelerator": "cpu"}, yaml=path))
    return text.replace(f"{tmp_path}/", "")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("nepochs: 3\nnepoch: 3\n", "`nepoch` in run.yaml, line 2 is not a setting; did you mean `nepochs`?"),
        ("zzz: 3\n", "`zzz` in run.yaml, line 1 is not a setting."),
        (
            "model:\n  N: 64\n  grid_size: 2\n",
            "`model.grid_size` in run.yaml, line 3 is not a setting; did you mean `gridsize`?",
        ),
        (
            "\nnepochs: many\n",
            "`nepochs` is 'many' (from `nepochs` in run.yaml, line 2); expected a whole number of 1 or more.",
        ),
        (
            "model:\n  N: 100\n",
            "`model.N` is 100 (from `model.N` in run.yaml, line 2); "
            "expected a multiple of 16 from 32 to 1024, or 0 for not known yet.",
        ),
        (
            "model:\n  architecture: unett\n",
            "`model.architecture` is 'unett' (from `model.architecture` in run.yaml, line 2); "
            "expected 'unet', 'cnn', 'ffno', 'fno', 'fno_vanilla' or 'neuralop_uno'. Did you mean 'unet'?",
        ),
        (
            "nphotons: .inf\n",
            "`nphotons` is inf (from `nphotons` in run.yaml, line 1); "
            "expected a number above 0, or none, and finite.",
        ),
        (
            "torch:\n  persistent_workers: true\n",
            "`persistent_workers` needs `num_workers` > 0, found 0 "
            "(from `torch.persistent_workers` in run.yaml, line 2).",
        ),
        (
            "torch: {recon_log_fixed_indices: [1, -2]}\n",
            "`recon_log_fixed_indices` is -2 (from `torch.recon_log_fixed_indices` in run.yaml, line 1); "
            "expected frame numbers such as 0,5,9, or none.",
        ),
        (
            "model: 3\n",
            "`model` in run.yaml, line 1 is 3; expected a section such as `model: {name: value}`.",
        ),
        ("quiet: maybe\n", "`quiet` in run.yaml, line 1 is 'maybe'; expected true or false."),
        (
            "N: 64\nmodel:\n  N: 128\n",
            "`N` in run.yaml, line 1 is 64, but `model.N` in run.yaml, line 3 is 128; "
            "expected one value for both. Remove one of the two.",
        ),
        (
            "max_epochs: 3\nnepochs: 4\n",
            "`nepochs` in run.yaml, line 2 and `max_epochs` in run.yaml, line 1 contradict each other: "
            "4 and 3. Remove one of the two.",
        ),
    ],
)
def test_what_a_file_says_wrong_is_named_with_its_line(tmp_path: Path, content: str, message: str) -> None:
    assert _refused(tmp_path, content) == message


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("nepochs: 1\nseed: 2\nnepochs: 2\n", "line 3: `nepochs` stands there twice; remove one of the two."),
        ("model: {N: 64,\n  N: 64}\n", "line 2: `N` stands there twice; remove one of the two."),
        ("a: &x\n  b: *x\n", "line 2: `*x` repeats a section or a list; write it out."),
        ("a: &x [1]\nb: *x\n", "line 2: `*x` repeats a section or a list; write it out."),
        ("a: &x {b: 1}\nc:\n  <<: *x\n", "line 3: `*x` repeats a section or a list; write it out."),
        ("c:\n  <<: {b: 1}\n", "line 2: `<<` merges another section; write it out."),
        ("nepochs: !!int 3\n", "line 1: `!!int` is a tag; expected plain values."),
        ("a: !mine 3\n", "line 1: `!mine` is a tag; expected plain values."),
        (
            "a: !!python/name:os.system\n",
            "line 1: `!!python/name:os.system` is a tag; expected plain values.",
        ),
        ("? [1, 2]\n: 3\n", "line 1: a list or a section is no name; expected `name: value`."),
        (f"seed: {'9' * 5000}\n", f"line 1: '{'9' * 56}... is no number."),
        ("seed: 0b_\n", "line 1: '0b_' is no number."),
    ],
)
def test_a_file_is_plain_data(tmp_path: Path, content: str, message: str) -> None:
    assert _refused(tmp_path, content) == f"configuration file run.yaml, {message}"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("a: [1, 2", " is not YAML: line 1: expected ',' or ']', but got '<stream end>'."),
        ("a: 1\n b: 2\n", " is not YAML: line 2: mapping values are not allowed here."),
        ("a: 1\n---\nb: 2\n", " is not YAML: line 2: but found another document."),
        ("a: *nowhere\n", " is not YAML: line 1: found undefined alias 'nowhere'."),
        ("- a\n- b\n", " holds a list; expected settings, one `name: value` per line."),
        ("just words\n", " holds a str; expected settings, one `name: value` per line."),
        ("a: " + "[" * 5000, " is nested too deeply; expected settings."),
        (b"a: 1\nb: \xff\n", ", line 2: cannot be read, it is not UTF-8 text."),
        (
            b"PK\x03\x04" + bytes(1 << 16),
            " has more than 64 KiB; expected a few lines of `name: value`. Is it a scan?",
        ),
    ],
)
def test_what_is_no_configuration_is_refused(tmp_path: Path, content: str | bytes, message: str) -> None:
    assert _refused(tmp_path, content) == f"configuration file run.yaml{message}"


def test_control_characters_are_no_yaml(tmp_path: Path) -> None:
    assert _refused(tmp_path, "a: \x00").startswith(
        "configuration file run.yaml is not YAML: unacceptable character #x0000"
    )


def test_a_file_of_just_the_largest_size_is_read(tmp_path: Path) -> None:
    content = "nepochs: 3\n#".ljust(1 << 16, "x")
    assert load(TrainingConfig, yaml=_file(tmp_path, content)).config.nepochs == 3


def test_a_missing_file_and_a_folder_are_no_configuration(tmp_path: Path) -> None:
    missing = _message(lambda: load(TrainingConfig, yaml=tmp_path / "none.yaml"))
    assert missing == f"configuration file {tmp_path}/none.yaml does not exist."
    folder = _message(lambda: load(TrainingConfig, yaml=tmp_path))
    assert folder == f"configuration file {tmp_path} cannot be read: it is a directory, not a regular file."
    for length in (120, 121):
        name = "b" * length
        shown_name = name if length == 120 else f"...{name[:117]}"
        missing = _message(lambda name=name: load(TrainingConfig, yaml=Path(name)))
        assert missing == f"configuration file {shown_name} does not exist."
    long = _message(lambda: load(TrainingConfig, yaml=Path(LONG)))
    assert long == f"configuration file ...{LONG[:117]} cannot be read: File name too long."


@pytest.mark.parametrize(
    ("content", "value"),
    [
        ("\ufeffoutput_dir: here\n", Path("here")),
        ("output_dir: 2026-10-01\n", Path("2026-10-01")),
        ("output_dir: 'ein Ordner/größe'\n", Path("ein Ordner/größe")),
        ("a_name: &here there\noutput_dir: *here\n", None),
        ("no: 1\n", None),
    ],
)
def test_what_is_odd_but_plain_is_read(tmp_path: Path, content: str, value: Path | None) -> None:
    path = _file(tmp_path, content)
    if value is None:
        assert re.search("`(a_name|no)` in .*, line 1 is not", _message(lambda: load(RunConfig, yaml=path)))
    else:
        assert load(RunConfig, yaml=path).config.output_dir == value


def test_a_single_value_may_be_repeated(tmp_path: Path) -> None:
    path = _file(tmp_path, "n_groups: &few 32\nn_subsample: *few\n")
    loaded = load(TrainingConfig, yaml=path)
    assert (loaded.config.n_groups, loaded.config.n_subsample) == (32, 32)
    assert loaded.settings["n_subsample"].origin == f"`n_subsample` in {path}, line 2"


def test_a_file_with_a_name_of_other_letters_is_read_and_named(tmp_path: Path) -> None:
    path = tmp_path / "größe 設定.yaml"
    path.write_text("nepochs: 0", encoding="utf-8")
    assert f"(from `nepochs` in {path}, line 1)" in _message(lambda: load(TrainingConfig, yaml=path))


@pytest.mark.parametrize("version", ["0.2", "0.2.0", "0.2.0.0", "0.1", "0.1.9", "0", "0.0", 0, 0.2])
def test_a_configuration_of_this_or_an_older_version_is_read(tmp_path: Path, version: object) -> None:
    content = {"config_version": version, "nepochs": 3}
    assert load(TrainingConfig, yaml=content).config.nepochs == 3
    path = _file(tmp_path, f"config_version: {version}\nnepochs: 3\n")
    loaded = load(TrainingConfig, yaml=path)
    assert loaded.config.nepochs == 3
    assert loaded.elsewhere == {}


@pytest.mark.parametrize("version", ["0.3", "0.10", "0.2.1", "0.2.0.1", "1", "3.0"])
def test_a_configuration_of_a_newer_version_names_who_can_read_it(tmp_path: Path, version: str) -> None:
    assert _refused(tmp_path, f"new_setting: 3\nconfig_version: {version}\n") == (
        f"`config_version` in run.yaml, line 2 is {version}: ptycho-config {version} or later reads it, and "
        f"this one reads up to 0.2. Type `pip install --upgrade 'ptycho-config>={version}'`."
    )


@pytest.mark.parametrize("version", ["new", "1.x", "-1", "1" * 7, "1.2.3.4.5", "0.1 "])
def test_what_is_no_version_is_refused(tmp_path: Path, version: str) -> None:
    assert _refused(tmp_path, f"config_version: '{version}'\n") == (
        f"`config_version` in run.yaml, line 1 is '{version}'; expected a version such as 0.2."
    )


def test_a_version_that_is_a_list_is_refused(tmp_path: Path) -> None:
    assert "; expected a version such as 0.2." in _refused(tmp_path, "config_version: [1]\n")


def test_a_version_before_the_settings_does_not_change_where_they_stand(tmp_path: Path) -> None:
    assert _refused(tmp_path, "config_version: 0.1\n\nnepochs: 0\n") == (
        "`nepochs` is 0 (from `nepochs` in run.yaml, line 3); expected a whole number of 1 or more."
    )


@pytest.mark.parametrize(
    ("variable", "value", "message"),
    [
        (
            "PTYCHO_NEPOCHS",
            "many",
            "'many' (from the environment variable `PTYCHO_NEPOCHS`); expected a whole",
        ),
        (
            "PTYCHO_NEPOCHS",
            LONG,
            f"'{CUT} (from the environment variable `PTYCHO_NEPOCHS`); expected a whole",
        ),
        ("PTYCHO_SEED", "1e400", "'1e400' (from the environment variable `PTYCHO_SEED`); expected a whole"),
        (
            "PTYCHO_SEED",
            "-1",
            "-1 (from the environment variable `PTYCHO_SEED`); expected a whole number from",
        ),
        ("PTYCHO_SEED", "\udcff\n\t", r"'\udcff\n\t' (from the environment variable"),
        (
            "PTYCHO_PROBE_MASK",
            "☃",
            "'☃' (from the environment variable `PTYCHO_PROBE_MASK`); expected true or",
        ),
        (
            "PTYCHO_QUIET",
            "loud",
            "the environment variable `PTYCHO_QUIET` is 'loud'; expected true or false.",
        ),
        ("PTYCHO_OUTPUT_DIR", LONG, "; expected a path whose names have at most 255 bytes each."),
        (
            "PTYCHO_OUTPUT_DIR",
            "a\0b",
            r"'a\x00b' (from the environment variable `PTYCHO_OUTPUT_DIR`); expected",
        ),
    ],
)
def test_garbage_in_the_environment_names_its_variable(variable: str, value: str, message: str) -> None:
    act = lambda: load_parts([Part(TrainingConfig), Part(RunConfig)], env={variable: value})  # noqa: E731
    assert message in _message(act)


def test_names_of_many_bytes_are_refused_and_just_short_enough_ones_are_not() -> None:
    for longest in ("a" * 255, "ä" * 127 + "a", "a" * 255 + "/" + "b" * 255):
        assert load(RunConfig, flags={"output-dir": longest}).config.output_dir == Path(longest)
    for longer in ("a" * 256, "ä" * 128, "a/" + "b" * 256):
        text = _message(lambda longer=longer: load(RunConfig, flags={"output-dir": longer}))
        assert text.endswith("; expected a path whose names have at most 255 bytes each.")


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (
            {"quiet": "true", "verbose": "true"},
            "`--quiet` and `--verbose` contradict each other: 'WARNING' and 'DEBUG'. Remove one of the two.",
        ),
        (
            {"torch-logger": "csv", "torch-logger-backend": "mlflow"},
            "`--torch-logger-backend` and `--torch-logger` contradict each other: 'mlflow' and 'csv'. "
            "Remove one of the two.",
        ),
        (
            {"torch-enable-checkpointing": "true", "disable_checkpointing": "true"},
            "`--torch-enable-checkpointing` and `--disable-checkpointing` contradict each other: "
            "'true' and 'false'. Remove one of the two.",
        ),
        (
            {"torch-persistent-workers": "true", "torch-num-workers": "0"},
            "`persistent_workers` needs `num_workers` > 0, found 0 "
            "(from `--torch-persistent-workers`, `--torch-num-workers`).",
        ),
        (
            {"nepochs": "9" * 400},
            f"`nepochs` is '{'9' * 56}... (from `--nepochs`); expected a whole number that fits into 64 "
            "bits.",
        ),
        ({"n" * 1000: "3"}, f"unknown flag `--{'n' * 55}...`."),
        ({"efort": "3"}, "unknown flag `--efort`."),
        ({"nepoch": "3"}, "unknown flag `--nepoch`; did you mean `--nepochs`?"),
    ],
)
def test_flags_that_contradict_each_other_or_do_not_exist_are_refused(
    flags: dict[str, str], message: str
) -> None:
    parts = [Part(TrainingConfig), Part(RunConfig), TORCH]
    assert _message(lambda: load_parts(parts, flags={"torch-accelerator": "cpu", **flags})) == message


def test_the_same_value_by_two_names_is_no_contradiction() -> None:
    flags = {"torch-logger": "CSV", "torch-logger-backend": "csv", "quiet": "true", "verbose": "false"}
    execution, run = load_parts([TORCH, Part(RunConfig)], flags={"torch-accelerator": "cpu", **flags})
    assert (execution.config.logger_backend, run.config.console_level) == ("csv", "WARNING")


def test_a_contradiction_between_sources_is_settled_by_precedence() -> None:
    (loaded,) = load_parts([Part(RunConfig)], flags={"quiet": "true"}, env={"PTYCHO_VERBOSE": "1"})
    assert loaded.config.console_level == "WARNING"


def _parser() -> FlagParser:
    parser = FlagParser(prog="ptycho show")
    parser.add_argument("action", choices=("show", "schema"))
    add_flags(parser, SolverConfig, RunConfig)
    return parser


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            [LONG],
            f"argument action: invalid choice: '{LONG[:57]}...' (choose from show, schema). "
            "`ptycho show --help` lists what is possible.",
        ),
        (
            ["shwo"],
            "argument action: invalid choice: 'shwo' (choose from show, schema). Did you mean `show`? "
            "`ptycho show --help` lists what is possible.",
        ),
        (
            ["show", "two\nlines", "x"],
            "unrecognized arguments: two lines x. `ptycho show --help` lists what is possible.",
        ),
        (
            ["show", LONG, LONG],
            f"unrecognized arguments: {LONG[:57]}.... `ptycho show --help` lists what is possible.",
        ),
        (
            ["show", f"--quiet={LONG}"],
            f"argument --quiet: ignored explicit argument '{LONG[:57]}...'. "
            "`ptycho show --help` lists what is possible.",
        ),
        (["show", f"--{LONG}"], f"unknown flag `--{LONG[:55]}...`; `ptycho show --help` lists the flags."),
        (["show", "--sed", "3"], "unknown flag `--sed`; did you mean `--seed`?"),
        (["show", "--sed=3"], "unknown flag `--sed`; did you mean `--seed`?"),
    ],
)
def test_a_line_that_cannot_be_split_is_refused_in_a_line(words: list[str], message: str) -> None:
    said = _message(lambda: _parser().parse_args(words))
    assert said.replace("'show', 'schema'", "show, schema") == message  # later Pythons quote no choice


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (3, "3"),
        ("fats", "'fats'"),
        ("a" * 58, f"'{'a' * 58}'"),
        ("a" * 59, f"'{'a' * 56}..."),
        ("it's\n", '"it\'s\\n"'),
        (None, "None"),
        ({"a": [1, 2]}, "{'a': [1, 2]}"),
        (Path("x" * 30), f"PosixPath('{'x' * 30}')"),
        (10**60, "1" + "0" * 17 + "..." + "0" * 19),
        (2**240 - 1, f"{2**240 - 1:d}"[:18] + "..." + f"{2**240 - 1:d}"[-19:]),
        (2**240, "a huge number"),
        (10**5000, "a huge number"),
        (-(10**5000), "a huge number"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_a_value_is_shown_short(value: object, text: str) -> None:
    assert shown(value) == text


@given(st.recursive(st.text() | st.integers() | st.none(), lambda inner: st.lists(inner) | st.tuples(inner)))
def test_whatever_a_value_is_it_fits_into_a_line(value: object) -> None:
    text = shown(value)
    assert len(text) <= 60
    assert "\n" not in text


def test_a_value_that_contains_itself_or_grows_is_shown_at_once() -> None:
    cyclic: list[Any] = []
    cyclic.append(cyclic)
    bomb: Any = "lol"
    for _ in range(60):
        bomb = [bomb] * 9
    for value in (cyclic, bomb, "9" * 10_000_000):
        assert len(shown(value)) <= 60


@given(st.text(max_size=200))
def test_a_shortened_text_keeps_its_beginning(text: str) -> None:
    short = shortened(text)
    assert len(short) <= 60
    assert short == text or (len(text) > 60 and short == text[:57] + "...")


@pytest.mark.parametrize(
    ("name", "guess"),
    [
        ("nepoch", "nepochs"),
        ("NEPOCHS", "nepochs"),
        ("n", "N"),
        ("grid-size", "gridsize"),
        ("something", None),
        ("nepochs" * 10, None),
        ("x" * 60, "x" * 59),
        ("x" * 61, None),
    ],
)
def test_the_nearest_name_is_found_whatever_its_letters(name: str, guess: str | None) -> None:
    assert nearest(name, ["N", "gridsize", "nepochs", "x" * 59]) == guess


def test_the_longest_whole_number_is_still_read() -> None:
    text = "1e6".rjust(100, "0")
    assert load(TrainingConfig, flags={"n_groups": text}).config.n_groups == 1_000_000
    assert "expected a whole number" in _message(lambda: load(TrainingConfig, flags={"n_groups": f"0{text}"}))


def test_the_longest_duration_is_still_read() -> None:
    text = "3m".rjust(100, "0")
    assert load(SolverConfig, flags={"max_time": text}).config.max_time == 180
    assert "expected a duration" in _message(lambda: load(SolverConfig, flags={"max_time": f"0{text}"}))


@pytest.mark.parametrize("text", ["9" * 1_000_000 + "x", "9" * 101 + "s"])
def test_a_long_text_is_no_duration(text: str) -> None:
    assert "expected a duration" in _message(lambda: load(SolverConfig, flags={"max_time": text}))
