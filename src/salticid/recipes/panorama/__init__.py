"""Multi-view SSDD: fisheye views → one latent → 360° panorama by flow matching (after arXiv 2510.04961)."""

from salticid.recipes.panorama.recipe import PanoramaRecipe
from salticid.recipes.panorama.settings import LossWeights, Sampler

__all__ = ["LossWeights", "PanoramaRecipe", "Sampler"]
