"""What the real command makes of its configuration: refused in one line with nothing written, or shown."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from ptycho_config.flags import flag_specs
from ptycho_config.naming import places
from ptycho_dispatch.cli import main
from ptycho_dispatch.commands.configuration import MODELS, PARTS

RECONSTRUCT = ("reconstruct", "scan.npz")
TRAIN = ("train", "--train-data-file", "scan.npz", "--torch-accelerator", "cpu")
INFER = ("infer", "--model-path", "run", "--test-data", "scan.npz", "--torch-accelerator", "cpu")
SHOW = ("config", "show")
WITH_FILE = ("--config", "größe.yaml")
FILE = "größe.yaml"
LONG = "a" * 1000


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Work in an empty folder, with no setting in the environment."""
    for name in [name for name in os.environ if name.startswith("PTYCHO_") and name != "PTYCHO_DATA_DIR"]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def _refusal(folder: Path, words: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> str:
    """Run the command, see that it refuses and writes nothing, and return what it says."""
    before = sorted(path.relative_to(folder) for path in folder.rglob("*"))
    code = main(words)
    out, err = capsys.readouterr()
    assert code == 2, err
    assert out == ""
    assert err.startswith("ptycho: ")
    assert err.count("\n") == 1
    assert len(err) < 500
    assert sorted(path.relative_to(folder) for path in folder.rglob("*")) == before
    return err.removeprefix("ptycho: ").rstrip("\n")


@pytest.mark.parametrize("command", [RECONSTRUCT, TRAIN, INFER, SHOW], ids=lambda words: words[0])
@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("outputdir: x\n", "`outputdir` in größe.yaml, line 1 is not a setting; did you mean `output_dir`?"),
        (
            "# first\nmeasurement: photons\n",
            "`measurement` is 'photons' (from `measurement` in größe.yaml, line 2); "
            "expected 'auto', 'amplitude' or 'counts'.",
        ),
        ("dc: center\ndc: corner\n", "configuration file größe.yaml, line 2: `dc` stands there twice"),
        ("dc: [\n", "configuration file größe.yaml is not YAML: line 2: "),
        ("a: &a [*a]\n", "configuration file größe.yaml, line 1: `*a` repeats a section or a list"),
        ("config_version: 7.1\n", "Type `pip install --upgrade 'ptycho-config>=7.1'`."),
        (
            f"dc: {LONG}\n",
            f"`dc` is '{'a' * 56}... (from `dc` in größe.yaml, line 1); expected 'auto', 'center'",
        ),
        ("quiet: true\nverbose: true\n", "contradict each other: 'WARNING' and 'DEBUG'."),
    ],
)
def test_a_bad_file_is_refused_by_every_command(
    folder: Path, capsys, command, content: str, said: str
) -> None:
    (folder / FILE).write_text(content, encoding="utf-8")
    assert said in _refusal(folder, (*command, *WITH_FILE), capsys)


@pytest.mark.parametrize("command", [RECONSTRUCT, TRAIN, INFER, SHOW], ids=lambda words: words[0])
@pytest.mark.parametrize(
    ("variable", "value", "said"),
    [
        ("PTYCHO_DC", "\udcff☃", "(from the environment variable `PTYCHO_DC`); expected 'auto', 'center' or"),
        ("PTYCHO_DC", LONG, f"`dc` is '{'a' * 56}... (from the environment variable `PTYCHO_DC`)"),
        ("PTYCHO_OUTPUT_DIR", LONG, "; expected a path whose names have at most 255 bytes each."),
    ],
    ids=["garbage", "long", "long path"],
)
def test_garbage_in_the_environment_is_refused_by_every_command(
    folder: Path, monkeypatch, capsys, command, variable: str, value: str, said: str
) -> None:
    monkeypatch.setenv(variable, value)
    assert said in _refusal(folder, command, capsys)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ((*RECONSTRUCT, "--efort", "fast"), "unknown flag `--efort`; did you mean `--effort`?"),
        (
            (*RECONSTRUCT, "--effort", "fats"),
            "`effort` is 'fats' (from `--effort`); expected 'fast', 'default' or 'thorough'. "
            "Did you mean 'fast'?",
        ),
        (
            (*RECONSTRUCT, "--probe-modes", "9"),
            "`probe_modes` is 9 (from `--probe-modes`); expected a whole number from 1 to 8.",
        ),
        (
            (*RECONSTRUCT, "--quiet", "--verbose"),
            "`--quiet` and `--verbose` contradict each other: 'WARNING' and 'DEBUG'. Remove one of the two.",
        ),
        (
            (*TRAIN, "--torch-persistent-workers"),
            "`persistent_workers` needs `num_workers` > 0, found 0 (from `--torch-persistent-workers`).",
        ),
        (
            (*TRAIN, "--torch-accelerator", "tpu"),
            "`accelerator` is 'tpu' (from `--torch-accelerator`); "
            "expected 'auto', 'cpu', 'gpu', 'cuda' or 'mps'. Did you mean 'gpu'?",
        ),
        (
            (*TRAIN, "--N", "100"),
            "`model.N` is '100' (from `--N`); "
            "expected a multiple of 16 from 32 to 1024, or 0 for not known yet.",
        ),
        (("train", "--nepochs", "3", "--torch-accelerator", "cpu"), "`--train-data-file` is missing"),
        (("infer", "--test-data", "x.npz"), "`model_path` is required; give it with `--model-path`."),
        ((*SHOW, "--config", "none.yaml"), "configuration file none.yaml does not exist."),
        (
            (*SHOW, "--seed", LONG),
            f"`seed` is '{'a' * 56}... (from `--seed`); expected a whole number from 0",
        ),
        ((LONG,), f"there is no command `{'a' * 57}...`."),
        (("config", LONG), f"argument action: invalid choice: '{'a' * 57}...'"),
        (("config",), "the following arguments are required: action."),
    ],
    ids=lambda words: " ".join(words)[:50] if isinstance(words, tuple) else "",
)
def test_a_bad_command_line_is_refused(folder: Path, capsys, words: tuple[str, ...], said: str) -> None:
    assert said in _refusal(folder, words, capsys)


def _rows(text: str) -> dict[tuple[str, str], tuple[str, str]]:
    """Read the tables of `config show`: (title, field) -> (value, source)."""
    title, rows = "", {}
    for line in text.splitlines():
        if not line.startswith(" "):
            title = line
        else:
            field, value, source = line.split(maxsplit=2)
            rows[title, field] = (value, source)
    return rows


def test_show_covers_every_setting_of_every_model_once(folder: Path, capsys) -> None:
    assert main(SHOW) == 0
    shown = [(title, field) for title, field in _rows(capsys.readouterr().out) if field != "field"]
    assert shown == [(part.heading, place.name) for part in PARTS for place in places(part)]


def test_show_names_the_source_of_each_value(folder: Path, monkeypatch, capsys) -> None:
    (folder / FILE).write_text(
        "seed: 1\neffort: fast\ntorch: {accum_steps: 2}\nmodel:\n  N: 128\n", encoding="utf-8"
    )
    monkeypatch.setenv("PTYCHO_EFFORT", "thorough")
    monkeypatch.setenv("PTYCHO_TORCH_ACCUM_STEPS", "")
    assert main([*SHOW, *WITH_FILE, "--seed", "3", "--tensorflow-jit-compile", "false"]) == 0
    rows = _rows(capsys.readouterr().out)
    solver, network = "Solver: what it computes", "Network: model and training"
    assert rows[solver, "seed"] == rows[network, "seed"] == ("3", "`--seed`")
    assert rows[solver, "effort"] == ("thorough", "the environment variable `PTYCHO_EFFORT`")
    assert rows[network, "N"] == ("128", f"`model.N` in {FILE}, line 5")
    assert rows["Execution on PyTorch", "torch_accum_steps"] == (
        "2",
        f"`torch.accum_steps` in {FILE}, line 3",
    )
    assert rows["Execution on TensorFlow", "tensorflow_jit_compile"] == (
        "False",
        "`--tensorflow-jit-compile`",
    )
    assert rows[solver, "background"] == ("auto", "default")
    assert rows["Execution on PyTorch", "torch_accelerator"] == ("auto", "default")
    assert rows["Network: inference", "model_path"] == ("(required)", "not given")


def test_show_says_what_is_deprecated_and_takes_what_a_run_requires(folder: Path, capsys) -> None:
    assert main([*SHOW, "--device", "cpu", "--model-path", "run", "--test-data", "scan.npz"]) == 0
    out, err = capsys.readouterr()
    rows = _rows(out)
    assert err == "WARNING `--device` is deprecated; use `--torch-accelerator`\n"
    assert rows["Execution on PyTorch", "torch_accelerator"] == ("cpu", "`--device`")
    assert rows["Network: inference", "model_path"] == ("run", "`--model-path`")
    assert rows["Network: inference", "test_data_file"] == ("scan.npz", "`--test-data`")


def test_show_takes_every_flag_of_every_command(folder: Path, capsys) -> None:
    from ptycho_dispatch import settings
    from ptycho_dispatch.commands import inference, training

    of_commands = {
        option
        for part in (*settings.PARTS, *training.PARTS, *inference.PARTS)
        for spec in flag_specs(part)
        for option in spec.options
    }
    of_show = {option for part in PARTS for spec in flag_specs(part) for option in spec.options}
    assert of_commands <= of_show


def test_schema_describes_every_model(folder: Path, capsys) -> None:
    assert main(["config", "schema"]) == 0
    schema = json.loads(capsys.readouterr().out)
    assert set(schema) == {kind.__name__ for kind in MODELS}
    for kind in MODELS:
        assert set(schema[kind.__name__]["properties"]) == set(kind.model_fields)


def test_the_help_loads_neither_arrays_nor_frameworks() -> None:
    heavy = {"numpy", "scipy", "torch", "lightning", "tensorflow", "keras", "matplotlib", "h5py"}
    program = (
        "import sys; from ptycho_dispatch.cli import main; assert main(['--help']) == 0; "
        f"print(sorted({heavy!r} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"
