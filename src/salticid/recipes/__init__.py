"""Recipes: one model family each, on the shared cores. They are imported when they are asked for: each brings
libraries of its own."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from salticid.recipes.autoencoder import AutoencoderRecipe
    from salticid.recipes.marigold.recipe import MarigoldRecipe
    from salticid.recipes.panorama.recipe import PanoramaRecipe
    from salticid.recipes.sfm.recipe import SfmRecipe
    from salticid.recipes.video.sv4d import Sv4dRecipe
    from salticid.recipes.video.svd import SvdRecipe

__all__ = ["AutoencoderRecipe", "MarigoldRecipe", "PanoramaRecipe", "SfmRecipe", "Sv4dRecipe", "SvdRecipe"]

_MODULES = {
    "AutoencoderRecipe": "autoencoder",
    "MarigoldRecipe": "marigold.recipe",
    "PanoramaRecipe": "panorama.recipe",
    "SfmRecipe": "sfm.recipe",
    "Sv4dRecipe": "video.sv4d",
    "SvdRecipe": "video.svd",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
