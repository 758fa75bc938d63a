"""What the teacher is told about each view, and how its answers become the one a loss sees."""

from collections.abc import Mapping
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from esd_splat.prompt import AVOIDED, VIEWS
from esd_splat.teacher.base import Embeddings, Teacher, TeacherConfig
from esd_splat.teacher.debias import debias, load_language_model
from esd_splat.types import Latents

COMPARED = ("teacher_uncond", *(f"teacher_{view}" for view in AVOIDED))
"""What guidance compares the teacher's prediction with: the negative prompt's, other views'."""


class Branch(NamedTuple):
    """Rows of a pass through the network: some of the views, and a text for each."""

    views: Int[Tensor, " r"]
    texts: Embeddings


class Guidance:
    """The texts of one run, and the guidance that its teacher's section asks for."""

    def __init__(
        self, config: TeacherConfig, teacher: Teacher, prompt: str, negative_prompt: str
    ) -> None:
        self.config = config
        prompts = [prompt]
        if config.views.language_model is not None:
            prompts = debias(prompt, load_language_model(config.views.language_model))
        self.texts = config.views.texts(*prompts)
        self.positive = teacher.embed(self.texts)
        self.negative = teacher.embed([negative_prompt])

    def branches(
        self, azimuth_deg: Float[Tensor, " b"], elevation_deg: Float[Tensor, " b"]
    ) -> dict[str, Branch]:
        """What to ask about views from there, by name; no row that would not count."""
        views, guided = self.config.views, self.config.guidance_scale != 1
        every = torch.arange(len(azimuth_deg), device=azimuth_deg.device)
        if views.uniform:
            return {
                f"teacher_{view}": Branch(every, text[None].expand(len(every), -1, -1))
                for view, text in zip(VIEWS[:3], self.positive, strict=False)
            }
        # Not a product of matrices, which may round: one whole word comes through to the bit.
        mixture = views.mixture(azimuth_deg, elevation_deg)
        texts = (mixture[:, :, None, None] * self.positive).sum(1)
        none = every[:0]
        rows = [every if guided else none, *[none] * len(AVOIDED)]
        if views.perp_neg.enabled:
            away = views.avoided(azimuth_deg, elevation_deg) != 0
            rows = [every[mask] for mask in (away.any(1) | guided, *away.unbind(1))]
        compared = torch.cat([self.negative, self.positive[: len(AVOIDED)]])
        return {"teacher": Branch(every, texts)} | {
            name: Branch(some, text.expand(len(some), -1, -1))
            for name, some, text in zip(COMPARED, rows, compared, strict=True)
            if len(some)
        }

    def combine(
        self,
        answers: Mapping[str, Latents],
        azimuth_deg: Float[Tensor, " b"],
        elevation_deg: Float[Tensor, " b"],
        noise: Latents | None = None,
    ) -> Latents:
        """The guided prediction, of the answers to ``branches`` by name, zero where not asked."""
        scale = self.config.guidance_scale
        if self.config.views.uniform:
            assert noise is not None
            return uniform_prior(torch.stack([answers[f"teacher_{v}"] for v in VIEWS[:3]]), noise)
        if not answers.keys() & set(COMPARED):
            return answers["teacher"]
        if not self.config.views.perp_neg.enabled:
            return guide(answers["teacher"], answers["teacher_uncond"], scale)
        # What was not asked has a weight of 0; and at scale 1, without negatives, guidance is
        # eps_u + (eps_c - eps_u), where any eps_u will do.
        unasked = torch.zeros_like(answers["teacher"])
        unconditional, *negatives = (answers.get(name, unasked) for name in COMPARED)
        weights = self.config.views.avoided(azimuth_deg, elevation_deg)
        return perp_neg(
            answers["teacher"],
            unconditional,
            torch.stack(negatives),
            weights,
            scale,
        )


def guide(conditional: Latents, unconditional: Latents, guidance_scale: float) -> Latents:
    """Classifier-free guidance (Ho & Salimans, arXiv:2207.12598) as diffusers defines it.

    ``eps_u + s (eps_c - eps_u)``: 1 is the plain conditional prediction.
    """
    return unconditional + guidance_scale * (conditional - unconditional)


def uniform_prior(answers: Float[Tensor, "n b c h w"], noise: Latents) -> Latents:
    """The score of an equal mixture of ``n`` distributions, from the noise each predicts.

    Each counts by its likelihood given the drawn noise, ``exp(-|answer - noise|^2 / 2)``.
    """
    apart = (answers - noise).square().flatten(2).sum(2)
    return ((-0.5 * apart).softmax(0)[:, :, None, None, None] * answers).sum(0)


def perp_neg(
    conditional: Latents,
    unconditional: Latents,
    negatives: Float[Tensor, "n b c h w"],
    weights: Float[Tensor, "b n"],
    guidance_scale: float,
) -> Latents:
    """Guidance with negative prompts that cannot undo the prompt (Perp-Neg, arXiv:2304.04968)::

        eps_u + s (d + sum_i w_i perp(d_i, d))     d = eps_c - eps_u,   d_i = eps_i - eps_u

    with ``perp`` as in ``perpendicular``: of each negative only counts what it does not share with
    the prompt. With every weight 0 it is ``guide``.

    Args:
        negatives: predictions for the ``n`` negative prompts.
        weights: of each negative prompt for each sample, at most 0 to move away from it.
        guidance_scale: also of the negatives, so even 1 needs the unconditional prediction.
    """
    direction = conditional - unconditional
    away = torch.zeros_like(direction)
    for negative, weight in zip(negatives, weights.T, strict=True):
        away += weight[:, None, None, None] * perpendicular(negative - unconditional, direction)
    return guide(conditional + away, unconditional, guidance_scale)


def perpendicular(x: Latents, to: Latents) -> Latents:
    """What is left of each sample of ``x`` without its component along the same sample of ``to``.

    Lengths and angles are those of the whole latent as one vector. All of ``x`` is left where
    ``to`` is zero.
    """
    shared, square = (x * to).flatten(1).sum(1), (to * to).flatten(1).sum(1)
    share = shared / square.clamp(min=torch.finfo(square.dtype).tiny)
    return x - share[:, None, None, None] * to
