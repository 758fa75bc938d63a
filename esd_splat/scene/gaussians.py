"""The scene: anisotropic Gaussians with view-dependent colours."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

SH_DEGREES = {0: 0, 3: 1, 8: 2, 15: 3}
"""Maps the number of coefficients in ``shN`` to the degree of the spherical harmonics."""

# Factors of the real spherical harmonics, by degree. ``sh_basis`` uses the signs of 3DGS files, in
# which odd powers of x and y are negated (Kerbl et al., arXiv:2308.04079, and gsplat).
SH_C0 = 0.28209479177387814
_C1 = 0.4886025119029199
_C2 = (1.0925484305920792, 0.31539156525252005, 0.5462742152960396)
_C3 = (0.5900435899266435, 2.890611442640554, 0.4570457994644658, 0.3731763325901154)


@dataclass(frozen=True)
class Gaussians:
    """The parameters of n Gaussians before activation; the properties return activated values."""

    means: Float[Tensor, "n 3"]
    """Centres, in world units."""
    quats: Float[Tensor, "n 4"]
    """Orientations as ``wxyz`` quaternions of any non-zero length. They are normalized on use."""
    log_scales: Float[Tensor, "n 3"]
    """Natural logarithm of the standard deviation along each axis of a Gaussian, in world units."""
    opacity_logits: Float[Tensor, " n"]
    """Opacity at the centre, before the sigmoid."""
    sh0: Float[Tensor, "n 1 3"]
    """Colour coefficients of degree 0. Without ``shN`` the RGB colour is ``0.5 + SH_C0 * sh0``."""
    shN: Float[Tensor, "n k 3"]
    """Colour coefficients of degree 1 and up, in the order of 3DGS; k is 0, 3, 8 or 15."""

    def __post_init__(self) -> None:
        if self.shN.shape[1] not in SH_DEGREES:
            raise ValueError(f"shN: must hold 0, 3, 8 or 15 coefficients, got {self.shN.shape[1]}")

    def __len__(self) -> int:
        return len(self.means)

    @property
    def sh_degree(self) -> int:
        """Degree of the spherical harmonics, 0 (the same colour from everywhere) to 3."""
        return SH_DEGREES[self.shN.shape[1]]

    @property
    def covariances(self) -> Float[Tensor, "n 3 3"]:
        """Covariance matrices ``R S S^T R^T``, which are positive definite by construction."""
        half = self.covariance_factors
        return half @ half.mT

    @property
    def covariance_factors(self) -> Float[Tensor, "n 3 3"]:
        """Factors ``R S`` of the covariances: a factor times its transpose is the covariance."""
        return quats_to_rotmats(self.quats) * self.log_scales.exp()[:, None, :]

    @property
    def opacities(self) -> Float[Tensor, " n"]:
        """Opacities at the centres, in (0, 1)."""
        return self.opacity_logits.sigmoid()

    def colors(self, eyes: Float[Tensor, "b 3"]) -> Float[Tensor, "b n 3"]:
        """Return the RGB colours seen from each camera centre, at least 0 and unbounded above.

        A colour is ``max(0, 0.5 + sum c_k Y_k(d))``, where ``d`` is the unit vector from the
        camera centre to the mean.
        """
        flat = 0.5 + SH_C0 * self.sh0[:, 0]
        if self.sh_degree == 0:
            return flat.clamp(min=0).expand(len(eyes), -1, -1)
        directions = torch.nn.functional.normalize(self.means - eyes[:, None], dim=-1)
        basis = sh_basis(directions, self.sh_degree)[..., 1:]
        return (flat + torch.einsum("bnk,nkc->bnc", basis, self.shN)).clamp(min=0)

    def normals(self, eyes: Float[Tensor, "b 3"]) -> Float[Tensor, "b n 3"]:
        """Return the unit normals seen from each camera centre, in world space.

        The normal of a Gaussian is its shortest axis, with the sign that points from the mean
        towards the camera. Of axes of equal length the first is taken, so the normal of a sphere
        means nothing. Only ``quats`` get a gradient.
        """
        shortest = self.log_scales.argmin(dim=1)[:, None, None].expand(-1, 3, 1)
        axes = quats_to_rotmats(self.quats).gather(2, shortest).squeeze(2)
        facing = ((eyes[:, None] - self.means) * axes).sum(dim=-1, keepdim=True) >= 0
        return torch.where(facing, axes, -axes)

    def map(self, fn: Callable[[Tensor], Tensor]) -> "Gaussians":
        """Apply ``fn`` to each parameter, for instance to select rows or to change the device.

        Example:
            >>> shapes = [3], [4], [3], [], [1, 3], [0, 3]
            >>> scene = Gaussians(*(torch.zeros(4, *shape) for shape in shapes))
            >>> len(scene.map(lambda value: value[:3]))
            3
        """
        return Gaussians(**{name: fn(value) for name, value in vars(self).items()})


def quats_to_rotmats(quats: Float[Tensor, "n 4"]) -> Float[Tensor, "n 3 3"]:
    """Normalize ``wxyz`` quaternions and convert them to rotation matrices."""
    w, x, y, z = torch.nn.functional.normalize(quats, dim=-1).unbind(-1)
    return torch.stack(
        [
            *(1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)),
            *(2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)),
            *(2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)),
        ],
        dim=-1,
    ).view(-1, 3, 3)


def sh_basis(directions: Float[Tensor, "*batch 3"], degree: int) -> Float[Tensor, "*batch k"]:
    """Evaluate the ``(degree + 1)^2`` spherical harmonics at unit vectors.

    Signs and order are those of 3DGS.
    """
    x, y, z = directions.unbind(-1)
    xx, yy, zz = x * x, y * y, z * z
    basis = [torch.full_like(x, SH_C0)]
    if degree >= 1:
        basis += [-_C1 * y, _C1 * z, -_C1 * x]
    if degree >= 2:
        basis += [
            _C2[0] * x * y,
            -_C2[0] * y * z,
            _C2[1] * (2 * zz - xx - yy),
            -_C2[0] * x * z,
            _C2[2] * (xx - yy),
        ]
    if degree >= 3:
        basis += [
            -_C3[0] * y * (3 * xx - yy),
            _C3[1] * x * y * z,
            -_C3[2] * y * (4 * zz - xx - yy),
            _C3[3] * z * (2 * zz - 3 * xx - 3 * yy),
            -_C3[2] * x * (4 * zz - xx - yy),
            0.5 * _C3[1] * z * (xx - yy),
            -_C3[0] * x * (xx - 3 * yy),
        ]
    return torch.stack(basis, dim=-1)
