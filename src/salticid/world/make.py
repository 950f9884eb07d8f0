"""Scenes by number."""

from random import Random

from salticid.errors import ConfigError
from salticid.world.outdoors import make_outdoors
from salticid.world.rooms import make_room
from salticid.world.scene import Scene
from salticid.world.studio import make_studio

KINDS = {"room": make_room, "outdoors": make_outdoors, "studio": make_studio}
_BY_CHANCE = ("room", "outdoors")


def make_scene(seed: int, index: int, kind: str | None = None) -> Scene:
    """Scene `index` (any integer) of the world `seed`: a pure function, the same on every machine.

    Args:
        kind: "room" or "outdoors" (None: one of the two by chance), or "studio", a moving toy with a clear floor
            around it (`studio.CENTRE`, `studio.CLEAR`) for orbits.

    Raises:
        ConfigError: another kind.
    """
    random = Random(f"salticid world {seed} {index}")
    chosen = random.choice(_BY_CHANCE)
    if kind is not None and kind not in KINDS:
        raise ConfigError(f"unknown kind of scene {kind!r}; expected one of {', '.join(KINDS)}")
    return KINDS[kind or chosen](random, f"{kind or chosen} {seed}/{index}")
