"""How much a scene that is read back differs from the one that was written."""

import torch
from torch import Tensor

from esd_splat.scene.gaussians import SH_C0, Gaussians

UNITS = {
    "positions": "world units",
    "colours": "of 1",
    "SH coefficients": "",
    "opacities": "of 1",
    "scales": "relative",
    "rotations": "degrees",
}


def errors(before: Gaussians, after: Gaussians) -> dict[str, Tensor]:
    """Return the absolute errors of each quantity, in ``UNITS``, row by row.

    Colours are those of SH degree 0. Coefficients of higher degrees are compared as far as both
    scenes have them. If one scene has none, their key is missing.
    """
    k = min(before.shN.shape[1], after.shN.shape[1])
    apart = {
        "positions": (after.means - before.means).double().norm(dim=1),
        "colours": SH_C0 * (after.sh0 - before.sh0).abs(),
        "SH coefficients": (after.shN[:, :k] - before.shN[:, :k]).abs(),
        "opacities": (after.opacities - before.opacities).abs(),
        "scales": torch.expm1((after.log_scales - before.log_scales).abs().double()),
        "rotations": _degrees_between(before.quats, after.quats),
    }
    return {name: value for name, value in apart.items() if value.numel()}


def _degrees_between(a: Tensor, b: Tensor) -> Tensor:
    """Return the angle of the rotation from ``a`` to ``b``. q and -q are the same rotation."""
    a, b = (torch.nn.functional.normalize(q.double(), dim=1) for q in (a, b))
    # The chord between two unit quaternions is exact for small angles, where a cosine is not.
    chord = torch.minimum((a - b).norm(dim=1), (a + b).norm(dim=1))
    return torch.rad2deg(4 * torch.asin((chord / 2).clamp(max=1)))
