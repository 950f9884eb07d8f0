"""Which classes a configuration may name."""

import pytest

from salticid.config.classes import allowed_packages, check_class_paths, find_class
from salticid.data.source import Data
from salticid.errors import ConfigError


@pytest.mark.parametrize(
    "path",
    [
        "os.system",
        "salticid",
        "salticidx.Y",
        "salticid.",
        ".salticid.X",
        "salticid..X",
        "salticid/../os.X",
        "salticid.__main__.X",
        "salticid.cli.__builtins__",
        "salticid._private.X",
        "ѕalticid.recipes.X",  # a Cyrillic letter
        "salticid.recipes.X\n",
        "salticid.recipes.X()",
        "salticid.recipes.X; import os",
        "",
        3,
        None,
        ["salticid.recipes.X"],
        {"class_path": "os.system"},
    ],
)
def test_paths_are_refused_before_anything_is_imported(path: object, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("importlib.import_module", lambda name: pytest.fail(f"imported {name}"))
    for nested in ({"class_path": path}, {"a": [{"b": {"class_path": path}}]}):
        with pytest.raises(ConfigError):
            check_class_paths(nested, ("salticid",))
    with pytest.raises(ConfigError):
        find_class(path, Data, ("salticid",), "data.class_path")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("salticid.cli.os", "not a class"),
        ("salticid.cli.os.system", "no module salticid.cli.os"),
        ("salticid.engine.run.Path", "not a class of the allowed packages"),
        ("salticid.engine.run.environment", "not a class"),
        ("salticid.config.leaves.Enum", "not a class of the allowed packages"),
        ("salticid.errors.UserError", "not a kind of salticid.data.source.Data"),
        ("salticid.data.source.Data", "is abstract"),
        ("toy_recipes.AbstractData", "is abstract"),
        ("toy_recipes.not_a_class", "not a class"),
        ("salticid.nowhere.X", "there is no module salticid.nowhere"),
    ],
)
def test_only_a_subclass_from_an_allowed_package_is_accepted(allowed, path: str, message: str):
    with pytest.raises(ConfigError, match=message):
        find_class(path, Data, allowed, "data.class_path")


def test_packages_are_allowed_by_flag_and_environment(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("SALTICID_ALLOW", "mylab, other.part")
    assert allowed_packages(["third"]) == ("salticid", "mylab", "other.part", "third")
    check_class_paths({"class_path": "other.part.X"}, allowed_packages())
    with pytest.raises(ConfigError, match=r"other\.X is outside"):
        check_class_paths({"class_path": "other.X"}, allowed_packages())
    with pytest.raises(ConfigError, match="expected a package"):
        allowed_packages(["../x"])
