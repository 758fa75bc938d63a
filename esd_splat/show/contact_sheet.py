"""Many pictures as one. Knows pixels and labels; nothing of scenes or cameras."""

import math
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float
from torch import Tensor

from esd_splat.types import Images

GAP = 2
"""Pixels of white between the pictures of a contact sheet."""
LABEL_PX = (8, 24)
"""Least and greatest height of its letters: a sixth of a picture's, where that lies between."""


def contact_sheet(
    images: Images, columns: int, across: Sequence[str] = (), down: Sequence[str] = ()
) -> Float[Tensor, "3 H W"]:
    """Pictures side by side, in reading order, ``GAP`` pixels of white between them.

    Args:
        images: at least one.
        columns: pictures in a row.
        across: what stands above each column. Labels make a white margin at the top and at the
            left: the last picture ends in the sheet's lower right corner, with them or without.
        down: what stands left of each row.

    Example:
        >>> import torch
        >>> contact_sheet(torch.zeros(5, 3, 10, 10), columns=3).shape
        torch.Size([3, 22, 34])
    """
    from PIL import Image, ImageDraw, ImageFont  # here, so that importing the package stays light

    n, _, height, width = images.shape
    columns = min(columns, n)
    rows = -(-n // columns)
    font = ImageFont.load_default(min(max(height / 6, LABEL_PX[0]), LABEL_PX[1]))
    left = max((math.ceil(font.getlength(text)) + 2 * GAP for text in down), default=0)
    top = math.ceil(font.getbbox("0")[3]) + GAP if across else 0

    def corner(index: int) -> tuple[int, int]:
        row, column = divmod(index, columns)
        return left + column * (width + GAP), top + row * (height + GAP)

    right, bottom = corner(rows * columns - 1)
    canvas = Image.new("L", (right + width, bottom + height), "white")
    draw = ImageDraw.Draw(canvas)
    for column, text in enumerate(across[:columns]):
        draw.text((corner(column)[0] + width / 2, top / 2), text, font=font, anchor="mm")
    for row, text in enumerate(down[:rows]):
        middle = corner(row * columns)[1] + height / 2
        draw.text((left - GAP, middle), text, font=font, anchor="rm")
    sheet = images.new_tensor(np.asarray(canvas)).div(255).repeat(3, 1, 1)
    for index, image in enumerate(images):
        x, y = corner(index)
        sheet[:, y : y + height, x : x + width] = image
    return sheet
