"""Each rule of the house has one page, and the pages travel with ptycho-config."""

from __future__ import annotations

import tarfile
import zipfile
from pathlib import Path

import pytest

from ptycho_config.errors import ConfigError
from ptycho_config.findings import FRONT_MATTER, finding_ids, findings_directory, read_finding

IDS = (
    "BUNDLE-001",
    "CONFIG-001",
    "CONFIG-002",
    "CONFIG-LOGGER-001",
    "DATA-001",
    "DATA-SUP-001",
    "EXEC-ACCUM-001",
    "EXEC-ACCUM-002",
    "FORMAT-001",
    "NORMALIZATION-001",
    "OVERSAMPLING-001",
    "POLICY-001",
    "TRAIN-COLLAPSE-001",
)
PROJECT = Path(__file__).resolve().parents[2] / "packages" / "ptycho-config"


def test_every_rule_of_the_contract_has_its_page() -> None:
    assert finding_ids() == IDS


def test_the_front_matter_of_every_page_is_complete() -> None:
    assert FRONT_MATTER == (
        "id",
        "title",
        "status",
        "rule",
        "since",
        "enforced_by",
        "verified_by",
        "probe",
    )
    pages = {identifier: read_finding(identifier) for identifier in IDS}
    assert {identifier: page.id for identifier, page in pages.items()} == {one: one for one in IDS}
    incomplete = [
        identifier
        for identifier, page in pages.items()
        if not (
            page.status in ("active", "retired")
            and page.title
            and page.rule.endswith(".")
            and page.since.count(".") == 2
            and page.story.startswith(f"# {identifier}: {page.title}\n")
        )
    ]
    assert incomplete == []


def test_an_unknown_finding_is_refused_with_the_known_ones() -> None:
    with pytest.raises(ConfigError, match="no finding 'POLICY-999'; expected one of BUNDLE-001"):
        read_finding("POLICY-999")
    with pytest.raises(ConfigError, match="no finding"):
        read_finding("../README")


def test_the_sdist_and_the_wheel_built_from_it_carry_the_pages(tmp_path: Path) -> None:
    sdist_builder = pytest.importorskip("hatchling.builders.sdist", reason="hatchling builds the packages")
    wheel_builder = pytest.importorskip("hatchling.builders.wheel")
    pages = {page.name: page.read_bytes() for page in findings_directory().glob("*.md")}
    [sdist] = sdist_builder.SdistBuilder(str(PROJECT)).build(directory=str(tmp_path / "sdist"))
    with tarfile.open(sdist) as archive:
        archive.extractall(tmp_path / "unpacked", filter="data")
    [unpacked] = (tmp_path / "unpacked").iterdir()
    assert {page.name: page.read_bytes() for page in (unpacked / "findings").glob("*.md")} == pages
    for source in (PROJECT, unpacked):
        builder = wheel_builder.WheelBuilder(str(source))
        [wheel] = builder.build(directory=str(tmp_path / source.name), versions=["standard"])
        with zipfile.ZipFile(wheel) as archive:
            prefix = "ptycho_config/findings/"
            carried = {
                name.removeprefix(prefix): archive.read(name)
                for name in archive.namelist()
                if name.startswith(prefix) and name.endswith(".md")
            }
            assert "ptycho_config/py.typed" in archive.namelist()
        assert carried == pages
