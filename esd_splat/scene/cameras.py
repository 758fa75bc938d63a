"""Pinhole cameras, and how they are placed around the object."""

from dataclasses import dataclass
from typing import Annotated, TypeVar

import torch
from jaxtyping import Float
from torch import Tensor

from esd_splat.errors import refuse
from esd_splat.settings.schema import Field, section

BALL_RADIUS = 1.0
"""Radius of the ball around the origin that holds the object, in world units. Cameras stay outside
it."""

Angle = TypeVar("Angle", float, Tensor)


@dataclass(frozen=True)
class Cameras:
    """A batch of pinhole cameras that share one image size."""

    viewmats: Float[Tensor, "b 4 4"]
    """World-to-camera matrices, with OpenCV axes."""
    Ks: Float[Tensor, "b 3 3"]
    """Intrinsic matrices, in pixels."""
    width: int
    """Width of the images, in pixels."""
    height: int
    """Height of the images, in pixels."""

    def __len__(self) -> int:
        return len(self.viewmats)

    def __getitem__(self, rows: slice | Tensor) -> "Cameras":
        """Return the cameras selected by a slice or a tensor of indices."""
        return Cameras(self.viewmats[rows], self.Ks[rows], self.width, self.height)

    @property
    def eyes(self) -> Float[Tensor, "b 3"]:
        """Camera centres in world space."""
        R, t = self.viewmats[:, :3, :3], self.viewmats[:, :3, 3:]
        return -(R.mT @ t).squeeze(-1)

    @property
    def c2w(self) -> Float[Tensor, "b 4 4"]:
        """Camera-to-world matrices, the inverses of ``viewmats``."""
        inverse = self.viewmats.clone()
        inverse[:, :3, :3] = self.viewmats[:, :3, :3].mT
        inverse[:, :3, 3] = self.eyes
        return inverse

    @property
    def azimuth_deg(self) -> Float[Tensor, " b"]:
        """Azimuths in degrees, in (-180, 180]: 0 is on the +z side of the origin, 90 on +x."""
        x, _, z = self.eyes.unbind(-1)
        azimuth = torch.rad2deg(torch.atan2(x, z))
        return torch.where(azimuth <= -180, azimuth + 360, azimuth)

    @property
    def elevation_deg(self) -> Float[Tensor, " b"]:
        """Elevations above the horizon of the origin in degrees, in [-90, 90]."""
        x, y, z = self.eyes.unbind(-1)
        return torch.rad2deg(torch.atan2(y, torch.hypot(x, z)))

    def to(self, device: torch.device | str) -> "Cameras":
        """Return the same cameras with their matrices on ``device``."""
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
    """Size at the start of the run, in pixels, at most size; null keeps size throughout. Early
    steps settle only what a small image can show, so small images make them cheaper."""
    size_until: float = Field(default=0.5, gt=0, le=1)
    """Fraction of the run after which the images have reached size. Until then they grow
    exponentially from size_start, if it is given."""
    stratified: bool = True
    """Whether the circle is divided into batch equal sectors with one azimuth in each; otherwise
    the azimuths are independent."""
    ring: bool = False
    """Whether the views of a step are evenly spaced around the object, from a random azimuth, at
    one elevation, distance and field of view, as MVDream needs them."""

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
        if self.ring and not self.stratified:
            problems.append("ring: must be false with stratified=false: azimuths are independent")
        refuse(problems)

    def size_at(self, progress: float) -> int:
        """Return the width and height of the views after a fraction ``progress`` of the run.

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

        Every single azimuth is uniform over the circle. If ``stratified`` is true, the circle is
        divided into ``batch`` equal sectors from a random start, and the i-th camera lies in the
        i-th sector. If ``ring`` is true, it lies where the i-th sector begins, and the cameras have
        all other numbers in common.

        Args:
            batch: number of cameras.
            generator: a CPU generator. Five numbers per camera are drawn for any configuration.
            size: image size in pixels; ``None`` uses the size of the orbit.
        """
        u = torch.rand(5, batch, generator=generator, dtype=torch.float64)
        if self.ring:
            u = torch.cat([torch.zeros_like(u[:1]), u[1:, :1].expand(-1, batch)])
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
        """Return ``count`` cameras at equal steps of azimuth, starting at 0.

        Distance and field of view are the midpoints of their ranges.

        Args:
            count: number of views in a full turn.
            elevation: elevation of all cameras, in degrees.
            size: image size in pixels; ``None`` uses the size of the orbit.
        """
        azimuth = 360 * torch.arange(count, dtype=torch.float64) / count
        return self.at(azimuth, torch.full_like(azimuth, elevation), size)

    def at(
        self,
        azimuth_deg: Float[Tensor, " b"],
        elevation_deg: Float[Tensor, " b"],
        size: int | None = None,
    ) -> Cameras:
        """Return cameras at the given angles, which are defined as in ``orbit_cameras``.

        Distance and field of view are the midpoints of their ranges.

        Args:
            size: image size in pixels; ``None`` uses the size of the orbit.
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
    """Return float32 cameras that look at the origin and take square images with +y up.

    Args:
        azimuth_deg: degrees; 0 is on the +z side of the origin, 90 on the +x side.
        elevation_deg: degrees above the horizon, strictly between -90 and 90.
        distance: distance from the origin, in world units.
        fov_deg: vertical and horizontal field of view, in degrees.
        size: width and height of the images, in pixels.
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
    """Wrap one angle, or a tensor of angles, to [-180, 180)."""
    return (degrees + 180) % 360 - 180


def look_at_origin(eyes: Float[Tensor, "b 3"]) -> Float[Tensor, "b 4 4"]:
    """Return world-to-camera matrices of cameras at ``eyes`` that face the origin, with +y up.

    The result is undefined directly above and below the origin, where the camera looks along the
    up direction.
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
