"""Our files and readers against PlayCanvas's: both programs read the same scene in each file."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from esd_splat.formats import load_scene, save_ply
from esd_splat.scene.gaussians import Gaussians
from tests.formats.scenes import FORMATS, radians_apart, scene

each_format = pytest.mark.parametrize("name", sorted(FORMATS))
each_degree = pytest.mark.parametrize("k", [0, 15])
Convert = Callable[..., None]

CONVENTIONS = 2 * 2 / 128 * 1.01
"""Tolerance in radians, as readers of ``.splat`` differ on whether the byte b of a quaternion is
(b - 128) / 128, as it is written, or 2 b / 255 - 1. Each of the four components is off by at most
1/128, rotations by twice the angle between quaternions, and 1 % is for terms of higher order."""


def _assert_same(name: str, ours: Gaussians, theirs: Gaussians) -> None:
    """Up to rounding, and for ``.splat`` up to ``CONVENTIONS``."""
    assert len(ours) == len(theirs)
    for field in ("means", "log_scales", "sh0", "shN"):
        torch.testing.assert_close(
            getattr(ours, field), getattr(theirs, field), rtol=1e-5, atol=2e-6, msg=field
        )
    torch.testing.assert_close(ours.opacities, theirs.opacities, rtol=0, atol=1e-6)
    apart = radians_apart(ours.quats, theirs.quats).max()
    assert apart < (CONVENTIONS if name == "splat" else 1e-5)


@each_format
@each_degree
def test_they_read_in_our_files_what_we_do(
    tmp_path: Path, splat_transform: Convert, name: str, k: int
) -> None:
    path = tmp_path / f"ours.{name}"
    FORMATS[name]().write(scene(300, k), path)
    splat_transform(path, tmp_path / "theirs.ply")
    _assert_same(name, load_scene(path), load_scene(tmp_path / "theirs.ply"))


@each_format
@each_degree
def test_we_read_in_their_files_what_they_do(
    tmp_path: Path, splat_transform: Convert, name: str, k: int
) -> None:
    original = scene(300, k)
    # Their .splat does not normalize quaternions.
    original.quats.div_(original.quats.norm(dim=1, keepdim=True))
    save_ply(original, tmp_path / "ours.ply")
    path = tmp_path / f"theirs.{name}"
    version = ["--spz-version", 3] if name == "spz" else []
    splat_transform(*version, tmp_path / "ours.ply", path)
    splat_transform(path, tmp_path / "back.ply")
    read = load_scene(path)
    _assert_same(name, read, load_scene(tmp_path / "back.ply"))
    # Their file holds the scene in the same place and frame as ours.
    nearest = torch.cdist(read.means, original.means).min(dim=1)
    assert nearest.values.max() < 0.01
    assert (read.opacities - original.opacities[nearest.indices]).abs().max() < 0.01


def test_they_write_ours_back(tmp_path: Path, splat_transform: Convert) -> None:
    """They convert a file of ours in the format that packs every quantity and loses the least."""
    FORMATS["compressed.ply"]().write(scene(300), tmp_path / "ours.compressed.ply")
    splat_transform(tmp_path / "ours.compressed.ply", tmp_path / "theirs.compressed.ply")
    ours = load_scene(tmp_path / "ours.compressed.ply")
    theirs = load_scene(tmp_path / "theirs.compressed.ply")
    nearest = torch.cdist(theirs.means, ours.means).min(dim=1)
    assert nearest.values.max() < 1e-3
    assert torch.equal(nearest.indices.sort().values, torch.arange(300))
    torch.testing.assert_close(theirs.shN, ours.shN[nearest.indices], rtol=0, atol=1 / 32)
