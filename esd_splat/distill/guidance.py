"""The texts that the teacher gets for each view, and how its predictions are combined."""

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
"""The additional predictions of Perp-Neg, for the texts of views that a camera does not see."""
PREDICTS = frozenset(
    {"teacher", "teacher_cond", "teacher_empty", "teacher_negative", "teacher_later"}
)
"""What a loss can use of the teacher: its guided prediction, and its single predictions."""


class Branch(NamedTuple):
    """Rows of a pass through the network: some of the views, with a text for each."""

    views: Int[Tensor, " r"]
    texts: Embeddings
    later: bool = False
    """Whether the rows are at the later timestep that some losses ask for."""


class Guidance:
    """The texts of one run, and the guidance that the teacher's section sets.

    Args:
        config: the teacher's section.
        teacher: the loaded teacher.
        prompt: what to make.
        negative_prompt: what to move away from.
        highest: elevation of the highest camera, in degrees. The overhead text is only encoded if
            that camera sees the object from overhead.
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
        unconditional = teacher.without_picture(teacher.embed([negative_prompt, ""]))
        self.negative, self.empty = unconditional.split(1)
        self.same = negative_prompt == ""
        """Whether the negative prompt is empty. One prediction then serves for both."""

    def branches(
        self,
        needs: Set[str],
        azimuth_deg: Float[Tensor, " b"],
        elevation_deg: Float[Tensor, " b"],
    ) -> dict[str, Branch]:
        """Return the rows to evaluate for views from these directions, by the prediction's name.

        Rows that would not count are left out, except that a joint teacher needs all views or none.

        Args:
            needs: what the loss asks for. The names in ``PREDICTS`` concern the teacher.
            azimuth_deg: azimuth of each view.
            elevation_deg: elevation of each view.
        """
        views = self.config.views
        every = torch.arange(len(azimuth_deg), device=azimuth_deg.device)
        # A matrix product may round. This gives the embedding of a single view word bit for bit.
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
        if self.teacher.joint:  # its prediction for a view depends on which others are in the pass
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
        """Return those of ``needs`` that are the teacher's.

        Args:
            needs: what the loss asks for.
            answers: the predictions for each of ``branches``, zero for views without a row.
            noisy: the noisy latents that they were made from.
            t: the timesteps.
            azimuth_deg: as in ``branches``.
            elevation_deg: as in ``branches``.
        """
        found = dict(answers)
        if self.same and "teacher_negative" in answers:
            found["teacher_empty"] = answers["teacher_negative"]
        if "teacher" in needs:
            guided = self._guided(answers, azimuth_deg, elevation_deg)
            if share := self.config.guidance_rescale:
                # As in diffusers, this is the contrast of the network's own output, be it v or eps.
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
        # Predictions that were not made have a weight of 0. At scale 1 and without negatives,
        # guidance is eps_u + (eps_c - eps_u), which does not depend on eps_u.
        unasked = torch.zeros_like(conditional)
        unconditional = answers.get("teacher_negative", unasked)
        if not views.perp_neg.enabled:
            return conditional if scale == 1 else guide(conditional, unconditional, scale)
        negatives = torch.stack([answers.get(name, unasked) for name in NEGATIVES])
        weights = views.avoided(azimuth_deg, elevation_deg)
        return perp_neg(conditional, unconditional, negatives, weights, scale)


def guide(conditional: Latents, unconditional: Latents, guidance_scale: float) -> Latents:
    """Apply classifier-free guidance (Ho & Salimans, arXiv:2207.12598) as diffusers defines it::

        eps_u + s (eps_c - eps_u)

    A ``guidance_scale`` s of 1 gives the plain conditional prediction.
    """
    return unconditional + guidance_scale * (conditional - unconditional)


def rescale(guided: Latents, conditional: Latents, share: float) -> Latents:
    """Remove the contrast that guidance adds (Lin et al., arXiv:2305.08891, section 3.4)::

        (1 - share) guided + share guided std(conditional) / std(guided)

    The standard deviations are over all values of a sample, and ``share`` is in [0, 1].
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
    """Apply guidance with negatives that cannot undo the prompt (Perp-Neg, arXiv:2304.04968)::

        eps_u + s (d + sum_i w_i perp(d_i, d))     d = eps_c - eps_u,   d_i = eps_i - eps_u

    Here ``perp`` is ``perpendicular``, so only the part of each negative counts that it does not
    share with the prompt. If every weight is 0, this is ``guide``.

    Args:
        conditional: prediction ``eps_c`` for the prompt.
        unconditional: prediction ``eps_u``, as in plain guidance.
        negatives: predictions ``eps_i`` for the ``n`` negative prompts.
        weights: weight ``w_i`` of each negative prompt for each sample. Negative weights move away
            from it.
        guidance_scale: the scale ``s``. It applies to the negatives too, so the unconditional
            prediction is needed even at 1.
    """
    direction = conditional - unconditional
    away = torch.zeros_like(direction)
    for negative, weight in zip(negatives, weights.T, strict=True):
        away += weight[:, None, None, None] * perpendicular(negative - unconditional, direction)
    return guide(conditional + away, unconditional, guidance_scale)


def perpendicular(x: Latents, to: Latents) -> Latents:
    """Return each sample of ``x`` without its component along the same sample of ``to``::

        x - (<x, to> / <to, to>) to

    The inner products treat the whole latent of a sample as one vector. If ``to`` is zero, the
    sample is returned as it is.
    """
    shared, square = (x * to).flatten(1).sum(1), (to * to).flatten(1).sum(1)
    share = shared / square.clamp(min=torch.finfo(square.dtype).tiny)
    return x - share[:, None, None, None] * to
