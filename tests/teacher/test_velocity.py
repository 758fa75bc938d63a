"""Networks that predict the velocity, up to the end of schedules that end without a signal."""

import json
from pathlib import Path
from typing import Any

import diffusers
import pytest
import torch
from torch import Tensor

from esd_splat.distill.lora import Lora
from esd_splat.distill.losses import LOSSES, Esd, ScoreDistillation
from esd_splat.distill.losses.nfsd import Nfsd
from esd_splat.teacher import StableDiffusion
from esd_splat.teacher.latent import LatentTeacher
from esd_splat.teacher.noise import TimestepRange, add_noise, alpha_sigma, eps_from_v
from tests.tiny import save_tiny

CPU, LAST = torch.device("cpu"), torch.tensor([999, 999])
LEAST = 2.0**-12
"""The signal scale at the last timestep of a schedule that would end with 0."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that predicts v, with a schedule that ends without a signal."""
    folder = save_tiny(tmp_path_factory.mktemp("zero") / "model", "v_prediction")
    file = folder / "scheduler" / "scheduler_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"rescale_betas_zero_snr": True}))
    return folder


@pytest.fixture(scope="module")
def teacher(folder: Path) -> LatentTeacher:
    teacher = StableDiffusion(model=str(folder)).load(CPU, torch.float32)
    assert isinstance(teacher, LatentTeacher)
    return teacher


def _draw(*seeds: int) -> list[Tensor]:
    return [
        torch.randn(2, 4, 4, 4, generator=torch.Generator().manual_seed(seed)) for seed in seeds
    ]


@pytest.mark.parametrize("t", [0, 250, 500, 998])
def test_clean_noise_and_velocity_are_one_prediction_in_three_forms(
    teacher: LatentTeacher, folder: Path, t: int
) -> None:
    """What diffusers' scheduler makes of v is what we make of it: clean = a noisy - s v."""
    (noisy, v), times = _draw(0, 1), torch.tensor([t, t])
    scheduler: Any = diffusers.DDIMScheduler.from_pretrained(folder, subfolder="scheduler")
    scheduler.set_timesteps(1000)
    known = scheduler.step(v, t, noisy, eta=0.0).pred_original_sample
    a, s = alpha_sigma(teacher.alphas_cumprod, times)
    eps = eps_from_v(v, noisy, teacher.alphas_cumprod, times)
    clean = teacher.predict_clean(noisy, eps, times)
    close: Any = {"atol": 2e-6 / a.min().item(), "rtol": 1e-5}  # float32, divided by a
    torch.testing.assert_close(clean, a * noisy - s * v, **close)
    torch.testing.assert_close(clean, known, **close)
    torch.testing.assert_close(a * clean + s * eps, noisy)
    torch.testing.assert_close(a * eps - s * clean, v, **close)
    torch.testing.assert_close(teacher.target(clean, eps, times), v, **close)


def test_only_the_last_timestep_is_not_diffusers(teacher: LatentTeacher, folder: Path) -> None:
    scheduler: Any = diffusers.DDIMScheduler.from_pretrained(folder, subfolder="scheduler")
    assert scheduler.alphas_cumprod[-1] < LEAST**2
    assert torch.equal(teacher.alphas_cumprod[:-1], scheduler.alphas_cumprod[:-1])
    assert teacher.alphas_cumprod[-1] == LEAST**2


@torch.no_grad()
def test_at_the_last_timestep_the_noise_is_what_is_seen_and_the_rest_is_minus_v(
    teacher: LatentTeacher,
) -> None:
    clean, noise = _draw(0, 1)
    noisy = add_noise(clean, noise, teacher.alphas_cumprod, LAST)
    torch.testing.assert_close(noisy, noise, atol=2e-3, rtol=0)
    torch.testing.assert_close(teacher.target(clean, noise, LAST), -clean, atol=2e-3, rtol=0)
    told = teacher.embed(["a red owl"] * 2)
    v, eps = teacher.output(noisy, LAST, told), teacher.eps(noisy, LAST, told)
    torch.testing.assert_close(eps, noisy, atol=2e-3, rtol=0)
    torch.testing.assert_close(teacher.predict_clean(noisy, eps, LAST), -v, atol=3e-3, rtol=0)


@pytest.mark.parametrize(
    "loss",
    [
        LOSSES["sds"](),
        LOSSES["vsd"](),
        Esd(entropy_weight=0.5),
        Esd(entropy_weight=2.0),
        Esd(entropy_weight=0.5, null_text="empty"),
        Esd(entropy_weight=0.5, camera="noise"),
        LOSSES["csd"](),
        Nfsd(),
    ],
    ids=str,
)
@pytest.mark.parametrize("t", [600, 999])
def test_a_direction_is_alpha_times_that_of_the_velocities(
    teacher: LatentTeacher, loss: ScoreDistillation, t: int
) -> None:
    """Its weights sum to 0, so the noisy latents drop out: eps = a v + s noisy.

    At the last timestep nothing is left of it, whatever the network predicts.
    """
    clean, noise = _draw(0, 1)
    times = torch.full_like(LAST, t)
    noisy = add_noise(clean, noise, teacher.alphas_cumprod, times)
    v = dict(zip(sorted(loss.needs), _draw(*range(2, 2 + len(loss.needs))), strict=True))
    if "noise" in v:
        v["noise"] = teacher.target(clean, noise, times)
    eps = {name: eps_from_v(one, noisy, teacher.alphas_cumprod, times) for name, one in v.items()}
    if "level" in v:
        v["level"] = eps["level"] = torch.full((2, 1, 1, 1), t / 1000)
    alpha, _ = alpha_sigma(teacher.alphas_cumprod, times)
    found, known = loss.direction(**eps), alpha * loss.direction(**v)
    torch.testing.assert_close(found, known, atol=1e-5, rtol=1e-5)
    if t == 999:
        assert TimestepRange().weights(teacher.alphas_cumprod, times).max() <= 1
        assert found.abs().max() < 100 * LEAST


def test_the_pixel_loss_aims_at_what_the_teacher_takes_for_clean(teacher: LatentTeacher) -> None:
    """The direction vanishes as alpha does, and sigma / alpha times it does not (HiFA)."""
    clean, noise, v = _draw(0, 1, 2)
    noisy = add_noise(clean, noise, teacher.alphas_cumprod, LAST)
    pull = LOSSES["sds"]().direction(
        teacher=eps_from_v(v, noisy, teacher.alphas_cumprod, LAST), noise=noise
    )
    alpha, sigma = alpha_sigma(teacher.alphas_cumprod, LAST)
    torch.testing.assert_close(clean - sigma / alpha * pull, -v, atol=3e-3, rtol=0)


@pytest.mark.parametrize("weighting", ["output", "v"])
def test_a_lora_of_the_velocity_is_trained_alike_at_all_timesteps(
    folder: Path, weighting: Any
) -> None:
    """A noise prediction's error is alpha times that of v, and v is what is predicted here."""
    teacher = StableDiffusion(model=str(folder)).load(CPU, torch.float32)
    lora = Lora(rank=1, weighting=weighting).attach(teacher, seed=0)
    t = torch.tensor([0, 500, 998, 999])
    torch.testing.assert_close(lora._weights(t).flatten(), torch.ones(4))
