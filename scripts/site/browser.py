"""Looks at the built site in a headless Chromium, from the disk and without a network.

Every page: no script complains, nothing is asked for outside, each picture has a text in its place, nothing
is wider than a narrow screen, and axe-core finds no fault that is serious or critical, by day and by night.
On the home page: the search finds what it should.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Error, Page, sync_playwright

__all__ = ["complaints", "opened"]

_BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "microsoft-edge")
_WIDE = {"width": 1280, "height": 900}
_NARROW = {"width": 400, "height": 800}
#: A word, and a page that it has to lead to.
_SOUGHT = ("OPR", "how-to/positions.html")
_WITHOUT_TEXT = "() => [...document.images].filter(one => !one.alt.trim()).map(one => one.src)"
_WIDER = "() => document.scrollingElement.scrollWidth - window.innerWidth"
#: Faults that count; what only a person can judge is none.
_COUNTS = ("serious", "critical")


@contextmanager
def opened() -> Iterator[Browser]:
    """Open the host's browser, or the one that Playwright fetched.

    Raises:
        RuntimeError: there is neither; says so.
    """
    found = next((path for name in _BROWSERS if (path := shutil.which(name))), None)
    # A browser shuts its own cage with rights that root must not hand out.
    caged = not hasattr(os, "geteuid") or os.geteuid() != 0
    with sync_playwright() as playwright:
        try:
            browser = playwright.chromium.launch(
                executable_path=found, args=["--disable-gpu"], chromium_sandbox=caged
            )
        except Error as error:
            raise RuntimeError(" ".join(str(error).split())[:200]) from None
        yield browser
        browser.close()


def complaints(browser: Browser, site: Path, only: list[str] | None = None) -> list[str]:
    """Look at the pages of a site; what is wrong, a line each.

    Args:
        site: the folder that was built.
        only: pages to look at, as `index.html`; all of them when None.
    """
    # 404.html is for servers: it names its files from their root, and says nothing that opens from the disk.
    every = sorted(set(site.rglob("*.html")) - {site / "404.html"})
    pages = [site / name for name in only] if only else every
    found: list[str] = []
    for path in pages:
        said: list[str] = []
        page = _listened_to(browser, site, said)
        page.goto(path.as_uri())
        said += [f"a picture without a text: {source}" for source in page.evaluate(_WITHOUT_TEXT)]
        said += _axe(page)
        page.emulate_media(color_scheme="dark")
        page.reload()
        said += [f"by night: {fault}" for fault in _axe(page, "color-contrast")]
        page.set_viewport_size(_NARROW)
        said += [f"narrow: {fault}" for fault in _axe(page, "scrollable-region-focusable")]
        if (wider := page.evaluate(_WIDER)) > 0:
            said.append(f"{wider} px wider than a screen of {_NARROW['width']} px")
        page.close()
        found += [f"{path.relative_to(site).as_posix()}: {one}" for one in said]
    return found + _search(browser, site)


def _listened_to(browser: Browser, site: Path, said: list[str]) -> Page:
    """Open a page whose complaints and requests are written down."""
    page = browser.new_page(viewport=_WIDE)
    page.set_default_timeout(300_000)
    page.on("console", lambda message: said.append(f"{message.type}: {message.text}"))
    page.on("pageerror", lambda error: said.append(f"script error: {error}"))

    def outside(request: Any) -> None:
        if not request.url.startswith((site.as_uri(), "data:", "blob:")):
            said.append(f"asks for {request.url}")

    page.on("request", outside)
    return page


def _axe(page: Page, *rules: str) -> list[str]:
    """Ask axe-core, by all of its rules or by some."""
    # From a disk no style may be read a second time, which a preload would.
    options: dict[str, Any] = {"resultTypes": ["violations"], "preload": False}
    if rules:
        options["runOnly"] = {"type": "rule", "values": list(rules)}
    violations = Axe().run(page, options=options).response["violations"]
    return [
        " ".join(f"{one['id']} ({one['impact']}): {node['target'][0]} {node['failureSummary']}".split())
        for one in violations
        if one["impact"] in _COUNTS
        for node in one["nodes"][:3]
    ]


def _search(browser: Browser, site: Path) -> list[str]:
    """Search as a reader does."""
    word, wanted = _SOUGHT
    said: list[str] = []
    page = _listened_to(browser, site, said)
    page.goto((site / "index.html").as_uri())
    page.fill("input[name=query]", word)
    try:
        page.wait_for_selector(".md-search-result__item a", timeout=120_000)
    except Error:
        return [*said, f"the search finds nothing for {word}"]
    found = page.eval_on_selector_all(".md-search-result__item a", "all => all.map(one => one.href)")
    page.close()
    if not any(wanted in link for link in found):
        said.append(f"the search for {word} does not lead to {wanted}: {found[:10]}")
    return [f"search: {one}" for one in said]
