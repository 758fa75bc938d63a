"""Many pictures as one. This module knows pixels and labels, but no scenes or cameras."""

import math
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float
from torch import Tensor

GAP = 2
"""Width of the white gap between the pictures of a contact sheet, in pixels."""
LABEL_PX = (8, 48)
"""Minimum and maximum font size of the labels. In between, it is a sixth of a picture's height."""
Row = Float[Tensor, "_ 3 _ _"]
"""Pictures of one size, RGB in [0, 1]. Rows may differ in the size of their pictures."""


def contact_sheet(
    rows: Sequence[Row], across: Sequence[str] = (), down: Sequence[str] = ()
) -> Float[Tensor, "3 H W"]:
    """Join rows of pictures into one picture, with ``GAP`` white pixels between them.

    Columns are as wide as the widest picture, and a smaller picture is centred in its column. It is
    enlarged, each pixel to a square of pixels, up to half of the column's width. It can then be
    compared with the large pictures, but is not mistaken for one of them.

    Args:
        rows: At least one row, each with at least one picture.
        across: The label above each column. Labels add a white margin at the top and on the left.
            With or without them, the last picture ends in the lower right corner of the sheet.
        down: The label to the left of each row.

    Example:
        >>> import torch
        >>> small, large = torch.zeros(3, 3, 4, 4), torch.zeros(3, 3, 16, 16)
        >>> contact_sheet([small, large]).shape  # the small ones as 8 x 8 pixels
        torch.Size([3, 26, 52])
    """
    from PIL import Image, ImageDraw, ImageFont  # here, to keep the import of the package fast

    width = max(row.shape[3] for row in rows)
    rows = [_enlarged(row, max(1, width // 2 // row.shape[3])) for row in rows]
    tallest = max(row.shape[2] for row in rows)
    font = ImageFont.load_default(min(max(tallest / 6, LABEL_PX[0]), LABEL_PX[1]))
    left = max((math.ceil(font.getlength(text)) + 2 * GAP for text in down), default=0)
    top = math.ceil(font.getbbox("0")[3]) + GAP if across else 0
    columns = [left + column * (width + GAP) for column in range(max(map(len, rows)))]
    tops = [top]
    for row in rows:
        tops.append(tops[-1] + row.shape[2] + GAP)

    canvas = Image.new("L", (columns[-1] + width, tops[-1] - GAP), "white")
    draw = ImageDraw.Draw(canvas)
    for x, text in zip(columns, across, strict=False):
        draw.text((x + width / 2, top / 2), text, font=font, anchor="mm")
    for y, row, text in zip(tops, rows, down, strict=False):
        draw.text((left - GAP, y + row.shape[2] / 2), text, font=font, anchor="rm")
    sheet = rows[0].new_tensor(np.asarray(canvas)).div(255).repeat(3, 1, 1)
    for y, row in zip(tops, rows, strict=False):
        height, shown = row.shape[2:]
        for x, image in zip(columns, row, strict=False):
            x += (width - shown) // 2
            sheet[:, y : y + height, x : x + shown] = image
    return sheet


def _enlarged(images: Row, times: int) -> Row:
    return images.repeat_interleave(times, 2).repeat_interleave(times, 3)
