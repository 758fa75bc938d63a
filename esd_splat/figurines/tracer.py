"""Exact images of figurines: ray-traced ellipsoids, Lambert shading, and a plain background."""

import torch
from jaxtyping import Float
from torch import Tensor

from esd_splat.figurines.shapes import parts
from esd_splat.types import Images

LIGHT = (0.20, 0.90, 0.30)
"""Direction to the light, fixed in the world so that shading does not depend on the camera."""
AMBIENT = 0.6
"""Ambient share of the shading. The rest is proportional to the cosine to the light."""


def trace(
    kind: str,
    colour: str,
    viewmats: Float[Tensor, "b 4 4"],
    Ks: Float[Tensor, "b 3 3"],
    size: int,
    background: Float[Tensor, "b 3"],
    supersample: int = 2,
) -> Images:
    """Render a figurine from each camera.

    Args:
        kind: one of ``KINDS``.
        colour: one of ``COLOURS``.
        viewmats: world-to-camera matrices, with OpenCV axes.
        Ks: intrinsics in pixels of the resulting images.
        size: width and height of the resulting images in pixels.
        background: RGB in [0, 1] for each camera, where no ray hits the figurine.
        supersample: number of rays along each side of a pixel. Their mean is the pixel.

    Raises:
        KeyError: the kind or colour does not exist.
    """
    like = {"dtype": viewmats.dtype, "device": viewmats.device}
    figure = parts(kind, colour)
    centres = torch.tensor([part.centre for part, _ in figure], **like)
    radii = torch.tensor([part.radii for part, _ in figure], **like)
    paints = torch.tensor([paint for _, paint in figure], **like)

    eyes, rays = _rays(viewmats, Ks, size, supersample)
    # |(eye + t ray - centre) / radii|^2 = 1, a quadratic in t for every ray and part.
    offset = (eyes[:, None] - centres) / radii
    a = rays.square() @ (1 / radii.square()).mT
    b = rays @ (offset / radii).mT
    c = offset.square().sum(-1)[:, None] - 1
    discriminant = b * b - a * c
    t = torch.where(discriminant > 0, (-b - discriminant.clamp(min=0).sqrt()) / a, torch.inf)
    t, nearest = torch.where(t > 0, t, torch.inf).min(-1)

    hit = t.isfinite()[..., None]
    points = eyes[:, None] + torch.where(hit, t[..., None], 0.0) * rays
    normals = (points - centres[nearest]) / radii[nearest].square()
    normals = torch.nn.functional.normalize(normals, dim=-1)
    light = torch.nn.functional.normalize(torch.tensor(LIGHT, **like), dim=0)
    shade = AMBIENT + (1 - AMBIENT) * (normals @ light).clamp(min=0)
    seen = torch.where(hit, paints[nearest] * shade[..., None], background[:, None])
    fine = seen.mT.unflatten(-1, (size * supersample, size * supersample))
    return torch.nn.functional.avg_pool2d(fine, supersample)


def _rays(
    viewmats: Float[Tensor, "b 4 4"], Ks: Float[Tensor, "b 3 3"], size: int, supersample: int
) -> tuple[Float[Tensor, "b 3"], Float[Tensor, "b p 3"]]:
    """Return the position of each camera and the unnormalized ray through each sub-pixel."""
    steps = torch.arange(size * supersample, dtype=viewmats.dtype, device=viewmats.device)
    rows, cols = torch.meshgrid(*2 * [(steps + 0.5) / supersample], indexing="ij")
    pixels = torch.stack([cols, rows, torch.ones_like(rows)], dim=-1).view(-1, 3)
    R, t = viewmats[:, :3, :3], viewmats[:, :3, 3:]
    return -(R.mT @ t).squeeze(-1), pixels @ torch.linalg.inv(Ks).mT @ R
