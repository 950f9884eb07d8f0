"""Video diffusion: frames from a picture (SVD), views of an object (SV3D), frames × views (SV4D)."""
