"""Scenes as compressed ``.ply`` files, the format of SuperSplat.

A Gaussian takes 16 bytes, plus one for each spherical harmonics (SH) coefficient of degree 1 and
above. Gaussians are stored in chunks of 256 neighbours, with positions, logarithmic scales and
colours as fractions of the chunk's range. ``ply.py`` reads both kinds of ``.ply``, which differ in
content only.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from jaxtyping import Int
from torch import Tensor
from typing_extensions import override

from esd_splat.errors import SceneError
from esd_splat.formats.base import Exporter
from esd_splat.formats.packing import (
    Floats,
    from_smallest_three,
    logit_of_byte,
    morton_order,
    to_gaussians,
    unit_quats,
)
from esd_splat.formats.ply_table import Table
from esd_splat.scene.gaussians import SH_C0, SH_DEGREES, Gaussians

CHUNK = 256
"""The number of Gaussians that share a range."""
SH_RANGE = 8.0
"""The width of the range, centred on zero, that the byte of an SH coefficient covers."""

_PACKED = {f"packed_{name}": np.uint32 for name in ("position", "rotation", "scale", "color")}
_RANGES = {
    f"{end}_{name}": np.floating
    for end in ("min", "max")
    for name in ("x", "y", "z", "scale_x", "scale_y", "scale_z")
}
_COLOR_RANGES = {f"{end}_{name}": np.floating for end in ("min", "max") for name in "rgb"}


@dataclass(frozen=True)
class CompressedPly(Exporter):
    """SuperSplat's compressed ``.ply``, written by gsplat's exporter, with rows in Morton order.

    Positions and scales keep 10 or 11 bits of the range of their chunk, and colours 8 bits.
    Quaternions keep 10 bits per component, opacities 8 bits, and SH coefficients of degree 1 and
    above 8 bits of [-4, 4].
    """

    suffix: ClassVar[str] = ".compressed.ply"

    @override
    def encode(self, scene: Gaussians, comment: str = "") -> bytes:
        from gsplat.exporter import splat2ply_bytes_compressed

        content = splat2ply_bytes_compressed(
            scene.means,
            scene.log_scales,
            unit_quats(scene.quats),
            scene.opacity_logits,
            scene.sh0[:, 0],
            scene.shN.mT.flatten(1),
            opacity_threshold=-1.0,  # the default drops invisible Gaussians
        )
        if scene.sh_degree:
            return content
        # gsplat declares this element with rows but no columns, on which SuperSplat hangs.
        return content.replace(b"element sh %d\n" % len(scene), b"", 1)

    @override
    def order(self, scene: Gaussians) -> Int[Tensor, " n"]:
        return morton_order(scene.means)


def decode_chunks(tables: Mapping[str, Table]) -> Gaussians:
    """Return the scene in a compressed ``.ply``, in the frame of the file.

    Args:
        tables: the elements of the file by name, with one named ``chunk``.

    Raises:
        SceneError: an element or column of such a file is missing.
    """
    vertex, chunk = _table(tables, "vertex", _PACKED), _table(tables, "chunk", _RANGES)
    if len(chunk) != -(-len(vertex) // CHUNK):
        raise SceneError(f"has {len(chunk)} chunks of {CHUNK} for {len(vertex)} Gaussians")
    position = _fractions(vertex["packed_position"], 11, 10, 11)
    scale = _fractions(vertex["packed_scale"], 11, 10, 11)
    color = _fractions(vertex["packed_color"], 8, 8, 8, 8)
    # Older files have no colour ranges: their colours are fractions of 1.
    ranged = set(_COLOR_RANGES) <= set(chunk.dtype.names or ())
    rgb = _within(chunk, "r g b", color[:, :3]) if ranged else color[:, :3]
    three = _fractions(vertex["packed_rotation"], 2, 10, 10, 10)[:, 1:] - 0.5
    scene = {
        "means": _within(chunk, "x y z", position),
        "quats": from_smallest_three(vertex["packed_rotation"] >> 30, three * np.sqrt(2)),
        "log_scales": _within(chunk, "scale_x scale_y scale_z", scale),
        "opacity_logits": logit_of_byte(vertex["packed_color"] & 255),
        "sh0": (rgb[:, None] - 0.5) / SH_C0,
        "shN": _rest(tables, len(vertex)),
    }
    return to_gaussians(scene)


def _table(tables: Mapping[str, Table], name: str, columns: dict[str, type]) -> Table:
    """Return the rows of an element as a structured array that has ``columns``."""
    rows = tables.get(name, np.empty(0, []))
    if missing := [c for c, kind in columns.items() if not _is(rows, c, kind)]:
        raise SceneError(f"not a compressed Gaussian splat: its {name} lacks {', '.join(missing)}")
    return rows


def _is(rows: Table, column: str, kind: type) -> bool:
    return column in (rows.dtype.names or ()) and np.issubdtype(rows.dtype[column], kind)


def _rest(tables: Mapping[str, Table], count: int) -> Floats:
    """Return the SH coefficients of degree 1 and above, ``[count, k, 3]``."""
    rows = tables.get("sh", np.empty(count, []))
    names = [f"f_rest_{n}" for n in range(len(rows.dtype.names or ()))]
    # gsplat also writes this element without columns, and then its rows cannot be counted.
    whole = len(rows) == count or not names
    usable = whole and all(_is(rows, name, np.uint8) for name in names)
    if len(names) not in [3 * k for k in SH_DEGREES] or not usable:
        raise SceneError(
            f"not a compressed Gaussian splat: has {len(rows)} rows of {len(names)} coefficients"
        )
    levels = np.stack([rows[name] for name in names], axis=1) if names else np.empty((count, 0))
    # A byte stands for the middle of its interval, except that 0 and 255 stand for the ends.
    inner = (levels + 0.5) / 256
    fractions = np.where(levels == 0, 0, np.where(levels == 255, 1, inner))
    return (SH_RANGE * (fractions - 0.5)).reshape(count, 3, len(names) // 3).transpose(0, 2, 1)


def _fractions(words: Any, *widths: int) -> Floats:
    """Split words into bit fields, highest first, as fractions ``[n, len(widths)]`` in [0, 1]."""
    shifts = 32 - np.cumsum(widths)
    masks = (1 << np.array(widths)) - 1
    return (words[:, None].astype(np.int64) >> shifts & masks) / masks


def _within(chunk: Any, names: str, fractions: Floats) -> Floats:
    """Map fractions to values in the ranges of each Gaussian's chunk."""
    low, high = (
        np.stack([chunk[f"{end}_{name}"] for name in names.split()], axis=1).astype(np.float64)
        for end in ("min", "max")
    )
    of = np.arange(len(fractions)) // CHUNK
    return low[of] + (high - low)[of] * fractions
