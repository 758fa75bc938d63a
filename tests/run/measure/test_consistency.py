"""Views of planes and balls whose depth and colours have closed forms."""

import math

import pytest
import torch
from torch import Tensor

from esd_splat.run.measure.consistency import consistency
from esd_splat.scene.cameras import Cameras, Orbit

VIEWS, SIZE, RADIUS = 16, 192, 0.8
RING = Orbit(size=SIZE).turntable(VIEWS)


def _ball(cameras: Cameras, radius: float = RADIUS) -> tuple[Tensor, Tensor]:
    """Depths of a ball around the origin, and the points of its surface that the pixels show."""
    at = torch.arange(cameras.width) + 0.5
    rows, columns = torch.meshgrid(at, at, indexing="ij")
    pixels = torch.stack([columns, rows, torch.ones_like(rows)], -1)
    rays = torch.einsum("bij,hwj->bhwi", cameras.Ks.inverse(), pixels)
    rays = torch.einsum("bij,bhwj->bhwi", cameras.c2w[:, :3, :3], rays)
    eyes = cameras.eyes[:, None, None]
    a, b = rays.square().sum(-1), (rays * eyes).sum(-1)
    root = b.square() - a * (eyes.square().sum(-1) - radius**2)
    depths = torch.where(root > 0, (-b - root.clamp(min=0).sqrt()) / a, 0)
    return depths, eyes + rays * depths[..., None]


def _painted(points: Tensor) -> Tensor:
    """A smooth texture that is fixed to the surface."""
    return (0.5 + 0.4 * torch.sin(3 * points + torch.tensor([0.0, 1, 2]))).movedim(-1, 1)


def test_paint_on_a_ball_is_the_same_from_both_sides() -> None:
    depths, points = _ball(RING)
    found = consistency(_painted(points), depths, RING)
    assert found.difference == pytest.approx(0, abs=1e-3)
    assert 0.5 < found.shared < 0.95


def test_what_is_shared_of_a_ball_is_what_both_cameras_see() -> None:
    """A point is seen if its normal and the way to the eye have an angle below 90 degrees."""
    depths, points = _ball(RING)
    eyes = RING.eyes.roll(-1, 0)[:, None, None]
    seen = depths > 0
    both = ((points * eyes).sum(-1) > RADIUS**2) & seen
    found = consistency(_painted(points), depths, RING)
    # Pixels at the limb, whose neighbours lie before the background, are left out.
    assert -0.05 < found.shared - float(both.sum() / seen.sum()) < 0


def test_a_colour_of_the_view_is_off_by_what_it_changes() -> None:
    depths, _ = _ball(RING)
    shades = torch.tensor([0.2, 0.5]).repeat(VIEWS // 2)
    images = shades[:, None, None, None].expand(-1, 3, SIZE, SIZE)
    assert consistency(images, depths, RING).difference == pytest.approx(0.3, abs=1e-5)


def test_paint_that_turns_with_the_camera_is_not_the_surfaces() -> None:
    """The grey of each pixel is its column, so a point changes by how far it moves."""
    depths, points = _ball(RING)
    columns = (torch.arange(SIZE) + 0.5) / SIZE
    images = columns.expand(VIEWS, 3, SIZE, SIZE)
    found = consistency(images, depths, RING)
    local = points @ RING.viewmats.roll(-1, 0)[:, None, :3, :3].mT
    local = local + RING.viewmats.roll(-1, 0)[:, None, None, :3, 3]
    there = 0.5 + 0.5 / math.tan(math.radians(20)) * local[..., 0] / local[..., 2]
    both = ((points * RING.eyes.roll(-1, 0)[:, None, None]).sum(-1) > RADIUS**2) & (depths > 0)
    expected = (there - columns).abs()[both].mean()
    assert found.difference == pytest.approx(float(expected), rel=0.04)


def test_a_wall_that_hides_another_is_not_compared_with_it() -> None:
    """Two cameras, and a small near plane before a far one. Pixels that the near one hides from
    the other camera would be 1 off."""
    cameras = Orbit(size=SIZE).at(torch.zeros(1).double(), torch.zeros(1).double())
    shift = torch.eye(4)
    shift[0, 3] = -0.3  # the second camera stands to the right
    pair = Cameras(
        torch.cat([cameras.viewmats, shift @ cameras.viewmats]),
        cameras.Ks.repeat(2, 1, 1),
        SIZE,
        SIZE,
    )
    focal = float(cameras.Ks[0, 0, 0])
    x = (torch.arange(SIZE) + 0.5 - SIZE / 2) / focal
    depths, images = [], []
    for eye in (0.0, 0.3):
        near = ((2.0 * x + eye).abs() < 0.25).expand(SIZE, SIZE)
        depths.append(torch.where(near, 2.0, 4.0))
        images.append(near.float().expand(3, SIZE, SIZE))
    images, depths = torch.stack(images), torch.stack(depths)
    found = consistency(images, depths, pair)
    # Only at the edges of the near plane do the two colours mix.
    assert found.difference == pytest.approx(0, abs=0.01)
    assert 0.6 < found.shared < 0.95
    # The test can tell: with the depth of the far plane everywhere, the near one is compared too.
    wrong = consistency(images, torch.full_like(depths, 4.0), pair)
    assert wrong.difference is not None
    assert wrong.difference > 0.05


def test_nothing_to_compare_has_no_difference() -> None:
    images = torch.zeros(4, 3, 8, 8)
    found = consistency(images, torch.zeros(4, 8, 8), Orbit(size=8).turntable(4))
    assert (found.difference, found.shared) == (None, 0.0)


def test_depths_that_disagree_share_nothing() -> None:
    """Each camera sees a ball of another size, as if the surface followed the camera."""
    balls = [_ball(RING[k : k + 1], 0.4 + 0.4 * (k % 2))[0] for k in range(VIEWS)]
    found = consistency(torch.zeros(VIEWS, 3, SIZE, SIZE), torch.cat(balls), RING)
    assert found.shared < 0.05
