"""Where the parts of a Stable Diffusion are: a folder in the format of diffusers, the hub, or the package."""

from pathlib import Path

from salticid.nets.diffusers_folder import DiffusersFolder, Network

TINY = "tiny"
"""The name of the base that ships with the package."""
NETWORKS = {
    "unet": Network(("UNet2DConditionModel",)),
    "vae": Network(("AutoencoderKL",)),
    "text_encoder": Network(("clip_text_model",), "model"),
}
TOKENIZER = ("vocab.json", "merges.txt", "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json")


class Base(DiffusersFolder):
    """The files of a Stable Diffusion, or of a Marigold, which has the same parts."""

    networks = NETWORKS
    own = TINY
    expected = (
        "a folder in the format of diffusers (unet/, vae/, text_encoder/, tokenizer/, scheduler/), a hub id such as "
        f"prs-eth/marigold-depth-v1-1, or {TINY}"
    )

    def tokenizer(self) -> Path:
        """The folder of the tokenizer."""
        return self._need("tokenizer", *TOKENIZER).parent
