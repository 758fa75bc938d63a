import torch

from esd_splat.formats.reduce import importance, most_important, visible, within
from esd_splat.scene.gaussians import Gaussians
from tests.formats.scenes import scene


def _shell(hidden: int = 20) -> Gaussians:
    """An opaque sphere whose first ``hidden`` rows are Gaussians inside it."""
    n = 400
    normal = torch.nn.functional.normalize(
        torch.randn(n, 3, generator=torch.Generator().manual_seed(0)), dim=1
    )
    means = 0.7 * normal
    means[:hidden] *= 0.05
    ones = torch.ones(n)
    return Gaussians(
        means=means,
        quats=torch.tensor([1.0, 0, 0, 0]).repeat(n, 1),
        log_scales=torch.full((n, 3), -2.0),
        opacity_logits=6 * ones,
        sh0=torch.zeros(n, 1, 3),
        shN=torch.zeros(n, 0, 3),
    )


def test_a_ball_around_the_origin() -> None:
    original = scene(200, 0)
    kept = within(original, 0.5)
    assert torch.equal(kept, original.means.square().sum(dim=1) <= 0.25)
    assert 0 < kept.sum() < 200


def test_what_is_as_opaque_as_asked_for_stays() -> None:
    original = scene(3, 0)
    original.opacity_logits[:] = torch.tensor([0.0, -0.1, 0.1])
    assert visible(original, 0.5).tolist() == [True, False, True]


def test_what_nobody_sees_goes_first() -> None:
    kept = most_important(_shell(hidden=20), 380)
    assert not kept[:20].any()
    assert kept[20:].all()


def test_importance_is_not_of_place_or_unit() -> None:
    shell = _shell()
    moved = Gaussians(
        **vars(shell)
        | {
            "means": 7 * shell.means + torch.tensor([100.0, -50.0, 3.0]),
            "log_scales": shell.log_scales + torch.tensor(7.0).log(),
        }
    )
    torch.testing.assert_close(importance(moved), importance(shell), rtol=0.01, atol=0.5)


def test_importance_is_light_on_pixels() -> None:
    """Where nothing is hidden, twice the opacity is twice the importance. A clear one has 0."""
    far = scene(3, 0)
    far.means[:] = torch.tensor([[0.0, 0.9, 0], [0, -0.9, 0], [0.0, 0, 0]])
    far.log_scales[:] = -4.0
    far.opacity_logits[:] = torch.tensor([0.2, 0.4, 1e-9]).logit()
    light = importance(far)
    assert light[2] == 0
    assert 1.9 < light[1] / light[0] < 2.1
    assert light[0] > 1


def test_of_equal_ones_the_first_stay() -> None:
    clear = scene(5, 0)
    clear.opacity_logits[:] = -30.0
    assert most_important(clear, 2).tolist() == [True, True, False, False, False]
