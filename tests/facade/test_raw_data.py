"""`RawData`, its groups and containers: counts against amplitude, (x, y), and every frame by default."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import ptycho.loader
import ptycho.params
import ptycho.probe
from ptycho.config.config import TrainingConfig
from ptycho.raw_data import RawData
from ptycho.workflows.components import create_ptycho_data_container, load_data
from ptycho_config.errors import ConfigError, DataError

pytestmark = [
    pytest.mark.filterwarnings("ignore:FORMAT-001:UserWarning"),
    pytest.mark.filterwarnings("ignore:DATA-001:UserWarning"),
]
SIDE = 32


@pytest.mark.parametrize("modes", [1, 3])
def test_the_client_s_file_gives_the_same_input_whatever_its_type(client_scan, tmp_path: Path, modes) -> None:
    inputs = {}
    for dtype in ("uint16", "int32", "float32"):
        raw = RawData.from_file(client_scan.export(tmp_path / f"{dtype}.npz", dtype, modes))
        assert raw.diff3d.shape == client_scan.counts.shape
        assert raw.probeGuess.shape == (modes, SIDE, SIDE)
        assert raw.scan.measurement == "counts"
        inputs[dtype] = raw.generate_grouped_data(SIDE, nsamples=None, gridsize=1)["X_full"]
    for dtype in ("int32", "float32"):
        assert np.array_equal(inputs[dtype], inputs["uint16"])


def test_counts_are_counts_even_where_they_have_fractions(client_scan) -> None:
    raw = RawData.from_coords_without_pc(
        client_scan.x, client_scan.y, client_scan.counts * 0.37, client_scan.probe, None, client_scan.obj
    )
    grouped = raw.generate_grouped_data(SIDE, gridsize=1)
    assert np.allclose(grouped["diffraction"][..., 0] ** 2, client_scan.counts * 0.37, rtol=1e-5, atol=1e-4)
    assert raw.diff3d.dtype == np.float64


def test_the_mean_energy_of_the_input_is_a_quarter_of_the_pixels(client_scan) -> None:
    grouped = client_scan.raw().generate_grouped_data(SIDE, gridsize=1)
    energy = np.square(grouped["X_full"], dtype=np.float64).sum(axis=(1, 2)).mean()
    assert energy == pytest.approx((SIDE / 2) ** 2, rel=1e-5)


def test_one_sample_is_one_for_each_scan_point_to_the_client_and_one_in_all_to_scripts(
    client_scan, tmp_path
) -> None:
    from_client = client_scan.raw().generate_grouped_data(SIDE, K=7, nsamples=1, gridsize=1)
    assert sorted(from_client["nn_indices"].ravel()) == list(range(len(client_scan.x)))
    of_a_script = RawData.from_file(client_scan.export(tmp_path / "scan.npz"))
    assert len(of_a_script.generate_grouped_data(SIDE, K=7, nsamples=1, gridsize=1)["X_full"]) == 1
    again = client_scan.raw().generate_grouped_data(SIDE, K=7, nsamples=5, gridsize=1)
    assert len(again["X_full"]) == len(client_scan.x)


def test_offsets_are_x_before_y_and_centre_minus_member(client_scan) -> None:
    grouped = client_scan.raw().generate_grouped_data(SIDE, K=7, nsamples=1, gridsize=2)
    assert grouped["coords_relative"].shape == (len(client_scan.x), 1, 2, 4)
    assert grouped["coords_offsets"].shape == (len(client_scan.x), 1, 2, 1)
    absolute = grouped["coords_offsets"] - grouped["coords_relative"]
    expected = np.stack([client_scan.x, client_scan.y], axis=1)[grouped["nn_indices"]] + 0.5
    assert np.allclose(np.moveaxis(absolute[:, 0], 1, 2), expected)
    assert np.allclose(grouped["coords_nn"], absolute)


def test_neighbours_count_for_groups_only(client_scan) -> None:
    raw = client_scan.raw()
    assert len(raw.generate_grouped_data(SIDE, K=0, nsamples=1, gridsize=1)["X_full"]) == len(client_scan.x)
    with pytest.raises(ConfigError, match=r"`K` .* is 2 and gridsize 2 needs 3"):
        raw.generate_grouped_data(SIDE, K=2, nsamples=1, gridsize=2)


def test_another_size_is_refused_with_both(client_scan) -> None:
    with pytest.raises(ConfigError, match=r"`N` is 64 and the frames are 32 px"):
        client_scan.raw().generate_grouped_data(64, gridsize=1)


def test_gridsize_comes_from_the_registry_where_the_call_leaves_it_out(client_scan) -> None:
    ptycho.params.set("gridsize", 2)
    assert client_scan.raw().generate_grouped_data(SIDE, K=7)["X_full"].shape[-1] == 4


@pytest.mark.parametrize("wrong", [np.nan, np.inf])
def test_values_that_are_not_finite_are_masked(client_scan, wrong: float, recwarn) -> None:
    frames = client_scan.counts.astype(np.float64)
    frames[3, 4, 5] = wrong
    make = lambda: RawData.from_coords_without_pc(  # noqa: E731
        client_scan.x, client_scan.y, frames, client_scan.probe, None, client_scan.obj
    )
    assert np.isfinite(make().generate_grouped_data(SIDE, gridsize=1)["X_full"]).all()
    told = any("1 infinite values, the first in frame 3" in str(warning.message) for warning in recwarn)
    assert told == np.isinf(wrong)


def test_the_container_keeps_the_way_back_and_lazy_labels(client_scan) -> None:
    raw = client_scan.raw()
    grouped = raw.generate_grouped_data(SIDE, gridsize=1)
    container = ptycho.loader.load(lambda: grouped, raw.probeGuess, which=None, create_split=False)
    assert container.global_offsets.canvas_shape == client_scan.obj.shape
    assert container.global_offsets.dtype == np.float64
    assert (container.Y_I == 1).all()
    assert not container.Y_phi.any()
    assert (container.X * 31.25).dtype == np.float32
    # A part of the groups is not what the scan behind them is.
    assert container.local_offsets[:5].origin is None


def test_a_split_cuts_groups_and_their_places_alike(client_scan) -> None:
    grouped = client_scan.raw().generate_grouped_data(SIDE, gridsize=1)
    parts = [
        ptycho.loader.load(lambda: (grouped, 0.75), None, which=which, create_split=True)
        for which in ("train", "test")
    ]
    assert [len(part) for part in parts] == [18, 6]
    for part in parts:
        assert np.array_equal(part.origin.groups.indices, part.nn_indices)
        assert np.allclose(part.global_offsets[:, 0, 0, 0], client_scan.x[part.nn_indices[:, 0]] + 0.5)


def test_scripts_read_some_frames_and_turn_positions(client_scan, tmp_path: Path) -> None:
    path = client_scan.export(tmp_path / "scan.npz")
    raw = load_data(path, n_subsample=10, flip_x=True, coord_scale=2.0, subsample_seed=3)
    assert len(raw.xcoords) == 10
    assert (raw.xcoords < 0).all()
    assert load_data(path, n_images=7).diff3d.shape[0] == 7
    container = create_ptycho_data_container(raw, TrainingConfig())
    assert container.X.shape == (10, SIDE, SIDE, 1)


def test_the_file_written_reads_back_equal(client_scan, tmp_path: Path) -> None:
    raw = client_scan.raw()
    back = RawData.from_file(raw.to_file(tmp_path / "again.npz"))
    assert np.array_equal(back.diff3d, raw.diff3d)
    assert np.allclose(back.scan.positions_px, raw.scan.positions_px)


@pytest.mark.parametrize("layout", ["(N, N)", "(N, N, 1)", "(P, N, N)"])
def test_the_probe_is_kept_in_the_legacy_gauge_and_returned_as_it_was(client_scan, layout: str) -> None:
    from ptycho_core.physics.normalisation import hard_disc

    one = client_scan.probe[0]
    given = {"(N, N)": one, "(N, N, 1)": one[..., None], "(P, N, N)": np.stack([one, 0.1 * one])}[layout]
    ptycho.params.set("probe_scale", 4.0)
    assert ptycho.probe.set_probe_guess(None, given) is given
    kept = ptycho.params.get("probe")
    assert kept.shape == (SIDE, SIDE, 1)
    assert np.abs(hard_disc(SIDE) * kept[..., 0]).mean() == pytest.approx(1 / 4.0, rel=1e-5)


def test_a_probe_is_estimated_from_frames_and_a_divisor_of_zero_is_no_nan(client_scan) -> None:
    grouped = client_scan.raw().generate_grouped_data(SIDE, gridsize=1)
    ptycho.params.set("probe_scale", 0.0)
    assert ptycho.probe.set_probe_guess(grouped["X_full"]).shape == (SIDE, SIDE)
    assert np.isfinite(ptycho.params.get("probe")).all()
    with pytest.raises(DataError, match="neither a probe nor frames"):
        ptycho.probe.set_probe_guess()
