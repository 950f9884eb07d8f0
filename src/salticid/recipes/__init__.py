"""Recipes: one model family each, on the shared cores."""

from salticid.recipes.panorama.recipe import PanoramaRecipe

__all__ = ["PanoramaRecipe"]
