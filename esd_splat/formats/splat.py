"""Scenes as ``.splat`` files, antimatter15's format: 32 bytes per Gaussian, SH degree 0."""

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
"""Up to this absolute value, the exponential of a log scale is a normal float32."""


@dataclass(frozen=True)
class Splat(Exporter):
    """antimatter15's ``.splat``, written by gsplat's exporter, with rows in Morton order.

    Means and scales are float32. Colours, opacities and quaternions keep 8 bits per component.
    Colours have SH degree 0 and range from 0 to 1, so their dependence on the view is lost.
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
    """Return the scene in a ``.splat`` file, of SH degree 0, in the frame of the file.

    Raises:
        ValueError: the size of the file is not a multiple of the record size.
    """
    if len(content) % RECORD.itemsize:
        raise ValueError(f"its size of {len(content)} bytes is not a multiple of {RECORD.itemsize}")
    rows = np.frombuffer(content, RECORD)
    # Other programs write flat Gaussians with a scale of 0, whose logarithm is infinite.
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
