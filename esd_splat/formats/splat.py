"""Scenes as ``.splat`` files, antimatter15's: 32 bytes a Gaussian, colours of degree 0."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from jaxtyping import Int
from torch import Tensor
from typing_extensions import override

from esd_splat.formats.base import Exporter
from esd_splat.formats.packing import logit_of_byte, morton_order, to_gaussians, unit_quats
from esd_splat.scene.gaussians import SH_C0, Gaussians

RECORD = np.dtype([("mean", "<f4", 3), ("scale", "<f4", 3), ("rgba", "u1", 4), ("quat", "u1", 4)])
MAX_LOG_SCALE = 85.0
"""A standard deviation's exponential stays a normal float32 within this of zero."""


@dataclass(frozen=True)
class Splat(Exporter):
    """antimatter15's ``.splat``, by gsplat's exporter; rows come out in Morton order.

    Means and scales in float32, colours, opacities and quaternions in 8 bits a component. Colours
    are those of degree 0, from 0 to 1: what depends on the view is lost.
    """

    suffix: ClassVar[str] = ".splat"

    @override
    def encode(self, scene: Gaussians, comment: str = "") -> bytes:
        from gsplat.exporter import splat2splat_bytes

        return splat2splat_bytes(
            scene.means,
            scene.log_scales.clamp(-MAX_LOG_SCALE, MAX_LOG_SCALE),
            unit_quats(scene.quats),
            scene.opacity_logits,
            scene.sh0[:, 0],
        )

    @override
    def order(self, scene: Gaussians) -> Int[Tensor, " n"]:
        return morton_order(scene.means)


def decode_splat(content: bytes) -> Gaussians:
    """The scene in a ``.splat`` file, in the file's frame. Its colours have degree 0.

    Raises:
        ValueError: its size is not that of whole records.
    """
    if len(content) % RECORD.itemsize:
        raise ValueError(f"its {len(content)} bytes are no multiple of {RECORD.itemsize}")
    rows = np.frombuffer(content, RECORD)
    # A flat Gaussian of another program has a scale of 0, whose logarithm is infinite.
    smallest = np.exp(np.float32(-MAX_LOG_SCALE))
    scales = np.where(rows["scale"] == 0, smallest, rows["scale"])
    scene = {
        "means": rows["mean"],
        "quats": rows["quat"] - 128.0,
        "log_scales": np.log(scales),
        "opacity_logits": logit_of_byte(rows["rgba"][:, 3]),
        "sh0": (rows["rgba"][:, None, :3] / 255 - 0.5) / SH_C0,
        "shN": np.empty((len(rows), 0, 3)),
    }
    return to_gaussians(scene)
