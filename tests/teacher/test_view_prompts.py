import pytest
import torch

from esd_splat.config import load_config
from esd_splat.errors import ConfigError
from esd_splat.scene.cameras import Orbit
from esd_splat.teacher.view_prompts import VIEWS, PerpNeg, ViewPrompts

PERP_NEG = ViewPrompts(enabled=True, overhead=50, perp_neg=PerpNeg(enabled=True))


def test_thresholds_and_precedence() -> None:
    """Overhead wins over back, back over front, and side is the rest; azimuth wraps."""
    views = ViewPrompts(enabled=True, front=45, back=60, overhead=50)
    azimuth = torch.tensor([0.0, 44, 46, 119, 121, 180, -121, -46, 350, 0])
    elevation = torch.tensor([0.0, 0, 0, 0, 0, 49, 0, 0, 0, 51])
    names = [VIEWS[i] for i in views.indices(azimuth, elevation)]
    assert names == ["front", "front", *["side"] * 2, *["back"] * 3, "side", "front", "overhead"]


def test_texts() -> None:
    assert ViewPrompts().texts("a red owl") == ["a red owl"] * 4
    views = ViewPrompts(enabled=True, overhead=60)
    assert views.texts("a red owl")[2] == "a red owl, back view"
    assert views.texts("a red owl", highest=61)[3] == "a red owl, overhead view"
    assert views.texts("a red owl", highest=60)[3] == "a red owl, side view"


@pytest.mark.parametrize("elevation", [30.0, 45.0, 60.0])
def test_cameras_at_the_threshold_are_not_overhead_whatever_float32_makes_of_them(
    elevation: float,
) -> None:
    """No camera is higher, so ``texts`` has the side's text in place of the overhead one."""
    orbit = Orbit(elevation=(elevation, elevation))
    cameras = orbit.turntable(100, elevation)
    assert (cameras.elevation_deg > elevation).any(), "without rounding there is nothing to show"
    views = ViewPrompts(
        enabled=True, overhead=elevation, interpolate=True, perp_neg=PerpNeg(enabled=True)
    )
    seen = cameras.azimuth_deg, cameras.elevation_deg
    assert VIEWS.index("overhead") not in views.indices(*seen)
    assert not views.mixture(*seen)[:, VIEWS.index("overhead")].any()
    assert (views.avoided(*seen).sum(dim=1) < 0).all()


def test_wrong_thresholds_are_reported_together() -> None:
    with pytest.raises(ValueError, match=r"(?s)front: must be in \[0, 180\].*overhead: .*got 91"):
        ViewPrompts(front=-1, overhead=91)


@pytest.mark.parametrize(
    ("azimuth", "mixture", "weights"),
    [  # by hand: 4 - 2.426 = 1.574, 4 exp(-1/4) - 2.426 = 0.6892, exp(-1/4) = 0.7788
        (0.0, [1, 0, 0], [0, -1.574]),
        (45.0, [0.5, 0.5, 0], [-0.6892, -0.6892]),
        (90.0, [0, 1, 0], [-1.574, 0]),
        (135.0, [0, 0.5, 0.5], [-(0.7788 + 0.967), -(0.7788 - 0.606)]),
        (180.0, [0, 0, 1], [-1.967, -0.394]),
    ],
)
def test_perp_neg_by_hand_on_both_sides_of_the_object(
    azimuth: float, mixture: list[float], weights: list[float]
) -> None:
    """With threestudio's coefficients, weights that should be 0 are at most one thousandth."""
    angles = torch.tensor([azimuth, -azimuth, azimuth - 360]), torch.zeros(3)
    expected = torch.tensor([*mixture, 0.0]).expand(3, -1)
    torch.testing.assert_close(PERP_NEG.mixture(*angles), expected, atol=1e-6, rtol=0.0)
    expected = torch.tensor(weights, dtype=torch.float32).expand(3, -1)
    torch.testing.assert_close(PERP_NEG.avoided(*angles), expected, atol=1e-3, rtol=0.0)


def test_the_text_slides_without_a_jump_and_the_weights_pull_only_away() -> None:
    """A tenth of a degree changes a share by 1/900, and a weight by less than a hundredth."""
    azimuth = torch.linspace(-200, 200, 4001)
    mixture, weights = (f(azimuth, torch.zeros(4001)) for f in (PERP_NEG.mixture, PERP_NEG.avoided))
    torch.testing.assert_close(mixture.sum(1), torch.ones(4001))
    assert mixture.min() >= 0
    assert mixture.diff(dim=0).abs().max() < 1 / 900 + 1e-5
    assert weights.diff(dim=0).abs().max() < 0.01
    assert weights.max() <= 0


def test_overhead_and_disabled_have_whole_words_and_no_negatives() -> None:
    azimuth, elevation = torch.tensor([30.0, 120.0, 170.0]), torch.tensor([51.0, 0.0, 0.0])
    assert PERP_NEG.mixture(azimuth, elevation)[0].tolist() == [0, 0, 0, 1]
    assert PERP_NEG.avoided(azimuth, elevation)[0].tolist() == [0, 0]
    plain = ViewPrompts(enabled=True, overhead=50)
    shares = plain.mixture(azimuth, elevation)
    assert shares.argmax(1).tolist() == plain.indices(azimuth, elevation).tolist()
    assert sorted(shares.flatten().tolist()) == [0] * 9 + [1] * 3
    assert not plain.avoided(azimuth, elevation).any()


def test_interpolated_words_are_perp_negs_without_its_negatives() -> None:
    azimuth, elevation = torch.tensor([30.0, 120.0, -170.0, 5.0]), torch.tensor([0.0, 0, 0, 70])
    slides = ViewPrompts(enabled=True, interpolate=True)
    shares = slides.mixture(azimuth, elevation)
    expected = [[2 / 3, 1 / 3, 0, 0], [0, 2 / 3, 1 / 3, 0], [0, 1 / 9, 8 / 9, 0], [0, 0, 0, 1]]
    torch.testing.assert_close(shares, torch.tensor(expected))
    assert not slides.avoided(azimuth, elevation).any()
    with pytest.raises(ValueError, match="enabled: must be true for interpolate"):
        ViewPrompts(interpolate=True)


def test_perp_neg_needs_the_view_words_and_weights_that_lead_away() -> None:
    key = "teacher.views.perp_neg"
    with pytest.raises(ConfigError) as caught:
        load_config(None, ["prompt=a", f"{key}.enabled=true"])
    assert [f"{p.key}: {p.message}" for p in caught.value.problems] == [
        "teacher.views.enabled: must be true for perp_neg, which changes the view words"
    ]
    with pytest.raises(ConfigError) as caught:
        load_config(None, ["prompt=a", f"{key}.f_sb=[1, 0.5, -0.7]"])
    assert [f"{p.key}: {p.message}" for p in caught.value.problems] == [
        f"{key}.f_sb: must give a exp(-b r) + c of at least 0 for r in [0, 1], "
        "got [1.0, 0.5, -0.7], which gives -0.0935"
    ]
