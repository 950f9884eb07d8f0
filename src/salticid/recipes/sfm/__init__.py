"""Depth, ego-motion, optical flow and appearance flow from bare video."""
