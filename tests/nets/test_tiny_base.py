"""The base that ships with the package: made by its command, whole, and usable by the libraries themselves."""

from importlib.resources import files
from pathlib import Path

import pytest
import torch
from diffusers import DDIMScheduler
from transformers import CLIPTextModel, CLIPTokenizer

from salticid.diffusion import VP
from salticid.nets import tiny_base
from salticid.nets.stable_diffusion import empty_prompt, load_unet, make_unet, make_vae, scheduler_config

SHIPPED = Path(str(files("salticid") / "bases" / "tiny"))


def content(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_the_command_makes_what_ships(tmp_path, capsys):
    tiny_base.main([str(tmp_path)])
    made, shipped = content(tmp_path), content(SHIPPED)
    assert {name for name in made if not name.startswith("vae/")} == {n for n in shipped if not n.startswith("vae/")}
    assert all(made[name] == shipped[name] for name in made if not name.startswith("vae/"))
    assert sum(map(len, shipped.values())) < 2_000_000
    (tmp_path / "vae" / "config.json").write_text("trained")
    tiny_base.main([str(tmp_path)])
    assert (tmp_path / "vae" / "config.json").read_text() == "trained"


def test_its_networks_fit_together(caplog):
    torch.manual_seed(0)
    with caplog.at_level("INFO", "salticid"):
        unet, vae = make_unet("tiny"), make_vae("tiny")
        load_unet(unet, "tiny")
    assert not caplog.records
    assert 3_900_000 < sum(p.numel() for p in unet.parameters()) < 4_100_000
    assert sum(p.numel() for p in vae.parameters()) == 802_559
    latent = vae.encode(torch.zeros(2, 3, 48, 64)).latent_dist.mean
    assert latent.shape == (2, 4, 12, 16)
    text = empty_prompt("tiny").expand(2, -1, -1)
    with torch.no_grad():
        assert unet(torch.cat([latent, latent], 1), torch.tensor([0, 999]), text).sample.shape == latent.shape


@pytest.mark.parametrize(("padded", "n"), [(False, 2), (True, 77)])
def test_its_text_encoder_is_read_by_transformers(padded, n):
    tokenizer = CLIPTokenizer.from_pretrained(SHIPPED / "tokenizer")
    tokens = tokenizer("", padding="max_length" if padded else "do_not_pad", return_tensors="pt").input_ids
    assert tokens.tolist() == [[1, 2] + (n - 2) * [0]]
    encoder, report = CLIPTextModel.from_pretrained(SHIPPED / "text_encoder", output_loading_info=True)
    assert not any(report.values())
    with torch.no_grad():
        expected = encoder.eval()(tokens)[0]
    embedded = empty_prompt("tiny", padded)
    torch.testing.assert_close(embedded, expected, rtol=1e-6, atol=1e-6)
    assert embedded.std() > 0.3


def test_its_scheduler_is_that_of_stable_diffusion_2_with_zero_terminal_snr():
    path = VP.from_scheduler(scheduler_config("tiny"))
    assert path.alpha(torch.tensor(999)) == 0
    scheduler = DDIMScheduler.from_pretrained(SHIPPED / "scheduler")
    scheduler.set_timesteps(4)
    assert scheduler.timesteps.tolist() == [999, 749, 499, 249]
    torch.testing.assert_close(path.alpha(path.times).square().float(), scheduler.alphas_cumprod, rtol=1e-4, atol=1e-6)
