import math
from pathlib import Path

import pytest
import torch
from torch import Tensor

from esd_splat.errors import SceneError
from esd_splat.formats import save_ply
from esd_splat.init import INITIALISERS
from esd_splat.init.ball import Ball
from esd_splat.init.base import neighbour_distance
from esd_splat.init.ply import FromPly
from esd_splat.init.sphere import Sphere
from esd_splat.scene.gaussians import SH_C0, Gaussians


def _seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_a_ball_is_filled_evenly() -> None:
    """A fraction s^3 of the points is within s times the radius, and no direction is preferred."""
    means = Ball(count=20_000, radius=0.5, scale=0.1).build(_seeded()).means
    radii = means.norm(dim=1)
    assert radii.max() <= 0.5 + 1e-6
    for share in (0.3, 0.5, 0.8):
        assert (radii < share * 0.5).float().mean().item() == pytest.approx(share**3, abs=0.015)
    assert means.mean(dim=0).abs().max() < 0.01
    # In a ball with uniform density, each coordinate has variance r^2 / 5.
    torch.testing.assert_close(means.T.cov(), 0.05 * torch.eye(3), atol=0.002, rtol=0)


def test_a_sphere_is_covered_evenly() -> None:
    """By Archimedes, each coordinate is uniform in [-r, r]."""
    means = Sphere(count=20_000, radius=0.5, scale=0.1).build(_seeded()).means
    torch.testing.assert_close(means.norm(dim=1), torch.full((20_000,), 0.5))
    for coordinate in means.T:
        counts = torch.histc(coordinate, bins=10, min=-0.5, max=0.5)
        assert ((counts - 2000) ** 2 / 2000).sum() < 27.9  # chi-squared at 0.1 %


@pytest.mark.parametrize("kind", [Ball, Sphere])
def test_the_configuration_is_what_comes_out(kind: type[Ball] | type[Sphere]) -> None:
    scene = kind(count=3000, opacity=0.3, scale=0.04, color_noise=0.05, sh_degree=2).build(
        _seeded()
    )
    assert len(scene) == 3000
    assert all(value.dtype == torch.float32 for value in vars(scene).values())
    torch.testing.assert_close(scene.opacities, torch.full((3000,), 0.3))
    torch.testing.assert_close(scene.log_scales.exp(), torch.full((3000, 3), 0.04))
    assert scene.sh_degree == 2
    assert not scene.shN.any()
    rgb = 0.5 + SH_C0 * scene.sh0
    assert rgb.mean().item() == pytest.approx(0.5, abs=0.003)
    assert rgb.std().item() == pytest.approx(0.05, rel=0.05)
    torch.testing.assert_close(scene.quats.norm(dim=1), torch.ones(3000))


def test_the_same_generator_gives_the_same_scene_and_another_seed_another() -> None:
    for kind in (Ball, Sphere):
        one, two, other = (kind(count=50).build(_seeded(seed)) for seed in (1, 1, 2))
        for name, value in vars(one).items():
            assert torch.equal(value, getattr(two, name))
        assert not torch.equal(one.means, other.means)


def test_looks_do_not_move_the_points() -> None:
    plain = Ball(count=50).build(_seeded())
    fancy = Ball(count=50, opacity=0.5, color_noise=0.0, sh_degree=3).build(_seeded())
    assert torch.equal(plain.means, fancy.means)


def test_sizes_follow_the_neighbours_unless_given() -> None:
    scene = Ball(count=200).build(_seeded())
    torch.testing.assert_close(scene.log_scales.exp()[:, 0], neighbour_distance(scene.means))
    assert (scene.log_scales == scene.log_scales[:, :1]).all()


def test_neighbour_distance_by_hand() -> None:
    """Points at 0, 1, 3 and 7 on a line: the mean over three others, or one if there are two."""
    points = torch.tensor([[0.0, 0, 0], [1, 0, 0], [3, 0, 0], [7, 0, 0]])
    expected = torch.tensor([11 / 3, 9 / 3, 9 / 3, 17 / 3])
    torch.testing.assert_close(neighbour_distance(points), expected)
    torch.testing.assert_close(neighbour_distance(points[:2]), torch.tensor([1.0, 1.0]))


def test_neighbour_distance_does_not_depend_on_the_chunk() -> None:
    points = torch.randn(100, 3, generator=_seeded())
    whole = neighbour_distance(points)
    by_hand = (points[:, None] - points).norm(dim=-1).sort(dim=1).values[:, 1:4].mean(dim=1)
    torch.testing.assert_close(whole, by_hand)
    for chunk in (1, 7, 99):
        torch.testing.assert_close(neighbour_distance(points, chunk), whole)


@pytest.mark.parametrize("kind", [Ball, Sphere])
@pytest.mark.parametrize("count", [1, 2, 3])
def test_very_few_gaussians_still_have_a_size(kind: type[Ball] | type[Sphere], count: int) -> None:
    scene = kind(count=count).build(_seeded())
    assert scene.log_scales.isfinite().all()


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ({"count": 0}, "count: must be in [1, 1000000], got 0"),
        ({"radius": 0.0}, "radius: must be in (0, 1], got 0"),
        ({"radius": 1.5}, "radius: must be in (0, 1], got 1.5"),
        ({"opacity": 0.001}, "opacity: must be in (0.004, 1), got 0.001"),
        ({"opacity": 1.0}, "opacity: must be in (0.004, 1), got 1"),
        ({"scale": 0.0}, "scale: must be in (0, 1], got 0"),
        ({"color_noise": math.nan}, "color_noise: must be in [0, 1], got nan"),
        ({"sh_degree": 4}, "sh_degree: must be in [0, 3], got 4"),
    ],
)
@pytest.mark.parametrize("kind", [Ball, Sphere])
def test_ranges_are_checked(
    kind: type[Ball] | type[Sphere], bad: dict[str, float], message: str
) -> None:
    with pytest.raises(ValueError) as error:  # noqa: PT011
        kind(**bad)  # pyright: ignore[reportArgumentType]
    assert str(error.value) == message


def _written(path: Path, means: Tensor) -> Gaussians:
    scene = Ball(count=len(means), sh_degree=1).build(_seeded())
    scene = Gaussians(**{**vars(scene), "means": means})
    save_ply(scene, path)
    return scene


def test_a_ply_starts_from_exactly_its_scene(tmp_path: Path) -> None:
    written = _written(tmp_path / "a.ply", 0.5 * torch.randn(20, 3, generator=_seeded()).tanh())
    built = FromPly(path=str(tmp_path / "a.ply")).build(_seeded())
    for name, value in vars(written).items():
        assert torch.equal(getattr(built, name), value)


def test_a_scene_outside_the_ball_is_refused_with_the_way_out(tmp_path: Path) -> None:
    path = str(tmp_path / "a.ply")
    _written(tmp_path / "a.ply", torch.tensor([[5.0, 0, 0], [0, 6, 0], [0, 0, 0.5]]))
    with pytest.raises(SceneError, match=r"2 of 3 Gaussians lie outside.*set init\.fit=true"):
        FromPly(path=path).build(_seeded())


def test_fitting_keeps_the_shape_of_a_scene(tmp_path: Path) -> None:
    """Distances and sizes shrink by the same factor, and the farthest Gaussian is at radius."""
    written = _written(tmp_path / "a.ply", 10 + 4 * torch.randn(20, 3, generator=_seeded()))
    built = FromPly(path=str(tmp_path / "a.ply"), fit=True, radius=0.7).build(_seeded())
    assert built.means.norm(dim=1).max().item() == pytest.approx(0.7, abs=1e-6)
    before, after = torch.pdist(written.means), torch.pdist(built.means)
    factor = (after / before).mean()
    torch.testing.assert_close(after, factor * before, rtol=1e-4, atol=0)
    torch.testing.assert_close(built.log_scales - written.log_scales, factor.log().expand(20, 3))
    assert torch.equal(built.quats, written.quats)


def test_a_single_gaussian_can_be_fitted(tmp_path: Path) -> None:
    _written(tmp_path / "a.ply", torch.tensor([[9.0, 9, 9]]))
    built = FromPly(path=str(tmp_path / "a.ply"), fit=True).build(_seeded())
    assert torch.equal(built.means, torch.zeros(1, 3))


def test_a_ply_needs_a_path_and_a_file(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"^path: is required"):
        FromPly()
    with pytest.raises(SceneError, match=r"none\.ply: cannot be read"):
        FromPly(path=str(tmp_path / "none.ply")).build(_seeded())


def test_the_table_names_them_all() -> None:
    assert {"ball", "sphere", "ply"} <= set(INITIALISERS)
