"""Central cameras: every pixel sees along one ray through a common centre.

A camera is two maps, `project(points) → pixels, valid` and `unproject(pixels) → unit rays, valid`, in its own frame:
x right, y down, z forward along the optical axis; pixels are (x, y), their centres at integers, so that an image
covers [−0.5, W−0.5] × [−0.5, H−0.5].

Parameters are floats or tensors. A tensor parameter of shape (*batch,) goes with points of shape (*batch, ..., 3):
one camera object may hold the intrinsics of every sample of a batch, and gradients flow into them.

Outside the domain of a model nothing is NaN, neither values nor gradients: such points are replaced before the
arithmetic, their pixels lie at (−W, −H), their rays along the axis, and `valid` is False.
"""

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, Self, TypeAlias

import torch
from torch import Tensor

if TYPE_CHECKING:
    from jaxtyping import Bool, Float

Parameter: TypeAlias = float | Tensor


def pixel_grid(height: int, width: int, device: torch.device | str | None = None) -> "Float[Tensor, 'h w 2']":
    """(x, y) of all pixel centres, float32."""
    y = torch.arange(height, dtype=torch.float32, device=device)
    x = torch.arange(width, dtype=torch.float32, device=device)
    return torch.stack(torch.meshgrid(x, y, indexing="xy"), dim=-1)


def _fit(parameter: Parameter, values: Tensor) -> Parameter:
    """A (*batch,) parameter shaped to broadcast against `values` (*batch, ...)."""
    if not isinstance(parameter, Tensor):
        return parameter
    return parameter.reshape(parameter.shape + (1,) * (values.ndim - parameter.ndim))


def _single(values: Tensor) -> Tensor:
    """At least float32: geometry in half precision is off by pixels."""
    return values if values.dtype in (torch.float32, torch.float64) else values.float()


@dataclass(frozen=True)
class Camera(ABC):
    """A central camera with an image of `height` × `width` pixels."""

    height: int
    width: int

    @abstractmethod
    def project(
        self, points: "Float[Tensor, '*batch 3']"
    ) -> "tuple[Float[Tensor, '*batch 2'], Bool[Tensor, '*batch']]":
        """Pixels where points in the camera's frame are seen; points need not be unit.

        `valid`: the point is in the model's domain, within `max_angle` of the axis, and inside the image.
        """

    @abstractmethod
    def unproject(
        self, pixels: "Float[Tensor, '*batch 2']"
    ) -> "tuple[Float[Tensor, '*batch 3'], Bool[Tensor, '*batch']]":
        """Unit rays along which pixels look.

        `valid`: the pixel is in the model's domain and its ray within `max_angle` of the axis. Pixels outside the
        image have rays as well.
        """

    @abstractmethod
    def resized(self, height: int, width: int) -> Self:
        """The camera of the same image resized to `height` × `width`."""

    @property
    def parameters(self) -> dict[str, Parameter]:
        """Everything but the image size, by name."""
        return {f.name: getattr(self, f.name) for f in fields(self) if f.name not in ("height", "width")}

    @property
    def batch_shape(self) -> torch.Size:
        """The common shape of all tensor parameters; () for a plain camera."""
        return torch.broadcast_shapes(*(p.shape for p in self.parameters.values() if isinstance(p, Tensor)))

    def to(self, device: torch.device | str) -> Self:
        """The camera with its tensor parameters on `device`."""
        moved = {n: p.to(device) for n, p in self.parameters.items() if isinstance(p, Tensor)}
        return replace(self, **moved) if moved else self

    def rays(
        self, device: torch.device | str | None = None, dtype: torch.dtype = torch.float32
    ) -> "tuple[Float[Tensor, '*batch h w 3'], Bool[Tensor, '*batch h w']]":
        """`unproject` of all pixel centres."""
        grid = pixel_grid(self.height, self.width, device).to(dtype)
        return self.unproject(grid.expand(*self.batch_shape, *grid.shape))

    def _inside(self, pixels: Tensor) -> Tensor:
        x, y = pixels.unbind(-1)
        return (x >= -0.5) & (x <= self.width - 0.5) & (y >= -0.5) & (y <= self.height - 0.5)


@dataclass(frozen=True)
class Lens(Camera):
    """A camera with an optical axis: a radially symmetric map to the plane z = 1, then an affine one to pixels."""

    fx: Parameter
    fy: Parameter
    cx: Parameter
    cy: Parameter
    max_angle: float = field(default=math.pi, kw_only=True)
    """Radius of the image circle: the largest angle from the axis that is seen, in radians."""

    @classmethod
    def centred(cls, height: int, width: int, f: Parameter, **parameters: Any) -> Self:
        """Square pixels and the principal point in the middle of the image; `parameters` of the model by name."""
        return cls(height, width, fx=f, fy=f, cx=(width - 1) / 2, cy=(height - 1) / 2, **parameters)

    @abstractmethod
    def _to_plane(self, x: Tensor, y: Tensor, z: Tensor) -> Tensor:
        """Scale s that maps points in the domain to the plane: (s·x, s·y)."""

    @abstractmethod
    def _from_plane(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Unit rays (x, y, z) of points of the plane, and where they are in the domain."""

    @property
    @abstractmethod
    def _domain(self) -> Parameter:
        """Largest angle from the axis for which the model is one-to-one, radians."""

    @property
    def limit(self) -> Parameter:
        """Largest angle from the axis that can be seen, radians: the model's domain or `max_angle`."""
        domain = self._domain
        return domain.clamp(max=self.max_angle) if isinstance(domain, Tensor) else min(domain, self.max_angle)

    def project(self, points: Tensor) -> tuple[Tensor, Tensor]:
        x, y, z = _single(points).unbind(-1)
        norm = torch.sqrt(x.detach() ** 2 + y.detach() ** 2 + z.detach() ** 2)
        limit = self.limit
        cosine = torch.cos(limit) if isinstance(limit, Tensor) else math.cos(limit)
        seen = (z > _fit(cosine, z) * norm) & torch.isfinite(norm)
        x, y, z = torch.where(seen, x, 0.0), torch.where(seen, y, 0.0), torch.where(seen, z, 1.0)
        scale = self._to_plane(x, y, z)
        pixels = torch.stack(
            (
                torch.where(seen, _fit(self.fx, x) * scale * x + _fit(self.cx, x), -self.width),
                torch.where(seen, _fit(self.fy, y) * scale * y + _fit(self.cy, y), -self.height),
            ),
            dim=-1,
        )
        return pixels, seen & self._inside(pixels)

    def unproject(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        u, v = _single(pixels).unbind(-1)
        x = (u - _fit(self.cx, u)) / _fit(self.fx, u)
        y = (v - _fit(self.cy, v)) / _fit(self.fy, v)
        *ray, valid = self._from_plane(x, y)
        rays = torch.stack(ray, dim=-1)
        if self.max_angle < math.pi:
            valid = valid & (rays[..., 2] >= math.cos(self.max_angle))
        return rays, valid

    def resized(self, height: int, width: int) -> Self:
        sx, sy = width / self.width, height / self.height
        return replace(
            self,
            height=height,
            width=width,
            fx=self.fx * sx,
            fy=self.fy * sy,
            cx=(self.cx + 0.5) * sx - 0.5,
            cy=(self.cy + 0.5) * sy - 0.5,
        )


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
        return x * z, y * z, z, torch.ones_like(x, dtype=torch.bool)


@dataclass(frozen=True)
class UCM(Lens):
    """Unified camera model (Geyer & Daniilidis 2000; Mei & Rives 2007): a point on the unit sphere is seen from
    ξ ≥ 0 behind its centre. ξ = 0 is the pinhole, ξ = 1 the stereographic lens; the radius on the plane of a ray at
    angle θ is sin θ / (ξ + cos θ). In the (α, f_α) form of the model, ξ = α/(1 − α) and f = f_α·(1 − α).
    """

    xi: Parameter

    @property
    def _domain(self) -> Parameter:
        # ξ ≤ 1: the denominator ξ + cos θ stays positive. ξ > 1: beyond cos θ = −1/ξ the radius shrinks again.
        if isinstance(self.xi, Tensor):
            return torch.acos(-torch.minimum(self.xi, 1 / self.xi.clamp(min=1.0)))
        return math.acos(-min(self.xi, 1 / max(self.xi, 1.0)))

    def _to_plane(self, x: Tensor, y: Tensor, z: Tensor) -> Tensor:
        return 1 / (z + _fit(self.xi, z) * torch.sqrt(x * x + y * y + z * z))

    def _from_plane(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        xi = _fit(self.xi, x)
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
        return limit if limit.ndim else limit.item()

    def _to_plane(self, x: Tensor, y: Tensor, z: Tensor) -> Tensor:
        alpha = _fit(self.alpha, z)
        shifted = _fit(self.xi, z) * torch.sqrt(x * x + y * y + z * z) + z
        return 1 / (alpha * torch.sqrt(x * x + y * y + shifted * shifted) + (1 - alpha) * shifted)

    def _from_plane(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        xi, alpha = _fit(self.xi, x), _fit(self.alpha, x)
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
        k = [torch.as_tensor(k, dtype=torch.float64).detach().cpu() for k in self._coefficients]
        slope = sum(
            ((2 * i + 3) * k_i[..., None] * theta ** (2 * i + 2) for i, k_i in enumerate(k)), 1 + 0 * theta
        )
        falls = slope <= 0
        first = falls.to(torch.uint8).argmax(dim=-1, keepdim=True)
        before, after = slope.gather(-1, (first - 1).clamp(min=0)), slope.gather(-1, first)
        zero = theta[first] - theta[1] * after / (after - before).clamp(max=-1e-300)
        limit = torch.where(falls.any(dim=-1), (zero - 1e-6)[..., 0], math.pi)
        device = next((k.device for k in self._coefficients if isinstance(k, Tensor)), None)
        return limit.to(device) if limit.ndim else limit.item()

    @property
    def _coefficients(self) -> tuple[Parameter, Parameter, Parameter, Parameter]:
        return self.k1, self.k2, self.k3, self.k4

    def _radius(self, theta: Tensor) -> Tensor:
        k1, k2, k3, k4 = (_fit(k, theta) for k in self._coefficients)
        t = theta * theta
        return theta * (1 + t * (k1 + t * (k2 + t * (k3 + t * k4))))

    def _slope(self, theta: Tensor) -> Tensor:
        k1, k2, k3, k4 = (_fit(k, theta) for k in self._coefficients)
        t = theta * theta
        return 1 + t * (3 * k1 + t * (5 * k2 + t * (7 * k3 + t * 9 * k4)))

    def _to_plane(self, x: Tensor, y: Tensor, z: Tensor) -> Tensor:
        squared = x * x + y * y
        on_axis = squared < 1e-12 * z * z
        sine = torch.sqrt(torch.where(on_axis, 1.0, squared))
        return torch.where(
            on_axis, 1 / torch.where(on_axis, z, 1.0), self._radius(torch.atan2(sine, z)) / sine
        )

    def _from_plane(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        squared = x * x + y * y
        limit = torch.as_tensor(_fit(self._domain, x), dtype=x.dtype, device=x.device)
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
    """The whole sphere: longitude grows to the right from −π, latitude downwards from −π/2; the centre column looks
    along +z. u = (lon/2π + ½)·W − ½, v = (lat/π + ½)·H − ½."""

    def project(self, points: Tensor) -> tuple[Tensor, Tensor]:
        x, y, z = _single(points).unbind(-1)
        horizontal = x * x + z * z
        pole = (horizontal == 0) | ~torch.isfinite(horizontal)
        valid = (~pole | (y != 0)) & torch.isfinite(points).all(dim=-1)
        # At the poles every longitude is right; 0 is taken.
        x, z = torch.where(pole, 0.0, x), torch.where(pole, 1.0, z)
        y = torch.where(valid, y, 0.0)
        radius = torch.where(pole, 0.0, torch.sqrt(torch.where(pole, 1.0, horizontal)))
        latitude = torch.atan2(y, torch.where(valid, radius, 1.0))
        u = (torch.atan2(x, z) / (2 * math.pi) + 0.5) * self.width - 0.5
        v = (latitude / math.pi + 0.5) * self.height - 0.5
        return torch.stack((u, v), dim=-1), valid

    def unproject(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        u, v = _single(pixels).unbind(-1)
        longitude = ((u + 0.5) / self.width - 0.5) * (2 * math.pi)
        latitude = ((v + 0.5) / self.height - 0.5) * math.pi
        cosine = torch.cos(latitude)
        rays = torch.stack(
            (cosine * torch.sin(longitude), torch.sin(latitude), cosine * torch.cos(longitude)), dim=-1
        )
        return rays, (v >= -0.5) & (v <= self.height - 0.5)

    def resized(self, height: int, width: int) -> Self:
        return replace(self, height=height, width=width)
