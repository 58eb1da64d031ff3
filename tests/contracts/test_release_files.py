"""What a release is made of and by: its files, the workflow that signs them, the recipe and the container."""

from __future__ import annotations

import importlib.util
import re
import shutil
import socket
import subprocess
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


def module(name: str) -> Any:
    """Import a module of scripts/release, which is no package."""
    spec = importlib.util.spec_from_file_location(
        f"release_{name}", ROOT / "scripts" / "release" / f"{name}.py"
    )
    assert spec is not None
    assert spec.loader is not None
    made = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = made
    spec.loader.exec_module(made)
    return made


@pytest.fixture(scope="module")
def files() -> Any:
    """What reads a folder of files."""
    return module("files")


@pytest.fixture(scope="module")
def version() -> Any:
    """What asks changelog and tags."""
    return module("version")


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


def test_a_wheel_that_took_something_else_along_is_refused(files: Any, tmp_path: Path) -> None:
    folder = made(tmp_path)
    wheel = folder / "ptycho_core-1.2.0-py3-none-any.whl"
    wheel.write_bytes(bytes(files.LARGEST_WHEEL_BYTES))
    assert files.release_of(folder, TWO).version == "1.2.0"
    wheel.write_bytes(bytes(files.LARGEST_WHEEL_BYTES + 1))
    with pytest.raises(SystemExit, match=r"ptycho_core-1\.2\.0-py3-none-any\.whl: 1500001 bytes, more than"):
        files.release_of(folder, TWO)


def test_the_files_are_listed_for_pip(tmp_path: Path) -> None:
    for name in NAMES:
        stem = name.replace("-", "_")
        for file in (f"{stem}-1.2.0.tar.gz", f"{stem}-1.2.0-py3-none-any.whl"):
            (tmp_path / file).touch()
    program = str(ROOT / "scripts" / "release" / "files.py")
    done = subprocess.run(
        [sys.executable, program, str(tmp_path)], capture_output=True, text=True, check=True
    )
    assert {Path(line).name.split("-")[0] for line in done.stdout.split()} == {
        name.replace("-", "_") for name in NAMES
    }


def git(folder: Path, *words: str) -> None:
    """Run git for somebody who never set it up."""
    who = (
        "-c",
        "user.name=a",
        "-c",
        "user.email=a@b.c",
        "-c",
        "tag.gpgsign=false",
        "-c",
        "commit.gpgsign=false",
    )
    subprocess.run(["git", *who, *words], cwd=folder, check=True, capture_output=True)


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A checkout whose changelog tells of 1.2.0, all of it committed."""
    (tmp_path / "CHANGELOG.md").write_text(
        "# Changelog\n\n## [Unreleased]\n\n## [1.2.0] - 2026-05-04\n\n- More.\n\n## [1.1.0]\n\n- Less.\n",
        encoding="utf-8",
    )
    if shutil.which("git") is None:
        pytest.skip("git is not on the PATH")
    git(tmp_path, "init", "--quiet")
    git(tmp_path, "add", "--all")
    git(tmp_path, "commit", "--quiet", "--message", "all")
    return tmp_path


def test_a_tag_of_the_version_that_the_changelog_tells_of_is_a_release(version: Any, checkout: Path) -> None:
    assert version.faults_of("1.2.0", checkout) == []
    git(checkout, "tag", "v1.2.0")
    git(checkout, "tag", "validated")  # no version
    assert version.faults_of("1.2.0", checkout) == []


@pytest.mark.parametrize("release", ["1.3.0", "1.1.0"])  # no section, and one without a date
def test_a_version_without_a_dated_section_is_told(version: Any, checkout: Path, release: str) -> None:
    (fault,) = version.faults_of(release, checkout)
    assert f"write its changes under `## [{release}] - YYYY-MM-DD`" in fault


def test_a_section_without_a_word_is_told(version: Any, checkout: Path) -> None:
    path = checkout / "CHANGELOG.md"
    path.write_text(path.read_text("utf-8").replace("- More.\n", ""), encoding="utf-8")
    (fault,) = version.faults_of("1.2.0", checkout)
    assert "tells nothing of 1.2.0" in fault


def test_a_tag_of_another_version_is_told(version: Any, checkout: Path) -> None:
    git(checkout, "tag", "v1.2.1")
    (fault,) = version.faults_of("1.2.0", checkout)
    assert fault.startswith(
        "tag v1.2.1 stands here, but the packages are 1.2.0: remove it, `git tag -d v1.2.1`"
    )


def test_what_is_unreleased_or_uncommitted_at_a_tag_is_told(version: Any, checkout: Path) -> None:
    path = checkout / "CHANGELOG.md"
    path.write_text(path.read_text("utf-8").replace("[Unreleased]\n", "[Unreleased]\n\n- New.\n"), "utf-8")
    assert version.faults_of("1.2.0", checkout) == []  # no tag: the files are only tried
    git(checkout, "tag", "v1.2.0")
    unreleased, uncommitted = version.faults_of("1.2.0", checkout)
    assert "move them to 1.2.0" in unreleased
    assert uncommitted.startswith("CHANGELOG.md: not as in v1.2.0;")


def test_this_checkout_may_become_a_release(version: Any) -> None:
    assert version.declared() == project("ptycho-config")["version"]
    assert not [fault for fault in version.faults_of(version.declared()) if "tells nothing" in fault]


def answers(*before: str, port: int) -> bool:
    """Say whether a command with these words before it reaches a port of this host."""
    code = f"import socket; socket.create_connection(('127.0.0.1', {port}), timeout=20).close()"
    return (
        subprocess.run([*before, sys.executable, "-c", code], capture_output=True, check=False).returncode
        == 0
    )


def test_a_command_without_a_network_reaches_nobody() -> None:
    words = module("surroundings").without_network()
    if not words:
        pytest.skip("`unshare --net` does not work here")
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        assert answers(port=port)
        assert not answers(*words, port=port)


def test_a_command_of_the_trial_hears_of_no_index_and_says_what_to_do(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    call = module("surroundings").call
    monkeypatch.setenv("PIP_FIND_LINKS", "elsewhere")
    monkeypatch.setenv("PYTHONPATH", "elsewhere")
    show = "import os; print(sorted(n for n in os.environ if n.startswith('PIP_') or n == 'PYTHONPATH'))"
    call(sys.executable, "-c", show, otherwise="")
    assert "['PIP_CONFIG_FILE', 'PIP_NO_INDEX']" in capfd.readouterr().out
    call(sys.executable, "-c", show, otherwise="", network=True)
    assert "'PIP_FIND_LINKS'" in capfd.readouterr().out
    with pytest.raises(SystemExit, match=r"(?s)exit code 3 of .*\nmend the cable"):
        call(sys.executable, "-c", "raise SystemExit(3)", otherwise="mend the cable")


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
    # What ptycho-config takes from the top of the repository.
    assert "findings" in copied
    assert re.search(r"^USER (?!root)", text, re.MULTILINE)
    assert text.index("USER ") > text.rindex("RUN ")
