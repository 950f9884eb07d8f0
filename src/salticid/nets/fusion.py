"""From one latent per view to one latent of the panorama.

A fusion maps latents (B, N, C, h, w) and the rig to (B, C, H, W) on the panorama's latent grid.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from salticid.geometry.cameras import Equirectangular
from salticid.geometry.rig import Rig
from salticid.geometry.se3 import rotate
from salticid.geometry.warp import sample
from salticid.nets.blocks import Conv, ResBlock, group_norm


class ConcatConv(nn.Module):
    """Stack the latents of all views, convolve, double the width: the fusion of the public multi-view code.

    It knows nothing of geometry: cell (i, j) of the result sees cells around (i, j/2) of every view. Fits rigs
    of exactly `views` views with square latents. With `final_norm` its last layer is GroupNorm·SiLU, as in the
    public code, which erases each channel's mean; without (default) it is the last convolution.
    """

    def __init__(self, views: int = 4, channels: int = 4, *, final_norm: bool = False):
        super().__init__()
        self.codes = nn.Parameter(torch.zeros(views, channels, 1, 1))
        self.squeeze = nn.Sequential(
            Conv(views * channels, 2 * channels),
            group_norm(2 * channels),
            nn.SiLU(),
            Conv(2 * channels, channels),
        )
        self.widen = Conv(channels, channels)
        self.finish = nn.Sequential(nn.GroupNorm(channels, channels), nn.SiLU()) if final_norm else nn.Identity()

    def forward(self, latents: Tensor, rig: Rig, height: int, width: int) -> Tensor:
        z = self.squeeze((latents + self.codes).flatten(1, 2))
        return self.finish(self.widen(F.interpolate(z, size=(height, width), mode="nearest")))


class Average(nn.Module):
    """The mean of the views' latents, convolved and doubled in width: what any number of views can be reduced to
    without knowing where they look. A baseline for the others."""

    def __init__(self, channels: int = 4, *, hidden: int = 64, wrap: bool = True):
        super().__init__()
        self.squeeze = nn.Sequential(
            Conv(channels, hidden), group_norm(hidden), nn.SiLU(), Conv(hidden, hidden), group_norm(hidden), nn.SiLU()
        )
        self.widen = Conv(hidden, channels, wrap=wrap)

    def forward(self, latents: Tensor, rig: Rig, height: int, width: int) -> Tensor:
        return self.widen(F.interpolate(self.squeeze(latents.mean(dim=1)), size=(height, width), mode="nearest"))


class AttentionFusion(nn.Module):
    """Every cell of the panorama's latent attends to all cells of all views by their directions.

    Queries are made of the cell's direction on the sphere; keys of a view cell's latent, its direction in the rig's
    frame and the place of its camera. So it holds for any number of views on any rig; cells outside a view's image
    circle are not attended to.
    """

    def __init__(self, channels: int = 4, *, hidden: int = 64, heads: int = 4, octaves: int = 5, wrap: bool = True):
        super().__init__()
        self.heads, self.octaves = heads, octaves
        direction = 3 + 6 * octaves
        self.query = nn.Sequential(nn.Linear(direction, hidden), nn.SiLU(), nn.Linear(hidden, hidden))
        self.key = nn.Sequential(nn.Linear(direction + 3 + channels, hidden), nn.SiLU(), nn.Linear(hidden, 2 * hidden))
        self.mix = nn.Sequential(
            Conv(hidden, hidden, wrap=wrap),
            ResBlock(hidden, hidden, wrap=wrap),
            nn.SiLU(),
            Conv(hidden, channels, wrap=wrap),
        )

    def forward(self, latents: Tensor, rig: Rig, height: int, width: int) -> Tensor:
        rays, _ = Equirectangular(height, width).rays(latents.device)
        query = self.query(self.fourier(rays.flatten(0, 1)))[None].expand(len(latents), -1, -1)
        found, seen = zip(*(self.describe(latents[:, i], rig, i) for i in range(latents.shape[1])), strict=True)
        key, value = self.key(torch.cat(found, dim=1)).chunk(2, dim=-1)
        q, k, v = (x.unflatten(2, (self.heads, -1)).transpose(1, 2) for x in (query, key, value))
        mask = torch.cat(seen, dim=1)[:, None, None, :]
        fused = F.scaled_dot_product_attention(q.to(v.dtype), k, v, attn_mask=mask)
        return self.mix(fused.transpose(1, 2).flatten(2).transpose(1, 2).unflatten(2, (height, width)))

    def describe(self, latent: Tensor, rig: Rig, index: int) -> tuple[Tensor, Tensor]:
        """The cells of a view (B, h·w, F), and which are within its image circle (B, h·w)."""
        batch, _, h, w = latent.shape
        rays, valid = rig.cameras[index].resized(h, w).rays(latent.device)
        to_rig = rig.poses[..., index, :, :].to(rays).expand(batch, 4, 4)
        directions = rotate(to_rig, rays.expand(batch, h, w, 3)).flatten(1, 2)
        place = to_rig[:, None, :3, 3].expand(-1, h * w, -1)
        cells = [self.fourier(directions), place, latent.flatten(2).transpose(1, 2).float()]
        return torch.cat(cells, dim=-1), valid.flatten(-2).expand(batch, -1)

    def fourier(self, directions: Tensor) -> Tensor:
        """(…, 3) → (…, 3 + 6·octaves): the direction and its sines and cosines at doubling rates."""
        rates = 2.0 ** torch.arange(self.octaves, device=directions.device)
        phase = (directions[..., None, :] * rates[:, None]).flatten(-2)
        return torch.cat([directions, phase.sin(), phase.cos()], dim=-1)


class RayFusion(nn.Module):
    """Every cell of the panorama's latent looks along its ray into each view's latent through the camera model.

    What it finds there at each of the hypothetical distances, with the direction under which the view sees it,
    is weighted over the views that see the cell (softmax), so any number of views in any order and on any rig
    will do. Cells that no view sees are filled in by the convolutions that follow, told so by a coverage channel.
    """

    def __init__(
        self,
        channels: int = 4,
        *,
        hidden: int = 64,
        inverse_distances: tuple[float, ...] = (0.0,),
        wrap: bool = True,
    ):
        super().__init__()
        self.inverse_distances = inverse_distances
        seen = (channels + 4) * len(inverse_distances)  # latent, validity and viewing direction
        self.read = nn.Sequential(nn.Conv2d(seen, hidden, 1), nn.SiLU(), nn.Conv2d(hidden, hidden + 1, 1))
        self.mix = nn.Sequential(
            Conv(hidden + 1, hidden, wrap=wrap),
            ResBlock(hidden, hidden, wrap=wrap),
            nn.SiLU(),
            Conv(hidden, channels, wrap=wrap),
        )

    def forward(self, latents: Tensor, rig: Rig, height: int, width: int) -> Tensor:
        batch, count = latents.shape[:2]
        looks = [self.look(latents[:, i], rig, i, height, width) for i in range(count)]
        seen = torch.stack([seen for _, seen in looks], dim=1)  # (B, N, 1, H, W)
        features = self.read(torch.cat([found for found, _ in looks])).unflatten(0, (count, batch)).transpose(0, 1)
        values, score = features[:, :, :-1], features[:, :, -1:]
        score = score.float().masked_fill(~seen, -1e9)  # a cell that none sees: equal weights, all masked below
        fused = (score.softmax(dim=1) * seen * values).sum(dim=1)
        return self.mix(torch.cat([fused, seen.any(dim=1).to(fused.dtype)], dim=1))

    def look(self, latent: Tensor, rig: Rig, index: int, height: int, width: int) -> tuple[Tensor, Tensor]:
        """What view `index` shows along the panorama's rays: features (B, F, H, W), and whether it sees them
        at any distance (B, 1, H, W). The looking is done in float32, whatever autocast says."""
        rays, _ = Equirectangular(height, width).rays(latent.device)
        camera = rig.cameras[index].resized(*latent.shape[-2:])
        found, seen = [], []
        for inverse_distance in self.inverse_distances:
            points = rig.points(index, rays, inverse_distance)
            pixels, valid = camera.project(points)
            mask = valid[:, None].float().expand(len(latent), -1, -1, -1)
            pixels = pixels.expand(len(latent), -1, -1, -1)
            view_ray = F.normalize(points, dim=-1).permute(0, 3, 1, 2)
            found += [sample(latent, pixels) * mask, view_ray * mask, mask]
            seen.append(mask > 0)
        return torch.cat(found, dim=1), torch.stack(seen).any(dim=0)
