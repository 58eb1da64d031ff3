"""The site of the documentation: every page is reached, every link leads somewhere, every name is described.

`nox -s site` builds it with mkdocs, which is strict, and looks at it in a browser; neither is needed here.
"""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "scripts" / "site"))

from docstrings import in_parser_style  # noqa: E402
from interface import command_pages, settings_page  # noqa: E402
from made import made_pages  # noqa: E402
from pages import (  # noqa: E402
    anchor_of,
    anchors,
    broken_links,
    documents,
    expanded,
    links,
    places_in,
    shown_files,
    text_of,
    with_site_links,
    written_navigation,
)
from reference import entries, modules, reference_pages  # noqa: E402

from ptycho_config.models import Config  # noqa: E402
from ptycho_dispatch.commands.configuration import MODELS  # noqa: E402

#: What a core passes on of its framework, which has pages of its own.
NOT_OURS = {"ptycho_core_tf.framework.tf", "ptycho_core_tf.framework.keras"}
#: Fields that older programs give and no command takes.
NO_SETTING = {"debug"}
HEAVY = ("ptycho_core_torch", "ptycho_core_tf")
PICTURE_WITHOUT_TEXT = re.compile(r"!\[\s*\]\(")
FLAG = re.compile(r"^  (?:-\w, )?(--[\w-]+)", re.MULTILINE)


def test_every_page_is_in_the_navigation_once() -> None:
    made = made_pages()
    reached = places_in(expanded(written_navigation(), list(made)))
    assert sorted(reached) == sorted({*documents(), *made})


def test_every_page_of_docs_and_every_finding_is_a_page_of_the_site() -> None:
    written = {
        *(ROOT / "docs").rglob("*.md"),
        *(ROOT / "docs").rglob("*.ipynb"),
        *(ROOT / "findings").glob("*.md"),
    }
    assert written <= set(documents().values())


def test_every_link_leads_to_a_file_and_to_a_heading_of_it() -> None:
    assert broken_links() == []


def test_every_link_on_the_site_leads_to_a_page_or_a_picture_of_it() -> None:
    places = {*documents(), *made_pages(), *shown_files()}
    lost = [
        f"{place}: {link}"
        for place, path in documents().items()
        for link in links(with_site_links(text_of(path), path, place))
        if not link.startswith(("#", "https://")) and not _is_there(place, link.partition("#")[0], places)
    ]
    assert lost == []


def _is_there(place: str, link: str, places: set[str]) -> bool:
    parts = [*Path(place).parent.parts, *Path(link).parts]
    at: list[str] = []
    for part in parts:
        if part == "..":
            at.pop()
        else:
            at.append(part)
    there = "/".join(at)
    return there in places or (ROOT / "docs" / there).is_file()


def test_every_picture_has_a_text_in_its_place() -> None:
    bare = [str(path) for path in documents().values() if PICTURE_WITHOUT_TEXT.search(text_of(path))]
    assert bare == []


# The reference of the names.


def public_objects() -> Iterator[tuple[str, object]]:
    """Import each module without an underscore that needs no framework; what its `__all__` names."""
    for name in modules():
        package = name.partition(".")[0]
        if package in HEAVY or importlib.util.find_spec(package) is None:
            continue
        module = importlib.import_module(name)
        for one in getattr(module, "__all__", ()):
            yield f"{name}.{one}", getattr(module, one)


def test_every_function_and_class_that_can_be_imported_has_its_place_in_the_reference() -> None:
    described = {entry for page in reference_pages().values() for entry in entries(page)}
    checked, missing = 0, []
    for path, thing in public_objects():
        if inspect.isfunction(thing) or inspect.isclass(thing):
            home = inspect.unwrap(thing) if inspect.isfunction(thing) else thing
            where = f"{home.__module__}.{home.__qualname__}"
            if where.startswith("ptycho"):
                checked += 1
                # What a function made has the name of what it was made of.
                missing += [] if {where, path} & described else [f"{path} ({where})"]
    assert missing == []
    assert checked > 1000


def test_every_name_of_every_module_is_described_just_once() -> None:
    """Of the cores too, whose frameworks need not be installed: by what the sources say."""
    pages = reference_pages()
    described = [entry for page in pages.values() for entry in entries(page)]
    assert len(described) == len(set(described))
    everything = "\n".join(pages.values())
    missing = [
        f"{module.name}.{name}"
        for module in modules().values()
        for name in module.offered
        if f"heading: {name}\n" not in everything and f"[`{name}`]" not in everything
    ]
    assert set(missing) == NOT_OURS


def test_the_face_of_a_package_comes_first() -> None:
    page = reference_pages()["reference/api/ptycho_core/README.md"]
    assert page.index("::: ptycho_core.solver.solve.solve\n") < page.index("## Modules")
    assert (
        "[`solve`][ptycho_core.solver.solve.solve]"
        in reference_pages()["reference/api/ptycho_core/solver.md"]
    )


# The reference of commands and settings.


@pytest.mark.parametrize("place", [place for place in command_pages() if not place.endswith("README.md")])
def test_the_page_of_a_command_has_every_flag_of_its_help(place: str, ptycho) -> None:
    said = ptycho(Path(place).stem, "--help").out
    flags = FLAG.findall(said)
    assert "--help" in flags
    page = command_pages()[place]
    assert [flag for flag in flags if f"`{flag}`" not in page] == []


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model.__name__)
def test_every_field_of_a_model_is_among_the_settings(model) -> None:
    page = settings_page()
    names = [
        name.replace("_", "-")
        for name, info in model.model_fields.items()
        if name not in {*model.derived_fields, *NO_SETTING} and not _is_section(info.annotation)
    ]
    assert names
    # Of what several models have, one is named after its model.
    row = r"^\| `--(?:torch-|tensorflow-|solver-)?{}` \|"
    assert [name for name in names if not re.search(row.format(name), page, re.MULTILINE)] == []


def _is_section(annotation: object) -> bool:
    return inspect.isclass(annotation) and issubclass(annotation, Config)


# What the pages are made by.


@pytest.mark.parametrize(
    ("heading", "anchor"),
    [
        ("Few photons, little overlap", "few-photons-little-overlap"),
        ("`ptycho_core`", "ptycho_core"),
        ("A flag: `--mpi`", "a-flag---mpi"),
    ],
)
def test_anchors_are_those_of_a_file_view(heading: str, anchor: str) -> None:
    assert anchor_of(heading) == anchor


def test_headings_and_links_in_code_are_none() -> None:
    text = "# One\n\n```\n# Two\n[a](b.md)\n```\n\n[c](d.md#e) `[f](g.md)` <!-- [h](i.md) --> ![j](k.png)\n"
    assert anchors(text) == {"one"}
    assert links(text) == ["d.md#e", "k.png"]


@pytest.mark.parametrize(
    ("page", "place", "link", "there"),
    [
        ("docs/how-to/watch.md", "how-to/watch.md", "../benchmarks/live.md#x", "../benchmarks/live.md#x"),
        (
            "docs/how-to/watch.md",
            "how-to/watch.md",
            "../../findings/POLICY-001.md",
            "../findings/POLICY-001.md",
        ),
        ("docs/index.md", "index.md", "../ARCHITECTURE.md", "project/architecture.md"),
        ("docs/index.md", "index.md", "../findings/", "findings/README.md"),
        ("docs/index.md", "index.md", "../noxfile.py", "files/noxfile.py.md"),
        ("ARCHITECTURE.md", "project/architecture.md", "docs/images/a.png", "../images/a.png"),
        ("CONTRIBUTING.md", "project/contributing.md", "packages/ptycho-core", "ptycho-core.md"),
        ("docs/index.md", "index.md", "notebooks/live.ipynb", "notebooks/live.md"),
        ("docs/index.md", "index.md", "https://example.org/a.md", "https://example.org/a.md"),
        ("docs/index.md", "index.md", "#where-to-go", "#where-to-go"),
    ],
)
def test_links_between_files_become_links_between_pages(page: str, place: str, link: str, there: str) -> None:
    assert with_site_links(f"see [it]({link}).", ROOT / page, place) == f"see [it]({there})."
    code = f"`see [it]({link})`"
    assert with_site_links(code, ROOT / page, place) == code


def test_arguments_that_share_a_line_are_described_each() -> None:
    arguments = "Args:\n    a, b: in px,\n        (y, x).\n    c: other."
    text = f"Do.\n\n{arguments}\nReturns:\n    a, b: text.\nRaises:\n    E: no."
    assert in_parser_style(text).splitlines() == [
        "Do.",
        "",
        "Args:",
        "    a: in px,",
        "        (y, x).",
        "    b: in px,",
        "        (y, x).",
        "    c: other.",
        "",
        "Returns:",
        "    a, b: text.",
        "",
        "Raises:",
        "    E: no.",
    ]


def test_what_the_parser_of_the_site_does_not_know_is_said_as_it_does() -> None:
    text = "Do.\n\nRaises:\n    See `solve`, whose errors\n    these are.\n\nExample:\n    >>> do()[:3]"
    assert in_parser_style(text).splitlines() == [
        "Do.",
        "",
        "",
        "**Raises:** See `solve`, whose errors these are.",
        "",
        "Examples:",
        "    >>> do()[:3]",
    ]
