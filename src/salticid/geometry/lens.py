"""What all cameras share. They are central: every pixel sees along one ray through a common centre.

A camera is two maps, `project(points) → pixels, valid` and `unproject(pixels) → unit rays, valid`, in its own
frame: x right, y down, z forward along the optical axis; pixels are (u, v), their centres at integers, so that an
image covers [−0.5, W−0.5] × [−0.5, H−0.5].

Parameters are floats or tensors. A tensor parameter of shape (*batch,) goes with points of shape (*batch, ..., 3):
one camera object may hold the intrinsics of every sample of a batch, and gradients flow into them.

Outside the domain of a model nothing is NaN, neither values nor gradients: such points are replaced before the
arithmetic, the pixels of a lens lie at (−W, −H) and its rays along the axis, and `valid` is False.
"""

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass, field, fields, replace
from typing import TYPE_CHECKING, Any, Self, TypeAlias

import torch
from torch import Tensor

if TYPE_CHECKING:
    from jaxtyping import Bool, Float

Parameter: TypeAlias = float | Tensor


def pixel_grid(height: int, width: int, device: torch.device | str | None = None) -> "Float[Tensor, 'h w 2']":
    """(u, v) of all pixel centres, float32."""
    v = torch.arange(height, dtype=torch.float32, device=device)
    u = torch.arange(width, dtype=torch.float32, device=device)
    return torch.stack(torch.meshgrid(u, v, indexing="xy"), dim=-1)


def fit(parameter: Parameter, values: Tensor) -> Parameter:
    """A (*batch,) parameter shaped to broadcast against `values` (*batch, ...)."""
    if not isinstance(parameter, Tensor):
        return parameter
    return parameter.reshape(parameter.shape + (1,) * (values.ndim - parameter.ndim))


def _coordinates(values: Tensor) -> tuple[Tensor, ...]:
    """The last dimension taken apart, in float32 at least: geometry in half precision is off by pixels."""
    return (values if values.dtype in (torch.float32, torch.float64) else values.float()).unbind(-1)


@dataclass(frozen=True)
class Camera(ABC):
    """A central camera with an image of `height` × `width` pixels."""

    height: int
    width: int

    @abstractmethod
    def project_xyz(self, x: Tensor, y: Tensor, z: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """`project` with coordinates apart, all of one shape (*batch, ...): u, v, valid."""

    @abstractmethod
    def unproject_uv(self, u: Tensor, v: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """`unproject` with coordinates apart, of shapes that broadcast and have the batch dimensions: x, y, z,
        valid."""

    @abstractmethod
    def resized(self, height: int, width: int) -> Self:
        """The camera of the same image resized to `height` × `width`."""

    def project(
        self, points: "Float[Tensor, '*batch 3']"
    ) -> "tuple[Float[Tensor, '*batch 2'], Bool[Tensor, '*batch']]":
        """Pixels where points in the camera's frame are seen; points need not be unit.

        `valid`: the point is in the model's domain, within `max_angle` of the axis, and inside the image.
        """
        *pixels, valid = self.project_xyz(*_coordinates(points))
        return torch.stack(pixels, dim=-1), valid

    def unproject(
        self, pixels: "Float[Tensor, '*batch 2']"
    ) -> "tuple[Float[Tensor, '*batch 3'], Bool[Tensor, '*batch']]":
        """Unit rays along which pixels look.

        `valid`: the pixel is in the model's domain and its ray within `max_angle` of the axis. A lens gives rays
        to pixels outside its image as well.
        """
        *rays, valid = self.unproject_uv(*_coordinates(pixels))
        return torch.stack(rays, dim=-1), valid

    def rays(
        self, device: torch.device | str | None = None, dtype: torch.dtype = torch.float32
    ) -> "tuple[Float[Tensor, '*batch h w 3'], Bool[Tensor, '*batch h w']]":
        """`unproject` of all pixel centres."""
        *rays, valid = self.unproject_uv(*self.pixel_axes(device, dtype))
        return torch.stack(torch.broadcast_tensors(*rays), dim=-1), valid.expand(
            *self.batch_shape, self.height, self.width
        )

    def pixel_axes(
        self, device: torch.device | str | None = None, dtype: torch.dtype = torch.float32
    ) -> tuple[Tensor, Tensor]:
        """u of all columns and v of all rows, shaped to broadcast to (*batch, h, w)."""
        u = torch.arange(self.width, dtype=dtype, device=device)
        v = torch.arange(self.height, dtype=dtype, device=device)
        ones = (1,) * len(self.batch_shape)
        return u.reshape(*ones, 1, -1), v.reshape(*ones, -1, 1)

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
        moved = {name: p.to(device) for name, p in self.parameters.items() if isinstance(p, Tensor)}
        return replace(self, **moved) if moved else self


@dataclass(frozen=True)
class Lens(Camera):
    """A camera with an optical axis: a radially symmetric map to a plane, then an affine one to pixels."""

    fx: Parameter
    fy: Parameter
    cx: Parameter
    cy: Parameter
    max_angle: float = field(default=math.pi, kw_only=True)
    """Radius of the image circle: the largest angle from the axis that is seen, in radians."""

    @classmethod
    def centred(cls, height: int, width: int, f: Parameter, **parameters: Any) -> Self:
        """Square pixels and the principal point in the middle of the image; the model's parameters by name."""
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

    def project_xyz(self, x: Tensor, y: Tensor, z: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        norm = torch.sqrt(x.detach() ** 2 + y.detach() ** 2 + z.detach() ** 2)
        limit = self.limit
        cosine = torch.cos(limit) if isinstance(limit, Tensor) else math.cos(limit)
        seen = (z > fit(cosine, z) * norm) & torch.isfinite(norm)
        x, y, z = torch.where(seen, x, 0.0), torch.where(seen, y, 0.0), torch.where(seen, z, 1.0)
        scale = self._to_plane(x, y, z)
        u = torch.where(seen, fit(self.fx, x) * scale * x + fit(self.cx, x), -float(self.width))
        v = torch.where(seen, fit(self.fy, y) * scale * y + fit(self.cy, y), -float(self.height))
        inside = (u >= -0.5) & (u <= self.width - 0.5) & (v >= -0.5) & (v <= self.height - 0.5)
        return u, v, seen & inside

    def unproject_uv(self, u: Tensor, v: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        x = (u - fit(self.cx, u)) / fit(self.fx, u)
        y = (v - fit(self.cy, v)) / fit(self.fy, v)
        x, y, z, valid = self._from_plane(x, y)
        return x, y, z, valid & (z >= math.cos(self.max_angle)) if self.max_angle < math.pi else valid

    def resized(self, height: int, width: int) -> Self:
        across, down = width / self.width, height / self.height
        return replace(
            self,
            height=height,
            width=width,
            fx=self.fx * across,
            fy=self.fy * down,
            cx=(self.cx + 0.5) * across - 0.5,
            cy=(self.cy + 0.5) * down - 0.5,
        )
