"""Archives that are damaged, or made to harm: one clear line each, and nothing is run or unpacked."""

from __future__ import annotations

import io
import os
import pickle
import stat
import struct
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from ptycho_config.errors import BundleError
from ptycho_core.bundle import read_bundle

Members = dict[str, bytes]
Zipped = Callable[..., Path]
Refusal = Callable[..., str]


class _Trap:
    """Unpickled, it would leave a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[object, ...]]:
        return (open, (str(self.path), "w"))


# Nothing there, or no bundle


def test_an_absent_bundle_is_named(tmp_path: Path, refusal: Refusal) -> None:
    message = refusal(tmp_path / "absent", finding=None)
    assert "no such file. Expected the `wts.h5.zip`" in message
    assert "ptycho train" in message


def test_a_directory_without_a_bundle_is_named(tmp_path: Path, refusal: Refusal) -> None:
    (tmp_path / "amplitude.png").write_bytes(b"")
    assert f"{tmp_path}: holds no `wts.h5.zip`" in refusal(tmp_path, finding=None)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "the file is empty"),
        (b"\x89HDF\r\n\x1a\n rest", "this is a plain HDF5 file"),
        (b"hello", "this is not a zip"),
        (b"PK\3\4 and no more", "truncated or damaged"),
    ],
)
def test_what_is_no_zip_is_refused(tmp_path: Path, refusal: Refusal, content: bytes, message: str) -> None:
    path = tmp_path / "wts.h5.zip"
    path.write_bytes(content)
    assert message in refusal(path)


def test_a_zip_of_something_else_is_refused(zipped: Zipped, refusal: Refusal) -> None:
    assert "no `manifest.json` among its 1 members" in refusal(zipped({"picture.png": b""}))


@pytest.mark.parametrize("name", ["x" * 5000, "wts\0.zip", "~nobody-of-that-name/run"])
def test_a_name_that_no_system_takes_is_refused(name: str) -> None:
    with pytest.raises(BundleError, match="Expected"):
        read_bundle(name)


@pytest.mark.skipif(os.name != "posix", reason="device files are a POSIX idea")
def test_a_device_is_refused(refusal: Refusal) -> None:
    assert "not a regular file" in refusal(Path("/dev/zero"))


@pytest.mark.parametrize("share", [0.2, 0.5, 0.9, 0.999])
def test_a_truncated_bundle_is_refused(good: Members, zipped: Zipped, refusal: Refusal, share: float) -> None:
    path = zipped(good)
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    assert "truncated or damaged" in refusal(path)


def test_every_flipped_byte_is_noticed_or_harmless(good: Members, zipped: Zipped) -> None:
    path = zipped(good)
    content = path.read_bytes()
    for place in range(0, len(content), 37):
        spoiled = bytearray(content)
        spoiled[place] ^= 0x55
        path.write_bytes(spoiled)
        try:
            assert read_bundle(path).backend == "pytorch"
        except BundleError as error:
            assert error.finding == "BUNDLE-001"


# Pickles


@pytest.mark.finding("BUNDLE-001")
@pytest.mark.parametrize(
    "names",
    [
        ["manifest.dill", "autoencoder/params.dill", "autoencoder/model.keras"],
        ["manifest.dill", "autoencoder/model.pth", "torch_scaling_metadata.pt"],
        ["archive/data.pkl", "archive/version"],
        ["manifest.json", "autoencoder/MODEL.PT"],
    ],
)
def test_pickle_based_bundles_are_refused_and_never_loaded(
    zipped: Zipped, refusal: Refusal, tmp_path: Path, names: list[str]
) -> None:
    trap = pickle.dumps(_Trap(tmp_path / "sprung"))
    archive = zipped(dict.fromkeys(names, trap))
    directory = tmp_path / "unpacked"
    with zipfile.ZipFile(archive) as file:
        file.extractall(directory)
    bare = tmp_path / "model.pth"
    bare.write_bytes(trap)
    for path in (archive, bare):
        message = refusal(path)
        assert "a Python pickle, which is never loaded because unpickling runs code" in message
        assert "Train again: `ptycho train" in message
    if not names[0].startswith("archive"):  # elsewhere than a bundle has files
        assert "a Python pickle" in refusal(directory)
    assert not (tmp_path / "sprung").exists()


# Names


@pytest.mark.parametrize("name", ["../evil.txt", "/etc/evil", "a/../../evil", "C:/evil", "..\\evil", "a/\\b"])
def test_names_that_lead_elsewhere_are_refused(
    good: Members, zipped: Zipped, refusal: Refusal, name: str
) -> None:
    assert "leads out of the bundle" in refusal(zipped({**good, name: b""}))


@pytest.mark.parametrize("name", ["readme.txt", "Manifest.json", "autoencoder/model.keras"])
def test_extra_members_are_refused(good: Members, zipped: Zipped, refusal: Refusal, name: str) -> None:
    assert f"holds `{name}`, which belongs to no bundle" in refusal(zipped({**good, name: b""}))


def test_a_member_that_is_not_declared_is_refused(good: Members, zipped: Zipped, refusal: Refusal) -> None:
    name = "diffraction_to_obj/weights.safetensors"
    assert "the manifest does not declare" in refusal(zipped({**good, name: b""}))


def test_a_member_that_is_there_twice_is_refused(good: Members, zipped: Zipped, refusal: Refusal) -> None:
    path = zipped(good)
    with warnings.catch_warnings(), zipfile.ZipFile(path, "a") as archive:
        warnings.simplefilter("ignore")
        archive.writestr("manifest.json", b"{}")
    assert "`manifest.json` is there 2 times" in refusal(path)


@pytest.mark.parametrize("name", ["autoencoder/weights.safetensors", "probe.npz", "history.csv"])
def test_a_missing_member_is_named(good: Members, zipped: Zipped, refusal: Refusal, name: str) -> None:
    del good[name]
    assert f"the member `{name}` is missing" in refusal(zipped(good))


# Kinds and sizes


def special(good: Members, path: Path, **attributes: int) -> Path:
    """Zip members with attributes of the history's entry changed."""
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in good.items():
            info = zipfile.ZipInfo(name)
            if name == "history.csv":
                for key, value in attributes.items():
                    setattr(info, key, value)
            archive.writestr(info, content)
    return path


@pytest.mark.parametrize(
    ("kind", "what"), [(stat.S_IFLNK, "a symbolic link"), (stat.S_IFIFO, "no regular file")]
)
def test_links_and_pipes_are_refused(
    good: Members, tmp_path: Path, refusal: Refusal, kind: int, what: str
) -> None:
    path = special(good, tmp_path / "wts.h5.zip", create_system=3, external_attr=(kind | 0o777) << 16)
    assert f"`history.csv` is {what}" in refusal(path)


def test_unusual_compression_is_refused(good: Members, tmp_path: Path, refusal: Refusal) -> None:
    path = special(good, tmp_path / "wts.h5.zip", compress_type=zipfile.ZIP_LZMA)
    assert "packed by method 14" in refusal(path)


def patched(path: Path, name: str, offset: int, form: str, value: int) -> Path:
    """Overwrite a number in the central directory's entry of a member."""
    content = bytearray(path.read_bytes())
    entry = content.rindex(name.encode()) - 46
    assert content[entry : entry + 4] == b"PK\1\2"
    struct.pack_into(form, content, entry + offset, value)
    path.write_bytes(content)
    return path


def test_encrypted_members_are_refused(good: Members, zipped: Zipped, refusal: Refusal) -> None:
    path = patched(zipped(good), "probe.npz", 8, "<H", 1)
    assert "`probe.npz` is encrypted" in refusal(path)


@pytest.mark.parametrize("name", ["manifest.json", "history.csv", "autoencoder/weights.safetensors"])
def test_a_size_that_is_only_claimed_is_refused(
    good: Members, zipped: Zipped, refusal: Refusal, name: str
) -> None:
    path = patched(zipped(good), name, 24, "<I", 0xFFFFFFF0)
    assert "would grow from" in refusal(path)


def test_a_stored_member_that_claims_too_much_is_refused(
    good: Members, zipped: Zipped, refusal: Refusal
) -> None:
    path = zipped(good)
    for offset in (20, 24):  # packed and plain size
        patched(path, "history.csv", offset, "<I", 1 << 30)
    assert f"`history.csv` claims {1 << 30} bytes" in refusal(path)


def test_members_that_together_exceed_the_bound_are_refused(
    good: Members, zipped: Zipped, refusal: Refusal
) -> None:
    path = zipped(good)
    for name in ("probe.npz", "autoencoder/weights.safetensors"):
        for offset in (20, 24):
            patched(path, name, offset, "<I", 1 << 31)
    message = refusal(path)
    assert "bytes together" in message


def test_a_member_larger_than_it_claims_is_refused(good: Members, zipped: Zipped, refusal: Refusal) -> None:
    path = patched(zipped(good, zipfile.ZIP_DEFLATED), "manifest.json", 24, "<I", 10)
    assert "`manifest.json` cannot be read" in refusal(path)


def test_a_bomb_is_refused_before_it_grows(good: Members, zipped: Zipped, refusal: Refusal) -> None:
    good["history.csv"] = bytes(40 << 20)
    assert "`history.csv` would grow from" in refusal(zipped(good, zipfile.ZIP_DEFLATED))


def test_an_endless_list_of_members_is_refused(tmp_path: Path, refusal: Refusal) -> None:
    path = tmp_path / "wts.h5.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for number in range(20_000):
            archive.writestr(f"{number:050d}", b"")
    assert "its list of members claims" in refusal(path)


def test_the_long_form_of_an_endless_list_is_refused_too(
    good: Members, zipped: Zipped, refusal: Refusal
) -> None:
    path = zipped(good)
    content = path.read_bytes()
    body, end = content[:-22], content[-22:]
    count, size, offset = struct.unpack("<HLL", end[10:20])
    record = struct.pack("<4sQ2H2L4Q", b"PK\6\6", 44, 45, 45, 0, 0, count, count, 1 << 40, offset)
    locator = struct.pack("<4sLQL", b"PK\6\7", 0, len(body), 1)
    path.write_bytes(body + record + locator + end)
    assert size < 1000
    assert f"its list of members claims {1 << 40} bytes" in refusal(path)


def test_something_behind_the_archive_is_refused(good: Members, zipped: Zipped, refusal: Refusal) -> None:
    path = zipped(good)
    with path.open("ab") as file:
        file.write(b"and more")
    assert "does not end where a zip ends" in refusal(path)


# Unpacked


@pytest.fixture
def unpacked(good: Members, tmp_path: Path) -> Path:
    directory = tmp_path / "unpacked"
    for name, content in good.items():
        (directory / name).parent.mkdir(parents=True, exist_ok=True)
        (directory / name).write_bytes(content)
    return directory


def test_an_extra_file_in_a_directory_is_refused(unpacked: Path, refusal: Refusal) -> None:
    (unpacked / "autoencoder" / "notes.txt").write_text("x")
    assert "holds `autoencoder/notes.txt`, which belongs to no bundle" in refusal(unpacked)


def test_a_pickle_in_a_directory_is_refused(unpacked: Path, refusal: Refusal) -> None:
    (unpacked / "last.ckpt").write_text("x")
    assert "holds `last.ckpt`, a Python pickle" in refusal(unpacked)


def test_a_missing_file_in_a_directory_is_named(unpacked: Path, refusal: Refusal) -> None:
    (unpacked / "probe.npz").unlink()
    assert "the member `probe.npz` is missing" in refusal(unpacked)


@pytest.mark.skipif(os.name != "posix", reason="links need no rights on POSIX only")
def test_links_and_pipes_in_a_directory_are_refused(unpacked: Path, tmp_path: Path, refusal: Refusal) -> None:
    elsewhere = (unpacked / "history.csv").rename(tmp_path / "elsewhere.csv")
    (unpacked / "history.csv").symlink_to(elsewhere)
    assert "`history.csv` is a symbolic link" in refusal(unpacked)
    (unpacked / "history.csv").unlink()
    os.mkfifo(unpacked / "history.csv")
    assert "`history.csv` is no regular file" in refusal(unpacked)


@pytest.mark.skipif(os.name != "posix", reason="links need no rights on POSIX only")
def test_a_linked_folder_is_refused(unpacked: Path, tmp_path: Path, refusal: Refusal) -> None:
    elsewhere = (unpacked / "autoencoder").rename(tmp_path / "elsewhere")
    (unpacked / "autoencoder").symlink_to(elsewhere)
    assert "`autoencoder` is a symbolic link" in refusal(unpacked)


@pytest.mark.finding("BUNDLE-001")
def test_a_changed_file_in_a_directory_is_refused(unpacked: Path, refusal: Refusal) -> None:
    content = bytearray((unpacked / "history.csv").read_bytes())
    content[-3] ^= 1
    (unpacked / "history.csv").write_bytes(content)
    assert "`history.csv` is damaged, its sha256 is" in refusal(unpacked)


def test_an_edited_manifest_in_a_directory_is_refused(unpacked: Path, refusal: Refusal) -> None:
    path = unpacked / "manifest.json"
    path.write_text(path.read_text().replace('"alpha": 0.3', '"alpha": 0.4'))
    assert "`manifest.json` was changed" in refusal(unpacked)


def test_the_inner_archive_is_checked_like_the_outer_one(
    resealed: Callable[..., Members], zipped: Zipped, refusal: Refusal
) -> None:
    inner = io.BytesIO()
    with zipfile.ZipFile(inner, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("probe.npy", bytes(40 << 20))
        archive.writestr("probe_given.npy", b"")
    message = refusal(zipped(resealed(probe=inner.getvalue())))
    assert "probe.npz: the member `probe.npy` would grow" in message
