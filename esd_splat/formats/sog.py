"""Scenes as ``.sog`` files, PlayCanvas's format: about 1/15 of a ``.ply``, as images in a zip.

Each pixel is a Gaussian. Scales and colours are bytes that index a codebook of 256 values. The SH
coefficients of degree 1 and above are one of at most 65536 sets of a palette.
"""

import io
import json
import math
import zipfile
import zlib
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from jaxtyping import Int
from torch import Tensor
from typing_extensions import override

from esd_splat.errors import SceneError, one_line
from esd_splat.formats.base import Exporter
from esd_splat.formats.packing import (
    Floats,
    check_count,
    from_smallest_three,
    levels,
    logit_of_byte,
    morton_order,
    smallest_three,
    to_gaussians,
)
from esd_splat.formats.palette import codebook, nearest, palette
from esd_splat.formats.sog_files import (
    META,
    SPARE_PIXELS,
    Pixels,
    check_packing,
    read_meta,
    read_pixels,
)
from esd_splat.scene.gaussians import SH_DEGREES, Gaussians

VERSION = 2
MAX_SIDE = 16383
"""The largest width and height of a WebP image in pixels."""
SETS_PER_ROW = 64
"""Sets of SH coefficients in a row of the palette's image."""
MAX_SETS = 65536
LARGEST_FIRST = 252
"""A quaternion's alpha value is this plus the index of the component that is left out."""


@dataclass(frozen=True)
class Sog(Exporter):
    """PlayCanvas's ``.sog``, version 2, as one file with rows in Morton order.

    Positions keep 16 bits of the scene's range, with finer steps near the origin. Scales and
    colours keep 8 bits through a codebook made for them, opacities 8 bits, and quaternions 8 bits
    per component.
    """

    suffix: ClassVar[str] = ".sog"
    most: ClassVar[float] = MAX_SIDE**2

    @override
    def encode(self, scene: Gaussians, comment: str = "") -> bytes:
        order, count = self.order(scene), len(scene)
        scene = scene.map(lambda value: value[order])
        side = min(4 * math.ceil(math.sqrt(count) / 4), MAX_SIDE)
        size = (side, math.ceil(count / side))
        means = _log1p(scene.means.double().numpy())
        low, high = means.min(axis=0), means.max(axis=0)
        fixed = levels((means - low) / np.maximum(high - low, 1e-30), 65535)
        largest, three = smallest_three(scene.quats.double().numpy())
        three = levels(three / math.sqrt(2) + 0.5, 255)
        scales, colors = scene.log_scales.double().numpy(), scene.sh0[:, 0].double().numpy()
        scale_book, color_book = codebook(scales), codebook(colors)
        alpha = levels(scene.opacities.numpy(), 255)
        pictures = {
            "means_l": _webp(fixed & 255, size),
            "means_u": _webp(fixed >> 8, size),
            "quats": _webp(np.column_stack([three, largest + LARGEST_FIRST]), size),
            "scales": _webp(nearest(scale_book, scales), size),
            "sh0": _webp(np.column_stack([nearest(color_book, colors), alpha]), size),
        }
        meta: dict[str, Any] = {
            "version": VERSION,
            "asset": {"generator": "esd_splat", "comment": comment},
            "count": count,
            "means": {
                "mins": low.tolist(),
                "maxs": high.tolist(),
                "files": ["means_l.webp", "means_u.webp"],
            },
            "scales": {"codebook": scale_book.tolist(), "files": ["scales.webp"]},
            "quats": {"files": ["quats.webp"]},
            "sh0": {"codebook": color_book.tolist(), "files": ["sh0.webp"]},
        }
        if scene.sh_degree:
            meta["shN"], more = _palette_pictures(scene, size)
            pictures |= more
        return _zip(meta, pictures)

    @override
    def order(self, scene: Gaussians) -> Int[Tensor, " n"]:
        return morton_order(scene.means)


def decode_sog(content: bytes) -> Gaussians:
    """Return the scene in a ``.sog`` file of version 2, in the frame of the file.

    Raises:
        SceneError: the file has another version, or its parts do not fit together.
        zipfile.BadZipFile, zlib.error: the file is not a ``.sog``, or is cut short.
    """
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        check_packing(archive)
        try:
            return _decode(read_meta(archive), archive, len(content))
        except (SceneError, zipfile.BadZipFile, zlib.error):
            raise
        # Pillow and json raise anything for what is damaged.
        except Exception as error:
            why = one_line(f"{type(error).__name__}: {error}")
            raise SceneError(f"its meta.json and images do not fit together ({why})") from error


def _decode(meta: Any, archive: zipfile.ZipFile, size: int) -> Gaussians:
    version = meta.get("version", 1)
    if version != VERSION:
        raise SceneError(
            f"is a .sog of version {one_line(version)}; only version {VERSION} can be read"
        )
    count = check_count(int(meta["count"]), size)

    def picture(name: str, index: int = 0) -> Pixels:
        most = 2 * count + SPARE_PIXELS
        pixels = read_pixels(archive, meta[name]["files"][index], most).reshape(-1, 4)
        if count > len(pixels):
            raise ValueError(f"{name} has {len(pixels)} pixels for {count} Gaussians")
        return pixels[:count]

    def book(name: str) -> Floats:
        return np.array(meta[name]["codebook"], np.float64).reshape(256)

    low, high = (np.array(meta["means"][end], np.float64).reshape(3) for end in ("mins", "maxs"))
    fixed = picture("means", 0)[:, :3] + 256.0 * picture("means", 1)[:, :3]
    quats, sh0 = picture("quats"), picture("sh0")
    if (quats[:, 3] < LARGEST_FIRST).any():
        raise ValueError("quats has pixels that name no component")
    three = (quats[:, :3] / 255 - 0.5) * math.sqrt(2)
    rest = np.empty((count, 0, 3))
    if meta.get("shN"):
        labels = picture("shN", 1)
        rest = _palette(meta["shN"], archive)[labels[:, 0] + 256 * labels[:, 1].astype(np.int64)]
    scene = {
        "means": _expm1(low + (high - low) * fixed / 65535),
        "quats": from_smallest_three(quats[:, 3] - LARGEST_FIRST, three),
        "log_scales": book("scales")[picture("scales")[:, :3]],
        "opacity_logits": logit_of_byte(sh0[:, 3]),
        "sh0": book("sh0")[sh0[:, None, :3]],
        "shN": rest,
    }
    return to_gaussians(scene)


def _palette_pictures(scene: Gaussians, size: tuple[int, int]) -> tuple[Any, dict[str, bytes]]:
    """Return the entry of ``meta.json`` for the SH coefficients, and their images."""
    # The number of sets that other writers use: a power of two, at most the number of Gaussians.
    wanted = min(MAX_SETS, 1024 * 2 ** max(0, math.floor(math.log2(len(scene) / 1024))))
    sets, labels = palette(scene.shN.flatten(1), wanted)
    k = scene.shN.shape[1]
    values = sets.view(-1, k, 3).double().numpy()
    book = codebook(values)
    rows = math.ceil(len(values) / SETS_PER_ROW)
    meta = {
        "count": len(values),
        "bands": scene.sh_degree,
        "codebook": book.tolist(),
        "files": ["shN_centroids.webp", "shN_labels.webp"],
    }
    index = labels.numpy()
    return meta, {
        "shN_centroids": _webp(nearest(book, values).reshape(-1, 3), (SETS_PER_ROW * k, rows)),
        "shN_labels": _webp(np.column_stack([index & 255, index >> 8, 0 * index]), size),
    }


def _palette(meta: Any, archive: zipfile.ZipFile) -> Floats:
    """Return the SH coefficients of each set, ``[sets, k, 3]``."""
    book = np.array(meta["codebook"], np.float64).reshape(256)
    k = {degree: k for k, degree in SH_DEGREES.items()}[meta["bands"]]
    pixels = read_pixels(archive, meta["files"][0], MAX_SETS * k)
    if pixels.shape[1] != SETS_PER_ROW * k:
        raise ValueError(f"shN has {pixels.shape[1] / SETS_PER_ROW:g} coefficients a set, not {k}")
    return book.astype(np.float32)[pixels.reshape(-1, k, 4)[: meta["count"], :, :3]]


def _log1p(x: Floats) -> Floats:
    return np.sign(x) * np.log1p(np.abs(x))


def _expm1(x: Floats) -> Floats:
    return np.sign(x) * np.expm1(np.abs(x))


def _webp(values: Any, size: tuple[int, int]) -> bytes:
    """Encode a lossless image: first the pixels ``values``, ``[n, 3 or 4]``, then black ones."""
    from PIL import Image

    pixels = np.full((size[0] * size[1], 4), (0, 0, 0, 255), np.uint8)
    pixels[: len(values), : values.shape[1]] = values
    file = io.BytesIO()
    # Without ``exact``, transparent pixels would lose their colour.
    picture = Image.fromarray(pixels.reshape(size[1], size[0], 4))
    picture.save(file, "webp", lossless=True, exact=True)
    return file.getvalue()


def _zip(meta: Any, pictures: dict[str, bytes]) -> bytes:
    """Zip the files without compression and dates, so that the same scene gives the same bytes."""
    file = io.BytesIO()
    entries = {META: json.dumps(meta).encode()}
    entries |= {f"{name}.webp": picture for name, picture in pictures.items()}
    with zipfile.ZipFile(file, "w") as archive:
        for name, data in entries.items():
            archive.writestr(zipfile.ZipInfo(name), data)
    return file.getvalue()
