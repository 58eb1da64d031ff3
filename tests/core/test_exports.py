"""Results open in other programs: TIFF with its pixel size, a MATLAB file, an unwrapped phase, a cut
object."""

from __future__ import annotations

import io
import os
import subprocess
import sys
import threading
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import tifffile

from ptycho_core import Reconstruction
from ptycho_core.figures.display import phase_without_ramp
from ptycho_core.io.hdf5 import writing
from ptycho_core.result.exports import unwrapped_phase
from ptycho_core.result.verdict import Verdict

SIDE = 96


@pytest.fixture
def result() -> Reconstruction:
    """A smooth phase of 15 rad under a round illumination."""
    y, x = (axis - SIDE / 2 for axis in np.mgrid[:SIDE, :SIDE])
    phase = 15 * np.exp(-(y**2 + x**2) / (2 * 18.0**2))
    coverage = (np.hypot(y, x - 6) < 34).astype(np.float32)
    return Reconstruction(
        object=(0.9 * np.exp(1j * phase)).astype(np.complex64),
        probe=np.arange(2 * 16 * 16).reshape(2, 16, 16).astype(np.complex64) * (1 + 2j),
        origin_px=np.array([3.0, -5.0]),
        positions_px=np.random.default_rng(0).uniform(0, 50, (7, 2)),
        coverage=coverage,
        residual_per_frame=np.full(7, 0.1, np.float32),
        data_residual=0.1,
        method="solver",
        scan_name="hill",
        pixel_size_m=8e-9,
    )


def test_images_as_tiff_hold_the_values_and_the_pixel(result: Reconstruction, tmp_path: Path) -> None:
    files = result.save(tmp_path, figures=False, tiff=True)
    expected = {
        "amplitude.tif": np.abs(result.object),
        "phase.tif": phase_without_ramp(result.object, result.coverage > 0),
        "phase_unwrapped.tif": unwrapped_phase(result),
    }
    for name, image in expected.items():
        with tifffile.TiffFile(files[name]) as tiff:
            page = tiff.pages[0]
            np.testing.assert_array_equal(page.asarray(), image.astype(np.float32))
            assert page.dtype == np.float32
            numerator, denominator = page.tags["XResolution"].value
            assert page.tags["ResolutionUnit"].value == 3  # centimetres
            assert 0.01 / (numerator / denominator) == pytest.approx(8e-9, rel=1e-6)
            assert "hill" in page.tags["ImageDescription"].value


def test_an_unknown_pixel_is_said(result: Reconstruction, tmp_path: Path) -> None:
    files = replace(result, pixel_size_m=None).save(tmp_path, figures=False, tiff=True)
    with tifffile.TiffFile(files["phase.tif"]) as tiff:
        assert "pixel size unknown" in tiff.pages[0].tags["ImageDescription"].value


def test_the_unwrapped_phase_has_no_jumps(result: Reconstruction) -> None:
    seen = result.coverage > 0
    wrapped, unwrapped = phase_without_ramp(result.object, seen), unwrapped_phase(result)
    assert np.ptp(wrapped[seen]) <= 2 * np.pi
    true = np.angle(result.object)
    hill = np.unwrap(np.unwrap(true, axis=0), axis=1)
    assert np.ptp(unwrapped[seen]) == pytest.approx(np.ptp(hill[seen]), rel=0.2)
    steps = np.abs(np.diff(unwrapped, axis=0))[seen[1:] & seen[:-1]]
    assert steps.max() < np.pi / 2
    np.testing.assert_allclose(np.exp(1j * unwrapped[seen]), np.exp(1j * wrapped[seen]), atol=1e-4)
    assert not unwrapped[~seen].any()


def test_the_matlab_file_has_matlab_s_layout(result: Reconstruction, tmp_path: Path) -> None:
    path = result.save(tmp_path, figures=False, mat=True)["reconstruction.mat"]
    head = path.read_bytes()[:128]
    assert head.startswith(b"MATLAB 7.3 MAT-file")
    assert head[124:] == b"\x00\x02IM"
    with h5py.File(path) as file:
        assert file.userblock_size == 512
        pairs = file["object"][()].T  # MATLAB counts columns first
        np.testing.assert_array_equal(pairs["real"] + 1j * pairs["imag"], result.object)
        probe = file["probe"][()].T
        assert probe.shape == (16, 16, 2)
        np.testing.assert_array_equal(probe["real"][..., 1], result.probe[1].real)
        np.testing.assert_array_equal(file["positions_px"][()].T, result.positions_px)
        assert file["object"].attrs["MATLAB_class"] == b"single"
        assert file["positions_px"].attrs["MATLAB_class"] == b"double"


def test_a_cut_object_keeps_its_place(result: Reconstruction, tmp_path: Path) -> None:
    cut = result.cropped()
    rows, columns = np.flatnonzero(result.coverage.any(1)), np.flatnonzero(result.coverage.any(0))
    np.testing.assert_array_equal(cut.origin_px, result.origin_px + np.array([rows[0], columns[0]]))
    assert cut.object.shape == (np.ptp(rows) + 1, np.ptp(columns) + 1)
    np.testing.assert_array_equal(
        cut.object, result.object[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    )
    cut.save(tmp_path, figures=False)
    np.testing.assert_array_equal(Reconstruction.load(tmp_path).object, cut.object)


def test_the_unwrapped_phase_is_drawn(result: Reconstruction, tmp_path: Path) -> None:
    assert result.save(tmp_path, unwrap=True)["phase_unwrapped.png"].read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("backend", ["module://matplotlib_inline.backend_inline", "nonsense"])
def test_the_caller_s_backend_never_costs_a_picture(backend: str) -> None:
    code = (
        "import os, ptycho_core.figures.result as r; from matplotlib.figure import Figure; "
        "from ptycho_core.figures.page import blank_page, page_png; "
        "print(len(page_png(blank_page(2, 2))) > 100, os.environ['MPLBACKEND'])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | {"MPLBACKEND": backend},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout.split() == ["True", backend], done.stderr


def test_scan_and_result_show_themselves_in_a_line(result: Reconstruction, simulated) -> None:
    assert repr(result) == ("<Reconstruction of hill: object 96 x 96 px, 7 frames of 16 px, R = 0.1000>")
    scan = simulated(frames=9, frame_px=32).scan
    assert repr(scan).startswith("<Scan polygons-focus-spiral: 9 frames of 32 x 32 px, counts, ")


def test_notebooks_get_pictures_and_key_figures(result: Reconstruction, simulated) -> None:
    judged = replace(result, verdict=Verdict("doubtful", ("Some <b>reason</b>.",)))
    shown = judged._repr_html_()
    assert shown.count("data:image/png;base64,") == 2
    assert "R = 0.1000" in shown
    assert "Some &lt;b&gt;reason" in shown
    assert judged.verdict is not None
    assert "<li>Some &lt;b&gt;reason" in judged.verdict._repr_html_()
    scan = simulated(frames=9, frame_px=32).scan._repr_html_()
    assert scan.count("data:image/png;base64,") == 2
    assert "9 frames" in scan
    assert len(shown) + len(scan) < 300_000


def test_a_notebook_reads_a_sample_of_a_scan_that_was_not_read_yet(simulated) -> None:
    scan = simulated(frames=9, frame_px=32).scan
    many = replace(scan, frames=np.tile(np.asarray(scan.frames), (20, 1, 1)), positions_px=np.zeros((180, 2)))
    assert "mean pattern of 64 frames" in many._repr_html_()
    many.survey()
    assert "mean pattern of all frames" in many._repr_html_()


class DeadDisk(io.BytesIO):
    """A file that HDF5 reads through Python, and which does not answer until it is let go."""

    def __init__(self) -> None:
        super().__init__(bytes(4096))
        self.asked, self.let_go = threading.Event(), threading.Event()

    def readinto(self, buffer: Any) -> int:
        self.asked.set()
        self.let_go.wait()
        return super().readinto(buffer)


def test_a_thread_that_waits_in_hdf5_costs_its_file_alone(
    result: Reconstruction, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writing, "_LONGEST_READ_S", 0.2)
    result.save(tmp_path, figures=False)
    disk = DeadDisk()

    def read() -> None:
        with suppress(OSError):
            h5py.File(disk, "r")

    waiting = threading.Thread(target=read)
    waiting.start()
    assert disk.asked.wait(30)
    try:
        with pytest.warns(UserWarning, match=r"reconstruction.h5 is left out: another thread waits"):
            files = result.save(tmp_path, figures=False)
    finally:
        disk.let_go.set()
        waiting.join()
    assert "reconstruction.h5" not in files
    assert not (tmp_path / "reconstruction.h5").exists()
    assert Reconstruction.load(tmp_path).n_frames == result.n_frames
