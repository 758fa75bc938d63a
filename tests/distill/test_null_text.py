"""Which text the camera-free half of the LoRA gets, on a denoiser whose scores are known exactly.

Images that fit a text and a camera are Gaussian around a mean that depends on both, so the optimal
noise prediction is ``sigma (noisy - alpha mean) / (alpha^2 + sigma^2)``.
"""

from pathlib import Path

import pytest
import torch
from torch import Tensor

from esd_splat.config import load_config
from esd_splat.distill.distillation import Distillation
from esd_splat.distill.losses import Esd
from esd_splat.distill.predictions import Noised
from esd_splat.distill.step_config import StepConfig
from esd_splat.scene.cameras import Cameras, Orbit
from esd_splat.teacher.noise import alpha_sigma
from tests.tiny import IMAGE_SIZE

PROMPT, COUNT = "a red owl", 3


class _Denoiser:
    """Stands in for ``AttachedLora.eps``: rows of the teacher first, then those of the LoRA."""

    def __init__(self, run: Distillation) -> None:
        self.schedule = run.teacher.alphas_cumprod

    def eps(self, noisy: Tensor, t: Tensor, mean: Tensor) -> Tensor:
        alpha, sigma = alpha_sigma(self.schedule, t)
        return sigma * (noisy - alpha * mean) / (alpha**2 + sigma**2)

    def of_text(self, texts: Tensor) -> Tensor:
        return texts[:, :, 0].mean(1)[:, None, None, None]

    def of_camera(self, c2w: Tensor, hidden: Tensor) -> Tensor:
        return (c2w[:, 0, 3] * ~hidden)[:, None, None, None]

    def __call__(
        self, noisy: Tensor, t: Tensor, texts: Tensor, c2w: Tensor, hidden: Tensor
    ) -> Tensor:
        shift = torch.zeros(len(noisy), 1, 1, 1)
        shift[len(noisy) - len(c2w) :] = self.of_camera(c2w, hidden)
        return self.eps(noisy, t, self.of_text(texts) + shift)


def _pull(
    model: Path, text: str, scale: float
) -> tuple[Tensor, _Denoiser, Noised, Tensor, Cameras]:
    keys = [f"prompt={PROMPT}", f"teacher.model={model}", f"cameras.size={IMAGE_SIZE}"]
    keys += [f"loss.guidance_scale_lora={scale}", f"loss.null_text={text}", "lora.rank=1"]
    config = load_config(None, keys)
    teacher = config.teacher.load(torch.device("cpu"), torch.float32)
    run = Distillation(StepConfig.of(config), teacher, "reference")
    denoiser = _Denoiser(run)
    assert run.lora is not None
    run.lora.eps = denoiser  # pyright: ignore[reportAttributeAccessIssue]
    generator = torch.Generator().manual_seed(0)
    cameras, t = Orbit().sample(COUNT, generator), torch.tensor([100, 500, 900])
    noise = torch.randn(COUNT, *teacher.latent_shape, generator=generator)
    noised = Noised(2 * noise, noise)
    found = run.predictor.predict(noised, t, cameras, config.loss.needs)
    assert isinstance(config.loss, Esd)
    told = {words: denoiser.of_text(teacher.embed([words] * COUNT)) for words in (PROMPT, "")}
    assert (told[PROMPT] - told[""]).abs().min() > 1e-4, "or the texts cannot be told apart"
    return config.loss.direction(**found), denoiser, noised, torch.stack([*told.values()]), cameras


@pytest.mark.parametrize("scale", [0.0, 0.5, 0.8])
def test_the_empty_text_is_threestudios_formula_until_july_2023(model: Path, scale: float) -> None:
    """``noise_pred_pretrain - (uncond + guidance_scale_lora (camera - uncond))``, with the texts
    (prompt, empty) and the class labels (camera, zeros). Pull request 261 made both the prompt."""
    pull, denoiser, (noisy, *_), (prompt, empty), cameras = _pull(model, "empty", scale)
    t, shown = torch.tensor([100, 500, 900]), torch.zeros(COUNT, dtype=torch.bool)
    pretrain = denoiser.eps(noisy, t, prompt)
    camera = denoiser.eps(noisy, t, prompt + denoiser.of_camera(cameras.c2w, shown))
    uncond = denoiser.eps(noisy, t, empty)
    torch.testing.assert_close(pull, pretrain - (uncond + scale * (camera - uncond)))


@pytest.mark.parametrize("scale", [0.0, 0.5, 0.8])
def test_the_prompt_is_the_formula_of_the_paper(model: Path, scale: float) -> None:
    """The pull does not depend on the text: all that is left is the mean that the camera adds."""
    pull, denoiser, _, _, cameras = _pull(model, "prompt", scale)
    t = torch.tensor([100, 500, 900])
    alpha, sigma = alpha_sigma(denoiser.schedule, t)
    added = denoiser.of_camera(cameras.c2w, torch.zeros(COUNT, dtype=torch.bool))
    expected = scale * sigma * alpha * added / (alpha**2 + sigma**2)
    torch.testing.assert_close(pull, expected.expand_as(pull), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("weight", [0.5, 1.0])
def test_the_empty_text_adds_as_much_guidance_as_the_entropy_weighs(
    model: Path, weight: float
) -> None:
    """Half a unit at the authors' weight: ``weight (eps(prompt) - eps(empty))`` more."""
    (pull, denoiser, (noisy, *_), (prompt, empty), _), (plain, *_) = (
        _pull(model, text, 1 - weight) for text in ("empty", "prompt")
    )
    t = torch.tensor([100, 500, 900])
    guidance = denoiser.eps(noisy, t, prompt) - denoiser.eps(noisy, t, empty)
    torch.testing.assert_close(pull - plain, weight * guidance, atol=1e-5, rtol=1e-3)
