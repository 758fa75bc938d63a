"""The coordinate frame of scene files: one rotation for every format.

The world of this package has y up and the front at +z. Viewers read every format as y down,
whatever its own description says (that of ``.spz`` says y up, and no viewer follows it). A scene
is therefore rotated by 180 degrees about x before it is written, and back after it is read. Both
rotations only permute values and change signs, so nothing is rounded and a round trip gives the
same bits.
"""

import torch

from esd_splat.scene.gaussians import Gaussians

FRAME_COMMENT = "esd_splat: y down, front at -z; turned by 180 degrees about x from y up"
"""States the frame in files of formats that can hold a comment."""

_MEAN_SIGNS = torch.tensor([1.0, -1, -1])
_SH_SIGNS = torch.tensor([1.0, -1, -1, 1, -1, 1, 1, -1, 1, -1, 1, -1, -1, 1, -1, 1])[:, None]
"""How the rotation changes each spherical harmonic: ``Y_k(x, -y, -z) = sign_k Y_k(x, y, z)``."""


def to_file_frame(scene: Gaussians) -> Gaussians:
    """Rotate a scene on the CPU into the frame of files: y down, front at -z."""
    # The rotation is the quaternion i, and i (w + ix + jy + kz) = -x + iw - jz + ky.
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
