import math

import pytest
import torch

from esd_splat.formats.precision import UNITS, errors
from esd_splat.scene.gaussians import SH_C0, Gaussians
from tests.formats.scenes import radians_apart, scene


def test_the_same_scene_is_not_off() -> None:
    apart = errors(scene(), scene())
    assert list(apart) == list(UNITS)
    assert all(float(value.max()) == 0 for value in apart.values())


def test_errors_by_hand() -> None:
    before = scene(10, 3)
    spin = torch.tensor([math.cos(math.radians(0.5)), math.sin(math.radians(0.5)), 0, 0])
    quats = before.quats.clone()
    w, x, y, z = quats[4].tolist()
    a, b = spin[:2].tolist()
    # Rotated by one degree about x, rescaled and negated: (a + ib) (w + ix + ...).
    quats[4] = -3 * torch.tensor([a * w - b * x, a * x + b * w, a * y - b * z, a * z + b * y])
    changed = {
        "means": before.means + torch.tensor([0.03, 0.0, -0.04]),
        "quats": quats,
        "log_scales": before.log_scales - math.log(1.25),
        "opacity_logits": (before.opacities / 2).logit(),
        "sh0": before.sh0 + 0.1,
        "shN": before.shN - 0.2,
    }
    apart = errors(before, Gaussians(**changed))
    assert apart["positions"].tolist() == pytest.approx([0.05] * 10, rel=1e-5)
    assert apart["colours"].flatten().tolist() == pytest.approx([0.1 * SH_C0] * 30, rel=1e-4)
    assert apart["SH coefficients"].flatten().tolist() == pytest.approx([0.2] * 90, rel=1e-4)
    torch.testing.assert_close(apart["opacities"], before.opacities / 2)
    assert apart["scales"].flatten().tolist() == pytest.approx([0.25] * 30, rel=1e-4)
    assert apart["rotations"][4] == pytest.approx(1.0, rel=1e-5)
    assert apart["rotations"].count_nonzero() == 1


def test_rotations_are_apart_by_the_angle_between_them() -> None:
    a, b = scene(500, seed=0), scene(500, seed=1)
    degrees = errors(a, b)["rotations"]
    torch.testing.assert_close(degrees, torch.rad2deg(radians_apart(a.quats, b.quats)))
    assert degrees.max() > 170


def test_coefficients_are_compared_as_far_as_both_have_them() -> None:
    before, after = scene(10, 15), scene(10, 3)
    assert errors(before, after)["SH coefficients"].shape == (10, 3, 3)
    assert "SH coefficients" not in errors(before, scene(10, 0))
