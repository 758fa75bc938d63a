"""How a scene's axes lie in a file: one turn for every format.

The world of this package has y up and the front at +z. Viewers take a file as y down, whatever its
format's own description says (that of ``.spz`` has y up, and no viewer follows it), so a scene is
turned by 180 degrees about x on its way to a file, and back on its way in. Both are permutations
and changes of sign: nothing is rounded, and there and back gives the same bits.
"""

import torch

from esd_splat.scene.gaussians import Gaussians

FRAME_COMMENT = "esd_splat: y down, front at -z; turned by 180 degrees about x from y up"
"""For formats that hold a comment: how the file's axes lie."""

_MEAN_SIGNS = torch.tensor([1.0, -1, -1])
_SH_SIGNS = torch.tensor([1.0, -1, -1, 1, -1, 1, 1, -1, 1, -1, 1, -1, -1, 1, -1, 1])[:, None]
"""What the turn does to each spherical harmonic: ``Y_k(x, -y, -z) = sign_k Y_k(x, y, z)``."""


def to_file_frame(scene: Gaussians) -> Gaussians:
    """``scene``, on the CPU, y down with its front at -z, as a file holds it."""
    # The turn is the quaternion i, and i (w + ix + jy + kz) = -x + iw - jz + ky.
    w, x, y, z = scene.quats.unbind(dim=1)
    return _turned(scene, torch.stack([-x, w, -z, y], dim=1))


def from_file_frame(scene: Gaussians) -> Gaussians:
    """The inverse of ``to_file_frame``."""
    a, b, c, d = scene.quats.unbind(dim=1)
    return _turned(scene, torch.stack([b, -a, d, -c], dim=1))


def _turned(scene: Gaussians, quats: torch.Tensor) -> Gaussians:
    return Gaussians(
        means=scene.means * _MEAN_SIGNS.to(scene.means.dtype),
        quats=quats,
        log_scales=scene.log_scales,
        opacity_logits=scene.opacity_logits,
        sh0=scene.sh0,
        shN=scene.shN * _SH_SIGNS[1 : 1 + scene.shN.shape[1]].to(scene.shN.dtype),
    )
