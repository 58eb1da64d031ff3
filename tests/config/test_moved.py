"""Old names and old import paths: they are found where they are now, and warn once with the way there."""

from __future__ import annotations

import importlib
import sys
import types
import warnings
from collections.abc import Iterator

import pytest

from ptycho_config.moved import MOVED, keep_old_paths, moved_name


@pytest.fixture
def house() -> Iterator[types.ModuleType]:
    """A module `new_home`, which moved from `old_place.inside`, beside the empty package `old_place`."""
    home = types.ModuleType("new_home")
    home.thing, home.renamed, home.__secret__ = 1, 2, 3  # type: ignore[attr-defined]
    home.__getattr__ = lambda name: f"asked for {name}"  # type: ignore[method-assign]
    second = types.ModuleType("second_home")
    second.thing, second.more = 10, 11  # type: ignore[attr-defined]
    sys.modules["new_home"], sys.modules["second_home"] = home, second
    finders = list(sys.meta_path)
    keep_old_paths(
        {
            "old_place": ("second_home",),
            "old_place.inside": ("new_home", "second_home"),
        }
    )
    yield home
    sys.meta_path[:] = finders
    for name in ("new_home", "second_home", "old_place", "old_place.inside"):
        sys.modules.pop(name, None)


def said(caught: list[warnings.WarningMessage]) -> list[tuple[type, str, str]]:
    return [(one.category, str(one.message), one.filename) for one in caught]


def test_an_old_path_holds_what_its_new_modules_hold(house: types.ModuleType) -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        inside = importlib.import_module("old_place.inside")
    assert inside.__name__ == "old_place.inside"
    assert (inside.thing, inside.renamed, inside.more) == (
        1,
        2,
        11,
    )  # the first module goes before the second
    assert "__secret__" not in vars(inside)
    assert inside.anything == "asked for anything"
    assert [text for _, text, _ in said(caught)] == [
        "`old_place` moved and will not be found here in the next release: use `second_home`",
        "`old_place.inside` moved and will not be found here in the next release: "
        "use `new_home` and `second_home`",
    ]
    assert {kind for kind, _, _ in said(caught)} == {DeprecationWarning}


def test_only_a_path_with_others_below_it_is_a_package(house: types.ModuleType) -> None:
    finder = sys.meta_path[-1]
    package, inside = finder.find_spec("old_place", None), finder.find_spec("old_place.inside", None)
    assert (package.name, package.loader) == ("old_place", finder)
    assert package.submodule_search_locations == []
    assert inside.submodule_search_locations is None
    assert finder.find_spec("elsewhere", None) is None


def test_the_warning_names_the_line_that_imports(house: types.ModuleType) -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        exec(compile("import old_place", "the_users_file.py", "exec"), {})
    assert [name for _, _, name in said(caught)] == ["the_users_file.py"]


def test_a_name_that_moved_is_found_and_warned_of_where_it_was_asked_for(house: types.ModuleType) -> None:
    asked = types.ModuleType("asked")
    moved = {"thing": "new_home", "before": "new_home:renamed"}
    asked.__getattr__ = lambda name: moved_name("asked", name, moved)  # type: ignore[method-assign]
    program = compile("found = (asked.thing, asked.before)", "the_users_file.py", "exec")
    place: dict[str, object] = {"asked": asked}
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        # As in a package: its `__getattr__` is a function of its own that calls `moved_name`.
        exec(program, place)
    assert place["found"] == (1, 2)
    assert [text for _, text, _ in said(caught)] == [
        "`asked.thing` moved and will not be found here in the next release: use `new_home.thing`",
        "`asked.before` moved and will not be found here in the next release: use `new_home.renamed`",
    ]
    assert {kind for kind, _, _ in said(caught)} == {DeprecationWarning}


def test_the_warning_of_a_moved_name_names_the_line_that_asks(house: types.ModuleType) -> None:
    asked = types.ModuleType("asked")
    asked.__getattr__ = lambda name: moved_name("asked", name, {"thing": "new_home"})  # type: ignore[method-assign]
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        exec(compile("found = asked.thing", "the_users_file.py", "exec"), {"asked": asked})
    assert [name for _, _, name in said(caught)] == ["the_users_file.py"]


def test_a_name_that_was_never_there_is_no_attribute() -> None:
    with pytest.raises(AttributeError, match=r"^module 'asked' has no attribute 'nothing'$"):
        moved_name("asked", "nothing", {"thing": "new_home"})


def test_what_this_package_moved_is_there() -> None:
    for old, homes in MOVED.items():
        assert old not in homes
        for home in homes:
            assert importlib.import_module(home)
