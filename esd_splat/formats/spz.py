"""Scenes as ``.spz`` files, Niantic's format: about 1/10 of a ``.ply``, as one gzip stream."""

import gzip
import math
import struct
import zlib
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from typing_extensions import override

from esd_splat.errors import SceneError
from esd_splat.formats.base import Exporter
from esd_splat.formats.packing import (
    Floats,
    check_count,
    from_smallest_three,
    levels,
    logit_of_byte,
    smallest_three,
    to_gaussians,
)
from esd_splat.scene.gaussians import SH_DEGREES, Gaussians

HEADER = struct.Struct("<4sIIBBBB")
"""Magic, version, number of Gaussians, SH degree, fractional bits of positions, flags, reserved."""
MAGIC, VERSION = b"NGSP", 3
POSITION_BITS = 16
"""The bits, sign included, that the farthest coordinate uses of a position's 24. More would store
digits that no image shows and that gzip cannot compress."""
FRACTION_BITS = 12
"""The least fractional bits of a position, as far as the 24 bits allow, however far the farthest
coordinate is. Otherwise one stray Gaussian would make the positions of all others coarse. The
reference encoder always uses this many."""
MAX_POSITION = 2**23 - 1
COLOR_SCALE = 0.15
"""Scale of the degree 0 SH coefficient in a byte, which thus reaches beyond black and white."""
SH_STEPS = np.array([8] * 3 + [16] * 12)[:, None]
"""The distance between the levels that are used, of the 128 that an SH coefficient has on each side
of zero: 5 bits for degree 1 and 4 bits for the others, as in the reference encoder."""


@dataclass(frozen=True)
class Spz(Exporter):
    """Niantic's ``.spz``, version 3, which web viewers read. Few of them read version 4 yet.

    Positions are rounded to 2^-15 of the farthest coordinate or finer, logarithmic scales to 1/16
    in [-10, 5.94], colours and opacities to 8 bits, quaternions to 9 bits and a sign per component,
    and SH coefficients in [-1, 1) to 1/16 for degree 1 and to 1/8 for the others.
    """

    suffix: ClassVar[str] = ".spz"
    most: ClassVar[float] = 10_000_000  # the reference reader refuses more

    @override
    def encode(self, scene: Gaussians, comment: str = "") -> bytes:
        count = len(scene)
        means, rest = scene.means.double().numpy(), scene.shN.double().numpy()
        farthest = float(np.abs(means).max())
        if farthest > MAX_POSITION:
            raise SceneError(
                f"a .spz file holds coordinates up to {MAX_POSITION}, got {farthest:g}"
            )
        spare = math.floor(math.log2(2 ** (POSITION_BITS - 1) / max(farthest, 1e-9)))
        room = math.floor(math.log2(MAX_POSITION / max(farthest, 1)))
        fraction_bits = min(max(spare, min(FRACTION_BITS, room)), 23)
        fixed = np.round(means * 2**fraction_bits).clip(-MAX_POSITION, MAX_POSITION).astype("<i4")
        steps = SH_STEPS[: rest.shape[1]]
        rounded = np.round(rest * (128 / steps)) * steps + 128
        parts = [
            fixed.view(np.uint8).reshape(count, 3, 4)[..., :3],
            levels(scene.opacities.numpy(), 255),
            levels(scene.sh0.numpy() * COLOR_SCALE + 0.5, 255),
            levels((scene.log_scales.numpy() + 10) / (255 / 16), 255),
            _packed(scene.quats.double().numpy()),
            rounded.clip(0, 255),
        ]
        header = HEADER.pack(MAGIC, VERSION, count, scene.sh_degree, fraction_bits, 0, 0)
        body = b"".join(part.astype(np.uint8).tobytes() for part in parts)
        return gzip.compress(header + body, compresslevel=6, mtime=0)


def decode_spz(content: bytes) -> Gaussians:
    """Return the scene in a ``.spz`` file of version 2 or 3, in the frame of the file.

    Raises:
        SceneError: the file has another version, or an SH degree above 3.
        ValueError: the file is not a ``.spz``, or is cut short.
    """
    if content[:4] == MAGIC:
        raise SceneError(_other_version(HEADER.unpack_from(content.ljust(HEADER.size))[1]))
    stream = zlib.decompressobj(zlib.MAX_WBITS | 16)
    try:
        header = stream.decompress(content, HEADER.size)
        if len(header) < HEADER.size:
            raise ValueError("it ends within its header")
        magic, version, count, degree, fraction_bits, _, _ = HEADER.unpack(header)
        if magic != MAGIC:
            raise ValueError(f"it begins with {magic!r}")
        if version not in (2, 3):
            raise SceneError(_other_version(version))
        if degree > max(SH_DEGREES.values()):
            raise SceneError(f"its colours have SH degree {degree}; only 0 to 3 can be read")
        if check_count(count, len(content)) > Spz.most:
            raise SceneError(f"has {count} Gaussians; a .spz holds at most {Spz.most}")
        k = (degree + 1) ** 2 - 1
        widths = {"mean": 9, "alpha": 1, "rgb": 3, "scale": 3, "quat": version + 1, "sh": 3 * k}
        size = count * sum(widths.values())
        # A broken stream may never end, so its length is limited. The extra byte makes zlib reach
        # the end of a whole stream, where it compares the checksum.
        body = stream.decompress(stream.unconsumed_tail, size + 1)
    except zlib.error as error:
        raise ValueError(str(error)) from error
    if len(body) < size:
        raise ValueError(f"it has {len(body)} of the {size} bytes of its Gaussians")
    if len(body) == size and not stream.eof:
        raise ValueError("it has no checksum")
    ends = np.cumsum([count * width for width in widths.values()])
    arrays = np.split(np.frombuffer(body, np.uint8, size), ends[:-1])
    part = {
        name: array.reshape(count, width)
        for (name, width), array in zip(widths.items(), arrays, strict=True)
    }
    fixed = np.zeros((count, 3, 4), np.uint8)
    fixed[..., 1:] = part["mean"].reshape(count, 3, 3)  # the highest byte, last, has the sign
    scene = {
        "means": (fixed.view("<i4")[..., 0] >> 8) / 2.0**fraction_bits,
        "quats": _unpacked(part["quat"]) if version == 3 else _unpacked_v2(part["quat"]),
        "log_scales": part["scale"] / 16.0 - 10,
        "opacity_logits": logit_of_byte(part["alpha"][:, 0]),
        "sh0": (part["rgb"][:, None] / 255 - 0.5) / COLOR_SCALE,
        "shN": (part["sh"].reshape(count, k, 3) - np.float32(128)) / 128,
    }
    return to_gaussians(scene)


def _other_version(version: int) -> str:
    return f"is a .spz of version {version}; only 2 and 3 can be read, so save it as one of those"


def _packed(wxyz: Floats) -> Any:
    """Pack to 4 bytes each: 2 bits name the largest of xyzw; the others have a sign and 9 bits."""
    largest, three = smallest_three(wxyz[:, [1, 2, 3, 0]])
    fields = levels(np.abs(three) * math.sqrt(2), 511) | (three < 0) << 9
    word = largest << 30 | fields[:, 0] << 20 | fields[:, 1] << 10 | fields[:, 2]
    return word.astype("<u4")[:, None].view(np.uint8)


def _unpacked(quat: Any) -> Floats:
    word = np.ascontiguousarray(quat).view("<u4").astype(np.int64)
    fields = word >> np.array([20, 10, 0])
    three = (fields & 511) / 511 * np.where(fields & 512, -1, 1) / math.sqrt(2)
    return from_smallest_three(word[:, 0] >> 30, three)[:, [3, 0, 1, 2]]


def _unpacked_v2(quat: Any) -> Floats:
    """Version 2 leaves out w, which is made positive, and stores each of xyz in 8 bits."""
    xyz = quat / 127.5 - 1
    return from_smallest_three(np.zeros(len(xyz), np.int64), xyz)
