"""The interface of initialisers, and the base class of those that scatter Gaussians at random."""

from abc import ABC, abstractmethod

import torch
from jaxtyping import Float
from torch import Tensor
from typing_extensions import override

from esd_splat.scene.gaussians import SH_C0, Gaussians
from esd_splat.settings.schema import Field, section

NEIGHBOURS = 3
"""Number of nearest neighbours that determine the size of a Gaussian, as in 3DGS."""


@section
class Initialiser(ABC):
    """Builds the first scene of a run, without knowing the prompt, the cameras or the teacher."""

    def check(self) -> None:  # noqa: B027  most initialisers have nothing to check
        """Raise the errors that ``build`` would raise, before a teacher is loaded in vain."""

    @abstractmethod
    def build(self, generator: torch.Generator) -> Gaussians:
        """Return the first scene, in float32 on the CPU.

        The same state of ``generator`` gives the same scene.
        """


@section
class Scatter(Initialiser):
    """Round, nearly grey Gaussians at random positions."""

    count: int = Field(default=1000, ge=1, le=1_000_000)
    """Number of Gaussians."""
    radius: float = Field(default=0.8, gt=0, le=1)
    """Radius of the ball or sphere, in world units."""
    opacity: float = Field(default=0.1, gt=0.004, lt=1)
    """Opacity of each Gaussian. One below 1/255 would not be drawn."""
    scale: float | None = Field(default=None, gt=0, le=1)
    """Standard deviation of each Gaussian, in world units; null takes the mean distance to its
    three nearest neighbours."""
    color_noise: float = Field(default=0.1, ge=0, le=1)
    """Standard deviation of each colour channel around middle grey."""
    sh_degree: int = Field(default=0, ge=0, le=3)
    """Degree of the spherical harmonics for view-dependent colour, 0 for none. The coefficients
    above degree 0 start at zero."""

    @abstractmethod
    def places(self, generator: torch.Generator) -> Float[Tensor, "count 3"]:
        """Draw the centres, in units of ``radius``."""

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
    """Return the mean distance of each point to its ``NEIGHBOURS`` nearest other points.

    If there are fewer other points, the mean is over all of them. There must be at least two
    points. The computation takes ``O(n^2)`` time and ``O(chunk * n)`` memory.
    """
    k = min(NEIGHBOURS, len(points) - 1)
    parts = []
    for start in range(0, len(points), chunk):
        # The faster mode uses a matrix product, which loses half of the digits.
        distances = torch.cdist(
            points[start : start + chunk], points, compute_mode="donot_use_mm_for_euclid_dist"
        )
        own = torch.arange(len(distances))
        distances[own, start + own] = torch.inf
        parts.append(distances.topk(k, dim=1, largest=False).values.mean(dim=1))
    return torch.cat(parts)
