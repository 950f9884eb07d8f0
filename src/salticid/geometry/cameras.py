"""Camera models: pinhole, unified, double sphere, Kannala–Brandt and equirectangular."""

import math
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Self

import torch
from torch import Tensor

from salticid.geometry.lens import Camera, Lens, Parameter, fit, pixel_grid

__all__ = [
    "UCM",
    "Camera",
    "DoubleSphere",
    "Equirectangular",
    "KannalaBrandt",
    "Lens",
    "Parameter",
    "Pinhole",
    "pixel_grid",
]


@dataclass(frozen=True)
class Pinhole(Lens):
    """Perspective: (x/z, y/z)."""

    @property
    def _domain(self) -> float:
        return math.pi / 2

    def _to_plane(self, x: Tensor, y: Tensor, z: Tensor) -> Tensor:
        return 1 / z

    def _from_plane(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        z = torch.rsqrt(x * x + y * y + 1)
        return x * z, y * z, z, torch.ones_like(z, dtype=torch.bool)


@dataclass(frozen=True)
class UCM(Lens):
    """Unified camera model (Geyer & Daniilidis 2000; Mei & Rives 2007): a point on the unit sphere is seen from
    ξ ≥ 0 behind its centre. ξ = 0 is the pinhole, ξ = 1 the stereographic lens; a ray at angle θ meets the plane at
    radius sin θ / (ξ + cos θ). In the (α, f_α) form of the model, ξ = α/(1 − α) and f = f_α·(1 − α).
    """

    xi: Parameter

    @property
    def _domain(self) -> Parameter:
        # ξ ≤ 1: the denominator ξ + cos θ stays positive. ξ > 1: beyond cos θ = −1/ξ the radius shrinks again.
        if isinstance(self.xi, Tensor):
            return torch.acos(-torch.minimum(self.xi, 1 / self.xi.clamp(min=1.0)))
        return math.acos(-min(self.xi, 1 / max(self.xi, 1.0)))

    def _to_plane(self, x: Tensor, y: Tensor, z: Tensor) -> Tensor:
        return 1 / (z + fit(self.xi, z) * torch.sqrt(x * x + y * y + z * z))

    def _from_plane(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        xi = fit(self.xi, x)
        valid = 1 + (1 - xi * xi) * (x * x + y * y) > 0
        x, y = torch.where(valid, x, 0.0), torch.where(valid, y, 0.0)
        squared = x * x + y * y
        omega = (xi + torch.sqrt(1 + (1 - xi * xi) * squared)) / (1 + squared)
        return omega * x, omega * y, omega - xi, valid


@dataclass(frozen=True)
class DoubleSphere(Lens):
    """Two spheres, their centres `xi` apart, then a pinhole moved by `alpha` ∈ [0, 1) (Usenko et al. 2018, eqs.
    40–53)."""

    xi: Parameter
    alpha: Parameter

    @property
    def _domain(self) -> Parameter:
        alpha, xi = torch.as_tensor(self.alpha, dtype=torch.float64), self.xi
        w1 = torch.minimum(alpha / (1 - alpha), (1 - alpha) / alpha)
        w2 = (w1 + xi) / torch.sqrt(2 * w1 * xi + xi * xi + 1)
        limit = torch.acos((-w2).clamp(-1, 1))
        return limit.float() if limit.ndim else limit.item()

    def _to_plane(self, x: Tensor, y: Tensor, z: Tensor) -> Tensor:
        alpha = fit(self.alpha, z)
        shifted = fit(self.xi, z) * torch.sqrt(x * x + y * y + z * z) + z
        return 1 / (alpha * torch.sqrt(x * x + y * y + shifted * shifted) + (1 - alpha) * shifted)

    def _from_plane(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        xi, alpha = fit(self.xi, x), fit(self.alpha, x)
        valid = 1 - (2 * alpha - 1) * (x * x + y * y) > 0
        x, y = torch.where(valid, x, 0.0), torch.where(valid, y, 0.0)
        squared = x * x + y * y
        z = (1 - alpha * alpha * squared) / (alpha * torch.sqrt(1 - (2 * alpha - 1) * squared) + 1 - alpha)
        inner = z * z + (1 - xi * xi) * squared
        valid = valid & (inner > 0)
        scale = (z * xi + torch.sqrt(torch.where(valid, inner, 1.0))) / (z * z + squared)
        return scale * x, scale * y, scale * z - xi, valid


@dataclass(frozen=True)
class KannalaBrandt(Lens):
    """Fisheye whose radius is an odd polynomial of the angle, θ·(1 + k1 θ² + k2 θ⁴ + k3 θ⁶ + k4 θ⁸) (Kannala &
    Brandt 2006 without tangential terms): OpenCV's `fisheye` model. Valid as far as the polynomial grows."""

    k1: Parameter = 0.0
    k2: Parameter = 0.0
    k3: Parameter = 0.0
    k4: Parameter = 0.0

    @cached_property
    def _domain(self) -> Parameter:
        # The first zero of the derivative, bracketed on a fine grid and refined by one secant step.
        theta = torch.linspace(0, math.pi, 4097, dtype=torch.float64)
        powers = torch.stack([(2 * i + 1) * theta ** (2 * i) for i in range(1, 5)])
        k = [torch.as_tensor(k, dtype=torch.float64).detach().cpu() for k in self._coefficients]
        slope = 1 + torch.stack(torch.broadcast_tensors(*k), dim=-1) @ powers
        falls = slope <= 0
        after = falls.to(torch.uint8).argmax(dim=-1, keepdim=True).clamp(min=1)
        low, high = slope.gather(-1, after - 1), slope.gather(-1, after)
        zero = (theta[after] - theta[1] * high / (high - low))[..., 0]
        limit = torch.where(falls.any(dim=-1), zero - 1e-6, math.pi)
        device = next((k.device for k in self._coefficients if isinstance(k, Tensor)), None)
        return limit.float().to(device) if limit.ndim else limit.item()

    @property
    def _coefficients(self) -> tuple[Parameter, Parameter, Parameter, Parameter]:
        return self.k1, self.k2, self.k3, self.k4

    def _radius(self, theta: Tensor) -> Tensor:
        k1, k2, k3, k4 = (fit(k, theta) for k in self._coefficients)
        t = theta * theta
        return theta * (1 + t * (k1 + t * (k2 + t * (k3 + t * k4))))

    def _slope(self, theta: Tensor) -> Tensor:
        k1, k2, k3, k4 = (fit(k, theta) for k in self._coefficients)
        t = theta * theta
        return 1 + t * (3 * k1 + t * (5 * k2 + t * (7 * k3 + t * 9 * k4)))

    def _to_plane(self, x: Tensor, y: Tensor, z: Tensor) -> Tensor:
        squared = x * x + y * y
        on_axis = squared < 1e-12 * z * z
        sine = torch.sqrt(torch.where(on_axis, 1.0, squared))
        return torch.where(on_axis, 1 / torch.where(on_axis, z, 1.0), self._radius(torch.atan2(sine, z)) / sine)

    def _from_plane(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        squared = x * x + y * y
        limit = torch.as_tensor(fit(self._domain, x), dtype=x.dtype, device=x.device)
        valid = squared < self._radius(limit.expand_as(x)).detach() ** 2
        on_axis = squared < 1e-12
        ordinary = valid & ~on_axis
        x, y = torch.where(valid, x, 0.0), torch.where(valid, y, 0.0)
        radius = torch.sqrt(torch.where(ordinary, squared, 1e-12))
        theta = self._angle(radius, limit)
        scale = torch.where(ordinary, torch.sin(theta) / radius, 1.0)
        return scale * x, scale * y, torch.where(ordinary, torch.cos(theta), 1.0), valid

    def _angle(self, radius: Tensor, limit: Tensor) -> Tensor:
        """Solve radius(θ) = `radius` on [0, limit]: a few bisections bring Newton's method where it converges.
        The last Newton step alone is differentiated; by the implicit function theorem that is the gradient."""
        with torch.no_grad():
            low, high = torch.zeros_like(radius), limit.expand_as(radius)
            for _ in range(8):
                theta = (low + high) / 2
                below = self._radius(theta) < radius
                low, high = torch.where(below, theta, low), torch.where(below, high, theta)
            for _ in range(5):
                step = (self._radius(theta) - radius) / self._slope(theta).clamp(min=1e-6)
                theta = torch.minimum(torch.maximum(theta - step, low), high)
        return theta - (self._radius(theta) - radius) / self._slope(theta).clamp(min=1e-6)


@dataclass(frozen=True)
class Equirectangular(Camera):
    """The whole sphere. The centre column looks along +z; longitude grows to the right from −π, latitude downwards
    from −π/2: u = (lon/2π + ½)·W − ½, v = (lat/π + ½)·H − ½. Columns are periodic."""

    def project_xyz(self, x: Tensor, y: Tensor, z: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        across, norm = (x * x + z * z).detach(), (x * x + y * y + z * z).detach()
        valid = torch.isfinite(norm) & (norm > 0)
        # At the poles every longitude is right: 0 is taken, a little off the singularity of the gradient.
        pole = ~valid | (across <= 1e-30)
        x, y = torch.where(pole, 0.0, x), torch.where(valid, y, 0.0)
        z = torch.where(pole, 1e-15, z)
        latitude = torch.atan2(y, torch.sqrt(x * x + z * z))
        u = (torch.atan2(x, z) / (2 * math.pi) + 0.5) * self.width - 0.5
        v = (latitude / math.pi + 0.5) * self.height - 0.5
        return u, v, valid

    def unproject_uv(self, u: Tensor, v: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        longitude = ((u + 0.5) / self.width - 0.5) * (2 * math.pi)
        latitude = ((v + 0.5) / self.height - 0.5) * math.pi
        cosine = torch.cos(latitude)
        y = torch.sin(latitude) + torch.zeros_like(u)
        return cosine * torch.sin(longitude), y, cosine * torch.cos(longitude), abs(latitude) <= math.pi / 2

    def resized(self, height: int, width: int) -> Self:
        return replace(self, height=height, width=width)
