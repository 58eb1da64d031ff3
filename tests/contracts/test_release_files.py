"""What a release is made of and by: its files, the workflow that signs them, the recipe and the container."""

from __future__ import annotations

import importlib.util
import re
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = sorted(path.parent for path in (ROOT / "packages").glob("*/pyproject.toml"))
NAMES = tuple(package.name for package in PACKAGES)
#: A distribution's name where pip finds it -> where conda does.
CONDA = {"matplotlib": "matplotlib-base", "torch": "pytorch"}


def project(name: str) -> dict[str, Any]:
    return tomllib.loads((ROOT / "packages" / name / "pyproject.toml").read_text("utf-8"))["project"]


def opened(path: str) -> Any:
    return yaml.safe_load((ROOT / path).read_text("utf-8"))


@pytest.fixture(scope="module")
def files() -> Any:
    """The module of scripts/release that reads a folder of files."""
    spec = importlib.util.spec_from_file_location("release_files", ROOT / "scripts" / "release" / "files.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def made(folder: Path, *more: str, without: str = "") -> Path:
    """Put empty files with the names of a release of two packages into a folder."""
    names = (
        *("ptycho_config-1.2.0.tar.gz", "ptycho_config-1.2.0-py3-none-any.whl", "ptycho_core-1.2.0.tar.gz"),
        *("ptycho_core-1.2.0-py3-none-any.whl", "ptycho_core-1.2.0-py3-none-win_amd64.whl"),
        *("ptycho_core-1.2.0-py3-none-manylinux_2_17_x86_64.whl", *more),
    )
    for name in names:
        if name != without:
            (folder / name).touch()
    return folder


TWO = ("ptycho-config", "ptycho-core")


def test_a_release_is_read_from_its_files(files: Any, tmp_path: Path) -> None:
    release = files.release_of(made(tmp_path), TWO)
    assert release.version == "1.2.0"
    assert len(release.files) == 6
    assert len(release.wheels["ptycho-core"]) == 3
    assert release.wheel("ptycho-config").name == "ptycho_config-1.2.0-py3-none-any.whl"
    best = release.wheel("ptycho-core").name
    ours = sys.platform == "linux" and "manylinux_2_17_x86_64" in {tag.platform for tag in files.sys_tags()}
    assert ("manylinux" in best) == ours
    assert "win_amd64" not in best or sys.platform == "win32"


@pytest.mark.parametrize(
    ("more", "without", "said"),
    [
        (("notes.txt",), "", "notes.txt: is no file of a release"),
        (("torch-2.0.0-py3-none-any.whl",), "", "torch-2.0.0-py3-none-any.whl: is no file of a release"),
        (("ptycho_core-1.1.9-py3-none-any.whl",), "", "holds several versions, 1.1.9, 1.2.0"),
        ((), "ptycho_config-1.2.0.tar.gz", "sdist or wheel of ptycho-config is missing"),
        ((), "ptycho_config-1.2.0-py3-none-any.whl", "sdist or wheel of ptycho-config is missing"),
    ],
)
def test_what_is_no_release_is_refused(
    files: Any, tmp_path: Path, more: tuple[str, ...], without: str, said: str
) -> None:
    with pytest.raises(SystemExit, match=re.escape(said)):
        files.release_of(made(tmp_path, *more, without=without), TWO)


def test_a_folder_that_is_not_there_holds_no_release(files: Any, tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match=r"ptycho-config, ptycho-core is missing; run `nox -s release`"):
        files.release_of(tmp_path / "dist", TWO)


def test_every_package_is_tried() -> None:
    text = (ROOT / "scripts" / "release" / "__main__.py").read_text("utf-8")
    assert set(re.findall(r'^    "([a-z-]+)": \(', text, re.MULTILINE)) == set(NAMES)


def test_the_workflow_makes_signs_and_drafts_and_publishes_nothing() -> None:
    text = (ROOT / ".github" / "workflows" / "release.yml").read_text("utf-8")
    workflow = yaml.safe_load(text)
    assert workflow[True] == {"push": {"tags": ["v*"]}, "workflow_dispatch": None}  # `on` is a word of YAML
    assert workflow["permissions"] == {"contents": "read"}
    jobs = workflow["jobs"]
    assert {"run": "nox -s release"} in jobs["files"]["steps"]
    assert "permissions" not in jobs["files"]
    sign = jobs["sign"]
    assert sign["needs"] == "files"
    assert sign["if"] == "startsWith(github.ref, 'refs/tags/v')"
    assert sign["permissions"] == {"id-token": "write", "contents": "write"}
    commands = [step["run"] for step in sign["steps"] if "run" in step]
    assert all(command.startswith("gh release create") and "--draft" in command for command in commands)
    assert len(commands) == 1
    used = {step["uses"].split("@")[0] for job in jobs.values() for step in job["steps"] if "uses" in step}
    assert {one for one in used if not one.startswith("actions/")} == {"sigstore/gh-action-sigstore-python"}
    assert all(job["timeout-minutes"] <= 120 for job in jobs.values())
    assert "upload" not in re.sub(r"actions/upload-artifact", "", text)


def test_the_recipe_asks_for_what_the_packages_declare() -> None:
    recipe = opened("recipe/recipe.yaml")
    outputs = {output["package"]["name"]: output for output in recipe["outputs"]}
    assert set(outputs) == set(NAMES)
    for name, output in outputs.items():
        declared = project(name)
        assert recipe["context"]["version"] == declared["version"]
        assert f"./packages/{name} " in output["build"]["script"]
        wanted = [f"python{declared['requires-python']}", *declared["dependencies"]]
        parts = [re.fullmatch(r"([\w-]+)(.*)", one) for one in wanted]
        spelt = {
            f"{CONDA.get(part[1].lower(), part[1].lower())} {part[2]}" for part in parts if part is not None
        }
        asked = {one.replace("${{ version }}", declared["version"]) for one in output["requirements"]["run"]}
        assert asked == spelt
        scripts = [f"{command} = {place}" for command, place in declared.get("scripts", {}).items()]
        assert output["build"].get("python", {}).get("entry_points", []) == scripts
    assert (ROOT / recipe["about"]["license_file"]).is_file()


def test_the_container_is_built_from_what_it_gets_with_the_compiler_of_the_wheels() -> None:
    text = (ROOT / "Containerfile").read_text("utf-8")
    copied = re.findall(r"^COPY (?!--from)(\S+) ", text, re.MULTILINE)
    ignored = (ROOT / ".dockerignore").read_text("utf-8").splitlines()
    assert [f"!{path}" for path in copied] == [line for line in ignored if line.startswith("!")]
    assert all((ROOT / path).is_dir() for path in copied)
    # ptycho-config is not built without the pages of the findings.
    assert {"findings", "packages"} <= set(copied)
    compiler = re.search(r'^WHEEL_COMPILER = "(.+)"', (ROOT / "noxfile.py").read_text("utf-8"), re.MULTILINE)
    assert compiler is not None
    assert compiler[1] in text
    built = re.search(r"for name in ([a-z -]+);", text)
    assert built is not None
    assert set(built[1].split()) == {"ptycho-config", "ptycho-core", "ptycho-dispatch"}
    assert re.search(r"^USER (?!root)", text, re.MULTILINE)
    assert text.index("USER ") > text.rindex("RUN ")
