"""Entropies worked out by hand, and a posterior that does not care how a scene faces."""

import math

import pytest
import torch

from esd_splat.run.measure.posterior import TEMPERATURE, calibrate, pose_measures, pose_posterior


def test_views_that_are_all_alike_share_no_information_with_the_camera() -> None:
    p = torch.tensor([0.7, 0.2, 0.1, 0.0]).expand(4, 4)
    h = -sum(q * math.log(q) for q in (0.7, 0.2, 0.1))
    assert pose_measures(p) == pytest.approx({"IQ": h, "IV": h, "IG": 0.0, "MI": 0.0}, abs=1e-7)


def test_views_that_are_each_one_pose_reach_the_bound_and_have_no_gain() -> None:
    found = pose_measures(torch.eye(16))
    assert found == {"IQ": 0.0, "IV": pytest.approx(math.log(16)), "IG": None, "MI": found["IV"]}


def test_the_gain_is_left_out_where_there_is_next_to_no_entropy_to_gain_on() -> None:
    nearly = 0.9999 * torch.eye(8) + 0.0001 / 8
    found = pose_measures(nearly)
    assert 0 < (found["IQ"] or 0) < 0.01
    assert found["IG"] is None


def test_a_posterior_of_two_halves() -> None:
    """Each view is one of two poses, the pairs are apart: log 2 a view, log 4 together."""
    p = torch.tensor([[0.5, 0.5, 0, 0], [0.5, 0.5, 0, 0], [0, 0, 0.5, 0.5], [0, 0, 0.5, 0.5]])
    log2 = math.log(2)
    assert pose_measures(p) == pytest.approx(
        {"IQ": log2, "IV": 2 * log2, "IG": 1.0, "MI": log2}, abs=1e-7
    )


def test_a_collapsed_pose_has_no_entropy_at_all() -> None:
    p = torch.zeros(8, 8)
    p[:, 3] = 1
    assert pose_measures(p) == {"IQ": 0.0, "IV": 0.0, "IG": None, "MI": 0.0}


def test_rows_of_the_posterior_sum_to_one_at_any_rotation() -> None:
    distances = torch.rand(16, 64, generator=torch.Generator().manual_seed(0)) * 1e-3
    for rotation in (0.0, 1.3, 11.25, -200.0):
        p = pose_posterior(distances, rotation)
        torch.testing.assert_close(p.sum(1), torch.ones(16, dtype=torch.float64))


@pytest.mark.parametrize("rotation", [0.0, 5.625, 11.25, 90.0])
def test_the_nearest_template_is_in_the_bin_of_its_view(rotation: float) -> None:
    view, template = torch.arange(16.0) * 22.5, torch.arange(64.0) * 5.625
    apart = (template - (view[:, None] - rotation) + 180) % 360 - 180
    p = pose_posterior(apart.square() * 1e-5, rotation)
    assert p.argmax(1).tolist() == list(range(16))
    torch.testing.assert_close(
        p,
        pose_posterior(
            (template - view[:, None] + 180).remainder(360).sub(180).square() * 1e-5, 0.0
        ),
        atol=1e-4,
        rtol=0,
    )


@pytest.mark.slow
def test_the_temperature_is_the_one_that_calibration_finds() -> None:
    assert calibrate() == TEMPERATURE
