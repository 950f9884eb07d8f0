"""The noise schedule of a Stable Video Diffusion as a configuration of diffusers' EulerDiscreteScheduler."""

from typing import Any


def euler(sigma_min: float, sigma_max: float) -> dict[str, Any]:
    """Euler's method between noise levels of Karras et al. 2022 (eq. 5), ρ = 7, for a network that is told ¼ ln σ and
    predicts v. The betas are without effect, but have to be there: they are those of Stable Diffusion."""
    return {
        "_class_name": "EulerDiscreteScheduler",
        "num_train_timesteps": 1000,
        "beta_schedule": "scaled_linear",
        "beta_start": 0.00085,
        "beta_end": 0.012,
        "prediction_type": "v_prediction",
        "timestep_type": "continuous",
        "use_karras_sigmas": True,
        "sigma_min": sigma_min,
        "sigma_max": sigma_max,
        "timestep_spacing": "leading",  # so that the start is scaled by √(σ² + 1), as in training
        "steps_offset": 1,
    }
