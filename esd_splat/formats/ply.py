"""Scenes as ``.ply`` files in the layout of 3DGS, which splat viewers and other tools share."""

import re
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
from esd_splat.formats.ply_table import read_tables
from esd_splat.scene.gaussians import SH_DEGREES, Gaussians

_COLOR = ["f_dc_0", "f_dc_1", "f_dc_2"]
_SCALE = ["scale_0", "scale_1", "scale_2"]
_ROT = ["rot_0", "rot_1", "rot_2", "rot_3"]
_REQUIRED = ["x", "y", "z", *_COLOR, "opacity", *_SCALE, *_ROT]


@dataclass(frozen=True)
class Ply(Exporter):
    """The usual ``.ply`` of 3D Gaussian splats: every parameter in float32, so nothing is lost.

    The layout is that of gsplat's exporter: little-endian ``x y z f_dc_* f_rest_* opacity scale_*
    rot_*``, with ``f_rest`` ordered by channel (all of red first), opacities as logits, scales as
    logarithms, and ``rot`` as ``wxyz``. The first comment of the header states the frame.
    """

    suffix: ClassVar[str] = ".ply"
    pad_sh: bool = False
    """Whether to write zeros for missing SH coefficients up to degree 3, for viewers that require
    all of them."""

    @override
    def encode(self, scene: Gaussians, comment: str = "") -> bytes:
        from plyfile import PlyData, PlyElement  # here, to keep the package light to import

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
    """Write a scene as a ``.ply`` in the layout of gsplat's exporter, y down, as ``Ply().write``.

    Raises:
        SceneError: the scene has no Gaussians, or some hold NaN, infinity or a zero quaternion.
        OutputError: the file cannot be written.
    """
    Ply().write(gaussians, path, comment)


def decode_ply(content: bytes) -> Gaussians:
    """Return the scene in a ``.ply`` file, plain or compressed, in the frame of the file.

    The file may be binary or ASCII, with the properties in any order and of any number type.
    Properties outside the layout, such as normals, are ignored. SH degrees 0 to 3 are supported.

    Raises:
        SceneError: the file is not a Gaussian splat.
        ValueError: the file is not a ``.ply``, or is cut short.
    """
    tables = read_tables(content)
    if "chunk" in tables:
        return decode_chunks(tables)
    vertex = tables["vertex"]
    scalars = set(vertex.dtype.names or ())
    if missing := [name for name in _REQUIRED if name not in scalars]:
        raise SceneError(f"not a Gaussian splat: its vertices lack {', '.join(missing)}")

    def columns(names: list[str]) -> torch.Tensor:
        table = np.empty((len(vertex), len(names)), np.float32)
        for n, name in enumerate(names):
            table[:, n] = vertex[name]
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
    """Return ``f_rest_0`` and so on, after checking that some SH degree has that many."""
    names = [name for name in scalars if re.fullmatch(r"f_rest_\d+", name)]
    expected = [f"f_rest_{n}" for n in range(len(names))]
    if len(names) not in [3 * k for k in SH_DEGREES] or set(names) != set(expected):
        raise SceneError(
            f"not a Gaussian splat: it has {len(names)} properties f_rest_*, but SH degrees "
            "0 to 3 have 0, 9, 24 or 45, numbered from 0"
        )
    return expected
