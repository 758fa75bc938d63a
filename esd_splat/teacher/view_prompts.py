"""Words, and which words for which view. Knows angles; nothing of embeddings or networks."""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from esd_splat.errors import refuse
from esd_splat.settings.schema import Field, section

VIEWS = ("front", "side", "back", "overhead")
"""The view words, in the order of ``ViewPrompts.indices``."""
AVOIDED = VIEWS[:2]
"""The view words that Perp-Neg leads away from: the ones that a teacher draws unasked."""
POSE_ROUNDING_DEG = 1e-3
"""How far the elevation of a float32 pose may be from the one that it was made with."""

Decay = tuple[float, float, float]
"""``a``, ``b`` and ``c`` of the weight ``f(r) = a exp(-b r) + c``."""


def _decay(coefficients: Decay, r: Float[Tensor, " b"]) -> Float[Tensor, " b"]:
    a, b, c = coefficients
    return a * torch.exp(-b * r) + c


@section
class PerpNeg:
    """Perp-Neg: away from the views that a camera does not see (Armandpour et al., 2304.04968).

    The teacher's text slides from one view word to the next as the camera goes around, and the
    "front view" and "side view" texts become negative prompts of their own. With ``z`` the azimuth
    without its sign, and ``r`` in [0, 1] for how much the first of two neighbouring views is seen::

        z in [0, 90]       r = 1 - z / 90     text = r front + (1 - r) side
                           weights: front -f_fs(r), side -f_sf(1 - r)
        z in [90, 180]     r = 2 - z / 90     text = r side + (1 - r) back
                           weights: front -f_fsb(r), side -f_sb(r)
        f(r) = a exp(-b r) + c

    The defaults are threestudio's: a view has weight 0 where the camera is all on its side, and the
    front's has no jump at 90 degrees, both to a thousandth. How predictions are combined is told
    at ``esd_splat.distill.guidance.perp_neg``.
    """

    enabled: bool = False
    """Whether it is used, at any teacher.guidance_scale; needs teacher.views.enabled. The teacher
    is then asked four times a view instead of once (twice with guidance)."""
    f_fs: Decay = (4.0, 0.5, -2.426)
    """a, b, c of the front's weight from the front (r = 1) to the side (r = 0); f at least 0."""
    f_sf: Decay = (4.0, 0.5, -2.426)
    """a, b, c of the side's weight from the side (r = 1) to the front (r = 0); f at least 0."""
    f_fsb: Decay = (1.0, 0.5, 0.967)
    """a, b, c of the front's weight from the side (r = 1) to the back (r = 0); f at least 0."""
    f_sb: Decay = (1.0, 0.5, -0.606)
    """a, b, c of the side's weight from the side (r = 1) to the back (r = 0); f at least 0."""

    def __post_init__(self) -> None:
        ends = torch.tensor([0.0, 1.0], dtype=torch.float64)  # f has no turning point between
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
        """Share of each entry of ``VIEWS`` in the text; continuous, and the same left and right."""
        turned = _turned(azimuth_deg)
        front, back = (1 - turned / 90).clamp(min=0), (turned / 90 - 1).clamp(min=0)
        return torch.stack([front, 1 - front - back, back, torch.zeros_like(front)], dim=1)

    def weights(self, azimuth_deg: Float[Tensor, " b"]) -> Float[Tensor, "b 2"]:
        """Weight of each negative prompt, at most 0, in the order of ``AVOIDED``."""
        turned = _turned(azimuth_deg)
        r = torch.where(turned < 90, 1 - turned / 90, 2 - turned / 90)
        front = torch.where(turned < 90, _decay(self.f_fs, r), _decay(self.f_fsb, r))
        side = torch.where(turned < 90, _decay(self.f_sf, 1 - r), _decay(self.f_sb, r))
        return -torch.stack([front, side], dim=1)


@section
class ViewPrompts:
    """Tells the teacher which side it is looking at, as threestudio's view-dependent prompts do."""

    enabled: bool = False
    """Whether the teacher's prompt names the view. The LoRA never sees view words."""
    front: float = Field(default=45.0, ge=0, le=180)
    """Views closer than this to azimuth 0 are the "front view", in degrees."""
    back: float = Field(default=45.0, ge=0, le=180)
    """Views closer than this to azimuth 180 are the "back view", in degrees."""
    overhead: float = Field(default=60.0, ge=0, le=90)
    """Views from above this elevation are the "overhead view", in degrees."""
    interpolate: bool = False
    """Whether the text slides from one view word to the next with the azimuth, as that of Perp-Neg
    does, instead of what front and back choose. overhead still counts."""
    perp_neg: PerpNeg = PerpNeg()
    """Perp-Neg, whose texts take the place of what front and back choose. overhead still counts."""
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
        """What the teacher is told, one text per entry of ``VIEWS``; the same four if disabled.

        Args:
            prompts: one for all views, or one for each.
            highest: elevation of the highest camera, degrees. If it is not overhead, nothing is,
                and that text is the side's: a teacher need not know words that it never hears.
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
        """Index into ``VIEWS`` of each camera; overhead wins over back, back over front."""
        turned = _turned(azimuth_deg)
        index = turned.new_ones(turned.shape).long()
        index[turned < self.front] = VIEWS.index("front")
        index[turned > 180 - self.back] = VIEWS.index("back")
        index[self._from_overhead(elevation_deg)] = VIEWS.index("overhead")
        return index

    def mixture(
        self, azimuth_deg: Float[Tensor, " b"], elevation_deg: Float[Tensor, " b"]
    ) -> Float[Tensor, "b 4"]:
        """Share of each entry of ``VIEWS`` in what the teacher is told of each camera; sums to 1.

        One whole entry, see ``indices``, or with ``interpolate`` or ``perp_neg`` a share of two.
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
        """Weight of each of ``AVOIDED`` as a negative prompt; 0 from overhead, and if disabled."""
        weights = self.perp_neg.weights(azimuth_deg)
        counts = ~self._from_overhead(elevation_deg) & self.perp_neg.enabled
        return torch.where(counts[:, None], weights, 0.0)

    def _from_overhead(self, elevation_deg: Float[Tensor, " b"]) -> Bool[Tensor, " b"]:
        return elevation_deg > self.overhead + POSE_ROUNDING_DEG


def _turned(azimuth_deg: Float[Tensor, " b"]) -> Float[Tensor, " b"]:
    """Degrees away from the front, in [0, 180], whichever way around."""
    return ((azimuth_deg + 180) % 360 - 180).abs()
