"""The reference rasterizer, which defines the image in PyTorch.

Projection is done here and compositing in ``tiles``. All backends are tested against this one. It
runs on every machine, also without compiled kernels.
"""

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from esd_splat.scene.cameras import Cameras
from esd_splat.scene.gaussians import Gaussians
from esd_splat.scene.rasterize.base import (
    BLUR_PX2,
    MIN_ALPHA,
    NEAR,
    Render,
    Surface,
    averages,
    replace_undrawable,
)
from esd_splat.scene.rasterize.culling import Splats, extents, pair_up
from esd_splat.scene.rasterize.tiles import TILE, composite, median_depths

FRUSTUM_MARGIN = 0.3
"""The Jacobian of the projection is evaluated at most this far outside the image, as a fraction of
half the image size (3DGS, gsplat)."""


def rasterize_reference(
    gaussians: Gaussians,
    cameras: Cameras,
    background: Float[Tensor, "b 3"],
    surface: bool = False,
) -> Render:
    """Render as described in :func:`~esd_splat.scene.rasterize.rasterize`.

    Any floating point type, device and image size is possible. For a surface, normals and depths
    are composited as further colours.
    """
    gaussians, ok = replace_undrawable(gaussians)
    R, t = cameras.viewmats[:, :3, :3], cameras.viewmats[:, :3, 3]
    xyz = gaussians.means @ R.mT + t[:, None]
    drawn = ok & (xyz[..., 2] > NEAR)
    xyz = torch.where(drawn[..., None], xyz, 1.0)  # finite values for rows that are not drawn
    halves = camera_axes(gaussians.covariance_factors, R)
    rows, drawn = screen_axes(xyz, halves, cameras, drawn)
    covs2d, conics = spread(rows)
    colors = gaussians.colors(cameras.eyes)
    if surface:
        colors = torch.cat([colors, gaussians.normals(cameras.eyes), xyz[..., 2:]], dim=-1)
    splats = Splats(
        means2d=torch.where(drawn[..., None], pinhole(xyz, cameras.Ks), 0.0),
        covs2d=covs2d,
        conics=conics,
        log_opacities=torch.nn.functional.logsigmoid(gaussians.opacity_logits),
        colors=colors,
        depths=xyz[..., 2],
        drawn=drawn,
    )
    width, height = cameras.width, cameras.height
    rgb, alphas = composite(splats, width, height)
    found = None
    if surface:
        pairs = pair_up(splats, width, height, TILE)
        screen = splats.means2d, splats.conics, splats.log_opacities, splats.depths
        medians = median_depths(*screen, pairs, width, height, TILE)
        rgb, normals, depths = rgb.split([3, 3, 1], dim=1)
        found = Surface(averages(depths, alphas)[:, 0], medians, averages(normals, alphas))
    images = rgb + (1 - alphas)[:, None] * background[:, :, None, None]
    return Render(images, alphas, splats.means2d, visible(splats, width, height), found)


def pinhole(xyz: Float[Tensor, "b n 3"], Ks: Float[Tensor, "b 3 3"]) -> Float[Tensor, "b n 2"]:
    """Project points in camera space to pixel coordinates."""
    focal = torch.stack([Ks[:, 0, 0], Ks[:, 1, 1]], dim=-1)[:, None]
    return focal * xyz[..., :2] / xyz[..., 2:] + Ks[:, None, :2, 2]


def camera_axes(
    factors: Float[Tensor, "n 3 3"], R: Float[Tensor, "b 3 3"]
) -> Float[Tensor, "b 3 n 3"]:
    """Rotate covariance factors ``F`` into camera space.

    Axis 1 of the result holds the rows of ``R F`` (camera x, y and z), axis 3 its columns. All are
    computed in a single matrix product, as torch is slow at thousands of 3x3 products.
    """
    flat = factors.transpose(0, 1).flatten(1)
    return (R.flatten(0, 1) @ flat).view(len(R), 3, len(factors), 3)


def screen_axes(
    xyz: Float[Tensor, "b n 3"],
    halves: Float[Tensor, "b 3 n 3"],
    cameras: Cameras,
    drawn: Bool[Tensor, "b n"],
) -> tuple[Float[Tensor, "b 2 n 3"], Bool[Tensor, "b n"]]:
    """Project covariance factors to the screen: ``L = J R F``.

    ``L L^T`` is the covariance in screen space. ``J`` is the Jacobian of the pinhole projection at
    the centre. As in 3DGS and gsplat, the centre is first moved to within ``FRUSTUM_MARGIN`` of the
    image, where the linearization still holds.

    Returns:
        ``L``, and ``drawn`` without the Gaussians that are so large that their covariance
        overflows. Their ``L`` is zero.
    """
    fx, fy = cameras.Ks[:, None, 0, 0], cameras.Ks[:, None, 1, 1]
    cx, cy = cameras.Ks[:, None, 0, 2], cameras.Ks[:, None, 1, 2]
    margin_x = FRUSTUM_MARGIN * 0.5 * cameras.width
    margin_y = FRUSTUM_MARGIN * 0.5 * cameras.height
    x, y, z = xyz.unbind(-1)
    x_z = (x / z).clamp(min=-(cx + margin_x) / fx, max=(cameras.width - cx + margin_x) / fx)
    y_z = (y / z).clamp(min=-(cy + margin_y) / fy, max=(cameras.height - cy + margin_y) / fy)
    right, down, forward = halves.unbind(1)
    row_x = (fx / z)[..., None] * (right - x_z[..., None] * forward)
    row_y = (fy / z)[..., None] * (down - y_z[..., None] * forward)
    rows = torch.stack([row_x, row_y], dim=1)
    # The determinant of the covariance is at most the square of this sum.
    drawn = drawn & rows.detach().square().sum(dim=(1, 3)).square().isfinite()
    return torch.where(drawn[:, None, :, None], rows, 0.0), drawn


def spread(
    rows: Float[Tensor, "b 2 n 3"],
) -> tuple[Float[Tensor, "b n 3"], Float[Tensor, "b n 3"]]:
    """Return screen-space covariances ``L L^T + blur`` and their inverses, both as xx, xy, yy.

    ``det(L L^T)`` is computed as the squared length of the cross product of the rows of ``L``, a
    sum of positive terms. For needles, ``|L_x|^2 |L_y|^2 - (L_x . L_y)^2`` would cancel.
    """
    row_x, row_y = rows.unbind(1)
    xx, xy, yy = (row_x * row_x).sum(-1), (row_x * row_y).sum(-1), (row_y * row_y).sum(-1)
    area = torch.linalg.cross(row_x, row_y).square().sum(-1)
    determinant = area + BLUR_PX2 * (xx + yy) + BLUR_PX2**2
    xx, yy = xx + BLUR_PX2, yy + BLUR_PX2
    covs2d = torch.stack([xx, xy, yy], dim=-1)
    return covs2d, torch.stack([yy, -xy, xx], dim=-1) / determinant[..., None]


@torch.no_grad()
def visible(splats: Splats, width: int, height: int) -> Bool[Tensor, "b n"]:
    """Return which Gaussians are visible, as defined by ``Render.visible``."""
    size = splats.means2d.new_tensor([width, height])
    radius = extents(splats).ceil()
    inside = (splats.means2d + radius > 0) & (splats.means2d - radius < size)
    return splats.drawn & (splats.log_opacities.exp() >= MIN_ALPHA) & inside.all(dim=-1)
