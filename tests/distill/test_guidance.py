"""Laws of how predictions are combined, on made-up predictions."""

from pathlib import Path

import pytest
import torch
from diffusers.pipelines.stable_diffusion.pipeline_stable_diffusion import rescale_noise_cfg

from esd_splat.distill.guidance import Guidance, guide, perp_neg, perpendicular, rescale
from esd_splat.teacher import StableDiffusion
from tests.tiny import save_tiny


def _latents(seed: int, *shape: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*(shape or (3, 4, 2, 2)), generator=generator, dtype=torch.float64)


def test_what_is_left_is_at_a_right_angle_in_each_sample() -> None:
    """The removed part lies along ``to``, and both parts add up to ``x``."""
    x, to = _latents(0), _latents(1)
    left = perpendicular(x, to)
    torch.testing.assert_close(
        (left * to).flatten(1).sum(1), torch.zeros(3).double(), atol=1e-12, rtol=0
    )
    ratio = (x - left) / to
    torch.testing.assert_close(ratio, ratio[:, :1, :1, :1].expand_as(ratio))
    torch.testing.assert_close(perpendicular(x[1:2], to[1:2]), left[1:2])
    torch.testing.assert_close(perpendicular(x, torch.zeros_like(x)), x)


def test_a_number_by_hand() -> None:
    """u = 0, d = (2, 0), d_1 = (3, 4): the 3 is shared, so 10 ((2, 0) - 0.5 (0, 4))."""
    c, negative = (torch.tensor([v]).view(1, 2, 1, 1) for v in ([2.0, 0.0], [3.0, 4.0]))
    weights = torch.tensor([[-0.5]])
    found = perp_neg(c, torch.zeros_like(c), negative[None], weights, 10.0)
    assert found.flatten().tolist() == [20.0, -20.0]


def test_a_negative_along_the_prompt_changes_nothing() -> None:
    c, u, weights = _latents(0), _latents(1), torch.full((3, 2), -1.5).double()
    negatives = torch.stack([u + 0.7 * (c - u), u - 2 * (c - u)])
    torch.testing.assert_close(perp_neg(c, u, negatives, weights, 7.5), guide(c, u, 7.5))


def test_without_weights_it_is_plain_guidance_to_the_bit() -> None:
    c, u, negatives = _latents(0), _latents(1), _latents(2, 2, 3, 4, 2, 2)
    assert torch.equal(perp_neg(c, u, negatives, torch.zeros(3, 2).double(), 7.5), guide(c, u, 7.5))


def test_each_negative_has_its_own_weight_in_each_sample() -> None:
    c, u, negatives = _latents(0), _latents(1), _latents(2, 2, 3, 4, 2, 2)
    weights = torch.tensor([[-1.0, 0.0], [0.0, -2.0], [-0.5, -0.25]]).double()
    moved = perp_neg(c, u, negatives, weights, 3.0) - guide(c, u, 3.0)
    first, second = (perpendicular(n - u, c - u) for n in negatives)
    expected = [-3 * first[0], -6 * second[1], -1.5 * first[2] - 0.75 * second[2]]
    torch.testing.assert_close(moved, torch.stack(expected))


def test_rescaled_guidance_has_the_contrast_of_the_prompts_prediction() -> None:
    c, u = _latents(0), _latents(1)
    guided = guide(c, u, 7.5)
    torch.testing.assert_close(rescale(guided, c, 0.0), guided)
    whole, half = rescale(guided, c, 1.0), rescale(guided, c, 0.5)
    torch.testing.assert_close(whole.flatten(1).std(1), c.flatten(1).std(1))
    torch.testing.assert_close(half, (guided + whole) / 2)
    ratio = whole / guided
    torch.testing.assert_close(ratio, ratio[:, :1, :1, :1].expand_as(ratio))
    assert (guided.flatten(1).std(1) > 2 * c.flatten(1).std(1)).all()


@pytest.mark.parametrize("predicts", ["epsilon", "v_prediction", "flow"])
def test_contrast_is_that_of_what_the_network_predicts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, predicts: str
) -> None:
    """As diffusers has it, whose pipelines rescale before anything is made of the prediction."""
    model = save_tiny(tmp_path / "tiny", "epsilon" if predicts == "flow" else predicts)
    config = StableDiffusion(model=str(model), guidance_scale=7.5, guidance_rescale=0.7)
    teacher = config.load(torch.device("cpu"), torch.float32)
    monkeypatch.setattr(teacher, "predicts", predicts)
    noisy, t = _latents(2, 3, 4, 4, 4).float(), torch.tensor([100, 500, 900])
    told, untold = teacher.embed(["a red owl"] * 3), teacher.embed([""] * 3)
    with torch.no_grad():
        c, u = (teacher.output(noisy, t, words) for words in (told, untold))
        rescaled = rescale_noise_cfg(guide(c, u, 7.5), c, guidance_rescale=0.7)
        answers = {"teacher_cond": teacher.eps(noisy, t, told)}
        answers["teacher_negative"] = teacher.eps(noisy, t, untold)
        monkeypatch.setattr(teacher, "output", lambda noisy, t, words: rescaled)
        expected = teacher.eps(noisy, t, told)
    guidance = Guidance(config, teacher, "a red owl", "")
    found = guidance.combine({"teacher"}, answers, noisy, t, torch.zeros(3), torch.zeros(3))
    torch.testing.assert_close(found["teacher"], expected, atol=1e-5, rtol=1e-4)
