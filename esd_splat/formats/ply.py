"""Scenes as ``.ply`` files of the 3DGS layout, the one that splat viewers and other tools share."""

import re
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
from typing_extensions import override

from esd_splat.errors import SceneError
from esd_splat.formats.base import Exporter
from esd_splat.formats.comment import to_ascii
from esd_splat.formats.compressed_ply import decode_chunks
from esd_splat.formats.frame import FRAME_COMMENT
from esd_splat.scene.gaussians import SH_DEGREES, Gaussians

_COLOR = ["f_dc_0", "f_dc_1", "f_dc_2"]
_SCALE = ["scale_0", "scale_1", "scale_2"]
_ROT = ["rot_0", "rot_1", "rot_2", "rot_3"]
_REQUIRED = ["x", "y", "z", *_COLOR, "opacity", *_SCALE, *_ROT]


@dataclass(frozen=True)
class Ply(Exporter):
    """The common ``.ply`` of 3D Gaussian splats: every parameter in float32, nothing lost.

    In the layout of gsplat's exporter: little-endian ``x y z f_dc_* f_rest_* opacity scale_*
    rot_*``, with ``f_rest`` by channel (all of red first), logit opacities, logarithmic scales, and
    ``rot`` as ``wxyz``. The header's comments begin with the one that states the frame.
    """

    suffix: ClassVar[str] = ".ply"
    pad_sh: bool = False
    """Whether to write zeros for missing colour coefficients up to degree 3, for viewers that
    insist on all of them."""

    @override
    def encode(self, scene: Gaussians, comment: str = "") -> bytes:
        from plyfile import PlyData, PlyElement  # here, so that importing the package stays light

        rest = scene.shN
        if self.pad_sh:
            rest = torch.nn.functional.pad(rest, (0, 0, 0, max(SH_DEGREES) - rest.shape[1]))
        columns = {
            **_named(["x", "y", "z"], scene.means),
            **_named(_COLOR, scene.sh0[:, 0]),
            **_named([f"f_rest_{n}" for n in range(3 * rest.shape[1])], rest.mT.flatten(1)),
            "opacity": scene.opacity_logits,
            **_named(_SCALE, scene.log_scales),
            **_named(_ROT, scene.quats),
        }
        vertex = np.empty(len(scene), dtype=[(name, "<f4") for name in columns])
        for name, column in columns.items():
            vertex[name] = column.numpy()
        element = PlyElement.describe(vertex, "vertex")
        comments = [FRAME_COMMENT, *to_ascii(comment).splitlines()]
        header = PlyData([element], byte_order="<", comments=comments).header
        return b"".join([header.encode("ascii"), b"\n", vertex.data])


def save_ply(gaussians: Gaussians, path: Path | str, comment: str = "") -> None:
    """Write a scene in the layout of gsplat's exporter, y down: ``Ply().write``.

    Raises:
        SceneError: there is no Gaussian, or some hold NaN, infinity or a zero quaternion.
        OutputError: the file cannot be written.
    """
    Ply().write(gaussians, path, comment)


def decode_ply(content: bytes) -> Gaussians:
    """The scene in a ``.ply`` file, plain or compressed, in the file's frame.

    Properties may come in any order and number type, binary or ASCII; others than the layout's,
    such as normals, are ignored. Colours may have degree 0 to 3.

    Raises:
        SceneError: it is no splat.
        ValueError: it is no ``.ply``, or cut short.
    """
    from plyfile import PlyData, PlyListProperty, PlyParseError

    # What it may not map into memory plyfile reads number by number, a million Gaussians in a
    # minute; and the file itself may change or vanish under a mapping. So a copy is mapped.
    with tempfile.NamedTemporaryFile() as copy:
        copy.write(content)
        copy.flush()
        try:
            data = PlyData.read(copy.name)
        except PlyParseError as error:
            raise ValueError(str(error)) from error
    names = [element.name for element in data.elements]
    if "chunk" in names:
        return decode_chunks(data)
    if "vertex" not in names:
        found = ", ".join(names) or "nothing"
        raise SceneError(f"not a Gaussian splat: has no element 'vertex', only {found}")
    vertex = data["vertex"]
    scalars = {p.name for p in vertex.properties if not isinstance(p, PlyListProperty)}
    if missing := [name for name in _REQUIRED if name not in scalars]:
        raise SceneError(f"not a Gaussian splat: its vertices lack {', '.join(missing)}")

    def columns(names: list[str]) -> torch.Tensor:
        table = np.empty((vertex.count, len(names)), np.float32)
        for n, name in enumerate(names):
            table[:, n] = vertex.data[name]
        return torch.from_numpy(table)

    rest = columns(_rest_names(scalars))
    return Gaussians(
        means=columns(["x", "y", "z"]),
        quats=columns(_ROT),
        log_scales=columns(_SCALE),
        opacity_logits=columns(["opacity"])[:, 0],
        sh0=columns(_COLOR)[:, None],
        shN=rest.view(len(rest), 3, -1 if rest.numel() else 0).mT.contiguous(),
    )


def _named(names: list[str], table: torch.Tensor) -> dict[str, torch.Tensor]:
    return dict(zip(names, table.unbind(dim=1), strict=True))


def _rest_names(scalars: set[str]) -> list[str]:
    """``f_rest_0`` and so on, as many as one of the degrees has."""
    names = [name for name in scalars if re.fullmatch(r"f_rest_\d+", name)]
    expected = [f"f_rest_{n}" for n in range(len(names))]
    if len(names) not in [3 * k for k in SH_DEGREES] or set(names) != set(expected):
        raise SceneError(
            f"not a Gaussian splat: has {len(names)} properties f_rest_*, where colours of "
            "degree 0 to 3 take 0, 9, 24 or 45, numbered from 0"
        )
    return expected
