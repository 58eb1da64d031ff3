"""Outcomes of tests from the JUnit file that `pytest --junitxml` writes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from xml.etree import ElementTree

from ptycho_config.errors import ConfigError

__all__ = ["outcome_of", "read_outcomes"]

#: From the worst to the best: a test with parameters is as good as the worst of them.
_RANKED = ("error", "failed", "passed", "skipped")

Outcomes = Mapping[str, Counter[str]]
"""`module.path.function` without parameters -> how many of its cases ended in which way."""


def read_outcomes(path: Path) -> Outcomes:
    """Read the file.

    Raises:
        ConfigError: it cannot be read, is no JUnit file, or holds no test.
    """
    try:
        root = ElementTree.parse(path).getroot()
    except (OSError, ElementTree.ParseError) as error:
        cause = getattr(error, "strerror", None) or str(error)
        raise ConfigError(
            f"`--tests {path}` cannot be read ({cause}). Expected what `pytest --junitxml FILE` writes."
        ) from error
    outcomes: dict[str, Counter[str]] = {}
    for case in root.iter("testcase"):
        name = f"{case.get('classname', '')}.{case.get('name', '').partition('[')[0]}"
        outcomes.setdefault(name, Counter())[_ended(case)] += 1
    if not outcomes:
        raise ConfigError(f"`--tests {path}` holds no test. Expected what `pytest --junitxml FILE` writes.")
    return outcomes


def _ended(case: ElementTree.Element) -> str:
    if case.find("error") is not None:
        return "error"
    if case.find("failure") is not None:
        return "failed"
    return "skipped" if case.find("skipped") is not None else "passed"


def outcome_of(test_id: str, outcomes: Outcomes) -> tuple[str, int]:
    """Give the outcome of a test, and how many cases of it ran; `not run` and 0 where the file has none."""
    file, _, function = test_id.partition("::")
    name = file.removesuffix(".py").replace("/", ".") + "." + function.replace("::", ".")
    ended = outcomes.get(name, Counter())
    worst = next((kind for kind in _RANKED if ended[kind]), "not run")
    return worst, sum(ended.values()) - ended["skipped"]
