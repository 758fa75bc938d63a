"""Scenes as ``.ply`` files of the 3DGS layout, the one that splat viewers and other tools share.

The world of this package has y up and the front at +z. Viewers take a file as y down, so a scene is
turned by 180 degrees about x on its way to the file, and back on its way in. Both are permutations
and changes of sign: nothing is rounded, and reading what was written gives the same bits.
"""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import torch
from typing_extensions import override

from esd_splat.errors import PlyError
from esd_splat.export.base import Exporter
from esd_splat.files import atomic_path
from esd_splat.gaussians import SH_DEGREES, Gaussians

FRAME_COMMENT = "esd_splat: y down, front at -z; turned by 180 degrees about x from y up"
"""First comment of every file: how its axes lie."""

_SH_SIGNS = np.array([1, -1, -1, 1, -1, 1, 1, -1, 1, -1, 1, -1, -1, 1, -1, 1], np.float32)
"""What the turn does to each spherical harmonic: ``Y_k(x, -y, -z) = sign_k Y_k(x, y, z)``."""
_COLOR = ["f_dc_0", "f_dc_1", "f_dc_2"]
_SCALE = ["scale_0", "scale_1", "scale_2"]
_ROT = ["rot_0", "rot_1", "rot_2", "rot_3"]
_REQUIRED = ["x", "y", "z", *_COLOR, "opacity", *_SCALE, *_ROT]

Array = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Ply(Exporter):
    """The common ``.ply`` of 3D Gaussian splats: every parameter in float32."""

    suffix: ClassVar[str] = ".ply"

    @override
    def write(self, gaussians: Gaussians, path: Path | str, comment: str = "") -> None:
        save_ply(gaussians, path, comment)


def save_ply(gaussians: Gaussians, path: Path | str, comment: str = "") -> None:
    """Write a scene in the layout of gsplat's exporter, y down.

    Little-endian float32: ``x y z f_dc_* f_rest_* opacity scale_* rot_*``, with ``f_rest`` by
    channel (all of red first), logit opacities, logarithmic scales, and ``rot`` as ``wxyz``.

    Args:
        gaussians: at least one, all values finite; other float types are rounded to float32.
        path: replaced if it exists, and only once the new file is whole.
        comment: lines for the header, after the one that states the frame.

    Raises:
        PlyError: there is no Gaussian, or some hold NaN, infinity or a zero quaternion.
        OutputError: the file cannot be written.
    """
    if len(gaussians) == 0:
        raise PlyError(f"{path}: not written, as the scene has no Gaussians")
    scene = {name: value.detach().cpu().float().numpy() for name, value in vars(gaussians).items()}
    _check_values(scene, f"{path}: not written")
    x, y, z = scene["means"].T
    w, i, j, k = scene["quats"].T
    sh = np.concatenate([scene["sh0"], scene["shN"]], axis=1)
    sh = sh * _SH_SIGNS[: sh.shape[1], None]
    rest = sh[:, 1:].transpose(0, 2, 1).reshape(len(sh), -1)
    columns = {
        **dict(zip("xyz", (x, -y, -z), strict=True)),
        **dict(zip(_COLOR, sh[:, 0].T, strict=True)),
        **{f"f_rest_{n}": column for n, column in enumerate(rest.T)},
        "opacity": scene["opacity_logits"],
        **dict(zip(_SCALE, scene["log_scales"].T, strict=True)),
        # The turn is the quaternion i, and i (w + ix + jy + kz) = -x + iw - jz + ky.
        **dict(zip(_ROT, (-i, w, -k, j), strict=True)),
    }
    vertex = np.empty(len(sh), dtype=[(name, "<f4") for name in columns])
    for name, column in columns.items():
        vertex[name] = column

    from plyfile import PlyData, PlyElement  # here, so that importing the package stays light

    element = PlyElement.describe(vertex, "vertex")
    comments = [FRAME_COMMENT, *comment.encode("ascii", "replace").decode().splitlines()]
    with atomic_path(path) as temporary:
        PlyData([element], byte_order="<", comments=comments).write(str(temporary))


def load_ply(path: Path | str) -> Gaussians:
    """Read a scene, from this program or any other that writes the 3DGS layout, y down.

    Properties may come in any order and number type, binary or ASCII; others than the layout's,
    such as normals, are ignored. Colours may have degree 0 to 3.

    Returns:
        Float32, on the CPU, y up. ``load_ply`` of a file by ``save_ply`` has the same bits.

    Raises:
        PlyError: the file is missing, not a ``.ply``, cut short, not a splat, or holds NaN,
            infinity or a zero quaternion. One line.
    """
    table = _read_vertices(path)
    rest = _rest_names(table, path)

    def columns(*names: str) -> Array:
        with np.errstate(over="ignore"):  # a double too large becomes infinite, and is counted
            return np.stack([np.asarray(table[name]).astype(np.float32) for name in names], axis=1)

    x, y, z = columns("x", "y", "z").T
    a, b, c, d = columns(*_ROT).T
    sh = np.empty((len(x), 1 + len(rest) // 3, 3), np.float32)
    sh[:, 0] = columns(*_COLOR)
    if rest:
        sh[:, 1:] = columns(*rest).reshape(len(x), 3, -1).transpose(0, 2, 1)
    sh *= _SH_SIGNS[: sh.shape[1], None]
    scene = {
        "means": np.stack([x, -y, -z], axis=1),
        "quats": np.stack([b, -a, d, -c], axis=1),  # the turn back: -i (a + ib + jc + kd)
        "log_scales": columns(*_SCALE),
        "opacity_logits": columns("opacity")[:, 0],
        "sh0": sh[:, :1],
        "shN": sh[:, 1:],
    }
    _check_values(scene, f"{path}: cannot be used")
    return Gaussians(**{name: torch.from_numpy(value.copy()) for name, value in scene.items()})


def _read_vertices(path: Path | str) -> Any:
    """The ``vertex`` table of a ``.ply``, as a structured array that has what a splat needs."""
    from plyfile import PlyData, PlyListProperty, PlyParseError

    try:
        # Not mapped into memory: the file may change or vanish under a mapping.
        data = PlyData.read(str(path), mmap=False)  # pyright: ignore[reportArgumentType]
    except OSError as error:
        raise PlyError(f"{path}: cannot be read ({error.strerror or error})") from error
    except (PlyParseError, ValueError, MemoryError) as error:
        # A ValueError is plyfile's for a header that is no text; a MemoryError, for absurd counts.
        reason = " ".join(str(error).split()) or type(error).__name__
        raise PlyError(
            f"{path}: not a .ply file, or cut short ({reason}); export or copy it again"
        ) from error
    names = [element.name for element in data.elements]
    if "vertex" not in names:
        found = ", ".join(names) or "nothing"
        raise PlyError(f"{path}: not a Gaussian splat: has no element 'vertex', only {found}")
    vertex = data["vertex"]
    scalars = {p.name for p in vertex.properties if not isinstance(p, PlyListProperty)}
    if missing := [name for name in _REQUIRED if name not in scalars]:
        raise PlyError(f"{path}: not a Gaussian splat: its vertices lack {', '.join(missing)}")
    if vertex.count == 0:
        raise PlyError(f"{path}: holds no Gaussians")
    return vertex.data


def _rest_names(table: Any, path: Path | str) -> list[str]:
    """``f_rest_0`` and so on, as many as one of the degrees has."""
    names = [name for name in table.dtype.names if re.fullmatch(r"f_rest_\d+", name)]
    expected = [f"f_rest_{n}" for n in range(len(names))]
    if len(names) not in [3 * k for k in SH_DEGREES] or set(names) != set(expected):
        raise PlyError(
            f"{path}: not a Gaussian splat: has {len(names)} properties f_rest_*, where colours of "
            "degree 0 to 3 take 0, 9, 24 or 45, numbered from 0"
        )
    return expected


def _check_values(scene: dict[str, Array], prefix: str) -> None:
    count = len(scene["means"])
    rows = np.concatenate([value.reshape(count, -1) for value in scene.values()], axis=1)
    broken = ~np.isfinite(rows).all(axis=1) | ~scene["quats"].any(axis=1)
    if broken.any():
        raise PlyError(
            f"{prefix}: {broken.sum()} of {count} Gaussians hold NaN, infinity or a zero "
            f"quaternion (the first is row {broken.argmax()}); remove them"
        )
