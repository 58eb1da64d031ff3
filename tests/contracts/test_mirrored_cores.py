"""The cores mirror each other, module by module; read from the source, so that no framework is needed.

Compared are the functions and classes that both cores show, with the names of all arguments. What one core
has and the other has not is listed here by name, with the reason.
"""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

PACKAGES = Path(__file__).resolve().parents[2] / "packages"
TORCH = PACKAGES / "ptycho-core-torch" / "src" / "ptycho_core_torch"
TENSORFLOW = PACKAGES / "ptycho-core-tf" / "src" / "ptycho_core_tf"

#: Modules that only the TensorFlow core has.
TENSORFLOW_ALONE = {
    "framework.py": "imports TensorFlow without its chatter; torch has none",
    "weights.py": "names and layout of weights, which are those of torch's state dict",
    "first_weights.py": "numbers of a network's own, which torch draws from a generator that can be forked",
    "keras_model.py": "what Keras calls",
    "devices.py": "devices and strategies, which Lightning's Trainer chooses",
    "logs.py": "loggers, which Lightning's Trainer is given",
    "networks/layers.py": "the layers of torch.nn",
    "networks/fused.py": "what XLA makes one loop of; torch has such kernels",
    "networks/pooling.py": "the form of pooling that XLA can take",
}
#: Modules that only the PyTorch core has.
TORCH_ALONE = {
    "arrays.py": "torch arrays for the solver",
    "exporting.py": "ONNX, which PyTorch writes for bundles of both cores",
    "networks/uno.py": "needs a package that is built on PyTorch",
    "lightning_module.py": "what Lightning calls",
    "distributed.py": "processes of Lightning's strategies",
    "trainer.py": "Lightning's Trainer",
    "checks/accumulation.py": "rules of gradient accumulation, which Keras is not asked for",
}
_CALLBACK = "a callback, which Lightning and Keras call by names of their own"
#: What one of two twins shows and the other does not.
DIFFERENT = {
    "checkpoints.py": {"Checkpoints": _CALLBACK},
    "clipping.py": {"clip_adaptively": "TensorFlow hands gradients on, PyTorch changes them where they are"},
    "loaders.py": {
        "Loader": "what Lightning asks a loader itself",
        "make_loader": "one process has all devices of TensorFlow, one of PyTorch",
    },
    "network.py": {
        "PtychoNetwork.copied": "copy.deepcopy and load_state_dict of torch",
        "PtychoNetwork.parameters": "of torch.nn.Module",
        "PtychoNetwork.take": "copy.deepcopy and load_state_dict of torch",
    },
    "networks/heads.py": {"at_least_float32": "in networks/layers.py of the TensorFlow core"},
    "optimisers.py": {"Adam": "in torch.optim", "Sgd": "in torch.optim"},
    "overlap.py": dict.fromkeys(("add_scattered", "add_slices"), "what torch does on a GPU and on a CPU"),
    "checks/training.py": {"auto_without_a_gpu_warns_once": "the configuration of PyTorch resolves `auto`"},
    "reporting.py": {"Reporter": _CALLBACK},
    "schedules.py": {"Plateau": "in torch.optim"},
    "trained.py": {"Imager.__init__": "a network of torch is on its device already"},
    "training.py": {
        "train_module": "a module of Lightning may say that it optimises by hand (EXEC-ACCUM-001)",
        "train_on": "the devices are chosen by Lightning's Trainer",
    },
}
#: Torch calls it so, TensorFlow so: what a network does when it is called.
FORWARD = ("forward", "__call__")
#: An argument of the TensorFlow core alone; torch converts a finished network.
PRECISION = "dtype"

Interface = dict[str, tuple[str, ...]]


def modules(package: Path) -> set[str]:
    found = {path.relative_to(package).as_posix() for path in package.rglob("*.py")}
    return {name for name in found if not name.endswith("__init__.py")}


def arguments(function: ast.FunctionDef) -> tuple[str, ...]:
    every = (*function.args.posonlyargs, *function.args.args, *function.args.kwonlyargs)
    return tuple(argument.arg for argument in every if argument.arg != PRECISION)


def interface(source: str) -> Interface:
    """Give what a module defines for others: functions, classes and methods, with their arguments."""
    shown: Interface = {}
    for node in ast.parse(source).body:
        if isinstance(node, ast.FunctionDef) and not node.name.startswith("_"):
            shown[node.name] = arguments(node)
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
            shown[node.name] = ()
            for method in node.body:
                if not isinstance(method, ast.FunctionDef):
                    continue
                name = "forward" if method.name in FORWARD else method.name
                if name == "__init__" or not name.startswith("_"):
                    shown[f"{node.name}.{name}"] = arguments(method)
    return shown


def without(shown: Interface, left_out: dict[str, str]) -> Interface:
    return {
        name: names
        for name, names in shown.items()
        if name not in left_out and name.split(".")[0] not in left_out
    }


def _of(shown: Interface, name: str) -> Interface:
    """Give a function, or a class with its methods."""
    return {one: names for one, names in shown.items() if one == name or one.startswith(f"{name}.")}


TWINS = sorted(modules(TORCH) & modules(TENSORFLOW))


def test_every_module_has_its_twin_or_is_listed() -> None:
    assert modules(TENSORFLOW) - modules(TORCH) == set(TENSORFLOW_ALONE)
    assert modules(TORCH) - modules(TENSORFLOW) == set(TORCH_ALONE)


@pytest.mark.parametrize("module", [name for name in TWINS if name != "backend.py"])
def test_twins_show_the_same(module: str) -> None:
    left_out = DIFFERENT.get(module, {})
    torch, tensorflow = (
        interface((core / module).read_text(encoding="utf-8")) for core in (TORCH, TENSORFLOW)
    )
    for name in left_out:
        assert _of(torch, name) != _of(tensorflow, name), f"{name} is an exception that is none"
    assert without(tensorflow, left_out) == without(torch, left_out)


def test_both_cores_check_the_same_rules() -> None:
    """Only Lightning accumulates gradients; TensorFlow resolves `auto` itself."""
    torch, tensorflow = (
        pytest.importorskip(f"{core.name}.checks", reason=f"{core.name} is not installed").CHECKS
        for core in (TORCH, TENSORFLOW)
    )
    assert torch.keys() - tensorflow.keys() == {"EXEC-ACCUM-001", "EXEC-ACCUM-002"}
    assert tensorflow.keys() <= torch.keys()


@pytest.mark.parametrize(
    "changed",
    [
        "def cut(canvas, corners, size): ...",
        "def cut(canvas, corners): ...",
        "def cuts(canvas, corners, side): ...",
        "def cut(canvas, corners, side): ...\ndef paste(): ...",
        "def cut(canvas, corners, side): ...\nclass Cut: ...",
    ],
)
def test_the_comparison_bites(changed: str) -> None:
    assert interface(changed) != interface("def cut(canvas, corners, side): ...")


def test_the_comparison_sees_methods_and_knows_what_a_call_is() -> None:
    torch = "class Net:\n    def __init__(self, model): ...\n    def forward(self, x): ..."
    tensorflow = "class Net:\n    def __init__(self, model, *, dtype): ...\n    def __call__(self, x): ..."
    assert interface(torch) == interface(tensorflow)
    assert interface(torch) != interface(tensorflow.replace("x", "y"))
