"""One core for DDPM, EDM and flow matching: paths, targets, times, losses, solvers, guidance, keyed noise."""

from salticid.diffusion.guide import classifier_free, linear_scale, triangle_scale
from salticid.diffusion.loss import DiffusionLoss, EDMWeighting, MinSNR, Scored, Uniform, Weighting
from salticid.diffusion.noise import keyed_normal, keyed_uniform, multi_resolution_noise, stable_key
from salticid.diffusion.path import VE, VP, Flow, Path, beta_table
from salticid.diffusion.solve import (
    Denoise,
    Denoiser,
    dpmpp_2m,
    first_order,
    heun,
    identity,
    quarter_log,
    thousandfold,
)
from salticid.diffusion.target import EDM, X0, Epsilon, Target, V, Velocity, check, recover
from salticid.diffusion.times import (
    LogitNormal,
    LogNormal,
    TimeSampler,
    UniformIntegers,
    karras_grid,
    power_grid,
    spaced_grid,
)

__all__ = [
    "EDM",
    "VE",
    "VP",
    "X0",
    "Denoise",
    "Denoiser",
    "DiffusionLoss",
    "EDMWeighting",
    "Epsilon",
    "Flow",
    "LogNormal",
    "LogitNormal",
    "MinSNR",
    "Path",
    "Scored",
    "Target",
    "TimeSampler",
    "Uniform",
    "UniformIntegers",
    "V",
    "Velocity",
    "Weighting",
    "beta_table",
    "check",
    "classifier_free",
    "dpmpp_2m",
    "first_order",
    "heun",
    "identity",
    "karras_grid",
    "keyed_normal",
    "keyed_uniform",
    "linear_scale",
    "multi_resolution_noise",
    "power_grid",
    "quarter_log",
    "recover",
    "spaced_grid",
    "stable_key",
    "thousandfold",
    "triangle_scale",
]
