"""Packing of numbers into few bits, shared by several file formats."""

from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import Float, Int
from torch import Tensor

from esd_splat.errors import SceneError
from esd_splat.scene.gaussians import Gaussians

Floats = npt.NDArray[np.floating[Any]]
Ints = npt.NDArray[np.integer[Any]]

FREE_COUNT, MOST_PER_BYTE = 1 << 18, 4
"""How many Gaussians a compressed file may have, whatever its size, and more for each byte."""
_OTHERS = np.array([[1, 2, 3], [0, 2, 3], [0, 1, 3], [0, 1, 2]])
"""The indices of the three components that are kept, for each one that is left out."""


def check_count(count: int, size: int) -> int:
    """Return the number of Gaussians that a compressed file states, if its size can bear it.

    A scene takes about 15 bytes for each. Zeros compress a thousandfold, and so a file of a few
    kilobytes could ask for all memory.

    Args:
        count: the number that the file states.
        size: the size of the file in bytes.

    Raises:
        SceneError: there cannot be as many.
    """
    most = FREE_COUNT + MOST_PER_BYTE * size
    if not 0 <= count <= most:
        raise SceneError(
            f"says that it has {count} Gaussians, but {size} bytes can hold at most {most}"
        )
    return count


def levels(fractions: Floats, most: int) -> Ints:
    """Quantize ``fractions`` to the integers 0 to ``most``. Values outside [0, 1] are clamped."""
    return np.floor(np.clip(fractions, 0, 1) * most + 0.5).astype(np.int64)


def unit_quats(quats: Float[Tensor, "n 4"]) -> Float[Tensor, "n 4"]:
    """Normalize quaternions of any nonzero length."""
    # Divide by the largest component first: a squared length can overflow, or vanish.
    quats = quats / quats.abs().amax(dim=1, keepdim=True)
    return quats / quats.norm(dim=1, keepdim=True)


def smallest_three(quats: Floats) -> tuple[Ints, Floats]:
    """Drop the largest component of unit quaternions, which follows from the other three.

    Args:
        quats: ``[n, 4]``, of any nonzero length, with the components in any order.

    Returns:
        The index of the largest component, ``[n]``, and the other three in their order,
        ``[n, 3]``, each within ``sqrt(1/2)`` of zero. As q and -q are the same rotation, the sign
        is chosen so that the largest component is positive.
    """
    quats = unit_quats(torch.from_numpy(quats)).numpy()
    largest = np.abs(quats).argmax(axis=1)
    quats = quats * np.where(np.take_along_axis(quats, largest[:, None], 1) < 0, -1, 1)
    return largest, np.take_along_axis(quats, _OTHERS[largest], 1)


def from_smallest_three(largest: Ints, three: Floats) -> Floats:
    """The inverse of ``smallest_three``, for unit quaternions."""
    quats = np.empty((len(three), 4))
    np.put_along_axis(quats, _OTHERS[largest], three, 1)
    # After rounding, the three can be longer than 1.
    rest = np.sqrt(np.maximum(0, 1 - np.square(three).sum(axis=1)))
    np.put_along_axis(quats, largest[:, None], rest[:, None], 1)
    return quats


def logit_of_byte(opacity: Ints) -> Floats:
    """Return the logit of ``opacity / 255``.

    The logits of 0 and 255 are infinite, so these two are moved inwards by a quarter of a level: 0
    is still too transparent to be drawn, and no pixel can tell 255 from opaque.
    """
    inside = np.clip(opacity, 0.25, 254.75)
    return np.log(inside / (255 - inside))


def to_gaussians(columns: dict[str, Floats]) -> Gaussians:
    """Build a scene in float32 from ``columns``, its parameters by name."""
    arrays = {name: np.ascontiguousarray(v, np.float32) for name, v in columns.items()}
    # torch.tensor copies: some arrays are read-only views of the file's bytes.
    return Gaussians(**{name: torch.tensor(value) for name, value in arrays.items()})


def morton_order(means: Tensor) -> Int[Tensor, " n"]:
    """Return the Morton order of gsplat, in which neighbours in space are close in the file.

    Args:
        means: ``[n, 3]``, in the frame of the file.
    """
    from gsplat.exporter import sort_centers  # here, to keep the package light to import

    return sort_centers(means, torch.arange(len(means)))
