"""Sources that grow while they are read: nothing is lost, nothing half-written is taken."""

from __future__ import annotations

import os
from pathlib import Path

import h5py
import numpy as np
import pytest
import tifffile

from ptycho_config.errors import ConfigError, DataError
from ptycho_core import Scan, save_scan
from ptycho_core.io.options import ReadOptions
from ptycho_core.live import Arrival, Intake, Source, open_source


def indices(arrivals: list[Arrival]) -> list[int]:
    return [one.index for one in arrivals]


def counts(scan: Scan) -> np.ndarray:
    return np.rint(scan.counts()).astype(np.uint32)


def assert_delivers(source: Source, scan: Scan, wanted: list[int]) -> None:
    arrivals = source.poll()
    assert indices(arrivals) == wanted
    for one in arrivals:
        np.testing.assert_array_equal(one.frame, counts(scan)[one.index])
        np.testing.assert_allclose(one.position, scan.positions_px[one.index])


def test_hdf5_grows_beside_a_writer(tmp_path: Path, scan: Scan) -> None:
    path = tmp_path / "scan.h5"
    source = open_source(path)
    assert source.poll() == []  # the file is still to come
    with h5py.File(path, "w", libver="latest") as file:
        frames = file.create_dataset("data", (0, 32, 32), "u4", maxshape=(None, 32, 32), chunks=(1, 32, 32))
        positions = file.create_dataset("positions_px", (0, 2), "f8", maxshape=(None, 2), chunks=(64, 2))
        file.swmr_mode = True
        for first, last in ((0, 3), (3, 10)):
            frames.resize(last, axis=0)
            positions.resize(last, axis=0)
            frames[first:last] = counts(scan)[first:last]
            positions[first:last] = scan.positions_px[first:last]
            frames.flush()
            positions.flush()
            assert_delivers(source, scan, list(range(first, last)))
        assert source.poll() == []


def test_room_that_was_made_for_all_frames_is_not_taken_for_frames(tmp_path: Path, scan: Scan) -> None:
    path = tmp_path / "scan.h5"
    source = open_source(path)

    def write(*rows: int) -> None:
        with h5py.File(path, "a") as file:
            if "data" not in file:
                file["data"], file["positions_px"] = np.zeros((12, 32, 32), "u4"), scan.positions_px[:12]
            file["data"][list(rows)] = counts(scan)[list(rows)]

    write(0, 1, 3)
    assert_delivers(source, scan, [0, 1, 3])
    assert source.expected == 12
    assert list(source.missing()) == [2]
    write(2, 4, 5)
    assert_delivers(source, scan, [2, 4, 5])
    assert source.missing() == {}
    assert source.poll(last=True) == []
    assert list(source.missing()) == [6, 7, 8, 9, 10, 11]


@pytest.mark.parametrize("declared", [0, 5, 60], ids=["none", "too few", "all"])
def test_npy_frames_that_are_appended(declared: int, tmp_path: Path, scan: Scan) -> None:
    path, frames = tmp_path / "stack.npy", counts(scan)
    np.save(tmp_path / "stack_positions.npy", scan.positions_px)
    source = open_source(path)
    header = {"descr": "<u4", "fortran_order": False, "shape": (declared, 32, 32)}
    with path.open("wb") as file:
        np.lib.format.write_array_header_1_0(file, header)
        file.write(frames[:4].tobytes() + frames[4].tobytes()[:100])
        file.flush()
        assert_delivers(source, scan, [0, 1, 2, 3])
        file.write(frames[4].tobytes()[100:] + frames[5:9].tobytes())
        file.flush()
        assert_delivers(source, scan, [4, 5, 6, 7, 8])
    assert source.expected == (declared or None if declared > 4 else None)


def test_the_header_of_a_file_may_be_half_written(tmp_path: Path, scan: Scan) -> None:
    path = tmp_path / "stack.npy"
    source = open_source(path)
    path.write_bytes(b"\x93NUM")
    assert source.poll() == []
    np.save(path, counts(scan)[:3])
    assert source.poll() == []  # frames, and no positions yet
    np.save(tmp_path / "positions.npy", scan.positions_px[:2])
    assert_delivers(source, scan, [0, 1])


def test_positions_that_come_line_by_line(tmp_path: Path, scan: Scan) -> None:
    np.save(tmp_path / "stack.npy", counts(scan)[:4])
    table = tmp_path / "positions.csv"
    table.write_text("y,x\n1.5,2.5\n10.25,12")  # the last number may go on
    source = open_source(tmp_path / "stack.npy")
    (only,) = source.poll()
    assert only.position.tolist() == [1.5, 2.5]
    table.write_text("y,x\n1.5,2.5\n10.25,12.75\n")
    (second,) = source.poll()
    assert second.position.tolist() == [10.25, 12.75]


def test_a_stack_without_positions_is_refused_in_the_end(tmp_path: Path, scan: Scan) -> None:
    np.save(tmp_path / "stack.npy", counts(scan)[:4])
    source = open_source(tmp_path / "stack.npy")
    assert source.poll() == []
    with pytest.raises(DataError, match=r"no positions were found.*positions\.csv.*--positions-file"):
        source.poll(last=True)


def test_frame_files_in_any_order(folder: Path, scan: Scan) -> None:
    source = open_source(folder)
    frames = counts(scan)
    np.save(folder / "frame_0000.npy", frames[0])
    np.save(folder / "frame_0002.npy", frames[2])
    assert_delivers(source, scan, [0, 2])
    tifffile.imwrite(folder / "frame_0001.tif", frames[1])
    np.savez(folder / "frame_0010.npz", frame=frames[10])
    assert_delivers(source, scan, [1, 10])
    (folder / "DONE").touch()
    assert source.ended


def test_a_frame_file_that_is_half_written_is_taken_when_it_is_whole(folder: Path, scan: Scan) -> None:
    source, frames = open_source(folder), counts(scan)
    np.save(folder / "frame_1.npy", frames[1])
    np.save(folder / "frame_0.npy", frames[0])
    whole = (folder / "frame_1.npy").read_bytes()
    (folder / "frame_1.npy").write_bytes(whole[:300])
    assert_delivers(source, scan, [0])
    assert "frame_1.npy" in source.missing()[1]
    assert source.poll() == []
    (folder / "frame_1.npy").write_bytes(whole)
    assert_delivers(source, scan, [1])
    assert source.missing() == {}


def test_frame_numbers_may_begin_anywhere(tmp_path: Path, scan: Scan) -> None:
    for number in (7, 8):
        path = tmp_path / f"img{number:03}.npz"
        np.savez(path, diffraction=counts(scan)[number - 7], position_px=scan.positions_px[number - 7])
    assert_delivers(open_source(tmp_path), scan, [0, 1])
    assert indices(open_source(tmp_path, first_number=5).poll()) == [2, 3]


def test_a_frame_without_a_position_waits_for_it(tmp_path: Path, scan: Scan) -> None:
    np.save(tmp_path / "a0.npy", counts(scan)[0])
    source = open_source(tmp_path)
    assert source.poll() == []
    assert "no position" in source.missing()[0]
    (tmp_path / "positions.txt").write_text("{!r} {!r}\n".format(*scan.positions_px[0].tolist()))
    assert_delivers(source, scan, [0])


def test_a_replay_gives_every_frame_once_when_it_is_due(tmp_path: Path, scan: Scan) -> None:
    save_scan(scan, tmp_path / "scan.npz")
    source = open_source(tmp_path / "scan.npz", replay=2000.0)
    arrivals: list[Arrival] = []
    while not source.ended:
        arrivals += source.poll()
    assert indices(arrivals) == list(range(scan.n_frames))
    between = np.diff([one.at_s for one in arrivals])
    np.testing.assert_allclose(between, 1 / 2000, rtol=1e-6)


@pytest.mark.parametrize(
    ("name", "error", "message"),
    [
        ("siemens-star", ConfigError, "--replay 500"),
        ("scan.npz", ConfigError, "does not grow.*--replay 500"),
        ("nowhere", DataError, "no such file or directory"),
        ("nowhere/scan.h5", DataError, "neither the file nor its folder"),
    ],
)
def test_what_cannot_be_watched_is_refused_at_once(
    name: str,
    error: type[Exception],
    message: str,
    tmp_path: Path,
    scan: Scan,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    save_scan(scan, tmp_path / "scan.npz")
    with pytest.raises(error, match=message):
        open_source(name)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="FIFOs are a POSIX idea")
def test_a_fifo_among_the_frames_is_left_out_and_named(folder: Path, scan: Scan) -> None:
    for index, frame in enumerate(counts(scan)[:5]):
        np.save(folder / f"f_{index:02d}.npy", frame)
    os.mkfifo(folder / "f_05.npy")
    source = open_source(folder)
    assert indices(source.poll()) == list(range(5))
    assert "FIFO" in source.missing()[5]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="FIFOs are a POSIX idea")
@pytest.mark.parametrize("name", ["scan.h5", "scan.npy"])
def test_a_fifo_in_the_place_of_the_file_is_refused(name: str, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / name)
    with pytest.raises(DataError, match="FIFO"):
        open_source(tmp_path / name).poll()


@pytest.mark.parametrize("name", ["scan.h5", "scan.npy"])
def test_a_size_that_is_declared_and_will_not_come_hinders_nothing(
    name: str, tmp_path: Path, scan: Scan
) -> None:
    frames, path = counts(scan)[:40], tmp_path / name
    shape = (10**9, *frames.shape[1:])
    if path.suffix == ".h5":
        with h5py.File(path, "w") as file:
            file.create_dataset("dp", shape, frames.dtype, chunks=(1, *shape[1:]))[:40] = frames
            file["positions"] = scan.positions_px[:40]
    else:
        np.savetxt(
            tmp_path / "positions.csv", scan.positions_px[:40], delimiter=",", header="y,x", comments=""
        )
        with path.open("wb") as stream:
            header = {"descr": frames.dtype.str, "fortran_order": False, "shape": shape}
            np.lib.format.write_array_header_1_0(stream, header)
            stream.write(frames.tobytes())
    source = open_source(path)
    assert indices(source.poll()) == list(range(40))
    intake = Intake(source)
    intake.take([Arrival(k, frames[k], scan.positions_px[k], 0.0) for k in range(40)], last=True)
    assert len(intake) == 40


def test_what_is_known_of_positions_is_no_question_to_the_disk(folder: Path, scan: Scan) -> None:
    for index, frame in enumerate(counts(scan)[:5]):
        np.save(folder / f"f_{index:02d}.npy", frame)
    np.save(folder.parent / "where.npy", scan.positions_px[:5])
    source = open_source(folder, reading=ReadOptions(positions_file=folder.parent / "where.npy"))
    assert indices(source.poll()) == list(range(5))
    np.save(folder.parent / "where.npy", scan.positions_px[:9])
    known, head = source.positions_known(), source.head().positions_px
    assert known is not None
    assert head is not None
    assert len(known) == len(head) == 5
    source.poll()
    known = source.positions_known()
    assert known is not None
    assert len(known) == 9


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="FIFOs are a POSIX idea")
@pytest.mark.parametrize("frames", ["folder", "stack"])
def test_a_fifo_in_the_place_of_the_positions_is_named(frames: str, folder: Path, scan: Scan) -> None:
    os.mkfifo(folder / "where.csv")
    np.save(folder / "f_00.npy", counts(scan)[0] if frames == "folder" else counts(scan)[:5])
    place = folder if frames == "folder" else folder / "f_00.npy"
    source = open_source(place, reading=ReadOptions(positions_file=folder / "where.csv"))
    intake = Intake(source)
    with pytest.raises(DataError, match=r"no (frame came that|positions were found).*where.csv: .*FIFO"):
        intake.take(source.poll(last=True), last=True)
        intake.scan()
