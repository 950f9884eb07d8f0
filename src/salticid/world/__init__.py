"""The procedural world: ray-cast rooms and landscapes that any camera can look at, with exact ground truth."""

from salticid.world.depth import WorldDepth
from salticid.world.flow import Flow, flow, orbit
from salticid.world.make import make_scene
from salticid.world.motion import WorldMotion
from salticid.world.orbits import WorldOrbits
from salticid.world.render import Frame, render, render_many, render_rig
from salticid.world.samples import WorldPanoramas
from salticid.world.scene import Scene
from salticid.world.videos import WorldVideos

__all__ = [
    "Flow",
    "Frame",
    "Scene",
    "WorldDepth",
    "WorldMotion",
    "WorldOrbits",
    "WorldPanoramas",
    "WorldVideos",
    "flow",
    "make_scene",
    "orbit",
    "render",
    "render_many",
    "render_rig",
]
