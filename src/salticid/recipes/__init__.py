"""Recipes: one model family each, on the shared cores."""

from salticid.recipes.panorama import PanoramaRecipe

__all__ = ["PanoramaRecipe"]
