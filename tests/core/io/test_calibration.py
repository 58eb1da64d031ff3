"""Dark frame, flat field and gain: what comes out are photons; and what wavelength electrons have."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from ptycho_config.errors import ConfigError, DataError, PolicyWarning
from ptycho_core import Scan, open_scan
from ptycho_core.io.units import electron_wavelength_m, wavelength_m
from ptycho_core.scan.dose import noise_floor
from ptycho_core.scan.gain import found_gain
from ptycho_core.scan.lazy import LazyFrames
from ptycho_core.simulate import simulate_scan


@pytest.fixture
def photons() -> np.ndarray:
    y, x = np.mgrid[:16, :16] - 8
    beam = 200 * np.exp(-(y**2 + x**2) / 20)
    return np.random.default_rng(1).poisson(beam, (25, 16, 16)).astype(np.float32)


def written(folder: Path, frames: np.ndarray, **more: Any) -> Path:
    y, x = np.divmod(np.arange(25), 5) * np.array([[3.0], [3.1]])
    np.savez(folder / "scan.npz", diff3d=frames, xcoords=x, ycoords=y, **more)
    return folder / "scan.npz"


def test_dark_flat_and_gain_are_taken_off(photons: np.ndarray, tmp_path: Path) -> None:
    dark = np.linspace(90, 110, 256).reshape(16, 16)
    flat = np.linspace(0.8, 1.2, 256).reshape(16, 16)
    path = written(tmp_path, (photons * 12.5 * flat + dark).astype(np.float32))
    np.save(tmp_path / "dark.npy", np.stack([dark - 1, dark + 1]))
    np.savez(tmp_path / "flat.npz", flat=7 * flat, other=dark)
    scan = open_scan(
        path, dark=tmp_path / "dark.npy", flat=f"{tmp_path}/flat.npz", counts_per_photon=12.5, dc="center"
    )
    level = float(np.median(flat))
    np.testing.assert_allclose(scan.counts() / level, photons, rtol=1e-4, atol=1e-3)
    assert scan.measurement == "counts"
    said = " ".join(scan.notes)
    assert "dark frame of dark.npy" in said
    assert "flat field of flat.npz:flat" in said
    assert "12.5 counts of the detector are one photon" in said


def test_pixels_that_answer_nothing_or_are_full_are_left_out(photons: np.ndarray, tmp_path: Path) -> None:
    frames = (photons * 100).astype(np.uint16)
    frames[:, 2, 3] = 65535
    flat = np.ones((16, 16))
    flat[5, 6] = 0
    scan = open_scan(written(tmp_path, frames), flat=flat, counts_per_photon=100.0, dc="center")
    assert scan.bad_pixels is not None
    marked = scan.bad_pixels if scan.bad_pixels.ndim == 2 else scan.bad_pixels.all(axis=0)
    assert marked[2, 3] and marked[5, 6]
    assert np.count_nonzero(marked) == 2


def test_a_calibration_that_cannot_be_is_refused(photons: np.ndarray, tmp_path: Path) -> None:
    path = written(tmp_path, photons)
    with pytest.raises(
        DataError, match=r"the dark of the caller is float64 of shape \(8, 8\)\. Expected 16 x 16"
    ):
        open_scan(path, dark=np.zeros((8, 8)))
    with pytest.raises(DataError, match="has no value above 0"):
        open_scan(path, flat=np.zeros((16, 16)))
    with pytest.raises(ConfigError, match="are for counts, and `measurement` is amplitude"):
        open_scan(path, counts_per_photon=2.0, measurement="amplitude")
    for beyond_float32 in (1e-46, 1e-320, 1e40, np.nan):
        with pytest.raises(ConfigError, match=r"from 1.2e-38 to 8.5e\+37"):
            open_scan(path, counts_per_photon=beyond_float32)
    with pytest.raises(ConfigError, match="`counts_per_photon` is -1"):
        open_scan(path, counts_per_photon=-1.0)
    with pytest.raises(DataError, match=r"no such file\. Expected a flat, `--flat FILE`"):
        open_scan(path, flat=tmp_path / "none.npy")


def test_electrons_have_their_relativistic_wavelength() -> None:
    # D. B. Williams and C. B. Carter, Transmission Electron Microscopy, table 1.2.
    for volts, picometres in ((80e3, 4.18), (100e3, 3.70), (200e3, 2.51), (300e3, 1.97)):
        assert electron_wavelength_m(volts) * 1e12 == pytest.approx(picometres, abs=0.006)


@pytest.mark.parametrize("electrons", ["300kV", 300e3, "0.3 MV"])
def test_electrons_decide_the_pixel(photons: np.ndarray, tmp_path: Path, electrons: Any) -> None:
    path = written(tmp_path, photons)
    scan = open_scan(path, electrons=electrons, distance_m=0.5, detector_pixel_m=50e-6)
    assert scan.pixel_size_m == pytest.approx(1.9687e-12 * 0.5 / (16 * 50e-6), rel=1e-4)
    assert scan.energy_ev is not None
    assert wavelength_m(scan.energy_ev) == pytest.approx(electron_wavelength_m(300e3))
    assert any("Electrons of 300 kV have a wavelength of 1.969 pm" in note for note in scan.notes)


def test_photons_that_are_likely_electrons_bring_a_warning(photons: np.ndarray, tmp_path: Path) -> None:
    path = written(tmp_path, photons)
    with pytest.warns(
        PolicyWarning, match=r"say `--electrons 80kV`; as photons their pixel is 3.71 times too"
    ):
        open_scan(path, energy_ev=80e3, distance_m=0.5, detector_pixel_m=50e-6)
    with pytest.raises(ConfigError, match="excludes `electrons`"):
        open_scan(path, energy_ev=80e3, electrons=80e3)
    with pytest.raises(ConfigError, match="`electrons` is 'fast': expected a voltage"):
        open_scan(path, electrons="fast")


@pytest.fixture(scope="module")
def simulated() -> Scan:
    return simulate_scan(frames=100, frame_px=64, photons=3e4, seed=2).scan


def opened(path: Path, scan: Scan, frames: np.ndarray, **options: Any) -> tuple[Scan, str]:
    """Store frames at the positions of a scan and open them; return what was warned of, too."""
    y, x = scan.positions_px.T
    np.savez(path, diff3d=frames, xcoords=x, ycoords=y)
    with warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter("always")
        again = open_scan(path, **options)
    return again, " ".join(str(warning.message) for warning in heard)


@pytest.mark.parametrize(
    ("gain", "dtype"), [(12, "u2"), (6.49, "u2"), (2, "i4"), (0.02, "f4"), (1 / 1.7, "f4")]
)
def test_frames_that_are_no_photons_are_divided_by_the_gain(
    simulated: Scan, tmp_path: Path, gain: float, dtype: str
) -> None:
    frames = (simulated.counts() * gain).astype(dtype)
    scan, said = opened(tmp_path / "scan.npz", simulated, frames, measurement="counts")
    assert "`--counts-per-photon 1` keeps them" in said
    assert scan.counts_per_photon == pytest.approx(gain, rel=0.01)
    assert scan.mean_counts_per_frame() == pytest.approx(simulated.mean_counts_per_frame(), rel=0.06)
    assert noise_floor(scan) == pytest.approx(noise_floor(simulated), rel=0.06)
    kept, _ = opened(tmp_path / "kept.npz", simulated, frames, measurement="counts", counts_per_photon=1.0)
    assert kept.mean_counts_per_frame() == pytest.approx(frames.sum(axis=(1, 2)).mean(), rel=1e-3)


def test_frames_of_noise_claim_no_gain(simulated: Scan, tmp_path: Path) -> None:
    frames = simulated.counts().astype("u4")
    frames[::10] = np.random.default_rng(0).poisson(240, (10, 64, 64))
    scan, said = opened(tmp_path / "scan.npz", simulated, frames)
    assert "photon" not in said
    assert scan.counts_per_photon is None
    scan, _ = opened(tmp_path / "adu.npz", simulated, frames * 12)
    assert scan.counts_per_photon == pytest.approx(12, rel=0.01)


@pytest.mark.parametrize("scale", [1e-6, 0.3, 1e5])
@pytest.mark.parametrize("asked", ["auto", "counts"])
def test_frames_divided_by_a_monitor_are_counts_whatever_their_scale(
    simulated: Scan, tmp_path: Path, scale: float, asked: str
) -> None:
    monitor = np.random.default_rng(0).uniform(0.8, 1.2, (100, 1, 1))
    frames = (simulated.counts() * scale / monitor).astype("f4")
    scan, said = opened(tmp_path / "scan.npz", simulated, frames, measurement=asked)
    assert "as counts divided by a monitor are" in said
    assert scan.measurement == "counts"
    assert scan.counts_per_photon == pytest.approx(scale, rel=0.05)
    assert noise_floor(scan) == pytest.approx(noise_floor(simulated), rel=0.06)
    back, _ = opened(tmp_path / "scan.npz", simulated, frames, measurement="amplitude")
    assert (back.measurement, back.counts_per_photon) == ("amplitude", None)


@pytest.mark.parametrize(("dtype", "scale"), [("f4", 1e-43), ("f4", 3e-45), ("f8", 1e-46), ("f8", 1e-320)])
def test_counts_that_float32_cannot_hold_are_called_that_and_not_nan(
    simulated: Scan, tmp_path: Path, dtype: str, scale: float
) -> None:
    frames = (simulated.counts() * np.float64(scale)).astype(dtype)
    with pytest.raises(DataError, match=r"reaches no more than .* which is less than float32 can square"):
        opened(tmp_path / "s.npz", simulated, frames)


def test_small_doubles_are_multiplied_before_they_are_narrowed(simulated: Scan, tmp_path: Path) -> None:
    scan, said = opened(tmp_path / "s.npz", simulated, simulated.counts().astype("f8") * 1e-37)
    assert "whole multiples of 1e-37" in said
    np.testing.assert_array_equal(scan.counts(), simulated.counts())


def test_amplitudes_are_multiples_of_nothing(simulated: Scan, tmp_path: Path) -> None:
    for frames in (simulated.amplitude(), simulated.amplitude() * 0.37, np.round(simulated.amplitude(), 2)):
        scan, said = opened(tmp_path / "scan.npz", simulated, frames.astype("f4"))
        assert said == ""
        assert (scan.measurement, scan.counts_per_photon) == ("amplitude", None)


@pytest.mark.parametrize("deviation", [0.3, 1.0, 4.0])
@pytest.mark.parametrize("asked", [{}, {"counts_per_photon": 1.0}])
def test_read_noise_beside_photons_is_found_and_changes_no_frame(
    simulated: Scan, tmp_path: Path, deviation: float, asked: dict[str, float]
) -> None:
    noise = np.random.default_rng(0).normal(0, deviation, simulated.frames.shape)
    frames = (simulated.counts() + noise).astype("f4")
    scan, said = opened(tmp_path / "scan.npz", simulated, frames, measurement="counts", **asked)
    assert "divided" not in said
    np.testing.assert_allclose(scan.counts(), np.maximum(frames, 0), rtol=1e-5, atol=1e-6)
    assert scan.read_noise == pytest.approx(deviation, rel=0.1)
    assert any("a read noise of" in note for note in scan.notes)


def test_photons_without_read_noise_have_none(simulated: Scan, tmp_path: Path) -> None:
    frames = simulated.counts().astype("i4")
    frames[:, 3, 4] = -1
    frames[::3, 5:20] = -1  # dead in some frames
    scan, _ = opened(tmp_path / "scan.npz", simulated, frames)
    assert scan.read_noise == 0


@pytest.mark.parametrize("dtype", ["i4", "f4"])
def test_read_noise_around_zero_is_noise_and_no_mark(tmp_path: Path, dtype: str) -> None:
    made = simulate_scan(frames=120, frame_px=64, photons=1e6, seed=2).scan
    noisy = made.counts() * 37 + np.random.default_rng(0).normal(0, 12, made.frames.shape)
    frames = np.round(noisy).astype(dtype)
    frames[:, 20] = -1  # and marks there are, too
    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)
        scan, said = opened(tmp_path / "scan.npz", made, frames)
        given_too, _ = opened(tmp_path / "scan.npz", made, frames, counts_per_photon=37.0)
    assert "are noise around zero" in said
    assert "beside a read noise of 0.3" in said
    assert scan.counts_per_photon == pytest.approx(37, rel=0.02)
    assert scan.read_noise == pytest.approx(12 / 37, rel=0.2)
    assert noise_floor(scan) == pytest.approx(noise_floor(made), rel=0.3)
    for one in (scan, given_too):
        assert np.isfinite(one.counts()).all()
        share = 0.0 if one.bad_pixels is None else one.bad_pixels.mean()
        assert share <= 1 / 64


def test_photons_that_were_spread_over_pixels_are_not_counted_in_parts(
    simulated: Scan, tmp_path: Path
) -> None:
    spread = gaussian_filter(simulated.counts().astype(float), (0, 0.4, 0.4)) * 1e-6
    scan, _ = opened(tmp_path / "scan.npz", simulated, spread.astype("f4"), measurement="counts")
    assert scan.counts_per_photon is None or 0.5e-6 < scan.counts_per_photon < 1.1e-6


def test_a_gain_is_as_certain_as_it_is_said_to_be(simulated: Scan) -> None:
    """Read noise of most of a photon hides the heaps; what mean and variance tell is near, or is not said."""
    for seed in range(4):
        random = np.random.default_rng(seed)
        noisy = np.round(simulated.counts() * 10 + random.normal(0, 6, simulated.frames.shape))
        told = found_gain(noisy, noisy=True)
        assert told is None or abs(told.counts_per_photon / 10 - 1) <= 1.2 * told.within


def test_full_values_of_single_frames_stay_numbers_when_the_gain_is_found(tmp_path: Path) -> None:
    made = simulate_scan(frames=100, frame_px=64, photons=3e4, seed=2).scan
    frames = (made.counts() * 12).astype(np.uint16)
    frames[3, 32, 32] = frames[40, 30, 31] = 65535
    y, x = made.positions_px.T
    np.savez(tmp_path / "scan.npz", diff3d=frames, xcoords=x, ycoords=y)
    with pytest.warns(PolicyWarning):
        scan = open_scan(tmp_path / "scan.npz")
    assert scan.counts_per_photon == pytest.approx(12, rel=0.06)
    assert np.isfinite(scan.counts()).all()


def test_counts_that_are_said_to_be_photons_are_left_as_they_are(photons: np.ndarray, tmp_path: Path) -> None:
    scan = open_scan(written(tmp_path, photons), counts_per_photon=1.0)
    assert isinstance(scan.frames, LazyFrames)
    assert scan.counts_per_photon == 1.0


@pytest.mark.parametrize("seed", [2, 11, 15])
def test_photons_stay_photons_where_the_sample_moves_much_light_about(seed: int) -> None:
    """A narrow pattern of smooth discs: its dim pixels vary three times as much as photons alone would."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        scan = simulate_scan(
            object_kind="discs", probe_kind="gaussian", frames=150, frame_px=64, photons=1e6, seed=seed
        ).scan
    assert scan.counts_per_photon is None
