"""Pictures as files. Knows pixels; nothing of scenes or cameras."""

import io
import struct
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import Float
from torch import Tensor

from esd_splat.files import atomic_path
from esd_splat.types import Images


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


def to_webp(images: Images, quality: int) -> list[bytes]:
    """Each picture as a WebP file, some five times smaller than a PNG, that browsers show.

    Args:
        images: RGB; what lies outside [0, 1] is clamped.
        quality: 0 to 100; from 90 the loss is hard to see.
    """
    import imageio.v3 as imageio

    return [
        imageio.imwrite("<bytes>", image, extension=".webp", quality=quality)
        for image in to_bytes(images)
    ]


def png_to_webp(path: Path, most_px: tuple[int, int], quality: int) -> bytes:
    """A PNG file of this package as WebP, shrunk to at most the given width and height.

    Raises:
        OSError: it cannot be read, or is no PNG.
    """
    from PIL.PngImagePlugin import PngImageFile  # Image.open refuses as large ones as we may write

    try:
        with PngImageFile(path) as image, io.BytesIO() as file:
            image.thumbnail(most_px)
            image.save(file, "webp", quality=quality)
            return file.getvalue()
    except (SyntaxError, ValueError, struct.error) as error:
        raise OSError("no PNG file, or cut short") from error


def to_bytes(images: Images) -> npt.NDArray[np.uint8]:
    """``[n, h, w, 3]`` bytes, rounded to nearest; outside [0, 1] is clamped."""
    levels = images.detach().float().clamp(0, 1).mul_(255).round_()
    return levels.to(torch.uint8).permute(0, 2, 3, 1).contiguous().cpu().numpy()
