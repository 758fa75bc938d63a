"""A linear stand-in for a teacher's encoder: which colour becomes which latent, and no detail."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from esd_splat.teacher.base import Teacher
from esd_splat.types import Images, Latents

BLOCKS = (2, 4, 8, 2, 4, 8, 2, 4)
"""Blocks of one colour along each side of the pictures that it is fitted on."""


@dataclass(frozen=True)
class LinearEncoder:
    """Pixels averaged to the latents' size, then one linear map of each pixel's colour."""

    weight: Float[Tensor, "c 3"]
    bias: Float[Tensor, " c"]
    side: int
    """Width and height of the latents."""

    @classmethod
    @torch.no_grad()
    def fit(cls, teacher: Teacher, generator: torch.Generator) -> "LinearEncoder":
        """By least squares on ``teacher``'s own encodings of pictures of random coloured blocks.

        Args:
            generator: of the CPU; the same one, the same map.
        """
        _, side, _ = teacher.latent_shape
        pixels, latents = [], []
        for count in BLOCKS:  # one at a time: a real encoder's memory is why we are here
            colours = torch.rand(1, 3, count, count, generator=generator).to(teacher.device)
            picture = F.interpolate(colours, (8 * side, 8 * side), mode="nearest")
            pixels.append(_shrink(picture, side))
            latents.append(teacher.encode(picture))
        A, B = (torch.cat(x).movedim(1, -1).flatten(0, 2).double().cpu() for x in (pixels, latents))
        solution = torch.linalg.lstsq(torch.cat([A, torch.ones(len(A), 1).double()], 1), B).solution
        found = solution.mT.float().to(teacher.device)
        return cls(found[:, :3], found[:, 3], side)

    def encode(self, images: Images) -> Latents:
        """As ``Teacher.encode``, of images of any size."""
        mapped = torch.einsum("kc,bchw->bkhw", self.weight, _shrink(images, self.side))
        return mapped + self.bias[:, None, None]


def _shrink(images: Images, side: int) -> Float[Tensor, "b 3 {side} {side}"]:
    return F.interpolate(images, (side, side), mode="area")
