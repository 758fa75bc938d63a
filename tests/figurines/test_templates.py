"""Templates agree with the tracer."""

import math

import pytest
import torch

from esd_splat.figurines import COLOURS, KINDS, parts, trace
from esd_splat.figurines.templates import Templates, make_templates
from esd_splat.scene.cameras import Orbit, orbit_cameras

SIZE = 16
CAMERAS = orbit_cameras(
    torch.tensor([0.0, 77.0, 200.0]),
    torch.tensor([0.0, 15.0, 30.0]),
    torch.full((3,), 3.2),
    torch.full((3,), 40.0),
    SIZE,
)
BACKGROUNDS = torch.tensor([[0.0, 0.0, 0.0], [0.9, 0.2, 0.5], [0.3, 1.0, 0.1]])


@pytest.fixture(scope="module")
def bank() -> Templates:
    return make_templates(KINDS, CAMERAS.viewmats, CAMERAS.Ks, SIZE)


@pytest.mark.parametrize("kind", KINDS)
def test_every_colour_over_every_background_is_what_the_tracer_draws(
    bank: Templates, kind: str
) -> None:
    for colour in COLOURS:
        traced = trace(kind, colour, CAMERAS.viewmats, CAMERAS.Ks, SIZE, BACKGROUNDS)
        torch.testing.assert_close(bank.over(kind, colour, BACKGROUNDS), traced, atol=2e-6, rtol=0)


def test_distances_are_mean_squared_differences_over_each_images_background(
    bank: Templates,
) -> None:
    images = torch.rand(3, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(0))
    distances = bank.distances(images, BACKGROUNDS)
    assert distances.shape == (3, len(KINDS), len(COLOURS), 3)
    for b, k, n in [(0, 0, 0), (1, 3, 5), (2, 7, 7), (1, 6, 2)]:
        over = bank.over(KINDS[k], list(COLOURS)[n], BACKGROUNDS[b].expand(3, 3))
        plain = (over - images[b]).square().mean((1, 2, 3))
        torch.testing.assert_close(distances[b, k, n], plain, atol=1e-6, rtol=1e-5)


def test_a_picture_is_no_distance_from_its_own_template(bank: Templates) -> None:
    traced = trace("robot", "pink", CAMERAS.viewmats, CAMERAS.Ks, SIZE, BACKGROUNDS)
    own = bank.distances(traced, BACKGROUNDS)[:, KINDS.index("robot"), list(COLOURS).index("pink")]
    assert own.diagonal().max() < 1e-6  # rounding of sums of about 800 terms of order 1
    assert bank.distances(traced, BACKGROUNDS).amin((1, 2)).argmin(1).tolist() == [0, 1, 2]


def test_alpha_is_the_covered_share(bank: Templates) -> None:
    assert bank.alpha.min() > -1e-6
    assert bank.alpha.max() < 1 + 1e-6
    one = [SIZE // 2] * 2
    assert bank.alpha[..., one[0], one[1]].min() > 0.999, "the origin is inside every figurine"
    assert bank.alpha[..., 0, :].max() < 1e-6, "the unit ball leaves a margin"


def test_a_kind_that_is_not_there_is_named() -> None:
    with pytest.raises(KeyError, match="dragon"):
        make_templates(("dragon",), CAMERAS.viewmats, CAMERAS.Ks, SIZE)


def test_every_camera_has_the_whole_figurine_in_frame() -> None:
    orbit = Orbit()
    in_frame = orbit.distance[0] * math.sin(math.radians(orbit.fov[0] / 2))
    generator = torch.Generator().manual_seed(0)
    u = torch.nn.functional.normalize(torch.randn(20_000, 3, generator=generator), dim=1)
    for kind in KINDS:
        for part, _ in parts(kind, "red"):
            surface = torch.tensor(part.centre) + u * torch.tensor(part.radii)
            assert surface.norm(dim=1).max() < in_frame, (kind, part)
