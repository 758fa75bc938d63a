"""Pictures as files. Knows pixels; nothing of scenes or cameras."""

from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import Float
from torch import Tensor

from esd_splat.files import atomic_path
from esd_splat.types import Images

GAP = 2
"""Pixels of white between the pictures of a contact sheet."""


def write_png(image: Float[Tensor, "3 h w"], path: Path | str) -> None:
    """Write one picture, 8 bits a channel, whole or not at all.

    Args:
        image: RGB; what lies outside [0, 1] is clamped.
        path: replaced if it exists.

    Raises:
        OutputError: the file cannot be written.
    """
    import imageio.v3 as imageio  # here, so that importing the package stays light

    encoded = imageio.imwrite("<bytes>", to_bytes(image[None])[0], extension=".png")
    with atomic_path(path) as temporary:
        temporary.write_bytes(encoded)


def contact_sheet(images: Images, columns: int) -> Float[Tensor, "3 H W"]:
    """Pictures side by side, in reading order, ``GAP`` pixels of white between them.

    Example:
        >>> contact_sheet(torch.zeros(5, 3, 10, 10), columns=3).shape
        torch.Size([3, 22, 34])
    """
    n, _, height, width = images.shape
    columns = min(columns, n)
    rows = -(-n // columns)
    sheet = images.new_ones(3, rows * (height + GAP) - GAP, columns * (width + GAP) - GAP)
    for index, image in enumerate(images):
        top, left = (index // columns) * (height + GAP), (index % columns) * (width + GAP)
        sheet[:, top : top + height, left : left + width] = image
    return sheet


def to_bytes(images: Images) -> npt.NDArray[np.uint8]:
    """``[n, h, w, 3]`` bytes, rounded to nearest; outside [0, 1] is clamped."""
    levels = images.detach().float().clamp(0, 1).mul(255).round()
    return levels.to(torch.uint8).permute(0, 2, 3, 1).contiguous().cpu().numpy()
