"""The gate lets the right picture through, and no wrong one; without a browser."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import plyfile
import pytest
import torch

from esd_splat.formats import load_ply, save_ply
from esd_splat.scene.cameras import Cameras
from esd_splat.scene.gaussians import SH_C0, Gaussians
from tests.viewers.gate import LEAST_DB, UPRIGHT, Expected, cameras, posed

Rows = np.ndarray


def _quaternions_xyzw(rows: Rows) -> None:
    w, x, y, z = (rows[f"rot_{n}"].copy() for n in range(4))
    rows["rot_0"], rows["rot_1"], rows["rot_2"], rows["rot_3"] = x, y, z, w


def _opacity_linear(rows: Rows) -> None:
    rows["opacity"] = 1 / (1 + np.exp(-rows["opacity"]))


def _y_negated(rows: Rows) -> None:
    rows["y"] *= -1


def _colours_not_turned(rows: Rows) -> None:
    signs = np.array([-1, -1, 1, -1, 1, 1, -1, 1, -1, 1, -1, -1, 1, -1, 1])
    for n, sign in enumerate(np.tile(signs, 3)):
        rows[f"f_rest_{n}"] *= sign


def _coefficient_major(rows: Rows) -> None:
    rest = np.stack([rows[f"f_rest_{n}"] for n in range(45)], axis=1)
    for n, column in enumerate(rest.reshape(-1, 3, 15).transpose(2, 1, 0).reshape(45, -1)):
        rows[f"f_rest_{n}"] = column


def _colour_as_rgb(rows: Rows) -> None:
    for n in range(3):
        rows[f"f_dc_{n}"] = 0.5 + SH_C0 * rows[f"f_dc_{n}"]


def _degree_3_left_out(rows: Rows) -> None:
    for n in range(45):
        if n % 15 >= 8:
            rows[f"f_rest_{n}"] = 0


MISTAKES = [
    _quaternions_xyzw,
    _opacity_linear,
    _y_negated,
    _colours_not_turned,
    _coefficient_major,
    _colour_as_rgb,
    _degree_3_left_out,
]


@pytest.mark.parametrize("mistake", MISTAKES, ids=lambda m: m.__name__)
def test_a_wrong_file_fails(
    tmp_path: Path,
    mistake: Callable[[Rows], None],
    scene: Gaussians,
    views: Cameras,
    expected: Expected,
) -> None:
    save_ply(scene, tmp_path / "thing.ply")
    data = plyfile.PlyData.read(str(tmp_path / "thing.ply"), mmap=False)  # pyright: ignore[reportArgumentType]
    mistake(data["vertex"].data)
    data.write(str(tmp_path / "wrong.ply"))
    assert expected.problems(posed(load_ply(tmp_path / "wrong.ply"), views))


def test_every_wrong_pose_fails_by_its_lead_alone(expected: Expected) -> None:
    """And the right one passes: poses are told apart, however bad the pictures are."""
    assert len(expected.poses) == 8
    for signs, images in expected.poses.items():
        found = expected.problems(images)
        assert bool(found) == (signs != UPRIGHT)
        assert len([line for line in found if "if turned by" in line]) >= 3 * bool(found)


def test_a_turned_scene_is_the_posed_one(expected: Expected) -> None:
    """``posed`` by its definition, where that is easy: round Gaussians of one colour."""
    views = cameras(size=64)
    g = torch.Generator().manual_seed(0)
    n = 40
    scene = Gaussians(
        means=0.3 * torch.randn(n, 3, generator=g),
        quats=torch.tensor([[1.0, 0, 0, 0]]).repeat(n, 1),
        log_scales=torch.full((n, 3), -2.5),
        opacity_logits=torch.zeros(n),
        sh0=torch.randn(n, 1, 3, generator=g),
        shN=torch.zeros(n, 0, 3),
    )
    for signs in expected.poses:
        reversed_ = Gaussians(**vars(scene) | {"means": scene.means * torch.tensor(signs)})
        torch.testing.assert_close(
            posed(reversed_, views), posed(scene, views, signs), atol=2e-5, rtol=0
        )


def test_noise_fails(expected: Expected) -> None:
    right = expected.poses[UPRIGHT]
    noise = torch.randn(right.shape, generator=torch.Generator().manual_seed(0))
    assert expected.problems(right + 10 ** (-(LEAST_DB + 1) / 20) * noise) == []
    assert len(expected.problems(right + 10 ** (-(LEAST_DB - 1) / 20) * noise)) == 3


def test_a_blank_picture_fails(expected: Expected) -> None:
    assert expected.problems(torch.zeros_like(expected.poses[UPRIGHT]))
    assert expected.problems(torch.full_like(expected.poses[UPRIGHT], float("nan")))
