"""Every layout and rule of scan files, each on a real file."""

from __future__ import annotations

import bz2
import io
import json
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from ptycho_config.errors import ConfigError, DataError, PolicyWarning
from ptycho_core import Scan, open_scan, scan_from_arrays
from ptycho_core.io import RawScan, ReadOptions
from ptycho_core.io.checked_scan import admit
from ptycho_core.io.product import write_product
from ptycho_core.scan.lazy import LazyFrames

Arrays = dict[str, np.ndarray]
Save = Callable[..., Path]


def test_the_real_scan_opens_by_name(siemens_star: Scan) -> None:
    assert (siemens_star.n_frames, siemens_star.frame_px) == (516, 128)
    assert siemens_star.name == "siemens-star"
    assert siemens_star.measurement == "counts"
    assert siemens_star.dc == "corner"
    assert siemens_star.mean_counts_per_frame() == pytest.approx(461_213, abs=1)
    assert siemens_star.probe_source == "file"
    assert isinstance(siemens_star.frames, LazyFrames)
    assert siemens_star.source_sha256 is not None
    assert siemens_star.source_sha256.startswith("dbce7715")


def test_real_frames_agree_with_numpy(siemens_star: Scan, siemens_star_path: Path) -> None:
    content = siemens_star_path.read_bytes()
    content = bz2.decompress(content) if siemens_star_path.suffix == ".bz2" else content
    with np.load(io.BytesIO(content), allow_pickle=False) as file:
        frames, positions = file["data"][0], file["scan"][0]
    centred = np.fft.fftshift(frames, axes=(1, 2))
    np.testing.assert_array_equal(siemens_star.counts(slice(30, 40)), centred[30:40])
    np.testing.assert_allclose(siemens_star.amplitude([3, 500]), np.sqrt(centred[[3, 500]]), rtol=1e-6)
    np.testing.assert_array_equal(siemens_star.positions_px, positions.astype(np.float64))
    np.testing.assert_allclose(siemens_star.mean_pattern(), centred.mean(axis=0, dtype=np.float64), rtol=1e-6)


def test_a_plain_file_opens_with_everything_in_it(arrays: Arrays, save: Save) -> None:
    path = save(arrays)
    scan = open_scan(path)
    assert (scan.name, scan.source, scan.measurement, scan.dc) == ("scan", path, "amplitude", "center")
    np.testing.assert_array_equal(scan.amplitude(), arrays["diff3d"])
    np.testing.assert_array_equal(scan.positions_px[:, 0], arrays["ycoords"])
    np.testing.assert_array_equal(scan.positions_px[:, 1], arrays["xcoords"])
    np.testing.assert_array_equal(scan.probe, arrays["probeGuess"][np.newaxis])
    assert scan.ground_truth is not None
    np.testing.assert_array_equal(scan.ground_truth, arrays["objectGuess"])
    assert isinstance(scan.frames, LazyFrames)
    assert not scan.frames[:].flags.writeable  # what is held must not be changed
    assert scan.good_pixels().all()


@pytest.mark.parametrize("kind", ["plain", "compressed", "bz2", "bz2 of compressed"])
def test_every_packing_gives_the_same_scan(kind: str, arrays: Arrays, save: Save, tmp_path: Path) -> None:
    path = save(arrays, compressed="compressed" in kind)
    if kind.startswith("bz2"):
        packed = tmp_path / "scan.npz.bz2"
        packed.write_bytes(bz2.compress(path.read_bytes()))
        path = packed
    scan = open_scan(path)
    assert scan.name == "scan"
    np.testing.assert_array_equal(scan.amplitude(), arrays["diff3d"])
    np.testing.assert_array_equal(scan.probe[0], arrays["probeGuess"])


@pytest.mark.parametrize("alias", ["diffraction", "data"])
def test_frames_have_other_names(alias: str, arrays: Arrays, save: Save) -> None:
    frames = arrays.pop("diff3d")
    np.testing.assert_array_equal(open_scan(save(arrays | {alias: frames})).amplitude(), frames)


def test_two_equal_names_for_the_frames_are_fine(arrays: Arrays, save: Save) -> None:
    assert open_scan(save(arrays, diffraction=arrays["diff3d"])).n_frames == 25


def test_two_different_arrays_of_frames_are_refused(arrays: Arrays, save: Save) -> None:
    with pytest.raises(DataError, match=r"`diff3d`.*`diffraction`.*differ"):
        open_scan(save(arrays, diffraction=arrays["diff3d"] + 1))


def test_the_layout_with_leading_axes_is_known(arrays: Arrays, counts: np.ndarray, save: Save) -> None:
    path = save(
        {
            "data": np.fft.fftshift(counts, axes=(1, 2)).astype(np.float32)[np.newaxis],
            "scan": np.stack([arrays["ycoords"], arrays["xcoords"]], axis=1).astype(np.float32)[np.newaxis],
            "probe": arrays["probeGuess"][np.newaxis, np.newaxis, np.newaxis, np.newaxis],
        }
    )
    scan = open_scan(path)
    assert (scan.measurement, scan.dc) == ("counts", "corner")
    np.testing.assert_array_equal(scan.counts(), counts.astype(np.float32))
    np.testing.assert_array_equal(scan.positions_px[:, 1], arrays["xcoords"])
    assert scan.probe.shape == (1, 16, 16)


@pytest.mark.finding("FORMAT-001")
def test_frames_last_are_moved_with_one_warning(arrays: Arrays, save: Save) -> None:
    path = save(arrays, diff3d=np.moveaxis(arrays["diff3d"], 0, 2).copy())
    with pytest.warns(PolicyWarning, match="FORMAT-001.*last axis") as caught:
        scan = open_scan(path)
    assert len(caught) == 1
    np.testing.assert_array_equal(scan.amplitude(), arrays["diff3d"])
    assert any("FORMAT-001" in note for note in scan.notes)
    assert scan.frames[:].flags.c_contiguous


@pytest.mark.finding("FORMAT-001")
def test_a_frames_last_array_in_fortran_order_is_moved(arrays: Arrays, save: Save) -> None:
    path = save(arrays, diff3d=np.asfortranarray(np.moveaxis(arrays["diff3d"], 0, 2)))
    with pytest.warns(PolicyWarning, match="FORMAT-001"):
        np.testing.assert_array_equal(open_scan(path).amplitude(), arrays["diff3d"])


def test_frames_in_fortran_order_open(arrays: Arrays, save: Save) -> None:
    scan = open_scan(save(arrays, diff3d=np.asfortranarray(arrays["diff3d"])))
    np.testing.assert_array_equal(scan.amplitude(), arrays["diff3d"])


@pytest.mark.finding("FORMAT-001")
def test_as_many_frames_as_pixels_are_read_frames_first_with_a_warning(arrays: Arrays, save: Save) -> None:
    path = save(arrays | {key: arrays[key][:16] for key in ("diff3d", "xcoords", "ycoords")})
    with pytest.warns(PolicyWarning, match="FORMAT-001.*16 frames of 16 x 16 pixels fit both ways"):
        scan = open_scan(path)
    np.testing.assert_array_equal(scan.amplitude(), arrays["diff3d"][:16])


def test_a_trailing_axis_is_dropped(arrays: Arrays, save: Save) -> None:
    scan = open_scan(save(arrays, diff3d=arrays["diff3d"][..., np.newaxis]))
    np.testing.assert_array_equal(scan.amplitude(), arrays["diff3d"])


@pytest.mark.parametrize("shape", [(16, 16), (16, 16, 1), (1, 16, 16), (1, 1, 1, 1, 16, 16)])
def test_a_single_probe_has_many_shapes(shape: tuple[int, ...], arrays: Arrays, save: Save) -> None:
    scan = open_scan(save(arrays, probeGuess=arrays["probeGuess"].reshape(shape)))
    np.testing.assert_array_equal(scan.probe, arrays["probeGuess"][np.newaxis])


def test_probe_modes_and_double_precision_are_taken(arrays: Arrays, save: Save) -> None:
    modes = np.stack([arrays["probeGuess"], 0.3j * arrays["probeGuess"], 0.1 * arrays["probeGuess"]])
    scan = open_scan(save(arrays, probeGuess=modes.astype(np.complex128)))
    assert scan.probe.dtype == np.complex64
    np.testing.assert_allclose(scan.probe, modes, rtol=1e-6)


@pytest.mark.finding("DATA-001")
@pytest.mark.parametrize("dtype", ["float32", "float64", "uint16", "int32", "uint64", ">u2", "<f8"])
def test_whole_numbers_are_counts_in_any_type(
    dtype: str, counts: np.ndarray, arrays: Arrays, save: Save
) -> None:
    scan = open_scan(save(arrays, diff3d=counts.astype(dtype)))
    assert scan.measurement == "counts"
    np.testing.assert_allclose(scan.amplitude(), np.sqrt(counts), rtol=1e-6)
    assert scan.mean_counts_per_frame() == pytest.approx(counts.sum(axis=(1, 2)).mean())


@pytest.mark.finding("NORMALIZATION-001")
def test_squaring_300_in_16_bits_does_not_wrap(arrays: Arrays, save: Save) -> None:
    amplitude = np.zeros((25, 16, 16), dtype=np.uint16)
    amplitude[:, 8, 8] = 300
    scan = open_scan(save(arrays, diff3d=amplitude), measurement="amplitude")
    assert scan.counts()[0, 8, 8] == 90_000
    assert scan.mean_counts_per_frame() == 90_000


def test_whole_floats_up_to_one_are_amplitudes(arrays: Arrays, save: Save) -> None:
    scan = open_scan(save(arrays, diff3d=(arrays["diff3d"] > 20).astype(np.float32)))
    assert scan.measurement == "amplitude"


def test_a_fraction_in_the_last_frame_makes_all_amplitudes(
    counts: np.ndarray, arrays: Arrays, save: Save, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ptycho_core.scan.survey.CHUNK_BYTES", 4 * 16 * 16 * 4)
    values = counts.astype(np.float32)
    values[-1, 3, 3] = 0.5
    scan = open_scan(save(arrays, diff3d=values))
    assert scan.measurement == "amplitude"
    expected = (values.astype(np.float64) ** 2).sum(axis=(1, 2))
    np.testing.assert_allclose(scan.counts_per_frame(), expected, rtol=1e-6)


def test_what_is_asked_for_beats_the_rules(counts: np.ndarray, arrays: Arrays, save: Save) -> None:
    path = save(arrays, diff3d=counts)
    scan = open_scan(path, measurement="amplitude", dc="corner")
    assert (scan.measurement, scan.dc) == ("amplitude", "corner")
    np.testing.assert_array_equal(scan.amplitude(), np.fft.fftshift(counts, axes=(1, 2)).astype(np.float32))


@pytest.mark.finding("DATA-001")
def test_centre_and_corner_give_equal_scans(arrays: Arrays, save: Save) -> None:
    centred = open_scan(save(arrays)).amplitude()
    cornered = open_scan(save(arrays, diff3d=np.fft.ifftshift(arrays["diff3d"], axes=(1, 2))))
    assert cornered.dc == "corner"
    np.testing.assert_array_equal(cornered.amplitude(), centred)


def test_bad_pixels_of_corner_data_are_centred_with_them(arrays: Arrays, save: Save) -> None:
    bad = np.zeros((16, 16), dtype=bool)
    bad[5, 11] = True
    frames, cornered_bad = (np.fft.ifftshift(array, axes=(-2, -1)) for array in (arrays["diff3d"], bad))
    scan = open_scan(save(arrays, diff3d=frames, mask=~cornered_bad))
    assert scan.bad_pixels is not None
    np.testing.assert_array_equal(scan.bad_pixels, bad)
    assert (scan.amplitude()[:, 5, 11] == 0).all()
    assert scan.mean_pattern()[5, 11] == 0


def test_the_first_program_with_bad_pixels_counts_pixel_centres(
    counts: np.ndarray, arrays: Arrays, save: Save
) -> None:
    bad = np.zeros((16, 16), dtype=bool)
    bad[0, 0] = True
    scan = open_scan(save(arrays, diff3d=counts / 3, bad_pixels=bad))
    assert (scan.measurement, scan.position_convention) == ("counts", "center")
    np.testing.assert_array_equal(scan.positions_px[:, 0], arrays["ycoords"] + 0.5)
    assert not scan.good_pixels()[0, 0]


def test_masks_per_frame_and_values_under_them_do_not_count(
    counts: np.ndarray, arrays: Arrays, save: Save
) -> None:
    mask = np.ones((25, 16, 16), dtype=np.uint8)
    mask[3, 8, 8] = 0
    spoiled = counts.copy()
    spoiled[3, 8, 8] = np.inf
    scan = open_scan(save(arrays, diff3d=spoiled, mask=mask))
    assert scan.measurement == "counts"
    assert scan.good_pixels([3, 4]).shape == (2, 16, 16)
    assert not scan.good_pixels([3])[0, 8, 8]
    assert scan.counts([3])[0, 8, 8] == 0
    others = np.delete(counts[:, 8, 8], 3)
    assert scan.mean_pattern()[8, 8] == pytest.approx(others.mean())


def test_nan_means_bad_in_all_frames_or_in_some(arrays: Arrays, save: Save) -> None:
    everywhere = arrays["diff3d"].copy()
    everywhere[:, 2, 3] = np.nan
    scan = open_scan(save(arrays, diff3d=everywhere))
    assert scan.bad_pixels is not None
    assert scan.bad_pixels.shape == (16, 16)
    assert scan.bad_pixels.sum() == 1
    some = everywhere.copy()
    some[4, 9, 9] = np.nan
    scan = open_scan(save(arrays, diff3d=some))
    assert scan.bad_pixels is not None
    assert scan.bad_pixels.shape == (25, 16, 16)
    assert scan.bad_pixels.sum() == 26
    assert np.isfinite(scan.amplitude()).all()
    assert np.isfinite(scan.mean_pattern()).all()


@pytest.mark.finding("DATA-001")
def test_negative_counts_become_zero_with_a_warning(counts: np.ndarray, arrays: Arrays, save: Save) -> None:
    dark_subtracted = counts - 2.0
    with pytest.warns(PolicyWarning, match=r"DATA-001.*negative counts.*taken as 0"):
        scan = open_scan(save(arrays, diff3d=dark_subtracted), measurement="counts")
    assert scan.counts().min() == 0
    assert scan.mean_counts_per_frame() == pytest.approx(
        np.maximum(dark_subtracted, 0).sum(axis=(1, 2)).mean()
    )


def test_more_positions_than_frames_drops_the_last_with_a_warning(arrays: Arrays, save: Save) -> None:
    longer = {key: np.append(arrays[key], [7.0, 8.0]) for key in ("xcoords", "ycoords")}
    with pytest.warns(PolicyWarning, match="25 frames but 27 positions; the last 2"):
        scan = open_scan(save(arrays | longer))
    np.testing.assert_array_equal(scan.positions_px[:, 1], arrays["xcoords"])


def test_zero_frames_that_are_kept_are_noted(counts: np.ndarray, arrays: Arrays, save: Save) -> None:
    counts[[2, 9]] = 0
    scan = open_scan(save(arrays, diff3d=counts), bad_frames="off")
    assert any("2 of 25 frames hold no counts" in note for note in scan.notes)


def test_patch_truth_has_two_names_and_may_be_wrong(arrays: Arrays, save: Save) -> None:
    patches = np.ones((25, 16, 16, 1), dtype=np.complex64)
    for key in ("Y", "label"):
        scan = open_scan(save(arrays | {key: patches}))
        assert scan.patch_truth is not None
        assert scan.patch_truth.shape == (25, 16, 16)
    with pytest.warns(PolicyWarning, match="`Y` has 24 patches for 25 frames and is ignored"):
        assert open_scan(save(arrays, Y=patches[1:])).patch_truth is None


def test_a_scan_without_a_probe_gets_an_estimate(arrays: Arrays, save: Save) -> None:
    scan = open_scan(save(arrays, probeGuess=None))
    assert scan.probe_source == "estimated"
    assert any("No probe was given" in note for note in scan.notes)
    assert scan.probe.shape == (1, 16, 16)
    energy = float((np.abs(scan.probe) ** 2).sum())
    assert energy == pytest.approx(scan.mean_counts_per_frame(), rel=1e-4)


def test_a_probe_file_replaces_the_probe(arrays: Arrays, save: Save, tmp_path: Path) -> None:
    np.savez(tmp_path / "result.npz", probe=2 * arrays["probeGuess"][np.newaxis])
    scan = open_scan(save(arrays), probe_file=tmp_path / "result.npz")
    assert scan.probe_source == "given"
    np.testing.assert_array_equal(scan.probe[0], 2 * arrays["probeGuess"])
    np.savez(tmp_path / "empty.npz", other=np.ones(3))
    with pytest.raises(DataError, match=r"empty\.npz: the probe.*missing. Found `other` \(3,\)"):
        open_scan(save(arrays), probe_file=tmp_path / "empty.npz")


def test_a_product_file_can_give_the_probe(arrays: Arrays, save: Save, tmp_path: Path) -> None:
    modes = np.stack([arrays["probeGuess"], 0.5j * arrays["probeGuess"]])
    product = write_product(
        tmp_path / "product.h5",
        obj=arrays["objectGuess"],
        probe=modes,
        positions_px=np.zeros((25, 2)),
        origin_px=np.zeros(2),
        name="star",
    )
    np.testing.assert_array_equal(open_scan(save(arrays), probe_file=product).probe, modes)


def test_metadata_is_read_without_pickle(arrays: Arrays, save: Save) -> None:
    physical = {"nphotons": 1e6, "energy_ev": 8000, "N": 16}
    metadata = {"schema_version": "1.0.0", "physics_parameters": physical}
    scan = open_scan(save(arrays, _metadata=np.array(json.dumps(metadata))), pixel_size_m=1e-8)
    assert (scan.nphotons, scan.energy_ev, scan.pixel_size_m, scan.distance_m) == (1e6, 8000.0, 1e-8, None)
    assert scan.metadata == metadata


@pytest.mark.finding("DATA-001")
@pytest.mark.parametrize(
    ("value", "match"),
    [
        (np.array({"nphotons": 1.0}, dtype=object), "pickled object.*json.dumps"),
        (np.array("{broken"), "no JSON object"),
        (np.array("[1, 2]"), "no JSON object"),
        (np.arange(3), "no JSON object"),
    ],
)
def test_unreadable_metadata_is_skipped_with_a_warning(
    value: np.ndarray, match: str, arrays: Arrays, save: Save
) -> None:
    with pytest.warns(PolicyWarning, match=f"DATA-001.*{match}"):
        scan = open_scan(save(arrays, _metadata=value))
    assert scan.metadata == {}


def test_metadata_decides_what_the_values_are(counts: np.ndarray, arrays: Arrays, save: Save) -> None:
    said = np.array(json.dumps({"physics_parameters": {"measurement": "amplitude"}}))
    scan = open_scan(save(arrays, diff3d=counts, _metadata=said))
    assert scan.measurement == "amplitude"
    assert any("metadata says so" in note for note in scan.notes)


def test_one_frame_and_one_column_are_scans(arrays: Arrays, save: Save) -> None:
    one = {key: arrays[key][:1] for key in ("diff3d", "xcoords", "ycoords")}
    assert open_scan(save(arrays | one)).n_frames == 1
    column = open_scan(save(arrays, xcoords=np.full(25, 7.0), ycoords=np.arange(25) * 2.0 - 1e7))
    assert column.n_frames == 25


@pytest.mark.parametrize("wrong", [{"measurement": "photons"}, {"dc": "middle"}])
def test_impossible_choices_are_configuration_errors(wrong: dict[str, str], arrays: Arrays) -> None:
    given = RawScan(name="scan", frames=arrays["diff3d"], positions_px=np.zeros((25, 2)))
    options = ReadOptions()
    vars(options).update(wrong)  # as where types are not checked while tests run
    with pytest.raises(ConfigError, match="Expected one of auto, "):
        admit(given, options)


@pytest.mark.parametrize("value", [-1.0, 0.0, np.inf, np.nan])
def test_impossible_physical_quantities_are_configuration_errors(
    value: float, arrays: Arrays, save: Save
) -> None:
    with pytest.raises(ConfigError, match=r"`energy_ev` is .* Expected a positive number"):
        open_scan(save(arrays), energy_ev=value)


def test_under_a_beam_stop_the_transform_of_the_probe_says_where_the_zero_frequency_is() -> None:
    path = Path(os.environ.get("PTYCHO_DATA_DIR", ".")) / "labyrinth.npz"
    if not path.is_file():
        pytest.skip(f"{path.name} is not here: a real scan whose bright centre a stop hides")
    with pytest.warns(PolicyWarning) as heard:
        scan = open_scan(path)
    said = " ".join(str(warning.message) for warning in heard)
    assert "zero frequency is taken to be in the corner" in said
    assert "`--dc center` overrules it" in said
    assert scan.dc == "corner"
    assert len(scan.probe) == 3
    with pytest.warns(PolicyWarning, match="left out as bad"):
        assert open_scan(path, dc="center").dc == "center"


def test_a_given_probe_agrees_with_the_brightness_of_an_open_detector(simulated) -> None:
    made = simulated(frames=40, frame_px=32, photons=1e6)
    corner = np.fft.ifftshift(made.scan.counts(), axes=(1, 2))
    for frames, place in ((made.scan.counts(), "center"), (corner, "corner")):
        scan = scan_from_arrays(frames, made.scan.positions_px, made.scan.probe, measurement="counts")
        assert scan.dc == place


def test_a_file_that_is_misspelt_is_named(tmp_path: Path) -> None:
    (tmp_path / "labyrinth.npz").write_bytes(b"")
    with pytest.raises(DataError, match=r"no such file. Did you mean `.*labyrinth.npz`"):
        open_scan(tmp_path / "labyrint.npz")
    with pytest.raises(DataError, match=r"no such file. Expected"):
        open_scan(tmp_path / "other.h5")
