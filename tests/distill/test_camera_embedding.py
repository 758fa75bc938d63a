"""What the LoRA is told about a camera."""

import math

import pytest
import torch

from esd_splat.distill.camera_embedding import (
    CAMERA_EMBEDDINGS,
    HARMONICS,
    MatrixEmbedding,
    PoseEmbedding,
)
from esd_splat.scene.cameras import Orbit

SHOWN, HIDDEN = torch.tensor([False] * 5), torch.tensor([True] * 5)


def _c2w() -> torch.Tensor:
    return Orbit().sample(5, torch.Generator().manual_seed(0)).c2w


@pytest.mark.parametrize("kind", CAMERA_EMBEDDINGS)
def test_a_hidden_camera_has_one_embedding_whatever_it_is(kind: str) -> None:
    torch.manual_seed(0)
    embedding = CAMERA_EMBEDDINGS[kind](6)
    hidden = embedding(_c2w(), HIDDEN)
    torch.testing.assert_close(hidden, hidden[:1].expand(5, -1))


def test_one_is_zero_at_first_and_the_other_is_not() -> None:
    torch.manual_seed(0)
    assert MatrixEmbedding(6)(_c2w(), SHOWN).abs().max() == 0
    shown = PoseEmbedding(6)(_c2w(), SHOWN)
    assert shown.std(0).min() > 1e-3, "it depends on the camera"
    assert (shown - PoseEmbedding(6)(_c2w(), HIDDEN)).abs().max() > 1e-2


def test_around_the_horizon_the_features_are_harmonics_of_the_azimuth() -> None:
    azimuth = torch.linspace(0, 350, 36)
    orbit = Orbit(distance=(2.0, 2.0))
    found = PoseEmbedding.features(orbit.at(azimuth, torch.zeros(36)).c2w)
    one, distance, y, y2, *around = found.unbind(1)
    torch.testing.assert_close(one, torch.ones(36))
    torch.testing.assert_close(distance, torch.full((36,), math.log(2)))
    assert max(y.abs().max(), y2.abs().max()) < 1e-6
    for k in range(1, HARMONICS + 1):
        angle = torch.deg2rad(k * azimuth)
        torch.testing.assert_close(around[2 * k - 2], angle.cos(), atol=1e-5, rtol=0)
        torch.testing.assert_close(around[2 * k - 1], angle.sin(), atol=1e-5, rtol=0)


def test_over_the_pole_the_features_do_not_jump() -> None:
    """There the azimuth has no meaning, so features of it alone would."""
    near = Orbit().at(torch.tensor([0.0, 90.0, 180.0]), torch.full((3,), 89.0)).c2w
    found = PoseEmbedding.features(near)
    torch.testing.assert_close(found, found[:1].expand(3, -1), atol=0.04, rtol=0)
