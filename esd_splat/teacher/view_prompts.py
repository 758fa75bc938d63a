"""The view words, and which of them a view gets. There are no embeddings or networks here."""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from esd_splat.errors import refuse
from esd_splat.settings.schema import Field, section

VIEWS = ("front", "side", "back", "overhead")
"""The view words, in the order of ``ViewPrompts.indices``."""
AVOIDED = VIEWS[:2]
"""The view words that Perp-Neg uses as negative prompts: those that teachers draw unasked."""
POSE_ROUNDING_DEG = 1e-3
"""Largest difference, in degrees, of a float32 pose's elevation from the one it was made with."""

Decay = tuple[float, float, float]
"""The coefficients ``a``, ``b`` and ``c`` of the weight ``f(r) = a exp(-b r) + c``."""


def _decay(coefficients: Decay, r: Float[Tensor, " b"]) -> Float[Tensor, " b"]:
    a, b, c = coefficients
    return a * torch.exp(-b * r) + c


@section
class PerpNeg:
    """Perp-Neg: moving away from unseen views (Armandpour et al., arXiv:2304.04968).

    The teacher's text is interpolated from one view word to the next as the camera moves around,
    and the "front view" and "side view" texts also become negative prompts. Let ``z`` be the
    absolute azimuth in [0, 180] degrees, and ``r`` in [0, 1] the share of the first of the two
    neighbouring views::

        z in [0, 90]       r = 1 - z / 90     text = r front + (1 - r) side
                           weights: front -f_fs(r), side -f_sf(1 - r)
        z in [90, 180]     r = 2 - z / 90     text = r side + (1 - r) back
                           weights: front -f_fsb(r), side -f_sb(r)
        f(r) = a exp(-b r) + c

    The defaults are threestudio's. Up to a thousandth, the weight of a view is 0 where the camera
    sees exactly this view, and the weight of the front is continuous at 90 degrees. See
    ``esd_splat.distill.guidance.perp_neg`` for how the predictions are combined.
    """

    enabled: bool = False
    """Whether it is used, at any teacher.guidance_scale; needs teacher.views.enabled. The teacher
    then makes four predictions per view instead of one (two with guidance)."""
    f_fs: Decay = (4.0, 0.5, -2.426)
    """a, b, c of the front's weight from front (r = 1) to side (r = 0); f must be at least 0."""
    f_sf: Decay = (4.0, 0.5, -2.426)
    """a, b, c of the side's weight between front and side, which is f(1 - r): f(0) at the front
    and f(1) at the side; f must be at least 0."""
    f_fsb: Decay = (1.0, 0.5, 0.967)
    """a, b, c of the front's weight from side (r = 1) to back (r = 0); f must be at least 0."""
    f_sb: Decay = (1.0, 0.5, -0.606)
    """a, b, c of the side's weight from side (r = 1) to back (r = 0); f must be at least 0."""

    def __post_init__(self) -> None:
        ends = torch.tensor([0.0, 1.0], dtype=torch.float64)  # f is monotonic in between
        problems = []
        for name in ("f_fs", "f_sf", "f_fsb", "f_sb"):
            f = _decay(getattr(self, name), ends)
            if not (f.isfinite().all() and f.min() >= 0):
                problems.append(
                    f"{name}: must give a exp(-b r) + c of at least 0 for r in [0, 1], "
                    f"got {list(getattr(self, name))}, which gives {f.min():.3g}"
                )
        refuse(problems)

    def mixture(self, azimuth_deg: Float[Tensor, " b"]) -> Float[Tensor, "b 4"]:
        """Return the share of each entry of ``VIEWS`` in the text.

        It is continuous in the azimuth, and the same on the left and on the right.
        """
        turned = _turned(azimuth_deg)
        front, back = (1 - turned / 90).clamp(min=0), (turned / 90 - 1).clamp(min=0)
        return torch.stack([front, 1 - front - back, back, torch.zeros_like(front)], dim=1)

    def weights(self, azimuth_deg: Float[Tensor, " b"]) -> Float[Tensor, "b 2"]:
        """Return the weight of each negative prompt, at most 0, in the order of ``AVOIDED``."""
        turned = _turned(azimuth_deg)
        r = torch.where(turned < 90, 1 - turned / 90, 2 - turned / 90)
        front = torch.where(turned < 90, _decay(self.f_fs, r), _decay(self.f_fsb, r))
        side = torch.where(turned < 90, _decay(self.f_sf, 1 - r), _decay(self.f_sb, r))
        return -torch.stack([front, side], dim=1)


@section
class ViewPrompts:
    """View words that tell the teacher which side it sees, like those of threestudio's prompts."""

    enabled: bool = False
    """Whether the teacher's prompt names the view. The LoRA never sees view words."""
    front: float = Field(default=45.0, ge=0, le=180)
    """Views closer than this to azimuth 0 are the "front view", in degrees."""
    back: float = Field(default=45.0, ge=0, le=180)
    """Views closer than this to azimuth 180 are the "back view", in degrees."""
    overhead: float = Field(default=60.0, ge=0, le=90)
    """Views from above this elevation are the "overhead view", in degrees."""
    interpolate: bool = False
    """Whether the text is interpolated between view words by azimuth, as in Perp-Neg, instead of
    chosen by front and back. overhead still counts."""
    perp_neg: PerpNeg = PerpNeg()
    """Perp-Neg, whose texts replace what front and back choose. overhead still counts."""
    language_model: str | None = None
    """Masked language model that finds the words of the prompt that contradict a view, so that they
    are dropped from the teacher's text for that view (the prompt debiasing of Debiased-SDS): a
    folder, or a hub id such as google-bert/bert-base-uncased. Null drops no words."""

    def __post_init__(self) -> None:
        about_words = {
            "perp_neg": self.perp_neg.enabled,
            "interpolate": self.interpolate,
            "language_model": self.language_model is not None,
        }
        refuse(
            [
                f"enabled: must be true for {name}, which changes the view words"
                for name, on in about_words.items()
                if on and not self.enabled
            ]
        )

    def texts(self, *prompts: str, highest: float = 90.0) -> list[str]:
        """Return the teacher's text for each entry of ``VIEWS``, without view words if disabled.

        Args:
            prompts: one prompt for all views, or one for each.
            highest: elevation of the highest camera, in degrees. If it is not above ``overhead``,
                the overhead text is never used. It is then replaced by the text of the side, since
                a teacher's vocabulary may lack the word.
        """
        each = prompts * len(VIEWS) if len(prompts) == 1 else prompts
        if not self.enabled:
            return list(each)
        texts = {view: f"{prompt}, {view} view" for prompt, view in zip(each, VIEWS, strict=True)}
        if highest <= self.overhead:
            texts["overhead"] = texts["side"]
        return list(texts.values())

    def indices(
        self, azimuth_deg: Float[Tensor, " b"], elevation_deg: Float[Tensor, " b"]
    ) -> Int[Tensor, " b"]:
        """Return indices into ``VIEWS``. Overhead wins over back, and back over front."""
        turned = _turned(azimuth_deg)
        index = turned.new_ones(turned.shape).long()
        index[turned < self.front] = VIEWS.index("front")
        index[turned > 180 - self.back] = VIEWS.index("back")
        index[self._from_overhead(elevation_deg)] = VIEWS.index("overhead")
        return index

    def mixture(
        self, azimuth_deg: Float[Tensor, " b"], elevation_deg: Float[Tensor, " b"]
    ) -> Float[Tensor, "b 4"]:
        """Return the share of each entry of ``VIEWS`` in the text of each camera. Shares sum to 1.

        Only the entry of ``indices`` has a share, or two entries have one with ``interpolate`` or
        ``perp_neg``.
        """
        index = self.indices(azimuth_deg, elevation_deg)
        whole = torch.eye(len(VIEWS), dtype=azimuth_deg.dtype, device=index.device)[index]
        if not (self.interpolate or self.perp_neg.enabled):
            return whole
        overhead = index == VIEWS.index("overhead")
        return torch.where(overhead[:, None], whole, self.perp_neg.mixture(azimuth_deg))

    def avoided(
        self, azimuth_deg: Float[Tensor, " b"], elevation_deg: Float[Tensor, " b"]
    ) -> Float[Tensor, "b 2"]:
        """Return the weight of each of ``AVOIDED`` as a negative prompt.

        It is 0 for overhead views, and everywhere if Perp-Neg is disabled.
        """
        weights = self.perp_neg.weights(azimuth_deg)
        counts = ~self._from_overhead(elevation_deg) & self.perp_neg.enabled
        return torch.where(counts[:, None], weights, 0.0)

    def _from_overhead(self, elevation_deg: Float[Tensor, " b"]) -> Bool[Tensor, " b"]:
        return elevation_deg > self.overhead + POSE_ROUNDING_DEG


def _turned(azimuth_deg: Float[Tensor, " b"]) -> Float[Tensor, " b"]:
    """Return the absolute angle from the front, in [0, 180] degrees."""
    return ((azimuth_deg + 180) % 360 - 180).abs()
