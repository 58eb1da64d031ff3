"""HDF5 and other files that are whole and wrong: links to nowhere, cycles, bombs, ranks and types."""

from __future__ import annotations

import itertools
import os
import zlib
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from ptycho_config.errors import ConfigError, DataError
from ptycho_core import open_scan

Change = Callable[[h5py.File], None]


@cache
def _zeros_deflated() -> bytes:
    """Zeros that are a quarter of a gigabyte when they are unpacked."""
    return zlib.compress(bytes(1 << 28), 9)


@pytest.fixture
def changed(tmp_path: Path, writers: Any, original: Any) -> Callable[..., Path]:
    """Write a format, then change the file."""

    def write(name: str, change: Change) -> Path:
        path = writers[name](tmp_path, original).path
        with h5py.File(path, "a") as file:
            change(file)
        return path

    return write


def _replace(key: str, value: Any) -> Change:
    def change(file: h5py.File) -> None:
        if key in file or file.get(key, getlink=True) is not None:
            del file[key]
        file[key] = value

    return change


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (np.zeros((30, 32), np.uint16), "no stack of frames|shape"),
        (np.zeros((30, 32, 32), np.complex64), "complex|no stack of frames"),
        (np.zeros((0, 32, 32)), "shape"),
        (np.full((30, 32, 32), np.nan, np.float32), "NaN"),
        (np.full((30, 32, 32), b"x"), "S1|no stack"),
        (np.float32(3), "no stack of frames|shape"),
    ],
)
def test_frames_of_a_wrong_rank_or_type_are_refused(changed: Any, value: Any, said: str) -> None:
    path = changed("ptychodus_raw", _replace("raw_data/diffraction", value))
    with pytest.raises(DataError, match=said):
        open_scan(path)


@pytest.mark.parametrize(
    ("name", "key", "value", "said"),
    [
        ("cxi", "entry_1/sample_1/geometry_1/translation", np.zeros(30), "Expected \\(frames, 3\\)"),
        ("cxi", "entry_1/instrument_1/detector_2/mask", np.zeros((32, 32)), "whole numbers"),
        ("cxi", "entry_1/instrument_1/detector_2/mask", np.zeros((3, 3), int), "mask of pixels"),
        ("ptychodus_raw", "raw_data/bad_pixels", np.zeros((32, 32), [("r", "f4")]), "Expected real numbers"),
        ("ptychodus_raw", "raw_data/bad_pixels", np.full((32, 32), b"a"), "Expected real numbers"),
        ("ptyd", "chunks/1/data", np.zeros((10, 8, 8)), "several sizes"),
        ("ptyd", "chunks/1/positions", np.zeros(10), "not every chunk"),
        ("nexus", "entry/result/probe", np.zeros((5, 6)), "probe has shape"),
        ("matlab", "ycoords", np.full(30, b"a"), "Expected real numbers"),
        ("matlab", "ycoords", np.zeros(7), "differ"),
    ],
)
def test_other_arrays_of_a_wrong_kind_are_refused(
    changed: Any, name: str, key: str, value: Any, said: str
) -> None:
    with pytest.raises(DataError, match=said):
        open_scan(changed(name, _replace(key, value)))


@pytest.mark.filterwarnings("ignore:FORMAT-001")  # with its flat fields the NXtomo has 32 frames of 32 x 32
@pytest.mark.filterwarnings("ignore:DATA-001.* stored twice")  # which are all alike
@pytest.mark.parametrize("name", ["cxi", "ptychodus_raw", "ptyd", "nexus", "raster", "matlab"])
def test_any_key_may_be_missing(name: str, tmp_path: Path, writers: Any, original: Any) -> None:
    written = writers[name](tmp_path, original)
    content = written.path.read_bytes()
    keys: list[str] = []
    with h5py.File(written.path) as file:
        file.visit(keys.append)
    for key in keys:
        written.path.write_bytes(content)
        with h5py.File(written.path, "a") as file:
            del file[key]
        try:
            open_scan(written.path, **written.options)
        except DataError as error:
            assert written.path.name in str(error) or "scan" in str(error)


@pytest.mark.parametrize(
    "link",
    [
        h5py.SoftLink("/nowhere"),
        h5py.ExternalLink("absent.h5", "/data"),
        h5py.SoftLink("/entry/loop"),
    ],
    ids=["soft", "external", "itself"],
)
def test_a_link_to_nowhere_is_named(changed: Any, link: Any) -> None:
    path = changed("nexus", _replace("entry/loop", link))
    with pytest.raises(DataError, match="entry/loop"):
        open_scan(path, frames_key="entry/loop")


def test_cyclic_groups_end(changed: Any, original: Any) -> None:
    def cycle(file: h5py.File) -> None:
        file["entry/again"] = file["entry"]
        file["entry/sample/up"] = h5py.SoftLink("/entry")
        file["entry/other"] = h5py.ExternalLink(Path(file.filename).name, "/entry")

    scan = open_scan(changed("nexus", cycle))
    np.testing.assert_allclose(scan.positions_px, original.positions_px, atol=1e-9)


def test_a_missing_part_of_a_virtual_data_set_is_named(changed: Any, original: Any) -> None:
    shape = original.counts.shape

    def virtual(file: h5py.File) -> None:
        layout = h5py.VirtualLayout(shape=shape, dtype=np.uint16)
        layout[:] = h5py.VirtualSource("absent-part.h5", "data", shape=shape)
        file.create_virtual_dataset("frames", layout)

    with pytest.raises(DataError, match=r"absent-part\.h5"):
        open_scan(changed("raster", virtual), frames_key="frames")


def test_declared_but_never_written_frames_are_refused(changed: Any) -> None:
    def huge(file: h5py.File) -> None:
        file.create_dataset("huge", shape=(10**9, 32, 32), dtype="u2", chunks=(1, 32, 32))

    with pytest.raises(DataError, match="never written"):
        open_scan(changed("raster", huge), frames_key="huge", positions_key="motors/slow,motors/fast")


def test_a_huge_probe_is_not_read(changed: Any) -> None:
    def huge(file: h5py.File) -> None:
        del file["beam/guess"]
        file.create_dataset("beam/guess", shape=(200, 4096, 4096), dtype="c8", chunks=(1, 64, 64))

    path = changed("raster", huge)
    keys = {
        "frames_key": "scan/images",
        "positions_key": "motors/slow,motors/fast",
        "probe_key": "beam/guess",
    }
    with pytest.raises(DataError, match="GiB"):
        open_scan(path, **keys)  # type: ignore[arg-type]


def test_huge_blocks_are_refused(changed: Any) -> None:
    def huge(file: h5py.File) -> None:
        file.create_dataset("huge", shape=(30, 32768, 32768), dtype="u2", chunks=(1, 32768, 32768))

    with pytest.raises(DataError, match=r"never written|blocks of"):
        open_scan(changed("raster", huge), frames_key="huge", positions_key="motors/slow,motors/fast")


def test_a_block_that_expands_to_more_than_it_should_is_refused(changed: Any) -> None:
    def bomb(file: h5py.File) -> None:
        item = file.create_dataset("bomb", (30, 32, 32), "u2", chunks=(1, 32, 32), compression="gzip")
        item.id.write_direct_chunk((0, 0, 0), _zeros_deflated())

    with pytest.raises(DataError, match="expands to more"):
        open_scan(changed("raster", bomb), frames_key="bomb", positions_key="motors/slow,motors/fast")


def test_raw_bytes_of_other_files_are_not_followed(changed: Any, tmp_path: Path) -> None:
    (tmp_path / "other.raw").write_bytes(bytes(1 << 16))

    def external(file: h5py.File) -> None:
        raw = [(str(tmp_path / "other.raw"), 0, h5py.h5f.UNLIMITED)]
        file.create_dataset("raw", (30, 32, 32), "u2", external=raw)

    with pytest.raises(DataError, match="not followed"):
        open_scan(changed("raster", external), frames_key="raw", positions_key="motors/slow,motors/fast")


POSITIONS = {"positions_key": "motors/slow,motors/fast"}


def test_layers_of_filters_are_unpacked_no_further_than_they_should_be(changed: Any) -> None:
    def bomb(file: h5py.File) -> None:
        plist = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        plist.set_chunk((30, 32, 32))
        for _ in range(2):
            plist.set_filter(h5py.h5z.FILTER_DEFLATE, h5py.h5z.FLAG_OPTIONAL, (9,))
        space = h5py.h5s.create_simple((30, 32, 32))
        item = h5py.h5d.create(file.id, b"bomb", h5py.h5t.NATIVE_UINT16, space, plist)
        item.write_direct_chunk((0, 0, 0), zlib.compress(_zeros_deflated(), 9))

    with pytest.raises(DataError, match="expands to more"):
        open_scan(changed("raster", bomb), frames_key="bomb", **POSITIONS)


def test_layers_that_cannot_be_looked_through_are_refused(changed: Any) -> None:
    def layers(file: h5py.File) -> None:
        counts = np.ones((30, 32, 32), np.uint16)
        plist = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        plist.set_chunk((30, 32, 32))
        plist.set_filter(h5py.h5z.FILTER_DEFLATE, h5py.h5z.FLAG_OPTIONAL, (9,))
        plist.set_filter(h5py.h5z.FILTER_LZF, h5py.h5z.FLAG_OPTIONAL)
        space = h5py.h5s.create_simple((30, 32, 32))
        item = h5py.h5d.create(file.id, b"layers", h5py.h5t.NATIVE_UINT16, space, plist)
        item.write(h5py.h5s.ALL, h5py.h5s.ALL, counts)

    with pytest.raises(DataError, match="compressed more than once"):
        open_scan(changed("raster", layers), frames_key="layers", **POSITIONS)


def _virtual(file: h5py.File, key: str, source_file: str, source_key: str) -> None:
    layout = h5py.VirtualLayout(shape=(30, 32, 32), dtype=np.uint16)
    layout[:] = h5py.VirtualSource(source_file, source_key, shape=(30, 32, 32))
    file.create_virtual_dataset(key, layout)


def _growing(file: h5py.File, key: str, source_file: str, source_key: str) -> None:
    """A virtual data set of a row of numbered files that may go on; for its shape they are opened."""
    forever = h5py.h5s.UNLIMITED
    here, there = (h5py.h5s.create_simple((30, 32, 32), (forever, 32, 32)) for _ in range(2))
    here.select_hyperslab((0, 0, 0), (forever, 1, 1), (30, 1, 1), (30, 32, 32))
    there.select_hyperslab((0, 0, 0), (1, 1, 1), (1, 1, 1), (30, 32, 32))
    plist = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    plist.set_layout(h5py.h5d.VIRTUAL)
    plist.set_virtual(here, source_file.encode(), source_key.encode(), there)
    space = h5py.h5s.create_simple((30, 32, 32), (forever, 32, 32))
    h5py.h5d.create(file.id, key.encode(), h5py.h5t.NATIVE_UINT16, space, plist)


def test_a_row_of_numbered_files_is_read_and_each_is_looked_at(
    changed: Any, original: Any, tmp_path: Path
) -> None:
    with h5py.File(tmp_path / "p0", "w") as file:
        counts = original.counts.astype(np.uint16)
        file.create_dataset("data", data=counts, chunks=(1, 32, 32), compression="gzip")
    path = changed("raster", lambda file: _growing(file, "a", "p%b", "data"))
    np.testing.assert_array_equal(open_scan(path, frames_key="a", **POSITIONS).counts(), counts)
    with h5py.File(tmp_path / "p0", "a") as file:
        file["data"].id.write_direct_chunk((7, 0, 0), zlib.compress(bytes(9)))
    with pytest.raises(DataError, match=r"p0: `/data`: a block at \(7, 0, 0\) holds less"):
        open_scan(path, frames_key="a", **POSITIONS)


@pytest.mark.parametrize("chain", [("a", "a"), ("a", "b", "a"), ("a", "b", "c", "a")])
def test_a_virtual_data_set_that_is_its_own_source_is_refused(changed: Any, chain: tuple[str, ...]) -> None:
    def circle(file: h5py.File) -> None:
        for key, source in itertools.pairwise(chain):
            _virtual(file, key, ".", source)

    with pytest.raises(DataError, match="put together from itself"):
        open_scan(changed("raster", circle), frames_key="a", **POSITIONS)


def test_virtual_data_sets_in_two_files_that_are_each_other_s_source_are_refused(
    changed: Any, tmp_path: Path
) -> None:
    with h5py.File(tmp_path / "other.h5", "w") as file:
        _virtual(file, "b", "raster.h5", "a")
    path = changed("raster", lambda file: _virtual(file, "a", "other.h5", "b"))
    path.rename(tmp_path / "raster.h5")
    with pytest.raises(DataError, match="put together from itself"):
        open_scan(tmp_path / "raster.h5", frames_key="a", **POSITIONS)


def test_a_row_of_virtual_data_sets_is_followed_so_far(changed: Any) -> None:
    def row(file: h5py.File) -> None:
        file["0"] = np.ones((30, 32, 32), np.uint16)
        for number in range(10):
            _virtual(file, str(number + 1), ".", str(number))

    with pytest.raises(DataError, match="more than 8 times"):
        open_scan(changed("raster", row), frames_key="10", **POSITIONS)


@pytest.mark.parametrize(("name", "pipe"), [("pipe", "pipe"), ("pi%%pe", "pi%pe"), ("p%b", "p0")])
def test_a_source_that_is_a_pipe_is_not_waited_for(
    changed: Any, tmp_path: Path, name: str, pipe: str
) -> None:
    os.mkfifo(tmp_path / pipe)
    path = changed("raster", lambda file: (_growing if "%b" in name else _virtual)(file, "a", name, "data"))
    with pytest.raises(DataError, match=f"leads to `{pipe}`, which is not a regular file"):
        open_scan(path, frames_key="a", **POSITIONS)


@pytest.mark.parametrize("through", ["directly", "a file between", "a soft link"])
def test_a_link_to_a_pipe_anywhere_is_not_waited_for(changed: Any, tmp_path: Path, through: str) -> None:
    os.mkfifo(tmp_path / "pipe")
    with h5py.File(tmp_path / "between.h5", "w") as file:
        file["deep/link"] = h5py.ExternalLink(str(tmp_path / "pipe"), "/x")

    def link(file: h5py.File) -> None:
        where = "between.h5" if through == "a file between" else "pipe"
        file["far/away"] = h5py.ExternalLink(where, "/deep")
        file["entry/soft"] = h5py.SoftLink("/far/away")

    with pytest.raises(DataError, match="not a regular file"):
        open_scan(changed("nexus", link))


def test_raw_bytes_behind_a_virtual_data_set_are_not_followed(changed: Any, tmp_path: Path) -> None:
    (tmp_path / "other.raw").write_bytes(bytes(1 << 16))

    def external(file: h5py.File) -> None:
        raw = [(str(tmp_path / "other.raw"), 0, h5py.h5f.UNLIMITED)]
        file.create_dataset("raw", (30, 32, 32), "u2", external=raw)
        _virtual(file, "between", ".", "raw")
        _virtual(file, "seen", ".", "between")

    with pytest.raises(DataError, match="not followed"):
        open_scan(changed("raster", external), frames_key="seen", **POSITIONS)


def test_a_source_without_its_data_set_is_named(changed: Any) -> None:
    path = changed("raster", lambda file: _virtual(file, "seen", ".", "absent"))
    with pytest.raises(DataError, match="`absent` is not there"):
        open_scan(path, frames_key="seen", **POSITIONS)


def test_the_limit_on_other_arrays_can_be_raised(changed: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PTYCHO_LARGEST_ARRAY_GIB", "0.000001")
    path = changed("raster", lambda file: None)
    keys = {"frames_key": "scan/images", **POSITIONS, "probe_key": "beam/guess"}
    with pytest.raises(DataError, match="set PTYCHO_LARGEST_ARRAY_GIB=1"):
        open_scan(path, **keys)
    monkeypatch.setenv("PTYCHO_LARGEST_ARRAY_GIB", "1")
    assert open_scan(path, **keys).frame_px == 32
    monkeypatch.setenv("PTYCHO_LARGEST_ARRAY_GIB", "much")
    with pytest.raises(ConfigError, match="Expected a number of GiB"):
        open_scan(path, **keys)


def test_a_file_of_many_objects_says_how_to_name_one(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "many.h5", "w") as file:
        for number in range(20_100):
            file.create_group(f"g{number}")
    with pytest.raises(DataError, match="frames-key"):
        open_scan(tmp_path / "many.h5")


def test_a_product_alone_says_what_it_is_for(tmp_path: Path, writers: Any, original: Any) -> None:
    product = writers["ptychodus"](tmp_path, original).options["positions_file"]
    with pytest.raises(DataError, match=r"--positions-file product\.h5"):
        open_scan(product)


def test_a_product_without_diffraction_lists_nothing_else(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "strange.h5", "w") as file:
        file["a/b"] = np.zeros((4, 5))
        file["c"] = np.zeros((3, 9, 9))
        file["d"] = np.zeros((3, 9, 9))
    with pytest.raises(DataError, match=r"2 arrays that could be the frames.*`c` \(3, 9, 9\)"):
        open_scan(tmp_path / "strange.h5")


def test_frames_without_positions_say_what_to_type(tmp_path: Path, original: Any) -> None:
    np.save(tmp_path / "frames.npy", original.counts)
    with pytest.raises(DataError, match="--positions-file"):
        open_scan(tmp_path / "frames.npy")


@pytest.mark.parametrize("text", ["", "y,x\n", "1,2\n3\n", "a b\nc d\n", "1\n2\n", "\0\1\2", "1,2\n" * 3])
def test_tables_that_are_none_are_refused(text: str, tmp_path: Path, original: Any) -> None:
    np.save(tmp_path / "frames.npy", original.counts)
    (tmp_path / "p.csv").write_text(text)
    with pytest.raises(DataError):
        open_scan(tmp_path / "frames.npy", positions_file=tmp_path / "p.csv")


@pytest.mark.parametrize("inside", [False, True])
def test_a_matlab_file_that_grows_out_of_next_to_nothing_is_refused(
    tmp_path: Path, inside: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    from scipy.io import savemat

    monkeypatch.setenv("PTYCHO_LARGEST_ARRAY_GIB", "0.01")
    zeros = {"diffraction": np.zeros((30, 512, 512), np.uint16)}
    savemat(tmp_path / "bomb.mat", {"scan": zeros} if inside else zeros, do_compression=True)
    with pytest.raises(DataError, match="what it holds would grow from"):
        open_scan(tmp_path / "bomb.mat")


def test_metres_without_a_pixel_name_the_flags(tmp_path: Path, writers: Any, original: Any) -> None:
    written = writers["tiff"](tmp_path, original)
    options = {key: value for key, value in written.options.items() if key != "detector_pixel_m"}
    with pytest.raises(DataError, match="--detector-pixel-m"):
        open_scan(written.path, **options)


@pytest.mark.parametrize("options", [{"rebin": 0}, {"crop_px": 0}, {"beam_center_px": (1,)}])
def test_impossible_settings_are_refused(options: Any, tmp_path: Path, writers: Any, original: Any) -> None:
    path = writers["npz"](tmp_path, original).path
    with pytest.raises(ConfigError, match="Expected"):
        open_scan(path, **options)


@pytest.mark.parametrize("mask", [np.full((32, 32), b"a"), np.zeros((32, 32), [("r", "f4")])])
def test_a_mask_of_text_or_records_is_refused_in_any_hdf5(
    mask: np.ndarray, tmp_path: Path, original: Any
) -> None:
    with h5py.File(tmp_path / "scan.h5", "w") as file:
        file["dp"], file["positions_px"], file["bad_pixels"] = original.counts, original.positions_px, mask
    with pytest.raises(DataError, match=r"scan.*the mask of pixels .*Expected real numbers"):
        open_scan(tmp_path / "scan.h5")
