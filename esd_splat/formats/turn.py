"""Turning a scene about the vertical axis, with its view-dependent colours."""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from esd_splat.scene.gaussians import Gaussians, sh_basis

DIRECTIONS = 64
"""The number of directions in which harmonics are compared. Degree 3 has 16 harmonics."""


def turned(scene: Gaussians, degrees: float) -> Gaussians:
    """Turn ``scene`` about +y. What faced azimuth ``a`` then faces ``a + degrees``.

    A camera that is turned with the scene sees what it saw before, up to rounding.
    """
    half = math.radians(degrees) / 2
    w, y = math.cos(half), math.sin(half)
    rotation = _about_y(degrees)
    # The product of quaternions (w + jy) q.
    a, b, c, d = scene.quats.unbind(dim=1)
    quats = torch.stack([w * a - y * c, w * b + y * d, w * c + y * a, w * d - y * b], dim=1)
    means = scene.means.double() @ rotation.mT.to(scene.means.device)
    shN = scene.shN
    if scene.sh_degree:
        # Degrees do not mix, so the first row and column, of degree 0, are those of the identity.
        mix = _mix(rotation, scene.sh_degree)[1:, 1:].to(shN.device)
        shN = torch.einsum("jk,nkc->njc", mix, shN.double()).to(shN.dtype)
    return Gaussians(
        **vars(scene) | {"means": means.to(scene.means.dtype), "quats": quats, "shN": shN}
    )


def _about_y(degrees: float) -> Float[Tensor, "3 3"]:
    c, s = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    return torch.tensor([[c, 0, s], [0, 1, 0], [-s, 0, c]], dtype=torch.float64)


def _mix(rotation: Float[Tensor, "3 3"], degree: int) -> Float[Tensor, "k k"]:
    """Return the matrix that turns the coefficients of the spherical harmonics up to ``degree``.

    For each ``d``, ``sum_k (mix c)_k Y_k(R d)`` must equal ``sum_k c_k Y_k(d)``. Rotated harmonics
    are sums of the harmonics of the same degree, so this system of equations has one solution.
    """
    generator = torch.Generator().manual_seed(0)
    directions = torch.randn(DIRECTIONS, 3, generator=generator, dtype=torch.float64)
    directions = torch.nn.functional.normalize(directions, dim=1)
    before, after = sh_basis(directions, degree), sh_basis(directions @ rotation.mT, degree)
    return torch.linalg.lstsq(after, before).solution
