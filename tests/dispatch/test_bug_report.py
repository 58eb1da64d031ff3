"""`ptycho bug-report`: everything that helps is in it, and nothing that tells who, where, or the data."""

from __future__ import annotations

import io
import json
import os
import re
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example as case
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from ptycho_core import Reconstruction
from ptycho_core.result.provenance import versions
from ptycho_dispatch.bug_report.anonymous import Anonymous
from ptycho_dispatch.cli import main

SECRETS = ("mueller", "beamline7", "secret_alloy", "hidden place", "proposal-4711")


@pytest.fixture(scope="module")
def secret_run(scan_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run in folders, of a file, by a user and on a host whose names must not get out."""
    home = tmp_path_factory.mktemp("homes") / "mueller"
    scans = home / "hidden place" / "proposal-4711"
    scans.mkdir(parents=True)
    shutil.copy(scan_file, scans / "secret_alloy.npz")
    directory = home / "hidden place" / "solved"
    words = [
        "reconstruct",
        str(scans / "secret_alloy.npz"),
        "--effort",
        "fast",
        "--output-dir",
        str(directory),
    ]
    assert main(words) == 0
    with (directory / "ptycho.log").open("a", encoding="utf-8") as log:
        log.write(
            "INFO rank 3 of beamline7 reads ~/proposal-4711/secret_alloy_dark.h5, "
            "asked by mueller@lab.example\n"
        )
    return directory


@pytest.fixture
def somebody(monkeypatch: pytest.MonkeyPatch, secret_run: Path) -> None:
    """Be the user on the host."""
    monkeypatch.setenv("HOME", str(secret_run.parents[1]))
    monkeypatch.setenv("USER", "mueller")
    monkeypatch.setenv("LOGNAME", "mueller")
    monkeypatch.setenv("SLURMD_NODENAME", "beamline7.lab.example")


def members(path: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(path) as archive:
        assert archive.testzip() is None
        return {name: archive.read(name) for name in archive.namelist()}


def test_a_report_holds_what_helps_and_no_name(secret_run: Path, somebody: None, tmp_path: Path) -> None:
    assert main(["bug-report", str(secret_run), "--output", str(tmp_path / "report.zip")]) == 0
    held = members(tmp_path / "report.zip")
    assert list(held) == ["README.txt", "ptycho.log", "run.json", "installation.json", "thumbnail.png"]
    for name, content in held.items():
        for secret in SECRETS:
            assert secret.encode() not in content.lower(), (name, secret)
    record, original = json.loads(held["run.json"]), json.loads((secret_run / "run.json").read_text("utf-8"))
    for key in ("data_residual", "versions", "timings_s", "configuration", "execution"):
        assert record[key] == original[key]
    assert record["input"]["sha256"] == original["input"]["sha256"]
    assert record["input"]["scan"] == "<scan>"
    log = held["ptycho.log"].decode()
    assert "Solver arrays: " in log
    assert "INFO rank 3 of <host> reads <path 1>.h5, asked by <mail>" in re.sub(
        r"<path \d+>", "<path 1>", log
    )
    installation = json.loads(held["installation.json"])
    assert installation["versions"] == versions()
    assert installation["hardware"]["cores"] >= 1
    assert installation["arrays"]["numpy"] == "cpu"


def test_nothing_of_the_data_goes_along(secret_run: Path, tmp_path: Path) -> None:
    directory = shutil.copytree(secret_run, tmp_path / "run")
    record = json.loads((directory / "run.json").read_text("utf-8"))
    record["position_corrections"] = {"mean_px": 0.5, "corrections_px": [[0.125, 0.25]] * 200}
    (directory / "run.json").write_text(json.dumps(record), encoding="utf-8")
    assert main(["bug-report", str(directory)]) == 0
    held = members(directory / "bug-report.zip")
    told = json.loads(held["run.json"])["position_corrections"]
    assert told == {"mean_px": 0.5, "corrections_px": "400 values left out"}
    width, height = Image.open(io.BytesIO(held["thumbnail.png"])).size
    assert max(width / 2, height) <= 256


def test_data_go_along_where_they_are_named(secret_run: Path, tmp_path: Path, capsys) -> None:
    data = tmp_path / "frames.npy"
    np.save(data, np.arange(100))
    out = tmp_path / "report.zip"
    words = ["bug-report", str(secret_run), "--output", str(out), "--no-thumbnail"]
    assert main([*words, "--with-data", str(data), str(secret_run / "metrics.csv")]) == 0
    held = members(out)
    assert held["data/frames.npy"] == data.read_bytes()
    assert held["data/metrics.csv"] == (secret_run / "metrics.csv").read_bytes()
    assert "thumbnail.png" not in held
    assert "as they were" in capsys.readouterr().out
    before = out.read_bytes()
    assert main([*words, "--with-data", str(tmp_path / "none.npz")]) == 3
    assert main([*words, "--with-data", str(tmp_path)]) == 3
    assert main([*words, "--with-data", str(out)]) == 2
    assert main([*words, "--with-data", str(data), str(data)]) == 2
    assert out.read_bytes() == before


def test_a_run_that_failed_or_was_interrupted_is_reported_as_far_as_it_got(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    directory = tmp_path / "failed"
    broken = tmp_path / "broken.npz"
    broken.write_bytes(b"PK no scan")
    assert main(["reconstruct", str(broken), "--output-dir", str(directory)]) == 3
    directory.mkdir(exist_ok=True)
    (directory / "ptycho.log").write_text("ERROR it failed\n", encoding="utf-8")
    assert main(["bug-report", str(directory)]) == 0
    held = members(directory / "bug-report.zip")
    assert list(held) == ["README.txt", "ptycho.log", "installation.json"]
    assert "run.json: the run has written none" in held["README.txt"].decode()
    assert "thumbnail.png: " in held["README.txt"].decode()
    (directory / "run.json").write_text('{"scan": "half', encoding="utf-8")
    (directory / "reconstruction.npz").write_bytes(b"half")
    assert main(["bug-report", str(directory)]) == 0
    held = members(directory / "bug-report.zip")
    assert held["run.json"] == b'{"scan": "half'
    assert "run.json as it should be: it is damaged" in held["README.txt"].decode()
    assert "not in it: thumbnail.png" in capsys.readouterr().out


def test_what_is_no_run_is_refused_and_nothing_is_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["bug-report", str(tmp_path / "none")]) == 3
    assert "there is no such run" in capsys.readouterr().err
    (tmp_path / "empty").mkdir()
    assert main(["bug-report", str(tmp_path / "empty")]) == 3
    assert "no run has written there" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["empty"]
    assert not list((tmp_path / "empty").iterdir())


def test_a_place_that_cannot_be_written_is_told(secret_run: Path, tmp_path: Path, capsys) -> None:
    (tmp_path / "file").write_text("x")
    for place in (tmp_path, tmp_path / "file" / "report.zip"):
        assert main(["bug-report", str(secret_run), "--output", str(place)]) == 1
        assert "--output" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_the_end_of_a_long_log_is_what_goes_along(tmp_path: Path) -> None:
    line = "INFO the same as before, and once more the same as before\n"
    (tmp_path / "ptycho.log").write_text(line * 50_000 + "ERROR the end\n", encoding="utf-8")
    assert main(["bug-report", str(tmp_path)]) == 0
    log = members(tmp_path / "bug-report.zip")["ptycho.log"].decode()
    assert len(log) < 2_200_000
    assert log.startswith("... the first ")
    assert log.endswith("ERROR the end\n")


def test_half_a_character_and_a_deep_record_cost_no_report(tmp_path: Path) -> None:
    (tmp_path / "run.json").write_text(r'{"method": "m\udcfcller"}', encoding="utf-8")
    assert main(["bug-report", str(tmp_path)]) == 0
    assert json.loads(members(tmp_path / "bug-report.zip")["run.json"])["method"] == "m\udcfcller"
    (tmp_path / "run.json").write_text('{"a": ' * 500 + "1" + "}" * 500, encoding="utf-8")
    assert main(["bug-report", str(tmp_path)]) == 0
    held = members(tmp_path / "bug-report.zip")
    assert held["run.json"].startswith(b'{"a": {"a"')
    assert "it is damaged" in held["README.txt"].decode()


@pytest.mark.skipif(os.name != "posix", reason="needs FIFOs")
def test_a_log_that_never_ends_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "ptycho.log")
    (tmp_path / "run.json").write_text("{}", encoding="utf-8")
    assert main(["bug-report", str(tmp_path)]) == 0
    assert "ptycho.log" not in members(tmp_path / "bug-report.zip")


KNOWN = Anonymous({"mueller": "<user>"}, ["beamtime/run 5"], ("run.json",))


@pytest.mark.parametrize(
    ("text", "clean"),
    [
        ("/srv/mueller/a.npz: no such file", "<path>.npz: no such file"),
        (
            "Wrote `/data/my scans/a b.h5` and 'C:\\\\beam time\\\\b.tif'",
            "Wrote `<path>.h5` and '<path>.tif'",
        ),
        (r"D:\beam\x.cxi, \\server\share\y", "<path>.cxi, <path>"),
        ("in beamtime/run 5: MUELLER's", "in <path>: <user>'s"),
        ("out/run.json and run.json", "<path>/run.json and run.json"),
        ("beamtime/run 5/dark/first, beamtime/run 55", "<path>, beamtime/run 55"),
        ("/x/out/run.json", "<path>/run.json"),
        ("from 10.0.3.17, version 2.4.6", "from <address>, version 2.4.6"),
        ("33677 frames/s, 1/2, R/epoch, https://doi.org/10.1038/nature11806", None),
        ("frames at /entry_1/data_1/data", None),
        (
            "/opt/py/lib/python3.11/site-packages/ptycho_core/io/npy.py",
            "<python>/ptycho_core/io/npy.py",
        ),
    ],
)
def test_a_text_keeps_what_is_no_name(text: str, clean: str | None) -> None:
    told = re.sub(r"<path \d+>", "<path>", KNOWN.text(text))
    assert told == (text if clean is None else clean)


@given(
    st.lists(st.text("abcdefgh_-0123456789", min_size=3, max_size=12), min_size=2, max_size=5),
    st.sampled_from(["", "read ", "ERROR "]),
    st.sampled_from(["", ": gone", ", then more", " (2)"]),
)
@case(["home", "x-"], "", "")
def test_no_part_of_a_path_survives(parts: list[str], before: str, behind: str) -> None:
    told = Anonymous({}).text(f"{before}/{'/'.join(parts)}{behind}")
    assert re.fullmatch(rf"{re.escape(before)}<path 1>{re.escape(behind)}", told)


def test_names_in_variables_and_of_other_ranks_are_no_less_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SLURM_JOB_ACCOUNT", "proposal-4711")
    monkeypatch.setenv("SLURM_NTASKS", "4")
    monkeypatch.setenv("PTYCHO_OUTPUT_DIR", "proposal-4711/solved")
    (tmp_path / "run.json").write_text('{"launched": {"rank": 3, "host": "beamline7"}}', encoding="utf-8")
    (tmp_path / "ptycho.log").write_text("INFO Rank 3 on Beamline7 wrote proposal-4711/solved/x\n")
    assert main(["bug-report", str(tmp_path)]) == 0
    held = members(tmp_path / "bug-report.zip")
    for name, content in held.items():
        assert b"4711" not in content, name
        assert b"beamline7" not in content.lower(), name
    variables = json.loads(held["installation.json"])["variables"]
    assert variables["SLURM_NTASKS"] == "4"
    assert "SLURM_JOB_ACCOUNT" not in variables
    assert variables["PTYCHO_OUTPUT_DIR"].startswith("<path ")


def test_the_same_path_is_the_same_word_everywhere() -> None:
    anonymous = Anonymous({})
    first = anonymous.text("/a/b.npz then /a/c.npz")
    assert first == "<path 1>.npz then <path 2>.npz"
    assert anonymous.value({"x": ["/a/c.npz", 3, None]}) == {"x": ["<path 2>.npz", 3, None]}
    assert anonymous.replaced == 2


def test_the_thumbnail_is_the_object(secret_run: Path, tmp_path: Path) -> None:
    assert main(["bug-report", str(secret_run), "--output", str(tmp_path / "r.zip")]) == 0
    grey = np.asarray(Image.open(io.BytesIO(members(tmp_path / "r.zip")["thumbnail.png"])).convert("L"))
    assert grey.std() > 5
    assert grey.shape[1] >= 2 * min(Reconstruction.load(secret_run).object.shape) // 2
