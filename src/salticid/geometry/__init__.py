"""Central cameras, rigid motions, warps, rigs and stitching. Needs torch alone.

Import names from their modules: `cameras`, `se3`, `warp`, `views`, `rig`, `stitch`.
"""
