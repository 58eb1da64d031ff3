"""The report in a real browser, from a file: no script error, no request, and a viewer that does its work.

`nox -s report` brings Playwright; the browser is the one of the host, or Playwright's own where it has been
fetched. With `PTYCHO_PICTURES` the screenshot goes into that folder, as the documentation shows it.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from matplotlib.image import imread
from PIL import Image

from ptycho_dispatch.cli import main

pytestmark = pytest.mark.slow
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "microsoft-edge")
#: So high that image, probe and the curves' heads are on the picture of the documentation.
VIEW = {"width": 1280, "height": 1080}


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed: nox -s report")
    found = next((path for name in BROWSERS if (path := shutil.which(name))), None)
    # A browser shuts its own cage with rights that root must not hand out.
    caged = not hasattr(os, "geteuid") or os.geteuid() != 0
    with api.sync_playwright() as playwright:
        try:
            launched = playwright.chromium.launch(
                executable_path=found,
                args=["--disable-gpu"],
                chromium_sandbox=caged,
            )
        except api.Error as error:
            pytest.skip(f"no browser is at hand: {' '.join(str(error).split())[:200]}")
        yield launched
        launched.close()


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The report of the real scan's reconstruction."""
    directory = tmp_path_factory.mktemp("star")
    assert main(["reconstruct", "siemens-star", "--output-dir", str(directory)]) == 0
    assert main(["report", str(directory)]) == 0
    return directory / "report.html"


@pytest.fixture
def page(browser: Any, report: Path) -> Iterator[Any]:
    """The opened page; whatever it complains of or asks for outside fails the test."""
    complaints: list[str] = []
    page = browser.new_page(viewport=VIEW)
    page.on("console", lambda message: complaints.append(message.text))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on(
        "request",
        lambda request: (
            None if request.url.startswith(("data:", report.as_uri())) else complaints.append(request.url)
        ),
    )
    page.goto(report.as_uri())
    yield page
    page.close()
    assert complaints == []


def bar_px(page: Any) -> tuple[float, float]:
    """Length of the scale bar on the screen, and in pixels of the object."""
    label = re.fullmatch(r"(\d+) px", page.inner_text(".scale span"))
    assert label is not None
    return page.locator(".scale i").bounding_box()["width"], float(label[1])


def test_the_viewer_switches_zooms_and_measures(page: Any) -> None:
    amplitude, phase = (
        page.locator("figure[data-picture=amplitude]"),
        page.locator("figure[data-picture=phase]"),
    )
    assert amplitude.is_visible()
    assert not phase.is_visible()
    page.click("button[data-picture=phase]")
    assert phase.is_visible()
    assert not amplitude.is_visible()
    assert page.locator("p[data-picture=phase]").is_visible()

    whole = phase.bounding_box()
    on_screen, in_object = bar_px(page)
    width = float(page.get_attribute(".viewer", "data-width-px"))
    assert on_screen / in_object == pytest.approx(whole["width"] / width, rel=0.01)
    page.hover(".stage")
    page.mouse.wheel(0, -1000)
    page.locator(".scale span", has_not_text=f"{in_object:.0f} px").wait_for()
    nearer = phase.bounding_box()
    assert nearer["width"] > 3 * whole["width"]
    on_screen, in_object = bar_px(page)
    assert on_screen / in_object == pytest.approx(nearer["width"] / width, rel=0.01)
    # The middle, where the pointer is, stays where it was.
    middle = whole["x"] + whole["width"] / 2
    assert nearer["x"] + nearer["width"] / 2 == pytest.approx(middle, abs=2)
    page.mouse.down()
    page.mouse.move(middle + 50, whole["y"] + 100)
    page.mouse.up()
    assert phase.bounding_box()["x"] > nearer["x"] + 30
    page.keyboard.press("Escape")
    page.focus(".stage")
    page.keyboard.press("0")
    assert phase.bounding_box() == whole


def test_a_click_on_a_position_shows_its_frame_measured_and_predicted(page: Any) -> None:
    shown = page.locator(".pair:visible")
    assert shown.count() == 1
    worst = max(
        float(one) for one in page.eval_on_selector_all(".pair", "all => all.map(p => p.dataset.residual)")
    )
    assert float(shown.get_attribute("data-residual")) == worst
    spot = page.locator(".spot").nth(5)
    box, number = spot.bounding_box(), spot.get_attribute("data-frame")
    # Beside the spot: the nearest one is meant.
    page.mouse.click(box["x"] + box["width"] + 2, box["y"] + box["height"] / 2)
    assert page.locator(".pair:visible").get_attribute("data-frame") == number
    assert spot.get_attribute("aria-pressed") == "true"
    for which in ("measured", "predicted"):
        assert page.get_by_alt_text(f"frame {number}, {which}").is_visible()


def test_frames_are_chosen_by_keys_too(page: Any) -> None:
    page.click(".frames .worst")
    page.locator('.spot[aria-pressed="true"]').focus()
    seen = set()
    for _ in range(page.locator(".spot").count()):
        page.keyboard.press("ArrowRight")
        seen.add(page.evaluate("document.activeElement.dataset.frame"))
        assert page.locator(".pair:visible").get_attribute("data-frame") in seen
    assert len(seen) == page.locator(".pair").count()
    page.click(".frames .before")
    assert page.locator(".pair:visible").count() == 1


def test_the_address_can_name_the_picture(page: Any, report: Path) -> None:
    page.goto("about:blank")
    page.goto(report.as_uri() + "#phase")
    assert page.locator("figure[data-picture=phase]").is_visible()


def test_without_javascript_both_pictures_are_there(browser: Any, report: Path) -> None:
    page = browser.new_page(java_script_enabled=False)
    page.goto(report.as_uri())
    for name in ("amplitude", "phase"):
        assert page.locator(f"figure[data-picture={name}]").is_visible()
    assert page.locator(".pair:visible").count() == page.locator(".pair").count() > 0
    page.close()


def test_a_script_of_another_would_not_run(browser: Any, report: Path, tmp_path: Path) -> None:
    """What the page's own policy is for: a text that was put in unescaped."""
    text = report.read_text(encoding="utf-8")
    path = tmp_path / "spoilt.html"
    path.write_text(text.replace("<main>", "<main><script>document.title = 'ran'</script>"), "utf-8")
    page = browser.new_page()
    page.goto(path.as_uri())
    assert page.title() == "siemens-star · ptycho report"
    assert page.locator(".viewer.live").count() == 1
    page.close()


def test_the_page_can_be_photographed(page: Any, tmp_path: Path) -> None:
    page.click("button[data-picture=phase]")
    path = tmp_path / "report.png"
    page.screenshot(path=path)
    assert imread(path)[..., :3].std() > 0.1
    if folder := os.environ.get("PTYCHO_PICTURES"):
        Image.open(path).convert("RGB").save(Path(folder) / "report.png", optimize=True)
