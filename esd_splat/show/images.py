"""Pictures as files. This module knows pixels, but no scenes or cameras."""

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
    """Write one picture atomically, with 8 bits per channel.

    Args:
        image: RGB, clamped to [0, 1].
        path: File to write. An existing file is replaced.

    Raises:
        OutputError: If the file cannot be written.
    """
    import imageio.v3 as imageio  # here, to keep the import of the package fast

    encoded = imageio.imwrite("<bytes>", to_bytes(image[None])[0], extension=".png")
    with atomic_path(path) as temporary:
        temporary.write_bytes(encoded)


def to_webp(images: Images, quality: int) -> list[bytes]:
    """Encode each picture as a WebP file, which is about five times smaller than a PNG.

    Args:
        images: RGB, clamped to [0, 1].
        quality: 0 to 100. From 90 on, the loss is hard to see.
    """
    import imageio.v3 as imageio

    return [
        imageio.imwrite("<bytes>", image, extension=".webp", quality=quality)
        for image in to_bytes(images)
    ]


def png_to_webp(path: Path, most_px: tuple[int, int], quality: int) -> bytes:
    """Convert a PNG file of this package to WebP, shrunk to at most the given width and height.

    Raises:
        OSError: If the file cannot be read or is not a PNG.
    """
    from PIL.PngImagePlugin import PngImageFile  # Image.open refuses files as large as ours can be

    try:
        with PngImageFile(path) as image, io.BytesIO() as file:
            image.thumbnail(most_px)
            image.save(file, "webp", quality=quality)
            return file.getvalue()
    except (SyntaxError, ValueError, struct.error) as error:
        raise OSError("no PNG file, or cut short") from error


def to_bytes(images: Images) -> npt.NDArray[np.uint8]:
    """Convert to ``[n, h, w, 3]`` bytes, clamped to [0, 1] and rounded to the nearest level."""
    levels = images.detach().float().clamp(0, 1).mul_(255).round_()
    return levels.to(torch.uint8).permute(0, 2, 3, 1).contiguous().cpu().numpy()
