"""Samples of a density instead of a list of rules (Kheradmand et al., arXiv:2404.09591).

"3D Gaussian splatting as Markov chain Monte Carlo": a Gaussian too faint to be seen moves onto one
that is seen, the scene grows at a fixed pace in the same way, and wherever several then coincide
they are changed so that together they look like the one that was there. Faint Gaussians wander at
random until they meet something. Nothing is measured. What makes the useless fade and die are the
penalties ``regularise.opacity`` and ``regularise.scale``, which the paper sets to 0.01.
"""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from typing_extensions import override

from esd_splat.errors import RunError
from esd_splat.scene import kernels
from esd_splat.scene.densify.base import Edit, Importance, Periodic, Rows, State, logit
from esd_splat.scene.densify.random import WORD, normals, philox4x32
from esd_splat.scene.gaussians import Gaussians, quats_to_rotmats
from esd_splat.scene.rasterize.base import drawable
from esd_splat.settings.schema import Field, section

MAX_PARTS = 51
"""A Gaussian is shared out among at most this many (3DGS-MCMC); what more there are shows."""
OPAQUE = math.log(2**24 - 1)
"""Largest opacity logit that is shared out: of 1 - 2^-24. From there on a 51st part is so opaque
that the alternating sum of equation 9 loses its digits, and no float32 opacity shows a change."""
GATE_OPACITY, GATE_STEEPNESS = 0.005, 100
"""The noise is halved at this opacity, and gone soon after (3DGS-MCMC: t = 1 - 0.005, k = 100)."""
GATE_SHUT = 1e-25
"""A noise scaled down to this moves nothing any more."""
TICKETS = 2**24
"""Chances to be drawn that a Gaussian of opacity 1 has. Whole numbers add up to the same sum in
whatever order a device adds them; one a row is the least."""
NOISE, DRAW = 2, 3
"""For the random numbers: ``copy`` of the noise; fourth word of the counter of the draws."""

_PARTS = range(1, MAX_PARTS + 1)
_TERMS = torch.tensor(
    [[(-1) ** (k - 1) * math.comb(n, k) / math.sqrt(k) for k in _PARTS] for n in (0, *_PARTS)],
    dtype=torch.float64,
)
"""Coefficient of the k-th power of the opacity in equation 9, in row n and column k - 1."""


@section
class Mcmc(Periodic):
    """Moves what has faded onto what is seen, and grows until there are ``max_count``.

    Works together with ``regularise.opacity`` and ``regularise.scale``.
    """

    min_opacity: float = Field(default=0.005, gt=0, lt=1)
    """Gaussians that are less opaque than this are moved, and none is made less opaque."""
    # Copies start at one place with gradients nearly in proportion, so that Adam moves them alike
    # and they part slowly. Fitting one figurine, one seed, from 400 Gaussians in 300 steps: 0.05
    # ends at 463 and 25.2 dB, 0.2 at 691 and 26.6 dB; clone_split at 695 and 28.9 dB.
    growth: float = Field(default=0.05, ge=0, le=1)
    """Fraction of the scene that is added in one edit, rounded down; 0 only moves."""
    max_count: int = Field(default=20_000, ge=1)
    """The scene stops growing at this many Gaussians. One that starts with more keeps them."""
    # The paper's 5e5 at its learning rate of 1.6e-4 is 80 variances per step: 0.8 standard
    # deviations of one of 0.01. Ours are few and large: 2000 at 0.005 is half of one of 0.05.
    noise: float = Field(default=2000.0, ge=0)
    """Size of the random steps of a nearly transparent Gaussian: their standard deviation along
    each of its axes, divided by its variance along that axis and by the learning rate of the means,
    in 1 / world unit^2; 0 switches them off."""

    @override
    @torch.no_grad()
    def nudge(self, scene: Gaussians, lr: float, step: int, steps: int, seed: int) -> None:
        """Noise of stochastic gradient Langevin dynamics, in every step of the run."""
        if self.noise:
            walk = wander_native if kernels.has("wander", scene.means) else wander_torch
            walk(scene, self.noise * lr, step, seed)

    @override
    @torch.no_grad()
    def edit(
        self,
        scene: Gaussians,
        state: State,
        importance: Importance,
        step: int,
        steps: int,
        seed: int,
    ) -> Edit | None:
        """Moves and growth draw from the same lots, at once; the paper does one after the other."""
        if not self.is_due(step, steps):
            return None
        # Only what is strictly below dies: a row made exactly as faint as allowed must survive.
        faintest = logit(self.min_opacity)
        whole = drawable(scene)
        alive = whole & (scene.opacity_logits >= faintest)
        dead = (~alive).nonzero().squeeze(-1)
        before = len(scene)
        if len(dead) == before:
            broken = int((~whole).sum())
            raise RunError(
                f"step {step}: all {before} Gaussians vanished: {broken} are not finite and "
                f"{before - broken} below densify.min_opacity={self.min_opacity:g}; lower the "
                "learning rates (optim) or the weights in regularise, or set densify=none"
            )
        count = max(before, min(self.max_count, before + int(self.growth * before)))
        target = torch.cat([dead, torch.arange(before, count, device=dead.device)])
        if len(target) == 0:
            return None
        source = draw(scene.opacity_logits, alive, len(target), step, seed)
        return Relocation(source, target, count, faintest)


def wander_native(scene: Gaussians, strength: float, step: int, seed: int) -> None:
    """As ``wander_torch``, in one pass; most rows are opaque, and only looked at."""
    kernels.ops.wander(list(vars(scene).values()), strength, seed, step)


@kernels.fake("wander")
def _(fields: list[Tensor], strength: float, seed: int, step: int) -> None: ...


def wander_torch(scene: Gaussians, strength: float, step: int, seed: int) -> None:
    """Add to the means, in place, the covariance times a normal vector, gated by opacity."""
    # In double precision and rounded once, as everywhere here: so devices agree to the bit.
    half = quats_to_rotmats(scene.quats.double()) * scene.log_scales.double().exp()[:, None]
    eta = normals(seed, step, torch.arange(len(scene), device=half.device), NOISE).double()
    gate = (GATE_STEEPNESS * (GATE_OPACITY - scene.opacity_logits.double().sigmoid())).sigmoid()
    walk = (half @ (half.mT @ eta[..., None])).squeeze(-1) * (strength * gate[:, None])
    # Rows without a picture stay as they are, for the next edit to replace.
    moves = drawable(scene) & (gate >= GATE_SHUT)
    walk = torch.where(moves[:, None], walk, 0.0)
    scene.means.copy_(scene.means.double() + walk)


@dataclass(frozen=True)
class Relocation(Edit):
    """Rows that become copies of others. Both share what there was, and both start at rest."""

    source: Int[Tensor, " m"]
    """Row that is copied; may occur several times."""
    target: Int[Tensor, " m"]
    """Row that it is copied to: each once, and none of them a source."""
    count: int
    faintest: float
    """Least opacity logit of whoever shares."""

    @override
    @torch.no_grad()
    def carry_out(self, rows: Rows) -> None:
        logits, log_scales = rows.scene.opacity_logits, rows.scene.log_scales
        sources, copies = self.source.unique(return_counts=True)
        part, log_ratio = shared(logits[sources], copies + 1, self.faintest)
        logits[sources] = part.to(logits)
        log_scales[sources] = (log_scales[sources].double() + log_ratio[:, None]).to(log_scales)
        for field in vars(rows.scene).values():
            field[self.target] = field[self.source]
        # Of the old opacity and size, of which the gradients no longer are.
        for moment in rows.moments:
            moment[torch.cat([self.target, sources])] = 0


def shared(
    opacity_logits: Float[Tensor, " n"], parts: Int[Tensor, " n"], faintest: float
) -> tuple[Float[Tensor, " n"], Float[Tensor, " n"]]:
    """What makes ``N`` coincident Gaussians look like one of opacity ``o`` and size ``s``.

    Opacity ``o'`` with ``1 - (1 - o')^N = o``. Size ``s'`` that leaves the light taken along a
    line through the centre, the integral of ``1 - (1 - o' exp(-x^2 / 2 s'^2))^N``, as it was:
    ``s' / s = o / sum_k C(N, k) (-1)^(k-1) o'^k / sqrt(k)``. That is equation 9, whose sum over i
    of ``C(i-1, k)`` is ``C(N, k+1)``.

    Args:
        parts: ``N``, how many share, at least 1.
        faintest: bound below which ``o'`` does not go; then only the size keeps the light.

    Returns:
        Logit of ``o'`` and logarithm of ``s' / s``, float64.
    """
    n = parts.clamp(max=MAX_PARTS)
    whole = opacity_logits.double().clamp(max=OPAQUE)
    log_clear = torch.nn.functional.logsigmoid(-whole) / n
    part = ((-torch.expm1(log_clear)).log() - log_clear).clamp(min=faintest)
    terms = _TERMS.to(part.device)[n] * part.sigmoid()[:, None] ** torch.tensor(_PARTS).to(n)
    return part, (whole.sigmoid() / terms.sum(-1)).log()


def draw(
    opacity_logits: Float[Tensor, " n"], among: Bool[Tensor, " n"], count: int, step: int, seed: int
) -> Int[Tensor, " count"]:
    """Rows ``among`` all, with replacement, each as likely as it is opaque."""
    lots = torch.where(among, (opacity_logits.double().sigmoid() * TICKETS).ceil(), 0.0)
    ends = lots.long().cumsum(0)
    counter = torch.full((count, 4), DRAW, dtype=torch.int64, device=ends.device)
    counter[:, 0], counter[:, 1], counter[:, 2] = step, torch.arange(count, device=ends.device), 0
    words = philox4x32(counter, (seed & WORD, (seed >> 32) & WORD))
    # 48 bits, so that rounding the product cannot reach the total, which no row holds.
    uniform = ((words[:, 0] << 16) + (words[:, 1] >> 16)).double() * 2.0**-48
    return torch.searchsorted(ends, (uniform * ends[-1]).long(), right=True)
