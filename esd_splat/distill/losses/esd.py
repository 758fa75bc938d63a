"""Entropic score distillation (Wang et al., arXiv:2401.00909)."""

from typing import Any, Literal

from typing_extensions import override

from esd_splat.distill.losses.base import ScoreDistillation
from esd_splat.errors import refuse
from esd_splat.settings.schema import Field, section
from esd_splat.types import Latents

FORMERLY: Any = {"x-renamed": {"particle": "lora"}}
"""What the LoRA was called in older configs."""
MAX_ENTROPY_WEIGHT = 4.0
"""Upper limit of the entropy weight. It is far above 1, which fits the pooled renderings to the
images of a teacher that is told no view. Above 1 they spread wider."""


@section
class Esd(ScoreDistillation):
    """Each view follows the teacher, and an entropy term rewards views for differing.

    The score of the renderings is split between a prediction that knows the camera and one that
    does not. The latter is the score of *all* views pooled, so moving against it spreads them::

        direction = teacher - (1 - w) * camera - w * marginal        w = entropy_weight

    Let ``q`` be the distribution of the noised renderings, ``c`` the camera and ``p`` the teacher.
    If the teacher is told no view, this descends::

        w KL(q(x)||p(x)) + (1 - w) E_c KL(q(x|c)||p(x))

    If the teacher is told the view, it is another ``p(x|c)`` for each camera, and this descends::

        E_c KL(q(x|c)||p(x|c)) - w I(x; c)

    ``I`` is the mutual information of noised rendering and camera under ``q``. Without view words
    the two are the same. With them, the minimum is not at ``q(x|c) = p(x|c)`` unless ``w`` is 0:
    there the renderings tell at least as much about their camera as the teacher's images do. At
    ``w = 1``, with ``p(x)`` the mean of ``p(x|c)`` over the cameras, the second line is::

        KL(q(x)||p(x)) - E_q log(p(c|x) / p(c))

    So the pooled views are fitted to the teacher's, and views are preferred whose camera the
    teacher can tell.

    Either prediction can be the LoRA's, as in the paper, or be computed. Given the camera and the
    background, a rendering is a single point, whose prediction is the noise that was drawn. The
    pooled views have a closed form; see ``Pool``, which also says what a bandwidth changes here.
    """

    entropy_weight: float = Field(
        default=1.0,
        ge=0,
        le=MAX_ENTROPY_WEIGHT,
        json_schema_extra={"x-complement": "guidance_scale_lora"},
    )
    """Weight of the entropy of all views together (lambda). 0 is VSD. 1 fits the pooled views to a
    teacher that is told no view, and above 1 they spread further than its images. If the teacher is
    told the view, every weight above 0 spreads them further. It may also be given as threestudio's
    guidance_scale_lora, which is 1 - entropy_weight."""

    camera: Literal["lora", "noise"] = Field(default="lora", json_schema_extra=FORMERLY)
    """Which prediction knows the camera: the LoRA's, or the noise that was drawn, as in SDS. It
    does not count at entropy_weight 1."""
    marginal: Literal["lora", "pool"] = Field(default="lora", json_schema_extra=FORMERLY)
    """Which prediction stands for all views together: the LoRA's with the camera dropped, or that
    of the pool of recent views, which needs no training."""

    null_text: Literal["prompt", "empty"] = "prompt"
    """Which text the LoRA gets with the camera dropped. prompt is the paper's formula, and that of
    threestudio since its pull request 261 (July 2023), before ESD. empty is the empty text, as in
    threestudio before. It adds entropy_weight units of guidance: at 0.5 the direction is
    teacher - LoRA(prompt, camera) / 2 - LoRA(empty, no camera) / 2."""

    @property
    def parts(self) -> tuple[str, str]:
        """The names of the two predictions: given the camera, and for all views together."""
        null = "lora_null" if self.null_text == "prompt" else "lora_empty"
        return self.camera, {"lora": null, "pool": "pooled"}[self.marginal]

    def __post_init__(self) -> None:
        if self.marginal != "lora" and self.null_text != "prompt":
            problem = f"must be prompt with marginal={self.marginal}, which takes no text"
            refuse([f"null_text: {problem}"])

    @property
    @override
    def needs(self) -> frozenset[str]:
        """The teacher, and the one or two predictions whose weight is not 0."""
        camera, marginal = self.parts
        counts = {camera: self.entropy_weight != 1, marginal: self.entropy_weight != 0}
        return frozenset({"teacher"} | {name for name, does in counts.items() if does})

    @override
    def direction(
        self,
        teacher: Latents,
        lora: Latents | None = None,
        lora_null: Latents | None = None,
        lora_empty: Latents | None = None,
        noise: Latents | None = None,
        pooled: Latents | None = None,
    ) -> Latents:
        """Return the direction on the clean latents that descent subtracts. See ``surrogate_loss``.

        The arguments are noise predictions (not scores) for the same noisy latents and timestep.
        Those that ``needs`` does not name are not read. The caller weights the result by timestep.

        Args:
            teacher: the pretrained network given the prompt, with guidance already applied.
            lora: the LoRA given the camera that rendered these latents.
            lora_null: the same LoRA with the camera dropped.
            lora_empty: the same LoRA with the camera dropped and the empty prompt.
            noise: the noise that was drawn.
            pooled: the prediction of the pool of recent views.

        Returns:
            The direction. It is zero where the renderings already satisfy the teacher and the
            entropy term.

        Raises:
            TypeError: a prediction in ``needs`` was not given.

        Source:
            Algorithm 1 of the paper, with the sign that descent needs. The paper prints a plus for
            noise predictions, which is right for scores only. The authors' own code agrees with us.
        """
        camera = lora if self.camera == "lora" else noise
        null = lora_null if self.null_text == "prompt" else lora_empty
        marginal = null if self.marginal == "lora" else pooled
        if self.entropy_weight == 0 and camera is not None:
            return teacher - camera
        if self.entropy_weight == 1 and marginal is not None:
            return teacher - marginal
        if camera is None or marginal is None:
            raise TypeError(f"{self}.direction needs {', '.join(sorted(self.needs))}")
        return teacher - camera.lerp(marginal, self.entropy_weight)
