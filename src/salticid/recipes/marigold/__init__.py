"""Diffusion depth: Marigold, and its one-step successors."""
