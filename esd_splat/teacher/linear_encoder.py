"""A linear stand-in for a teacher's encoder, which maps colours to latents and drops all detail."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from esd_splat.teacher.base import Teacher
from esd_splat.types import Images, Latents

BLOCKS = (2, 4, 8, 2, 4, 8, 2, 4)
"""Number of single-colour blocks along each side of the images that the encoder is fitted on."""


@dataclass(frozen=True)
class LinearEncoder:
    """Averages the pixels down to the size of the latents, then maps each colour linearly."""

    weight: Float[Tensor, "c 3"]
    bias: Float[Tensor, " c"]
    side: int
    """Width and height of the latents."""

    @classmethod
    @torch.no_grad()
    def fit(cls, teacher: Teacher, generator: torch.Generator) -> "LinearEncoder":
        """Fit an encoder to ``teacher``'s encodings of random coloured blocks, by least squares.

        Args:
            generator: a CPU generator for the colours. The same seed gives the same encoder.
        """
        _, side, _ = teacher.latent_shape
        pixels, latents = [], []
        for count in BLOCKS:  # one at a time, because a real encoder takes much memory
            colours = torch.rand(1, 3, count, count, generator=generator).to(teacher.device)
            picture = F.interpolate(colours, (8 * side, 8 * side), mode="nearest")
            pixels.append(_shrink(picture, side))
            latents.append(teacher.encode(picture))
        A, B = (torch.cat(x).movedim(1, -1).flatten(0, 2).double().cpu() for x in (pixels, latents))
        solution = torch.linalg.lstsq(torch.cat([A, torch.ones(len(A), 1).double()], 1), B).solution
        found = solution.mT.float().to(teacher.device)
        return cls(found[:, :3], found[:, 3], side)

    def encode(self, images: Images) -> Latents:
        """Return the latents of images of any size, like ``Teacher.encode``."""
        mapped = torch.einsum("kc,bchw->bkhw", self.weight, _shrink(images, self.side))
        return mapped + self.bias[:, None, None]


def _shrink(images: Images, side: int) -> Float[Tensor, "b 3 {side} {side}"]:
    return F.interpolate(images, (side, side), mode="area")
