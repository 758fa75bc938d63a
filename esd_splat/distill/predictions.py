"""The predictions that a loss needs, from one pass through the networks."""

from collections.abc import Set
from typing import NamedTuple

import torch

from esd_splat.distill.guidance import Branch, Guidance, guide
from esd_splat.distill.recent import Recent
from esd_splat.distill.step_config import StepConfig
from esd_splat.scene.cameras import Cameras
from esd_splat.teacher import Embeddings, Teacher
from esd_splat.teacher.noise import add_noise, alpha_sigma, ddim_step
from esd_splat.types import Latents, Timesteps

LORA_INPUTS = {"lora": False, "lora_null": True, "lora_empty": True}
"""The predictions of the LoRA, and whether the camera is hidden from it."""


class Noised(NamedTuple):
    """Noisy latents and the noise that was added to them."""

    noisy: Latents
    noise: Latents
    """The noise in ``noisy``."""
    inverted: Latents | None = None
    """The last noise prediction of the inversion, or ``None`` if the noise was drawn."""


class Predictor:
    """The teacher and the LoRA of one run, with the embeddings of their texts."""

    def __init__(self, config: StepConfig, teacher: Teacher) -> None:
        self.loss, self.pool, self.teacher = config.loss, config.pool, teacher
        prompts, highest = (config.prompt, config.negative_prompt), config.cameras.elevation[1]
        self.guidance = Guidance(config.teacher, teacher, *prompts, highest=highest)
        self.plain = teacher.embed([config.prompt])
        wanted = config.loss.needs & LORA_INPUTS.keys()
        attached = config.seed, config.timesteps, config.pool
        self.lora = config.lora.attach(teacher, *attached) if wanted else None
        of_lora = self.lora is not None and config.lora.uses_recent
        self.uses_recent = "pooled" in config.loss.needs or of_lora
        """Whether the recent views are needed, by the loss or by the LoRA."""

    @property
    def _rebased(self) -> bool:
        return self.lora is not None and self.lora.config.base == "pool"

    def words(self, cameras: Cameras) -> Embeddings:
        """The embeddings of these views for the prompt without view words."""
        return self.teacher.told(self.plain.expand(len(cameras), -1, -1), cameras.c2w)

    def draw(self, count: int, generator: torch.Generator) -> Latents | None:
        """Draw noise with ``generator``, or return ``None`` if the loss uses inversion."""
        if self.loss.inversion is not None:
            return None
        return torch.randn(count, *self.teacher.latent_shape, generator=generator)

    @torch.no_grad()
    def noised(
        self, clean: Latents, t: Timesteps, cameras: Cameras, noise: Latents | None
    ) -> Noised:
        """Noise ``clean`` to timestep ``t`` with what ``draw`` returned, or by inversion."""
        schedule, inversion = self.teacher.alphas_cumprod, self.loss.inversion
        if inversion is None:
            assert noise is not None
            return Noised(add_noise(clean, noise, schedule, t), noise)
        scale = inversion.guidance_scale
        ends = {"teacher_empty": scale != 1, "teacher_cond": scale != 0}
        needs = {name for name, counts in ends.items() if counts}

        def eps(noisy: Latents, t: Timesteps) -> Latents:
            found = self.predict(Noised(noisy, noisy), t, cameras, needs)
            without, told = (found.get(name, torch.zeros_like(noisy)) for name in ends)
            return guide(told, without, scale)

        noisy, last = inversion.walk(eps, clean, schedule, t)
        alpha, sigma = alpha_sigma(schedule, t)
        return Noised(noisy, (noisy - alpha * clean) / sigma, last)

    @torch.no_grad()
    def predict(
        self,
        noised: Noised,
        t: Timesteps,
        cameras: Cameras,
        needs: Set[str],
        recent: Recent | None = None,
    ) -> dict[str, Latents]:
        """Return the predictions named in ``needs``, from a single pass through the network.

        Args:
            recent: the recent views, which ``pooled`` needs, and all predictions of a LoRA whose
                ``base`` is the pool.
        """
        angles, schedule = (cameras.azimuth_deg, cameras.elevation_deg), self.teacher.alphas_cumprod
        branches = self.guidance.branches(needs, *angles)
        hidden = {name: hides for name, hides in LORA_INPUTS.items() if name in needs}
        every = torch.arange(len(t), device=t.device)
        plain, empty = (
            Branch(every, text.expand(len(t), -1, -1)) for text in (self.plain, self.guidance.empty)
        )
        pooled, rebased = torch.zeros_like(noised.noisy), bool(hidden) and self._rebased
        if recent is not None and ("pooled" in needs or rebased):
            pooled = self.pool.eps(recent.latents, noised.noisy, schedule, t)
        if rebased:
            branches["plain"] = plain
        branches |= {name: empty if name == "lora_empty" else plain for name in hidden}
        answers = self._ask(noised, t, branches, hidden, cameras) if branches else {}

        predictions = {name: answers[name] for name in hidden}
        if rebased:
            shift = pooled - answers["plain"]
            predictions = {name: found + shift for name, found in predictions.items()}
        predictions |= self.guidance.combine(needs, answers, noised.noisy, t, *angles)
        if "noise" in needs:
            predictions["noise"] = noised.noise
        if "inverted" in needs and noised.inverted is not None:
            predictions["inverted"] = noised.inverted
        if "pooled" in needs and recent is not None:
            predictions["pooled"] = pooled
        if "level" in needs:
            predictions["level"] = (t / len(schedule))[:, None, None, None]
        return predictions

    def _ask(
        self,
        noised: Noised,
        t: Timesteps,
        branches: dict[str, Branch],
        hidden: dict[str, bool],
        cameras: Cameras,
    ) -> dict[str, Latents]:
        """Return the noise prediction of each branch, with zeros for the views that it leaves out.

        ``hidden`` names the branches of the LoRA. They must come last in ``branches``.
        """
        moments = {False: (noised.noisy, t)}
        if any(branch.later for branch in branches.values()):
            schedule = self.teacher.alphas_cumprod
            later = self.loss.later(t, len(schedule))
            moments[True] = ddim_step(*noised[:2], schedule, t, later), later
        c2w = cameras.c2w
        asked = [
            (
                *(rows[branch.views] for rows in moments[branch.later]),
                self.teacher.told(branch.texts, c2w[branch.views]),
            )
            for branch in branches.values()
        ]
        noisy, times, texts = (torch.cat(parts) for parts in zip(*asked, strict=True))
        if self.lora is None:
            eps = self.teacher.eps(noisy, times, texts)
        else:
            each = t.new_zeros(len(hidden), len(t), dtype=torch.bool)
            for rows, hides in zip(each, hidden.values(), strict=True):
                rows.fill_(hides)
            eps = self.lora.eps(noisy, times, texts, c2w.repeat(len(hidden), 1, 1), each.flatten())
        parts = eps.split([len(branch.views) for branch in branches.values()])
        return {
            name: eps.new_zeros(noised.noisy.shape).index_copy(0, branch.views, part)
            for (name, branch), part in zip(branches.items(), parts, strict=True)
        }
