"""Multi-view SSDD: fisheye views → one latent → 360° panorama by flow matching (after arXiv 2510.04961)."""

from salticid.recipes.panorama.recipe import PanoramaRecipe
from salticid.recipes.panorama.settings import Distillation, Gan, Initial, Judges, LossWeights, Sampler

__all__ = ["Distillation", "Gan", "Initial", "Judges", "LossWeights", "PanoramaRecipe", "Sampler"]
