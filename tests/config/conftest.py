"""A configuration of the toy recipe, resolved."""

from pathlib import Path
from typing import Any

import pytest

from salticid.config.run import load_config

ALLOWED = ("salticid", "toy_recipes")
TOY = """
recipe: {class_path: toy_recipes.ToyRecipe}
data: {class_path: toy_recipes.ToyData}
trainer: {steps: 4, batch: 4}
"""


@pytest.fixture(autouse=True)
def _toy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(Path(__file__).parents[1]))


@pytest.fixture
def allowed() -> tuple[str, ...]:
    return ALLOWED


@pytest.fixture
def toy() -> str:
    return TOY


@pytest.fixture
def load(tmp_path: Path):
    """Resolve a text; `trainer__steps="3"` is the override `--trainer.steps 3`."""

    def load(text: str = TOY, **overrides: str) -> dict[str, Any]:
        path = tmp_path / "toy.yaml"
        path.write_text(text)
        return load_config(path, [(key.replace("__", "."), value) for key, value in overrides.items()], ALLOWED)

    return load
