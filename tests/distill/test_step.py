"""What a step does to the scene and the LoRA, against each formula computed call by call."""

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from torch import Tensor

from esd_splat.config import load_config
from esd_splat.distill.distillation import Distillation
from esd_splat.distill.draws import Drawn
from esd_splat.distill.recent import Recent
from esd_splat.distill.step_config import StepConfig
from esd_splat.teacher.noise import add_noise, alpha_sigma
from tests.tiny import IMAGE_SIZE

BATCH, T = 6, 1000
PROMPT, NEGATIVE = "a red owl", "blue cat"


def _start(model: Path, *more: str) -> Distillation:
    keys = [f"prompt={PROMPT}", f"teacher.model={model}", f"cameras.size={IMAGE_SIZE}"]
    keys += [f"batch={BATCH}", "steps=10", "init.count=20", "lora.rank=2", "lora.lr=0.05"]
    config = load_config(None, [*keys, "lora.warmup=0", f"negative_prompt={NEGATIVE}", *more])
    teacher = config.teacher.load(torch.device("cpu"), torch.float32)
    return Distillation(StepConfig.of(config), teacher, "reference")


class _Views:
    """What a loss may ask about some views, with a separate call for each prediction."""

    def __init__(self, run: Distillation, clean: Tensor, drawn: Drawn) -> None:
        self.run, self.clean, self.t, self.noise = run, clean, drawn.t, drawn.noise
        self.c2w = drawn.cameras.c2w
        if drawn.noise is not None:
            self.noisy = add_noise(clean, drawn.noise, run.teacher.alphas_cumprod, drawn.t)

    def teacher(self, words: str, noisy: Tensor | None = None, t: Tensor | None = None) -> Tensor:
        told = self.run.teacher.embed([words] * BATCH)
        noisy, t = self.noisy if noisy is None else noisy, self.t if t is None else t
        return self.run.teacher.eps(noisy, t, told)

    def lora(self, words: str = PROMPT, *, hidden: bool) -> Tensor:
        assert self.run.lora is not None
        told, hides = self.run.teacher.embed([words] * BATCH), torch.tensor([hidden] * BATCH)
        return self.run.lora.eps(self.noisy, self.t, told, self.c2w, hides)

    def pooled(self) -> Tensor:
        assert self.run.recent is not None
        recent = torch.cat([self.run.recent.latents, self.clean])
        known = self.run.teacher.alphas_cumprod
        return self.run.config.pool.eps(recent, self.noisy, known, self.t)

    def walk(self, times: list[Tensor], eps: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
        """Take DDIM steps along ``times`` to ``self.noisy``, and return the last prediction."""
        known, noisy, found = self.run.teacher.alphas_cumprod, self.clean, self.clean
        for now, then in pairwise(times):
            found = eps(noisy, now)
            alpha, sigma = alpha_sigma(known, now)
            noisy = add_noise((noisy - sigma * found) / alpha, found, known, then)
        self.noisy = noisy
        return found


def _sds(views: _Views) -> Tensor:
    assert views.noise is not None
    return views.teacher(PROMPT) - views.noise


def _rescaled(views: _Views) -> Tensor:
    assert views.noise is not None
    told = views.teacher(PROMPT)
    guided = views.teacher(NEGATIVE) + 3 * (told - views.teacher(NEGATIVE))
    contrast = (told.flatten(1).std(1) / guided.flatten(1).std(1))[:, None, None, None]
    return guided * (0.3 + 0.7 * contrast) - views.noise


def _vsd(views: _Views) -> Tensor:
    return views.teacher(PROMPT) - views.lora(hidden=False)


def _esd(views: _Views) -> Tensor:
    lora, marginal = views.lora(hidden=False), views.lora(hidden=True)
    return views.teacher(PROMPT) - 0.7 * lora - 0.3 * marginal


def _pooled(views: _Views) -> Tensor:
    assert views.noise is not None
    return views.teacher(PROMPT) - 0.7 * views.noise - 0.3 * views.pooled()


def _empty(views: _Views) -> Tensor:
    """Return threestudio's formula: guidance_scale_lora between the halves of its LoRA."""
    hidden, scale = views.lora("", hidden=True), 0.7
    return views.teacher(PROMPT) - (hidden + scale * (views.lora(hidden=False) - hidden))


def _from_pool(views: _Views) -> Tensor:
    shift = views.pooled() - views.teacher(PROMPT)
    lora, marginal = views.lora(hidden=False) + shift, views.lora(hidden=True) + shift
    return views.teacher(PROMPT) - 0.7 * lora - 0.3 * marginal


def _csd(views: _Views) -> Tensor:
    return views.teacher(PROMPT) - views.teacher("")


def _nfsd(views: _Views) -> Tensor:
    high = (views.t >= 0.2 * T)[:, None, None, None]
    assert 0 < high.sum() < BATCH, "both kinds are drawn"
    empty = views.teacher("")
    return empty - high * views.teacher(NEGATIVE) + 7.5 * (views.teacher(PROMPT) - empty)


def _sdi(views: _Views) -> Tensor:
    def away(noisy: Tensor, t: Tensor) -> Tensor:
        empty = views.teacher("", noisy, t)
        return empty - 7.5 * (views.teacher(PROMPT, noisy, t) - empty)

    views.walk([0 * views.t, (views.t / 2).round().long(), views.t], away)
    alpha, sigma = alpha_sigma(views.run.teacher.alphas_cumprod, views.t)
    return views.teacher(PROMPT) - (views.noisy - alpha * views.clean) / sigma


def _ism(views: _Views) -> Tensor:
    times = [0 * views.t, (views.t - 50).clamp(min=0), views.t]
    last = views.walk(times, lambda noisy, t: views.teacher("", noisy, t))
    return views.teacher(PROMPT) - last


def _gradients(run: Distillation, monkeypatch: pytest.MonkeyPatch) -> list[Tensor]:
    """Return the gradients of means and colours in the next step."""
    found: list[Tensor] = []
    take = run.optimizer.step

    def look() -> None:
        for parameter in (run.scene.means, run.scene.sh0):
            assert parameter.grad is not None
            found.append(parameter.grad.clone())
        take()

    monkeypatch.setattr(run.optimizer, "step", look)
    run.step()
    return found


@pytest.mark.parametrize(
    ("direction", "keys"),
    [
        (_sds, ["loss=sds"]),
        (_rescaled, ["loss=sds", "teacher.guidance_scale=3", "teacher.guidance_rescale=0.7"]),
        (_vsd, ["loss=vsd"]),
        (_esd, ["loss={name: esd, entropy_weight: 0.3}"]),
        (_pooled, ["loss={name: esd, entropy_weight: 0.3, camera: noise, marginal: pool}"]),
        (_empty, ["loss={name: esd, entropy_weight: 0.3, null_text: empty}"]),
        (_from_pool, ["loss={name: esd, entropy_weight: 0.3}", "lora.base=pool"]),
        (_csd, ["loss=csd"]),
        (_nfsd, ["loss=nfsd"]),
        (_sdi, ["loss={name: sdi, steps: 2}"]),
        (_ism, ["loss={name: ism, steps: 2}"]),
    ],
    ids=[
        "sds",
        "rescaled",
        "vsd",
        "esd",
        "esd, pool",
        "empty",
        "from pool",
        "csd",
        "nfsd",
        "sdi",
        "ism",
    ],
)
def test_the_scenes_gradient_is_the_formula(
    model: Path,
    monkeypatch: pytest.MonkeyPatch,
    direction: Callable[[_Views], Tensor],
    keys: list[str],
) -> None:
    """The formula times ``1 - alphas_cumprod``, averaged over views, is the latents' gradient."""
    run, twin = (_start(model, *keys) for _ in range(2))
    for one in (run, twin):
        one.step()  # so that the LoRA has learned something, and the pool is not empty
    drawn = twin._draw(1 / 10)
    _, latents = twin._look(drawn, 1 / 10)
    with torch.no_grad():
        pull = direction(_Views(twin, latents.detach(), drawn))
    weight = (1 - twin.teacher.alphas_cumprod[drawn.t])[:, None, None, None]
    aim = [twin.scene.means, twin.scene.sh0]
    expected = torch.autograd.grad((latents * weight * pull).sum() / BATCH, aim)

    found = _gradients(run, monkeypatch)
    for one, other in zip(found, expected, strict=True):
        assert other.abs().max() > 0
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-3 * float(other.abs().max()))


def test_the_lora_trains_on_the_steps_own_views(
    model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, twin = (_start(model, "loss=vsd", "teacher.views.enabled=true") for _ in range(2))
    drawn = twin._draw(0.0)
    _, latents = twin._look(drawn, 0.0)
    asked: list[tuple[Recent, Tensor]] = []
    monkeypatch.setattr(
        run.lora, "train", lambda *given: asked.append(given[:2]) or torch.zeros(())
    )
    run.step()
    ((views, told),) = asked
    torch.testing.assert_close(views.latents, latents.detach())
    assert torch.equal(told, run.teacher.embed([PROMPT]))
    assert torch.equal(views.c2w, drawn.cameras.c2w)


def test_the_image_loss_is_weighed_as_the_pull_on_latents_is(
    model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, twin = (_start(model, "loss=sds", "image_loss=0.25") for _ in range(2))
    drawn = twin._draw(0.0)
    render, latents = twin._look(drawn, 0.0)
    views = _Views(twin, latents.detach(), drawn)
    with torch.no_grad():
        clean = twin.teacher.predict_clean(views.noisy, views.teacher(PROMPT), views.t)
        better, pull = twin.teacher.decode(clean), _sds(views)
    weight = 1 - twin.teacher.alphas_cumprod[views.t]
    off = (render.images - better).square().sum((1, 2, 3))
    image = 0.25 * 0.5 * (weight * off).mean()
    whole = image + (latents * weight[:, None, None, None] * pull).sum() / BATCH
    expected = torch.autograd.grad(whole, [twin.scene.means, twin.scene.sh0])

    again = _start(model, "loss=sds", "image_loss=0.25")
    assert again.step()["image"] == pytest.approx(image.item(), rel=1e-3)
    for one, other in zip(_gradients(run, monkeypatch), expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-3 * float(other.abs().max()))
