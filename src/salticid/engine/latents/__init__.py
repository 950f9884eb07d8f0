"""Latents: what the frozen parts of a recipe make of its training samples, computed once and kept on the disk.

`index.json` says what they are of; `shard-00000.safetensors` … hold all outcomes of a range of samples each.
"""

from salticid.engine.latents.fingerprint import digest
from salticid.engine.latents.source import EncodedSource, Latents

__all__ = ["EncodedSource", "Latents", "digest"]
