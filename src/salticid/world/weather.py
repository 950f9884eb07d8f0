"""Skies and the light that goes with them."""

import math

import torch

from salticid.world.build import Builder
from salticid.world.materials import hsv
from salticid.world.scene import Light, Sky


def make_weather(b: Builder) -> tuple[Sky, Light]:
    """Evening, overcast or fair, with the sun anywhere."""
    random, phase = b.random, b.random.uniform(0, 40)
    azimuth, kind = random.uniform(-math.pi, math.pi), random.random()
    elevation = math.radians(random.uniform(8, 20) if kind < 0.25 else random.uniform(25, 65))
    if kind < 0.25:  # the sun is low
        zenith, horizon = hsv(random.uniform(0.58, 0.75), 0.55, 0.6), hsv(random.uniform(0.01, 0.1), 0.5, 0.95)
        sun, ambient, cover = (2.0, 1.2, 0.65), 0.75, random.uniform(0.3, 0.6)
    elif kind < 0.45:  # overcast
        grey = random.uniform(0.65, 0.85)
        zenith, horizon = hsv(0.6, 0.12, grey), hsv(0.6, 0.04, grey + 0.1)
        sun, ambient, cover = (0.75, 0.75, 0.72), 1.0, random.uniform(0.7, 1.0)
    else:
        zenith, horizon = hsv(random.uniform(0.55, 0.64), random.uniform(0.6, 0.8), 0.85), hsv(0.55, 0.18, 0.97)
        sun, ambient, cover = (1.8, 1.7, 1.5), 0.7, random.uniform(0.1, 0.6)
    towards = (math.sin(azimuth) * math.cos(elevation), -math.sin(elevation), math.cos(azimuth) * math.cos(elevation))
    ground = hsv(random.uniform(0.08, 0.3), 0.3, 0.55)
    hills = hsv(
        random.choice([0.3, 0.38, 0.55, 0.62, 0.08]) + random.gauss(0, 0.03),
        random.uniform(0.2, 0.5),
        random.uniform(0.35, 0.6),
    )
    sky = Sky(
        torch.tensor(zenith),
        torch.tensor(horizon),
        torch.tensor(ground),
        torch.tensor(hills),
        cover,
        phase,
        random.uniform(0.02, 0.16),
        random.uniform(0.002, 0.008),
    )
    above = ambient * (0.5 * torch.tensor(zenith) + 0.5 * torch.tensor(horizon))
    light = Light(
        torch.tensor(towards),
        True,
        torch.tensor(sun),
        above,
        0.35 * above + 0.1 * torch.tensor(ground),
        0.3 if kind >= 0.25 and kind < 0.45 else random.uniform(0.03, 0.08),
    )
    return sky, light
