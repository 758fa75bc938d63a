"""What every initialiser offers, and what those that draw points at random share."""

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor
from typing_extensions import override

from esd_splat.errors import check
from esd_splat.scene.gaussians import SH_C0, Gaussians

NEIGHBOURS = 3
"""How many nearest points set the size of a Gaussian, as in 3DGS."""


@dataclass(frozen=True)
class Initialiser(ABC):
    """Where the first Gaussians come from. Sees no prompt, camera or teacher."""

    def check(self) -> None:  # noqa: B027  most have nothing that can be missing
        """Raise now what ``build`` would, before a teacher is loaded in vain."""

    @abstractmethod
    def build(self, generator: torch.Generator) -> Gaussians:
        """The first scene: float32, on the CPU, and the same for the same generator state."""


@dataclass(frozen=True)
class Scatter(Initialiser):
    """Round grey Gaussians at random places; how many and what they look like."""

    count: int = 1000
    """Number of Gaussians, 1 to 1,000,000."""
    radius: float = 0.8
    """Of the ball or sphere, world units in (0, 1]."""
    opacity: float = 0.1
    """Of each Gaussian, in (0.004, 1): fainter than 1/255 it would not be drawn."""
    scale: float | None = None
    """Standard deviation of each Gaussian, world units in (0, 1]; null for the mean distance to its
    three nearest neighbours."""
    color_noise: float = 0.1
    """Standard deviation of each colour channel around middle grey, 0 to 1."""
    sh_degree: int = 0
    """Degree of view-dependent colour, 0 (none) to 3; its coefficients start at zero."""

    def __post_init__(self) -> None:
        checks = {
            "count": (1 <= self.count <= 1_000_000, "in 1 to 1000000"),
            "radius": (0 < self.radius <= 1, "above 0 and at most 1"),
            "opacity": (0.004 < self.opacity < 1, "above 0.004 and below 1"),
            "scale": (self.scale is None or 0 < self.scale <= 1, "above 0 and at most 1, or null"),
            "color_noise": (0 <= self.color_noise <= 1, "in [0, 1]"),
            "sh_degree": (self.sh_degree in range(4), "0, 1, 2 or 3"),
        }
        check(self, checks)

    @abstractmethod
    def places(self, generator: torch.Generator) -> Float[Tensor, "count 3"]:
        """Centres, in units of ``radius``."""

    @override
    def build(self, generator: torch.Generator) -> Gaussians:
        means = self.radius * self.places(generator)
        quats = torch.nn.functional.normalize(torch.randn(self.count, 4, generator=generator))
        color = self.color_noise * torch.randn(self.count, 1, 3, generator=generator)
        if self.scale is not None:
            scales = torch.full((self.count,), self.scale)
        elif self.count == 1:
            scales = torch.full((1,), self.radius)
        else:
            scales = neighbour_distance(means).clamp(min=1e-3 * self.radius)
        return Gaussians(
            means=means,
            quats=quats,
            log_scales=scales.log()[:, None].repeat(1, 3),
            opacity_logits=torch.full((self.count,), self.opacity).logit(),
            sh0=color / SH_C0,
            shN=torch.zeros(self.count, (self.sh_degree + 1) ** 2 - 1, 3),
        )


def neighbour_distance(points: Float[Tensor, "n 3"], chunk: int = 1024) -> Float[Tensor, " n"]:
    """Mean distance of each point to its ``NEIGHBOURS`` nearest others, or to all if fewer.

    Takes ``O(n^2)`` time and ``O(chunk * n)`` memory. There must be at least two points.
    """
    k = min(NEIGHBOURS, len(points) - 1)
    parts = []
    for start in range(0, len(points), chunk):
        # Exact differences: the fast way through a matrix product loses half the digits.
        distances = torch.cdist(
            points[start : start + chunk], points, compute_mode="donot_use_mm_for_euclid_dist"
        )
        own = torch.arange(len(distances))
        distances[own, start + own] = torch.inf
        parts.append(distances.topk(k, dim=1, largest=False).values.mean(dim=1))
    return torch.cat(parts)
