"""Conversion of a scene file to another format, with a report of what is lost."""

import math
from dataclasses import dataclass
from pathlib import Path

import torch

from esd_splat.errors import EsdSplatError, OutputError, SceneError
from esd_splat.files import output_error
from esd_splat.formats import EXPORTERS, Exporter, load_scene
from esd_splat.formats.comment import load_comment
from esd_splat.formats.frame import to_file_frame
from esd_splat.formats.load import DECODERS, unknown_format
from esd_splat.formats.ply import Ply
from esd_splat.formats.precision import UNITS, errors
from esd_splat.formats.reduce import most_important, visible, within
from esd_splat.formats.turn import turned
from esd_splat.scene.gaussians import Gaussians


@dataclass(frozen=True)
class Request:
    """What to convert, and which Gaussians to remove."""

    source: Path
    """A scene file in any format that can be read."""
    target: Path
    """The file to write. Its name determines the format."""
    crop: float | None = None
    """Radius around the origin in world units, above 0. Gaussians with their mean outside are
    removed. The region is a sphere because a scene of this package is an object at the origin, and
    a box would have to say whose axes it follows."""
    min_opacity: float = 0.0
    """Gaussians with a lower opacity, in [0, 1], are removed."""
    max_gaussians: int | None = None
    """If there are more, those that contribute the most light to pixels are kept. At least 1."""
    turn: float = 0.0
    """Angle in degrees by which the scene is turned about the vertical axis, see ``turned``."""
    pad_sh: bool = False
    """Whether to write zeros for missing SH coefficients up to degree 3 of a ``.ply``."""
    comment: str | None = None
    """The comment to store in the target, with the title of the scene on its first line. ``None``
    keeps the comment of the source."""
    overwrite: bool = False
    """Whether an existing ``target`` is replaced."""

    def __post_init__(self) -> None:
        if self.crop is not None and not self.crop > 0:
            raise EsdSplatError(f"--crop: must be above 0, got {self.crop:g}")
        if not 0 <= self.min_opacity <= 1:
            raise EsdSplatError(f"--min-opacity: must be in [0, 1], got {self.min_opacity:g}")
        if self.max_gaussians is not None and self.max_gaussians < 1:
            raise EsdSplatError(f"--max-gaussians: must be at least 1, got {self.max_gaussians}")
        if not math.isfinite(self.turn):
            raise EsdSplatError(f"--turn: must be finite, got {self.turn:g}")


def convert(request: Request) -> str:
    """Write ``request.target`` and return a report of a few lines on what was lost.

    Raises:
        SceneError: the source cannot be used, no Gaussian is left, or the format of the target is
            unknown or cannot hold the scene.
        OutputError: the target must not be replaced, is the source itself, or cannot be written.
    """
    source, target = request.source, request.target
    exporter = _exporter(target, pad_sh=request.pad_sh)
    try:
        exists = target.exists()
        same = exists and source.exists() and target.samefile(source)
    except OSError as error:
        raise output_error(target, error) from error
    if same:
        raise OutputError(f"{target}: is the file to convert; choose another name for the result")
    if exists and not request.overwrite:
        raise OutputError(f"{target}: already exists; use --overwrite to replace it")
    whole = load_scene(source)
    scene, removed = reduced(whole, request)
    changes = list(removed)
    if request.turn:
        scene = turned(scene, request.turn)
        changes.append(f"turned by {request.turn:g} degrees about the vertical axis")
    comment = request.comment
    if comment is None:
        # Below the title are measures, which hold for the whole scene only.
        comment = "\n".join(load_comment(source).splitlines()[: 1 if removed else None])
    exporter.write(scene, target, comment)
    lines = [
        f"wrote {target}: {len(scene)} Gaussians, {target.stat().st_size} bytes",
        f"from {source}: {len(whole)} Gaussians, {source.stat().st_size} bytes",
        *changes,
    ]
    if target.suffix.lower() not in DECODERS:
        return "\n".join([*lines, f"precision unknown, as {exporter.suffix} cannot be read back"])
    back = load_scene(target)
    if scene.sh_degree > back.sh_degree:
        lost = f"SH degree reduced from {scene.sh_degree} to {back.sh_degree} by {exporter.suffix}"
        lines.append(f"{lost}: colours change less with the view")
    order = exporter.order(to_file_frame(scene))
    apart = errors(scene.map(lambda value: value[order]), back)
    lines.append(f"{'read-back error':<18}{'mean':>10}{'largest':>10}")
    for name, error in apart.items():
        mean, largest = float(error.mean()), float(error.max())
        lines.append(f"  {name:<16}{mean:10.2g}{largest:10.2g}  {UNITS[name]}".rstrip())
    return "\n".join(lines)


def reduced(scene: Gaussians, request: Request) -> tuple[Gaussians, list[str]]:
    """Remove the Gaussians that ``request`` excludes. The others keep their order.

    Returns:
        The remaining scene, and a line of the report for each rule that was applied.

    Raises:
        SceneError: no Gaussian remains.
    """
    lines: list[str] = []

    def keep(kept: torch.Tensor, rule: str, nearest: str) -> None:
        nonlocal scene
        if not kept.any():
            raise SceneError(f"{rule} leaves none of {len(scene)} Gaussians; {nearest}")
        lines.append(f"removed {int((~kept).sum())} by {rule}")
        scene = scene.map(lambda value: value[kept])

    if request.crop is not None:
        closest = float(scene.means.norm(dim=1).min())
        nearest = f"the closest to the origin is at {closest:g}"
        keep(within(scene, request.crop), f"--crop {request.crop:g}", nearest)
    if request.min_opacity > 0:
        nearest = f"the most opaque has {float(scene.opacities.max()):g}"
        rule = f"--min-opacity {request.min_opacity:g}"
        keep(visible(scene, request.min_opacity), rule, nearest)
    if request.max_gaussians is not None and len(scene) > request.max_gaussians:
        kept = most_important(scene, request.max_gaussians)
        keep(kept, f"--max-gaussians {request.max_gaussians}", "")
    return scene, lines


def _exporter(target: Path, *, pad_sh: bool) -> Exporter:
    name = target.name.lower()
    matches = [key for key in EXPORTERS if name.endswith(f".{key}")]
    if not matches:
        raise unknown_format(target, (f".{key}" for key in EXPORTERS))
    kind = EXPORTERS[max(matches, key=len)]
    if pad_sh and kind is not Ply:
        raise EsdSplatError(f"--pad-sh: is for .ply only, but {target} is a {kind.suffix} file")
    return Ply(pad_sh=True) if pad_sh else kind()
