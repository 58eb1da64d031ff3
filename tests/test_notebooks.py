"""The notebooks of the documentation as they lie there; `nox -s site` runs them."""

from __future__ import annotations

import re
import sys
from itertools import pairwise
from pathlib import Path
from typing import Any

import nbformat
import pytest

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "scripts" / "site"))

from notebooks import page_of, pictures_without_text  # noqa: E402
from pages import links, places_in, written_navigation  # noqa: E402

NOTEBOOKS = sorted((ROOT / "docs" / "notebooks").glob("*.ipynb"))
#: So large at most, pictures included.
LARGEST_BYTES = 300_000
#: Paths that only one host knows.
OF_A_HOST = re.compile(r"(?<![\w.])(?:/(?:home|root|tmp|usr|opt|work|Users|private|var)/|[A-Z]:\\\\)")

each = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)


def test_the_overview_names_all_of_them() -> None:
    overview = ROOT / "docs" / "notebooks" / "README.md"
    named = [link for link in links(overview.read_text("utf-8")) if link.endswith(".ipynb")]
    assert sorted(named) == [path.name for path in NOTEBOOKS]
    assert named


@each
def test_it_is_a_valid_notebook_that_was_run_from_top_to_bottom(path: Path) -> None:
    notebook = nbformat.read(path, as_version=nbformat.NO_CONVERT)
    nbformat.validate(notebook)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1))
    outputs = [output for cell in code for output in cell.outputs]
    assert len(outputs) >= len(code) // 2
    assert [output for output in outputs if output.output_type == "error"] == []
    # Each cell of code is introduced.
    kinds = [cell.cell_type for cell in notebook.cells]
    assert kinds[0] == "markdown"
    assert ("code", "code") not in set(pairwise(kinds))


@each
def test_it_is_small_and_knows_no_host(path: Path) -> None:
    text = path.read_text("utf-8")
    assert path.stat().st_size <= LARGEST_BYTES
    without_pictures = re.sub(r"[A-Za-z0-9+/=\\n]{200,}", "", text)
    assert OF_A_HOST.findall(without_pictures) == []
    assert "\\r" not in without_pictures
    assert '"execution"' not in without_pictures


@each
def test_it_is_in_the_navigation_and_says_what_its_pictures_show(path: Path) -> None:
    assert f"notebooks/{path.stem}.md" in places_in(written_navigation())
    assert pictures_without_text(path) == []


def written(folder: Path, *cells: dict[str, Any]) -> Path:
    path = folder / "made.ipynb"
    title = nbformat.v4.new_markdown_cell("# Made\n\nSee [it](../other.md).")
    nbformat.write(nbformat.v4.new_notebook(cells=[title, *cells]), path)
    return path


def test_a_page_has_prose_code_and_what_it_showed(tmp_path) -> None:
    new = nbformat.v4
    picture = {"image/png": "aGk=\n", "text/plain": "<Figure>"}
    shown = [
        new.new_output("stream", text="1 of 2\n"),
        new.new_output("display_data", picture, metadata={"image/png": {"width": 560}}),
        new.new_output("execute_result", {"text/html": "<div>two</div>", "text/plain": "2"}),
        new.new_output("execute_result", {"text/plain": "'```'"}),
    ]
    cell = new.new_code_cell("1 + 1", outputs=shown, metadata={"alt": 'a "curve" <1>'})
    page = page_of(written(tmp_path, cell))
    assert page.startswith('# Made\n\n<p><a href="made.ipynb" download>')
    assert "See [it](../other.md)." in page
    assert "```python\n1 + 1\n```\n\n```text\n1 of 2\n```\n" in page
    assert '<img alt="a &quot;curve&quot; &lt;1&gt;" width="560" src="data:image/png;base64,aGk=">' in page
    assert "<div>two</div>" in page
    assert "````text\n'```'\n````" in page
    assert "<Figure>" not in page


def test_a_picture_without_a_text_is_named(tmp_path) -> None:
    picture = nbformat.v4.new_output("display_data", {"image/png": "aGk="})
    bare = nbformat.v4.new_code_cell("draw()", outputs=[picture])
    assert pictures_without_text(written(tmp_path, bare)) == [bare.id]


def test_a_notebook_without_a_title_is_refused(tmp_path) -> None:
    path = tmp_path / "bare.ipynb"
    nbformat.write(nbformat.v4.new_notebook(cells=[nbformat.v4.new_markdown_cell("Hello")]), path)
    with pytest.raises(ValueError, match=r"begins with no title, such as `# bare`"):
        page_of(path)
