"""Scenes for the tests of file formats."""

import math

import torch

from esd_splat.formats import EXPORTERS
from esd_splat.formats.load import DECODERS
from esd_splat.scene.gaussians import Gaussians, quats_to_rotmats

FORMATS = {name: kind for name, kind in EXPORTERS.items() if f".{name}".endswith(tuple(DECODERS))}
"""The formats that can be read back."""


def scene(n: int = 600, k: int = 15, seed: int = 0, unit: float = 1.0) -> Gaussians:
    """An object in a ball of radius ``unit``, with values that every format can represent.

    Opacities are inside (0.01, 0.99), colours of degree 0 inside [0, 1].
    """
    g = torch.Generator().manual_seed(seed)

    def uniform(low: float, high: float, *shape: int) -> torch.Tensor:
        return low + (high - low) * torch.rand(n, *shape, generator=g)

    return Gaussians(
        means=unit * uniform(-0.57, 0.57, 3),
        quats=torch.randn(n, 4, generator=g) * uniform(0.1, 10, 1),
        log_scales=math.log(unit) + uniform(-6, -2, 3),
        opacity_logits=uniform(-4.5, 4.5),
        sh0=uniform(-1.7, 1.7, 1, 3),
        shN=uniform(-0.9, 0.9, k, 3),
    )


def radians_apart(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """The angles between the rotations of two lists of quaternions, from their matrices."""
    difference = quats_to_rotmats(a.double()) - quats_to_rotmats(b.double())
    # The Frobenius norm of the difference is sqrt(8) times the sine of half the angle.
    return 2 * torch.asin((difference.flatten(1).norm(dim=1) / 8**0.5).clamp(max=1))
