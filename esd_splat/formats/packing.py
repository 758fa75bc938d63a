"""Numbers in few bits: what several file formats have in common."""

from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import Float, Int
from torch import Tensor

from esd_splat.scene.gaussians import Gaussians

Floats = npt.NDArray[np.floating[Any]]
Ints = npt.NDArray[np.integer[Any]]

_OTHERS = np.array([[1, 2, 3], [0, 2, 3], [0, 1, 3], [0, 1, 2]])
"""The components that are kept, by the one that is not."""


def levels(fractions: Floats, most: int) -> Ints:
    """The nearest of the whole numbers 0 to ``most``; outside of [0, 1] is clamped."""
    return np.floor(np.clip(fractions, 0, 1) * most + 0.5).astype(np.int64)


def unit_quats(quats: Float[Tensor, "n 4"]) -> Float[Tensor, "n 4"]:
    """The same rotations, of length 1. Any other but zero may come in."""
    # By the largest component first: the square of a length may be too large, or nothing.
    quats = quats / quats.abs().amax(dim=1, keepdim=True)
    return quats / quats.norm(dim=1, keepdim=True)


def smallest_three(quats: Floats) -> tuple[Ints, Floats]:
    """Unit quaternions without their largest component, which the others tell.

    Args:
        quats: ``[n, 4]``, of any length but zero, in any order of components.

    Returns:
        The largest component's index, ``[n]``, and the others in their order, ``[n, 3]``, within
        ``sqrt(1/2)`` of zero. The sign, which a rotation has not, makes the largest positive.
    """
    quats = unit_quats(torch.from_numpy(quats)).numpy()
    largest = np.abs(quats).argmax(axis=1)
    quats = quats * np.where(np.take_along_axis(quats, largest[:, None], 1) < 0, -1, 1)
    return largest, np.take_along_axis(quats, _OTHERS[largest], 1)


def from_smallest_three(largest: Ints, three: Floats) -> Floats:
    """The inverse of ``smallest_three``, for unit quaternions."""
    quats = np.empty((len(three), 4))
    np.put_along_axis(quats, _OTHERS[largest], three, 1)
    # What was rounded may be longer than one.
    rest = np.sqrt(np.maximum(0, 1 - np.square(three).sum(axis=1)))
    np.put_along_axis(quats, largest[:, None], rest[:, None], 1)
    return quats


def logit_of_byte(opacity: Ints) -> Floats:
    """The logit of an opacity of so many 255ths.

    0 and 255, whose logits are infinite, are taken a quarter of a level inside: still below what is
    drawn, and above what a pixel can tell from opaque.
    """
    inside = np.clip(opacity, 0.25, 254.75)
    return np.log(inside / (255 - inside))


def to_gaussians(columns: dict[str, Floats]) -> Gaussians:
    """The scene whose parameters, by name, are ``columns``, in float32."""
    arrays = {name: np.ascontiguousarray(v, np.float32) for name, v in columns.items()}
    # Copied, as some are still a view of a file's bytes, which cannot be written to.
    return Gaussians(**{name: torch.tensor(value) for name, value in arrays.items()})


def morton_order(means: Tensor) -> Int[Tensor, " n"]:
    """An order in which neighbours in space are neighbours in the file: gsplat's.

    Args:
        means: ``[n, 3]``, in the file's frame.
    """
    from gsplat.exporter import sort_centers  # here, so that importing the package stays light

    return sort_centers(means, torch.arange(len(means)))
