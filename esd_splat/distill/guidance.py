"""What the teacher is told about each view, and how its answers become the one a loss sees."""

from collections.abc import Mapping, Set
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from esd_splat.teacher.base import Embeddings, Teacher, TeacherConfig
from esd_splat.teacher.debias import debias, load_language_model
from esd_splat.teacher.view_prompts import AVOIDED
from esd_splat.types import Latents, Timesteps

NEGATIVES = tuple(f"teacher_{view}" for view in AVOIDED)
"""What Perp-Neg asks besides: about views that a camera does not see."""
PREDICTS = frozenset(
    {"teacher", "teacher_cond", "teacher_empty", "teacher_negative", "teacher_later"}
)
"""What a loss can have of the teacher: guided, or each of its answers alone."""


class Branch(NamedTuple):
    """Rows of a pass through the network: some of the views, and a text for each."""

    views: Int[Tensor, " r"]
    texts: Embeddings
    later: bool = False
    """Whether it is about the views at the later timestep that some losses ask for."""


class Guidance:
    """The texts of one run, and the guidance that its teacher's section asks for.

    Cameras stand no higher than ``highest``, degrees: what none sees is not encoded.
    """

    def __init__(
        self,
        config: TeacherConfig,
        teacher: Teacher,
        prompt: str,
        negative_prompt: str,
        *,
        highest: float = 90.0,
    ) -> None:
        self.config, self.teacher = config, teacher
        prompts = [prompt]
        if config.views.language_model is not None:
            prompts = debias(prompt, load_language_model(config.views.language_model))
        self.texts = config.views.texts(*prompts, highest=highest)
        self.positive = teacher.embed(self.texts)
        self.negative, self.empty = teacher.embed([negative_prompt, ""]).split(1)
        self.same = negative_prompt == ""
        """Whether the negative prompt is the empty one: then it is asked once."""

    def branches(
        self,
        needs: Set[str],
        azimuth_deg: Float[Tensor, " b"],
        elevation_deg: Float[Tensor, " b"],
    ) -> dict[str, Branch]:
        """What to ask about views from there, by name; no row that would not count, but for a
        joint teacher, which is asked about all views or none.

        Args:
            needs: what a loss wants, of which those in ``PREDICTS`` are the teacher's.
        """
        views = self.config.views
        every = torch.arange(len(azimuth_deg), device=azimuth_deg.device)
        # Not a product of matrices, which may round: one whole word comes through to the bit.
        mixture = views.mixture(azimuth_deg, elevation_deg)
        texts = (mixture[:, :, None, None] * self.positive).sum(1)

        def count(wanted: bool, rows: Int[Tensor, " r"] = every) -> Int[Tensor, " r"]:
            return rows if wanted else every[:0]

        guided = "teacher" in needs and self.config.guidance_scale != 1
        negative = guided or "teacher_negative" in needs or (self.same and "teacher_empty" in needs)
        rows = {
            "teacher_cond": count(not needs.isdisjoint({"teacher", "teacher_cond"})),
            "teacher_negative": count(negative),
            "teacher_empty": count("teacher_empty" in needs and not self.same),
        }
        asked = {
            "teacher_cond": texts,
            "teacher_negative": self.negative.expand(len(every), -1, -1),
            "teacher_empty": self.empty.expand(len(every), -1, -1),
        }
        if views.perp_neg.enabled and "teacher" in needs:
            away = views.avoided(azimuth_deg, elevation_deg) != 0
            rows["teacher_negative"] = every[away.any(1) | negative]
            for name, mask, text in zip(NEGATIVES, away.T, self.positive, strict=False):
                rows[name], asked[name] = every[mask], text.expand(len(every), -1, -1)
        if self.teacher.joint:  # or what some views say would hang on which others are asked
            rows = {name: count(len(some) > 0) for name, some in rows.items()}
        branches = {name: Branch(some, asked[name][some]) for name, some in rows.items()}
        if "teacher_later" in needs:
            branches["teacher_later"] = Branch(every, texts, later=True)
        return {name: branch for name, branch in branches.items() if len(branch.views)}

    def combine(
        self,
        needs: Set[str],
        answers: Mapping[str, Latents],
        noisy: Latents,
        t: Timesteps,
        azimuth_deg: Float[Tensor, " b"],
        elevation_deg: Float[Tensor, " b"],
    ) -> dict[str, Latents]:
        """Of ``needs`` the teacher's, from the answers to ``branches``, zero where not asked."""
        found = dict(answers)
        if self.same and "teacher_negative" in answers:
            found["teacher_empty"] = answers["teacher_negative"]
        if "teacher" in needs:
            guided = self._guided(answers, azimuth_deg, elevation_deg)
            if share := self.config.guidance_rescale:
                # Contrast is that of what the network itself predicts, as in diffusers.
                offset = self.teacher.offset(noisy, t)
                plain = answers["teacher_cond"] - offset
                guided = offset + rescale(guided - offset, plain, share)
            found["teacher"] = guided
        return {name: found[name] for name in needs & PREDICTS}

    def _guided(
        self,
        answers: Mapping[str, Latents],
        azimuth_deg: Float[Tensor, " b"],
        elevation_deg: Float[Tensor, " b"],
    ) -> Latents:
        scale, views = self.config.guidance_scale, self.config.views
        conditional = answers["teacher_cond"]
        # What was not asked has a weight of 0; and at scale 1, without negatives, guidance is
        # eps_u + (eps_c - eps_u), where any eps_u will do.
        unasked = torch.zeros_like(conditional)
        unconditional = answers.get("teacher_negative", unasked)
        if not views.perp_neg.enabled:
            return conditional if scale == 1 else guide(conditional, unconditional, scale)
        negatives = torch.stack([answers.get(name, unasked) for name in NEGATIVES])
        weights = views.avoided(azimuth_deg, elevation_deg)
        return perp_neg(conditional, unconditional, negatives, weights, scale)


def guide(conditional: Latents, unconditional: Latents, guidance_scale: float) -> Latents:
    """Classifier-free guidance (Ho & Salimans, arXiv:2207.12598) as diffusers defines it.

    ``eps_u + s (eps_c - eps_u)``: 1 is the plain conditional prediction.
    """
    return unconditional + guidance_scale * (conditional - unconditional)


def rescale(guided: Latents, conditional: Latents, share: float) -> Latents:
    """Take back what guidance adds to the contrast (Lin et al., arXiv:2305.08891, section 3.4).

    ``share`` in [0, 1] of ``guided std(conditional) / std(guided)``, over all values of a sample,
    and the rest of ``guided``.
    """
    wide, plain = (x.flatten(1).std(1)[:, None, None, None] for x in (guided, conditional))
    return guided.lerp(guided * (plain / wide), share)


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
