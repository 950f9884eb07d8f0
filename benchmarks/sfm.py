"""What `sfm-tiny` reaches on unseen films of the embedded world, beside what can be known without looking.

Trains the preset through the command line with every seed (weights, scenes and noise all follow from it), evaluates it
on 128 films that training never sees, and prints AbsRel after scaling by medians (lower is better) of the model, of the
mean disparity map of training and of one depth everywhere; errors of the direction of motion and of the rotation
between two frames, degrees, the latter beside that of a camera that never turns. About ten minutes a seed on two cores;
runs that are there already are not trained again (with --runs).

    python benchmarks/sfm.py [--lens pinhole ucm] [--seeds 0 1 2] [--runs DIR]
"""

import argparse
import tempfile
from pathlib import Path

from trials import seeded, trial

LENSES = {
    "pinhole": (),
    "ucm": (
        *("--data.camera", "ucm", "--data.view", "[150,170]"),
        *("--data.measure", "distance", "--recipe.range.measure", "distance"),
    ),
}
"""Flags. With a fisheye nothing is rectified."""
FILMS = ("--data.val_scenes", "128")
COLUMNS = {
    "absrel": "absrel/model",
    "mean map": "absrel/mean-map",
    "constant": "absrel/constant",
    "direction": "direction/model",
    "rotation": "rotation/model",
    "no turn": "rotation/identity",
    "seconds": "seconds",
}

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lens", nargs="+", choices=LENSES, default=["pinhole"])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--runs", type=Path, help="where the runs are kept (default: a temporary folder)")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        found = {
            (lens, seed): trial(
                (options.runs or Path(scratch)) / f"{lens}-{seed}", ("sfm-tiny", *LENSES[lens], *seeded(seed)), FILMS
            )
            for lens in options.lens
            for seed in options.seeds
        }
    print("lens    seed" + "".join(f"{name:>11}" for name in COLUMNS))
    for (lens, seed), metrics in found.items():
        print(f"{lens:8}{seed:4}" + "".join(f"{metrics[key]:11.3f}" for key in COLUMNS.values()))
