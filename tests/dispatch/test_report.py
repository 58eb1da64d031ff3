"""`ptycho report`: the page shows what a run left, runs nothing of its texts, and asks for nothing else."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import re
import shlex
import shutil
from collections.abc import Mapping
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.image import imread
from PIL import Image

from ptycho_config.commandline import FlagParser
from ptycho_config.flags import add_flags, given_flags
from ptycho_config.sources import load_parts
from ptycho_core import Reconstruction, open_scan, save_scan
from ptycho_core.figures import FrameComparison, frame_pairs, object_pictures, training_curves_png
from ptycho_core.figures.frame_pairs import sampled_frames
from ptycho_core.figures.view import ObjectView
from ptycho_core.result.verdict import Verdict
from ptycho_core.simulate import simulate_scan
from ptycho_dispatch import settings
from ptycho_dispatch.cli import main
from ptycho_dispatch.commands import training
from ptycho_dispatch.report.contents import Contents, Picture, Said, read_contents
from ptycho_dispatch.report.frames import frames_of
from ptycho_dispatch.report.page import page_html
from ptycho_dispatch.report.repeat import repeating_words

HOSTILE = (
    "<script>alert(1)</script>",
    "\"><img src=x onerror='alert(1)'>",
    "</title></style></script><iframe src=//example.org>",
    "{{ 7 * 7 }}{% raw %}",
)


class Page(HTMLParser):
    """A page as a browser takes it apart: its elements with their attributes, and its text by section."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.sections: dict[str, str] = {}
        self.raw: dict[str, str] = {}
        self._section, self._inside = "", ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        self._inside = tag
        if tag in ("section", "header", "title"):
            self._section = dict(attrs).get("id") or tag

    def handle_data(self, data: str) -> None:
        if self._inside in ("script", "style"):
            self.raw[self._inside] = self.raw.get(self._inside, "") + data
        else:
            self.sections[self._section] = self.sections.get(self._section, "") + data

    def handle_endtag(self, tag: str) -> None:
        self._inside = ""

    def pictures(self) -> dict[str, bytes]:
        found = {}
        for tag, attributes in self.elements:
            if tag == "img":
                kind, _, data = (attributes["src"] or "").partition(",")
                assert kind == "data:image/png;base64"
                found[attributes["alt"] or ""] = base64.b64decode(data, validate=True)
        return found


@pytest.fixture(scope="module")
def solved(scan_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory of a real run of `ptycho reconstruct`."""
    directory = tmp_path_factory.mktemp("runs") / "solved"
    words = ["reconstruct", str(scan_file), "--effort", "fast", "--output-dir", str(directory)]
    assert main([*words, "--pixel-size-m", "8e-9", "--seed", "3", "--probe-modes", "2"]) == 0
    return directory


@pytest.fixture(scope="module")
def page(solved: Path) -> Page:
    assert main(["report", str(solved)]) == 0
    return Page((solved / "report.html").read_text(encoding="utf-8"))


def test_every_section_shows_the_figures_of_the_run(page: Page, solved: Path) -> None:
    result = Reconstruction.load(solved)
    record = json.loads((solved / "run.json").read_text())
    residual = result.residual_per_frame
    expected = {
        "header": [result.scan_name, f"{result.data_residual:.4f}", "40 of 32 × 32 px", "8 nm"],
        "probe": ["Power of the modes: "],
        "residuals": [f"From {residual.min():.4f} to {residual.max():.4f}"],
        "curves": [f"{len(result.history)} epochs, from {result.history[0]['residual']:.4f}"],
        "policies": ["No policy changed what ran.", record["events"][0]["message"]],
        "provenance": [record["versions"]["numpy"], record["hardware"]["system"], record["input"]["sha256"]],
        "configuration": ["solver.seed", "--pixel-size-m", "8e-09", "settings with their defaults"],
        "repeat": ["ptycho reconstruct ", "--seed 3"],
        "papers": ["Maximum-likelihood refinement", "Nature 494 (2013) 68, doi:10.1038/nature11806"],
    }
    for section, texts in expected.items():
        for text in texts:
            assert text in page.sections[section], section
    assert {name for name in page.pictures() if not name.startswith("frame ")} == {
        "object amplitude",
        "object phase",
        "probe modes",
        "residual of each frame",
        "R per epoch",
        *(["Two halves of the frames"] if result.verdict and result.verdict.curves else []),
    }
    for png in page.pictures().values():
        assert imread(io.BytesIO(png))[..., :3].std() > 0.02
    viewer = next(attrs for _, attrs in page.elements if attrs.get("class") == "viewer")
    assert float(viewer["data-pixel-size-m"] or "nan") == 8e-9


def test_the_image_has_the_grey_values_of_the_object(page: Page, solved: Path) -> None:
    view = ObjectView(Reconstruction.load(solved))
    for name, image in view.images.items():
        shown = imread(io.BytesIO(page.pictures()[f"object {name}"]))[..., 0]
        low, high = view.limits[name]
        seen = np.isfinite(image)
        grey = np.clip((image[seen] - low) / (high - low), 0, 1)
        # The grey scale ends short of black and white; two steps of 256 are rounding.
        expected = (6 + grey * (0xFB - 6)) / 255
        np.testing.assert_allclose(shown[seen], expected, atol=2 / 255)


def test_nothing_comes_from_outside_and_only_our_script_may_run(page: Page) -> None:
    for tag, attributes in page.elements:
        assert tag not in ("link", "iframe", "object", "embed", "form", "base")
        assert "href" not in attributes
        for name in attributes:
            assert not name.startswith("on")
        if "src" in attributes:
            assert tag == "img"
            assert (attributes["src"] or "").startswith("data:image/png;base64,")
    assert not re.search(r"url\(|@import", page.raw["style"])
    policy = next(attrs["content"] for tag, attrs in page.elements if attrs.get("http-equiv")) or ""
    digest = base64.b64encode(hashlib.sha256(page.raw["script"].encode()).digest()).decode()
    assert "default-src 'none'" in policy
    assert f"script-src 'sha256-{digest}'" in policy


def test_the_command_of_the_page_asks_for_the_same_run(page: Page, solved: Path, scan_file: Path) -> None:
    line = next(line for line in page.sections["repeat"].splitlines() if line.startswith("ptycho "))
    _, command, scan, *words = shlex.split(line)
    assert (command, scan) == ("reconstruct", str(scan_file))
    record = json.loads((solved / "run.json").read_text())
    for name, loaded in _loaded(settings.PARTS, words).items():
        assert _values(loaded) == _values(record["settings"][name])


def _loaded(parts: tuple, words: list[str]) -> dict[str, Mapping]:
    parser = FlagParser()
    add_flags(parser, *parts)
    flags = given_flags(parser.parse_args(words))
    names = ("run", "solver", "execution")
    return {name: one.provenance() for name, one in zip(names, load_parts(parts, flags=flags), strict=True)}


def _values(section: Mapping) -> dict[str, object]:
    return {field: setting["value"] for field, setting in section.items()}


@given(
    chosen=st.fixed_dictionaries(
        {},
        optional={
            "seed": st.integers(0, 2**32 - 1).map(str),
            "max_time": st.sampled_from(["90s", "3m", "1h30m", "2.5"]),
            "probe_search": st.sampled_from(["true", "false"]),
            "background": st.sampled_from(["auto", "off"]),
            "object_step": st.floats(0.1, 2).map(str),
            "output_dir": st.sampled_from(["-odd", "with space", "a'b", "$HOME", "ü/…"]),
            "beam_center_px": st.just("12, 15"),
            "energy_ev": st.floats(1e3, 1e5).map(str),
            "threads": st.integers(1, 8).map(str),
        },
    ),
    from_environment=st.booleans(),
)
def test_the_repeating_command_carries_every_choice(chosen: dict[str, str], from_environment: bool) -> None:
    env = {f"PTYCHO_{name.upper()}": text for name, text in chosen.items()} if from_environment else {}
    loaded = load_parts(settings.PARTS, flags={} if from_environment else chosen, env=env)
    told = {name: one.provenance() for name, one in zip(("run", "solver", "execution"), loaded, strict=True)}
    words = repeating_words({"settings": told, "command": ["reconstruct", "a.npz", "b.npz"]})
    assert words is not None
    assert words[:4] == ["ptycho", "reconstruct", "a.npz", "b.npz"]
    assert shlex.split(shlex.join(words)) == words
    again = _loaded(settings.PARTS, words[4:])
    assert {name: _values(again[name]) for name in told} == {name: _values(told[name]) for name in told}


def test_a_training_repeats_with_the_flags_of_its_core() -> None:
    parts = training.PARTS
    flags = {"train_data_file": "s.npz", "torch_logger": "none", "torch_accelerator": "cpu", "N": "32"}
    loaded = load_parts(parts, flags=flags)
    told = {"training": loaded[0].provenance(), "execution": loaded[1].provenance()}
    words = repeating_words({"settings": told})
    assert words is not None
    assert words[:2] == ["ptycho", "train"]
    pairs = dict(zip(words[2::2], words[3::2], strict=True))
    assert pairs == {
        "--N": "32",
        "--train-data-file": "s.npz",
        "--torch-accelerator": "cpu",
        "--torch-logger-backend": "none",
    }


def _result(**changes: object) -> Reconstruction:
    rng = np.random.default_rng(5)
    whole = Reconstruction(
        object=np.exp(1j * rng.uniform(-0.5, 0.5, (40, 44))).astype(np.complex64),
        probe=rng.normal(size=(1, 16, 16)).astype(np.complex64),
        origin_px=np.zeros(2),
        positions_px=rng.uniform(8, 30, (9, 2)),
        coverage=np.ones((40, 44), np.float32),
        residual_per_frame=np.linspace(0.1, 0.2, 9).astype(np.float32),
        data_residual=0.15,
        method="solver",
        scan_name="made",
    )
    return replace(whole, **changes)


@pytest.mark.parametrize("text", HOSTILE)
def test_a_hostile_text_is_shown_and_does_nothing(text: str, tmp_path: Path) -> None:
    setting = {"value": text, "source": text, "origin": text}
    provenance = {
        "settings": {"solver": {text: setting, "seed": setting}, "run": {"output_dir": setting}},
        "command": ["reconstruct", text],
        "policy_events": [{"finding": text, "message": text}],
        "papers": [{"key": text, "text": text, "doi": text}],
        "versions": {text: text},
        "hardware": {"cores": [text]},
        "input": {"scan": text, "notes": [text]},
        "finished": text,
    }
    calm = Page(_reported(_result(provenance=_calm(provenance, text)), tmp_path / "calm"))
    page = Page(_reported(_result(scan_name=text, method=text, provenance=provenance), tmp_path / "hostile"))
    assert [tag for tag, _ in page.elements] == [tag for tag, _ in calm.elements]
    for section in ("title", "header", "policies", "papers", "provenance", "configuration", "repeat"):
        shown = shlex.quote(text) if section == "repeat" else text
        assert shown in page.sections[section], section


def _calm(value: object, text: str) -> object:
    return json.loads(json.dumps(value).replace(json.dumps(text)[1:-1], "calm"))


def _reported(result: Reconstruction, directory: Path) -> str:
    result.save(directory, figures=False)
    assert main(["report", str(directory)]) == 0
    return (directory / "report.html").read_text(encoding="utf-8")


@given(text=st.text())
def test_any_text_comes_through_as_text(text: str) -> None:
    picture = Picture("p", text, b"")
    contents = Contents(
        scan=text,
        headline=[(text, text)],
        interrupted=True,
        images=[],
        pixel_size_m=None,
        probe=picture,
        probe_modes=1,
        residuals=picture,
        corrections=None,
        curves=[],
        policies=[Said(text, text)],
        said=[Said("", text)],
        papers=[(text, text)],
        provenance=[(text, [(text, text)])],
        chosen=[],
        defaults=[],
        command=text,
        continued=False,
    )
    tags = [tag for tag, _ in Page(page_html(replace(contents, scan="", command="x"))).elements]
    page = Page(page_html(contents))
    if text:
        assert [tag for tag, _ in page.elements] == tags
    # What HTML cannot hold, or spells its own way, is the only difference.
    if "\r" not in text and "\0" not in text:
        assert text in page.sections["policies"]


def test_a_result_saved_from_python_has_a_page_without_a_command(tmp_path: Path) -> None:
    page = Page(_reported(_result(), tmp_path / "made"))
    assert "Not recorded" in page.sections["repeat"]
    assert "everything had its default" in page.sections["configuration"]
    assert "by an earlier version" in page.sections["papers"]


def test_an_image_that_the_data_cannot_carry_is_not_shown(tmp_path: Path) -> None:
    page = Page(_reported(_result(dose_carries_image=False), tmp_path / "dim"))
    assert "too few photons" in page.sections["image"]
    assert not any(name.startswith("object") for name in page.pictures())


def test_a_training_shows_its_losses_and_corrected_positions_their_map(tmp_path: Path) -> None:
    rows = [
        {"level": 1, "size_px": 16, "epoch": e, "residual": 1 / e, "seconds": e, "stepped_back": False}
        | {"train_loss": 2.0 / e, "val_loss": 3.0 / e, "train_nll": float("nan")}
        for e in (1, 2, 3)
    ]
    given = _result().positions_px + 0.5
    page = Page(_reported(_result(history=tuple(rows), positions_given_px=given), tmp_path / "trained"))
    assert {"R per epoch", "loss per epoch", "Corrected positions"} <= set(page.pictures())
    assert "nll per epoch" not in page.pictures()  # without a single finite value


def test_a_curve_needs_numbers_and_takes_gaps() -> None:
    drawn = training_curves_png([{"train_loss": "1.5", "val_loss": "x", "$x_{": "1"}, {"train_loss": ""}])
    assert list(drawn) == ["loss"]
    assert imread(io.BytesIO(drawn["loss"])).std() > 0.02


def test_a_large_object_is_averaged_to_a_size_that_can_be_sent() -> None:
    side = 200
    obj = np.ones((side, side), np.complex64)
    obj[: side // 2] = 0.5
    whole = _result(object=obj, coverage=np.ones((side, side), np.float32))
    picture = object_pictures(whole, largest_px=90)[0]
    shown = imread(io.BytesIO(picture.png))[..., 0]
    assert picture.shrunk == 3
    assert shown.shape == (side // 3, side // 3)
    assert (picture.width_px, picture.height_px) == (3 * (side // 3),) * 2
    assert shown[10, 10] < 0.1 < 0.9 < shown[-10, -10]


def _damaged(directory: Path, kind: str) -> Path:
    _result().save(directory, figures=False)
    if kind == "npz":
        (directory / "reconstruction.npz").unlink()
    elif kind == "json":
        (directory / "run.json").write_text("{")
    elif kind == "csv":
        (directory / "metrics.csv").write_bytes(b"\xff\xfe")
    return directory


@pytest.mark.parametrize(
    ("kind", "text"),
    [("npz", "ptycho reconstruct SCAN"), ("json", "Run the command again"), ("csv", "metrics.csv")],
)
def test_a_run_with_a_damaged_file_is_refused(
    kind: str, text: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    directory = _damaged(tmp_path / "run", kind)
    assert main(["report", str(directory)]) == 3
    said = capsys.readouterr().err
    assert text in said
    assert said.count("\n") == 1
    assert not (directory / "report.html").exists()


def test_no_run_and_no_place_say_what_to_type(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report", str(tmp_path / "none")]) == 3
    assert "`ptycho reconstruct SCAN --output-dir RUN` makes one" in capsys.readouterr().err
    _result().save(tmp_path / "run", figures=False)
    (tmp_path / "file").write_text("")
    for place in (tmp_path / "file" / "below.html", tmp_path):
        assert main(["report", str(tmp_path / "run"), "--output", str(place)]) == 1
        assert "`--output" in capsys.readouterr().err


def test_a_settings_section_of_a_wrong_shape_spoils_nothing(tmp_path: Path) -> None:
    directory = _damaged(tmp_path / "run", "none")
    for odd in ([], {"solver": 3}, {"solver": {"seed": []}}, {"solver": {"seed": {"source": 1}}}):
        (directory / "run.json").write_text(json.dumps({"settings": odd, "events": 5, "input": [], "x": odd}))
        assert read_contents(directory).scan == "made"


def test_the_verdict_and_the_agreement_of_halves_are_shown(tmp_path: Path) -> None:
    curve = tuple(np.linspace(1, 0.1, 20).tolist())
    verdict = Verdict(
        "doubtful",
        ("Two halves agree badly.",),
        {"curve_side_px": 40.0, "resolution_px": 4.5},
        {"correlation": curve, "half_bit": curve[::-1], "one_bit": curve},
    )
    _result(verdict=verdict).save(tmp_path, figures=False)
    contents = read_contents(tmp_path)
    assert ("verdict", "doubtful: Two halves agree badly.") in contents.headline
    (halves,) = [one for one in contents.curves if one.title == "Two halves of the frames"]
    assert halves.png.startswith(b"\x89PNG")
    assert "4.5 px" in halves.note
    record = json.loads((tmp_path / "run.json").read_text())
    for wrong in (
        "text",
        {"grade": 3},
        {"curves": {"correlation": ["x"]}, "measures": {"curve_side_px": "y"}},
    ):
        (tmp_path / "run.json").write_text(json.dumps(record | {"verdict": wrong}))
        assert all(one.title != "Two halves of the frames" for one in read_contents(tmp_path).curves)


def test_the_uncertainty_of_the_pixels_is_drawn_where_it_was_asked_for(
    ptycho, scan_file: Path, tmp_path: Path
) -> None:
    words = ("--uncertainty", "true", "--diagnose", "off", "--output-dir", "out")
    done = ptycho("reconstruct", scan_file, *words)
    assert done.code == 0, done.err
    assert "median standard deviation" in done.out
    assert "pair 3 of 3" in done.out + done.err
    assert (tmp_path / "out" / "uncertainty.png").exists()
    assert "What all halves get wrong alike" in _text_of(ptycho, tmp_path)


def _text_of(ptycho, directory: Path) -> str:
    assert ptycho("report", "out").code == 0
    return (directory / "out" / "report.html").read_text(encoding="utf-8")


def frames_shown(page: Page) -> set[str]:
    return {name for name in page.pictures() if name.startswith("frame ")}


def test_the_frames_are_those_of_the_scan_as_measured_and_as_predicted(page: Page, solved: Path) -> None:
    spots = [attributes for _, attributes in page.elements if attributes.get("class") == "spot"]
    numbers = [int(spot["data-frame"] or -1) for spot in spots]
    assert len(set(numbers)) == 24
    assert frames_shown(page) == {
        f"frame {n}, {which}" for n in numbers for which in ("measured", "predicted")
    }
    result = Reconstruction.load(solved)
    worst = np.argsort(-np.nan_to_num(result.residual_per_frame))[:4]
    assert set(worst.tolist()) <= set(numbers)
    for spot, number in zip(spots, numbers, strict=True):
        assert spot["aria-label"] == f"frame {number}, R {result.residual_per_frame[number]:.4f}"
    for png in (page.pictures()[name] for name in frames_shown(page)):
        assert len(png) < 20_000


def test_a_frame_s_pictures_hold_its_counts_and_its_prediction(solved: Path, scan_file: Path) -> None:
    result, scan = Reconstruction.load(solved), open_scan(scan_file)
    (pair,) = [one for one in frame_pairs(result, FrameComparison(result, scan, 40)) if one.number == 7]
    assert (pair.y_px, pair.x_px) == tuple(result.positions_px[7])
    assert pair.residual == pytest.approx(result.residual_per_frame[7])
    counts = scan.counts([7])[0]
    assert pair.highest == counts.max()
    # The palette's entry of a pixel is its value.
    entries = np.asarray(Image.open(io.BytesIO(pair.measured)), float)
    np.testing.assert_allclose(entries, 255 * np.log1p(counts) / np.log1p(counts.max()), atol=0.51)
    predicted = np.expm1(
        np.asarray(Image.open(io.BytesIO(pair.predicted)), float) / 255 * np.log1p(counts.max())
    )
    assert np.corrcoef(np.sqrt(predicted).ravel(), np.sqrt(counts).ravel())[0, 1] > 0.8


def test_the_sample_has_the_worst_frames_and_reaches_everywhere() -> None:
    y, x = (side.ravel() for side in np.mgrid[0:30, 0:30])
    positions, residual = np.stack((y, x), axis=-1).astype(float), np.full(900, 0.1)
    residual[[3, 456]], residual[[0, 29]] = 0.5, np.nan
    chosen = sampled_frames(positions, residual, 24)
    assert len(chosen) == len(set(chosen.tolist())) == 24
    assert {3, 456} <= set(chosen.tolist())
    assert not {0, 29} & set(chosen.tolist())
    gap = np.linalg.norm(positions[:, None] - positions[chosen], axis=-1).min(axis=1)
    assert gap.max() < 6
    assert sampled_frames(positions, residual, 0).size == 0
    assert sampled_frames(positions[:5], residual[:5], 24).tolist() == [1, 2, 3, 4]
    assert sampled_frames(np.zeros((50, 2)), np.ones(50), 24).size <= 24


def test_large_frames_are_averaged_to_a_size_that_can_be_sent(simulated) -> None:
    scan = simulated(frames=9, frame_px=32).scan
    large = np.repeat(np.repeat(np.asarray(scan.frames), 9, axis=1), 9, axis=2)
    result = _result(
        probe=np.ones((1, 288, 288), np.complex64),
        object=np.ones((400, 400), np.complex64),
        positions_px=np.full((9, 2), 180.0),
        coverage=np.ones((400, 400), np.float32),
    )
    pair = frame_pairs(result, FrameComparison(result, replace(scan, frames=large, probe=result.probe), 1))[0]
    assert Image.open(io.BytesIO(pair.measured)).size == (96, 96)


def test_another_scan_is_refused_where_it_is_named_and_else_left_out(
    solved: Path, scan_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    save_scan(simulate_scan(frames=12, frame_px=32).scan, tmp_path / "other.npz")
    out = ["--output", str(tmp_path / "page.html")]
    assert main(["report", str(solved), *out, "--scan", str(tmp_path / "other.npz")]) == 3
    assert "has 12 frames of 32 px, the result 40" in capsys.readouterr().err
    assert main(["report", str(solved), *out, "--scan", str(tmp_path / "none.npz")]) == 3
    assert not (tmp_path / "page.html").exists()
    for words, said in (("--frames", "0"), "They were not wanted."), (("--scan", str(scan_file)), ""):
        assert main(["report", str(solved), *out, *words]) == 0
        page = Page((tmp_path / "page.html").read_text("utf-8"))
        assert bool(frames_shown(page)) == (not said)
        assert said in page.sections["frames"]
    assert main(["report", str(solved), "--frames", "25"]) == 2
    assert "expected a number from 0 to 24" in capsys.readouterr().err


def test_a_scan_is_found_only_where_it_is_the_same_to_the_byte(
    solved: Path, scan_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    record = json.loads((solved / "run.json").read_text("utf-8"))
    result = Reconstruction.load(solved)
    monkeypatch.chdir(tmp_path)
    here = record | {"command": ["reconstruct", scan_file.name]}
    assert "is not at hand" in frames_of(result, here).absent
    shutil.copy(scan_file, scan_file.name)
    assert len(frames_of(result, here, count=3).pairs) == 3
    with Path(scan_file.name).open("ab") as file:
        file.write(b"more")
    assert "is not at hand" in frames_of(result, here).absent
    assert "is not at hand" in frames_of(result, {"command": ["reconstruct", 3], "input": []}).absent


def test_the_scan_is_read_as_the_run_has_read_it(ptycho, scan_file: Path, tmp_path: Path) -> None:
    words = ("--effort", "fast", "--frames-orientation", "transpose", "--exclude-frames", "3,5")
    assert ptycho("reconstruct", scan_file, *words, "--output-dir", "out").code == 0
    record = json.loads((tmp_path / "out" / "run.json").read_text("utf-8"))
    result = Reconstruction.load(tmp_path / "out")
    shown = frames_of(result, record)
    numbers = [pair.number for pair, _ in shown.pairs]
    assert not {3, 5} & set(numbers)
    assert len(numbers) == 24
    first = shown.pairs[0][0]
    turned = open_scan(scan_file, frames_orientation="transpose").counts([first.number])[0]
    entries = np.asarray(Image.open(io.BytesIO(first.measured)), float)
    np.testing.assert_allclose(entries, 255 * np.log1p(turned) / np.log1p(turned.max()), atol=0.51)


def test_a_cut_object_has_no_frames_and_says_why(solved: Path, scan_file: Path) -> None:
    result = Reconstruction.load(solved)
    far = replace(result, origin_px=result.origin_px + 500)
    shown = frames_of(far, json.loads((solved / "run.json").read_text("utf-8")))
    assert not shown.pairs
    assert shown.absent
