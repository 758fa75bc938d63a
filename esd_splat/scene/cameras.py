"""Where the views are taken from. Knows angles and matrices; nothing of Gaussians or diffusion."""

from dataclasses import dataclass
from typing import Annotated, TypeVar

import torch
from jaxtyping import Float
from torch import Tensor

from esd_splat.errors import refuse
from esd_splat.settings.schema import Field, section

BALL_RADIUS = 1.0
"""The object lies in a ball of this radius around the origin, world units; cameras stay outside."""

Angle = TypeVar("Angle", float, Tensor)


@dataclass(frozen=True)
class Cameras:
    """A batch of pinhole cameras that share one image size."""

    viewmats: Float[Tensor, "b 4 4"]
    """World-to-camera, OpenCV axes."""
    Ks: Float[Tensor, "b 3 3"]
    """Intrinsics, in pixels."""
    width: int
    """Pixels."""
    height: int
    """Pixels."""

    def __len__(self) -> int:
        return len(self.viewmats)

    def __getitem__(self, rows: slice | Tensor) -> "Cameras":
        """Some of the cameras, by a slice or a tensor of indices."""
        return Cameras(self.viewmats[rows], self.Ks[rows], self.width, self.height)

    @property
    def eyes(self) -> Float[Tensor, "b 3"]:
        """Camera centres in the world."""
        R, t = self.viewmats[:, :3, :3], self.viewmats[:, :3, 3:]
        return -(R.mT @ t).squeeze(-1)

    @property
    def c2w(self) -> Float[Tensor, "b 4 4"]:
        """Camera-to-world: the inverse of ``viewmats``."""
        inverse = self.viewmats.clone()
        inverse[:, :3, :3] = self.viewmats[:, :3, :3].mT
        inverse[:, :3, 3] = self.eyes
        return inverse

    @property
    def azimuth_deg(self) -> Float[Tensor, " b"]:
        """Degrees in (-180, 180]: 0 stands on the +z side of the origin, 90 on the +x side."""
        x, _, z = self.eyes.unbind(-1)
        azimuth = torch.rad2deg(torch.atan2(x, z))
        return torch.where(azimuth <= -180, azimuth + 360, azimuth)

    @property
    def elevation_deg(self) -> Float[Tensor, " b"]:
        """Degrees in [-90, 90] above the horizon of the origin."""
        x, y, z = self.eyes.unbind(-1)
        return torch.rad2deg(torch.atan2(y, torch.hypot(x, z)))

    def to(self, device: torch.device | str) -> "Cameras":
        """The same cameras with their matrices on ``device``."""
        return Cameras(self.viewmats.to(device), self.Ks.to(device), self.width, self.height)


Outside = Annotated[float, Field(gt=BALL_RADIUS)]
Elevation = Annotated[float, Field(ge=-89, le=89)]
FieldOfView = Annotated[float, Field(gt=0, lt=180)]


@section
class Orbit:
    """Cameras on a sphere around the origin, all looking at it."""

    distance: tuple[Outside, Outside] = (3.2, 3.2)
    """Range of the distance to the origin, in world units. The object fills the unit ball."""
    elevation: tuple[Elevation, Elevation] = (0.0, 30.0)
    """Range of the elevation above the horizon, in degrees."""
    fov: tuple[FieldOfView, FieldOfView] = (40.0, 40.0)
    """Range of the vertical field of view, in degrees."""
    size: int = Field(default=64, ge=8, le=4096)
    """Width and height of the images, in pixels."""
    size_start: int | None = Field(default=None, ge=8)
    """Size at the start, in pixels, at most size; null is size all along. Early steps settle what a
    small image shows, and pay for a fraction of the pixels."""
    size_until: float = Field(default=0.5, gt=0, le=1)
    """Fraction of the run at which size is reached, growing by equal factors, if size_start is
    given."""
    stratified: bool = True
    """Whether each of batch equal sectors gets one azimuth, instead of independent azimuths."""

    def __post_init__(self) -> None:
        problems = [
            f"{name}: low must not exceed high, got [{low:g}, {high:g}]"
            for name in ("distance", "elevation", "fov")
            for low, high in [getattr(self, name)]
            if low > high
        ]
        if self.size_start is not None and self.size_start > self.size:
            problems.append(
                f"size_start: must be at most size = {self.size}, got {self.size_start}"
            )
        refuse(problems)

    def size_at(self, progress: float) -> int:
        """Width and height of the views when a share ``progress`` of the run is done, pixels.

        Example:
            >>> orbit = Orbit(size=512, size_start=64, size_until=0.6)
            >>> [orbit.size_at(progress) for progress in (0.0, 0.2, 0.4, 0.6, 1.0)]
            [64, 128, 256, 512, 512]
        """
        if self.size_start is None or progress >= self.size_until:
            return self.size
        return round(
            self.size_start * (self.size / self.size_start) ** (progress / self.size_until)
        )

    def sample(self, batch: int, generator: torch.Generator, size: int | None = None) -> Cameras:
        """Draw ``batch`` cameras, uniform in azimuth and in each configured range.

        Each azimuth alone is uniform over the circle. When ``stratified``, the i-th lies in the
        i-th of ``batch`` equal sectors, counted from a common random start.

        Args:
            batch: how many.
            generator: of the CPU; five numbers a camera are taken whatever the configuration.
            size: pixels; ``None`` for the orbit's own.
        """
        u = torch.rand(5, batch, generator=generator, dtype=torch.float64)
        turn = u[0]
        if self.stratified:
            turn = u[1, :1] + (torch.arange(batch, dtype=torch.float64) + u[0]) / max(batch, 1)
        return orbit_cameras(
            azimuth_deg=360 * turn,
            elevation_deg=_between(u[2], self.elevation),
            distance=_between(u[3], self.distance),
            fov_deg=_between(u[4], self.fov),
            size=self.size if size is None else size,
        )

    def turntable(self, count: int, elevation: float = 15.0, size: int | None = None) -> Cameras:
        """``count`` cameras at equal steps of azimuth, the first at 0, at mid distance and fov.

        Args:
            count: views in a full turn.
            elevation: degrees, the same for all.
            size: pixels; ``None`` for the orbit's own.
        """
        azimuth = 360 * torch.arange(count, dtype=torch.float64) / count
        return self.at(azimuth, torch.full_like(azimuth, elevation), size)

    def at(
        self,
        azimuth_deg: Float[Tensor, " b"],
        elevation_deg: Float[Tensor, " b"],
        size: int | None = None,
    ) -> Cameras:
        """Cameras at these angles, as ``orbit_cameras`` takes them, at mid distance and fov.

        Args:
            size: pixels; ``None`` for the orbit's own.
        """
        ends = self.distance, self.fov
        distance, fov = (torch.full_like(azimuth_deg, sum(pair) / 2) for pair in ends)
        size = self.size if size is None else size
        return orbit_cameras(azimuth_deg, elevation_deg, distance, fov, size)


def orbit_cameras(
    azimuth_deg: Float[Tensor, " b"],
    elevation_deg: Float[Tensor, " b"],
    distance: Float[Tensor, " b"],
    fov_deg: Float[Tensor, " b"],
    size: int,
) -> Cameras:
    """Square float32 views of the origin from the given places. World +y is up in the picture.

    Args:
        azimuth_deg: 0 on the +z side of the origin, 90 on the +x side.
        elevation_deg: above the horizon, strictly between -90 and 90.
        distance: from the origin, world units.
        fov_deg: vertical and horizontal field of view.
        size: width and height, pixels.
    """
    azimuth, elevation = torch.deg2rad(azimuth_deg.double()), torch.deg2rad(elevation_deg.double())
    level = elevation.cos()
    outward = torch.stack([level * azimuth.sin(), elevation.sin(), level * azimuth.cos()], dim=-1)
    focal = 0.5 * size / torch.tan(0.5 * torch.deg2rad(fov_deg.double()))
    Ks = torch.zeros(len(focal), 3, 3, dtype=torch.float64, device=focal.device)
    Ks[:, 0, 0] = Ks[:, 1, 1] = focal
    Ks[:, :2, 2] = 0.5 * size
    Ks[:, 2, 2] = 1
    viewmats = look_at_origin(distance.double()[:, None] * outward)
    return Cameras(viewmats.float(), Ks.float(), size, size)


def wrap_deg(degrees: Angle) -> Angle:
    """The same angle, or angles, in [-180, 180)."""
    return (degrees + 180) % 360 - 180


def look_at_origin(eyes: Float[Tensor, "b 3"]) -> Float[Tensor, "b 4 4"]:
    """World-to-camera matrices of cameras at ``eyes`` facing the origin, with world +y up.

    Undefined directly above or below the origin, where "up" has no projection.
    """
    forward = torch.nn.functional.normalize(-eyes, dim=-1)
    up = eyes.new_tensor([0.0, 1.0, 0.0]).expand_as(eyes)
    right = torch.nn.functional.normalize(torch.linalg.cross(forward, up), dim=-1)
    down = torch.linalg.cross(forward, right)
    viewmats = torch.eye(4, dtype=eyes.dtype, device=eyes.device).repeat(len(eyes), 1, 1)
    viewmats[:, :3, :3] = torch.stack([right, down, forward], dim=1)
    viewmats[:, :3, 3] = -(viewmats[:, :3, :3] @ eyes[..., None]).squeeze(-1)
    return viewmats


def _between(u: Float[Tensor, " b"], bounds: tuple[float, float]) -> Float[Tensor, " b"]:
    low, high = bounds
    return low + (high - low) * u
