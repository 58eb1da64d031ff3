"""What no flag of the reading puts right: a blurred detector, a thick sample, a wrong start probe."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np
import pytest
from jaxtyping import config
from scipy.ndimage import gaussian_filter

from ptycho_config.execution import SolverExecutionConfig
from ptycho_core import Scan, open_scan, save_scan
from ptycho_core.doctor import Setting, diagnose
from ptycho_core.doctor.blur import Blur, find_blur
from ptycho_core.doctor.left_over import left_beyond_noise, predicted_counts
from ptycho_core.doctor.setting import composed_flags
from ptycho_core.doctor.slices import TwoSlices, two_slices
from ptycho_core.doctor.trials import Trials
from ptycho_core.simulate import SimulatedScan
from ptycho_core.simulate.scan import expected_intensity

NUMPY = SolverExecutionConfig(arrays="numpy", threads=1)
LONG = 600.0


@pytest.fixture(autouse=True, scope="module")
def as_a_program() -> Iterator[None]:
    """Without the checks of every call: many reconstructions, which have tests of their own."""
    config.update("jaxtyping_disable", True)
    yield
    config.update("jaxtyping_disable", False)


@pytest.fixture(scope="module")
def made(simulated: Callable[..., SimulatedScan]) -> SimulatedScan:
    """70 frames of 32 x 32 of a sample that scatters to the rim of the detector."""
    return simulated(
        object_kind="texture", probe_kind="speckle", overlap=0.75, photons=1e5, frames=70, frame_px=32, seed=1
    )


def counted(scan: Scan, light: np.ndarray) -> Scan:
    """The scan with Poisson counts of this light, as many as it had."""
    mean = scan.mean_counts_per_frame()
    counts = np.random.default_rng(3).poisson(light * (mean / light.sum(axis=(1, 2)).mean()))
    return replace(scan, frames=counts.astype(np.float32), measurement="counts", dc="center")


@pytest.fixture(scope="module")
def blurry(made: SimulatedScan) -> Scan:
    """The light spreads by 0.8 px on the detector before it is counted."""
    light = expected_intensity(made.obj, made.probe, made.scan.positions_px).astype(np.float64)
    return counted(made.scan, gaussian_filter(light, (0, 0.8, 0.8)))


@pytest.fixture(scope="module")
def thick(simulated: Callable[..., SimulatedScan]) -> Scan:
    """Two slices, wavelength x distance = 20 px², four depths of field apart."""
    two = simulated(frames=70, frame_px=32, photons=1e6, overlap=0.75, seed=1)
    behind = simulated(object_kind="texture", frames=70, frame_px=32, photons=1e6, overlap=0.75, seed=1).obj
    n, positions = 32, two.scan.positions_px
    k = np.fft.fftfreq(n)
    way = np.exp(-1j * np.pi * 20.0 * (k[:, None] ** 2 + k**2))
    light = np.empty((len(positions), n, n))
    for frame, position in enumerate(positions):
        whole = np.floor(position - n // 2 + 0.5).astype(int)
        rest = position - n // 2 - whole
        ramp = np.exp(-2j * np.pi * (k[:, None] * rest[0] + k * rest[1]))
        window = (slice(whole[0], whole[0] + n), slice(whole[1], whole[1] + n))
        wave = np.fft.ifft2(np.fft.fft2(two.probe[0]) * ramp) * two.obj[window]
        wave = np.fft.ifft2(np.fft.fft2(wave) * way) * behind[window]
        light[frame] = np.fft.fftshift(np.abs(np.fft.fft2(wave)) ** 2)
    return counted(two.scan, light)


def blur_of(scan: Scan) -> tuple[float, Blur | None]:
    trials = Trials(scan, LONG, NUMPY)
    plain = trials(Setting())
    assert plain is not None
    left = left_beyond_noise(trials.part, predicted_counts(trials.part, plain.result))
    return left, find_blur(
        trials.part,
        left,
        lambda sharp: trials.reconstruct(sharp, Setting(), all_frames=True),
        lambda: True,
    )


def slices_of(scan: Scan) -> TwoSlices:
    trials = Trials(scan, LONG, NUMPY)
    plain = trials(Setting())
    assert plain is not None
    found = two_slices(trials.part, plain.result, lambda: True)
    assert found is not None
    return found


def test_a_blur_is_measured(blurry: Scan) -> None:
    left, blur = blur_of(blurry)
    assert blur is not None
    assert blur.sigma_px == pytest.approx(0.8, abs=0.1)
    assert blur.left < 0.5 * left


def test_sharp_frames_have_no_blur(made: SimulatedScan) -> None:
    assert blur_of(made.scan)[1] is None


def test_two_slices_explain_a_thick_sample_at_their_distance(thick: Scan) -> None:
    found = slices_of(thick)
    assert found.distance_px2 == 20.0
    assert found.gain < 0.85


@pytest.mark.parametrize("fault", ["none", "blur", "jitter"])
def test_a_thin_sample_is_not_thick(made: SimulatedScan, blurry: Scan, fault: str) -> None:
    scan = blurry if fault == "blur" else made.scan
    if fault == "jitter":
        off = np.random.default_rng(4).normal(0, 1, scan.positions_px.shape)
        scan = scan.moved_to(scan.positions_px + off)
    assert slices_of(scan).gain > 0.94


@pytest.mark.slow
def test_a_blurred_detector_is_said(blurry: Scan) -> None:
    found = diagnose(blurry, budget_s=LONG, execution=NUMPY)
    assert "detector blur of about 0.75 px" in found.findings[0].name
    assert found.flags == {"probe_modes": "3"}
    assert "likely blurred" in found.remarks[0]
    assert not any("too thick" in remark for remark in found.remarks)


@pytest.mark.slow
def test_a_thick_sample_is_said_to_be_out_of_reach(thick: Scan) -> None:
    found = diagnose(replace(thick, pixel_size_m=1e-8, energy_ev=8000.0), budget_s=LONG, execution=NUMPY)
    said = [remark for remark in found.remarks if "too thick for one slice" in remark]
    assert "two slices about 12.9 µm apart" in said[0]
    assert "near field" not in " ".join(found.remarks)


@pytest.mark.slow
def test_another_start_probe_is_named_where_the_given_one_misleads(made: SimulatedScan) -> None:
    n = 32
    at = np.arange(n) - n // 2
    wide = (np.hypot(at[:, None], at) < n / 2.6).astype(np.complex64)[None]
    found = diagnose(replace(made.scan, probe=wide), budget_s=LONG, execution=NUMPY)
    assert [finding.name for finding in found.findings] == ["another start probe than the one given"]
    assert found.flags == {"probe_start": "estimated"}
    assert found.best.unexplained < 0.6 * found.as_read.unexplained


@pytest.mark.parametrize(
    ("probe", "source", "before", "flag"),
    [
        ("estimated", "file", None, "estimated"),
        ("estimated", "estimated", None, None),
        ("estimated", "estimated", "estimated", "estimated"),
        ("conjugate", "file", None, "conjugate"),
        ("conjugate", "file", "conjugate", None),
        ("as-is", "file", "conjugate", "conjugate"),
    ],
)
def test_the_flag_of_a_start_probe(
    made: SimulatedScan, probe: str, source: str, before: str | None, flag: str | None
) -> None:
    asked = {} if before is None else {"probe_start": before}
    flags = composed_flags(Setting(probe=probe), replace(made.scan, probe_source=source), asked)
    assert flags.get("probe_start") == flag


def test_a_start_probe_is_put_aside_or_turned_over(made: SimulatedScan, tmp_path) -> None:
    path = save_scan(made.scan, tmp_path / "scan.npz")
    given = open_scan(path)
    turned = open_scan(path, probe_start="conjugate")
    assert np.array_equal(turned.probe, np.conj(given.probe))
    assert turned.probe_source == given.probe_source == "file"
    estimated = open_scan(path, probe_start="estimated")
    assert estimated.probe_source == "estimated"
    assert any("put aside" in note for note in estimated.notes)
