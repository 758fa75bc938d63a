"""3D Gaussian splatting as Markov chain Monte Carlo (Kheradmand et al., arXiv:2404.09591).

Gaussians that are too faint to be seen are moved onto visible ones, and new Gaussians are added at
a fixed rate in the same way. Gaussians that then coincide are changed so that together they look
like the single one that was there before. Noise makes faint Gaussians wander until they find
something to contribute to. The method records no gradients. Useless Gaussians fade because of the
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
"""Largest number of parts into which a Gaussian is divided (3DGS-MCMC). If more coincide, each gets
the values for this number, and together they are too opaque."""
OPAQUE = math.log(2**24 - 1)
"""Largest opacity logit that is divided, that of opacity 1 - 2^-24. Above it, one of 51 parts would
be so opaque that the alternating sum of equation 9 loses its digits, while opacities in float32 do
not change any more."""
GATE_OPACITY, GATE_STEEPNESS = 0.005, 100
"""The factor ``sigmoid(GATE_STEEPNESS * (GATE_OPACITY - opacity))`` restricts the noise to faint
Gaussians (3DGS-MCMC: t = 1 - 0.005, k = 100)."""
GATE_SHUT = 1e-25
"""Below this factor the noise would not move anything, and is skipped."""
TICKETS = 2**24
"""Weight in a draw of a Gaussian of opacity 1. Weights are integers, so that their sum does not
depend on the order in which a device adds them. The least weight of a candidate is 1."""
NOISE, DRAW = 2, 3
"""Keys of the random numbers: the ``copy`` of the noise, and the fourth counter word of draws."""

_PARTS = range(1, MAX_PARTS + 1)
_TERMS = torch.tensor(
    [[(-1) ** (k - 1) * math.comb(n, k) / math.sqrt(k) for k in _PARTS] for n in (0, *_PARTS)],
    dtype=torch.float64,
)
"""Coefficients of equation 9: row n and column k - 1 hold that of the k-th power of the opacity."""


@section
class Mcmc(Periodic):
    """Moves faded Gaussians onto visible ones, and adds Gaussians until there are ``max_count``.

    It is meant to be used with the penalties ``regularise.opacity`` and ``regularise.scale``.
    """

    min_opacity: float = Field(default=0.005, gt=0, lt=1)
    """Gaussians that are less opaque than this are moved. A copy never becomes less opaque than
    this."""
    # Copies start at the same place with nearly proportional gradients. Adam moves them alike, so
    # they separate slowly. Measured by fitting one figurine with one seed, from 400 Gaussians in
    # 300 steps: 0.05 ends with 463 Gaussians and 25.2 dB, 0.2 with 691 and 26.6 dB, clone_split
    # with 695 and 28.9 dB.
    growth: float = Field(default=0.05, ge=0, le=1)
    """Fraction of the scene that is added in one edit, rounded down; 0 only moves Gaussians."""
    max_count: int = Field(default=20_000, ge=1)
    """The scene stops growing at this many Gaussians. A scene that starts with more keeps them."""
    # The paper's 5e5 times its learning rate of 1.6e-4 is 80 times the variance per step, which is
    # 0.8 standard deviations of a Gaussian of size 0.01. Our Gaussians are fewer and larger: 2000
    # times 0.005 gives half a standard deviation of a Gaussian of size 0.05.
    noise: float = Field(default=2000.0, ge=0)
    """Size of the random steps of a nearly transparent Gaussian: their standard deviation along
    each of its axes, divided by its variance along that axis and by the learning rate of the means,
    in 1 / world unit^2; 0 switches them off."""

    @override
    @torch.no_grad()
    def nudge(self, scene: Gaussians, lr: float, step: int, steps: int, seed: int) -> None:
        """Add the noise of stochastic gradient Langevin dynamics, in every step of the run."""
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
        """Draw the sources of moved and of added rows together.

        The paper moves first, and then adds.
        """
        if not self.is_due(step, steps):
            return None
        # Rows of exactly this opacity must survive, as an earlier edit may have produced them.
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
    """Do the same as ``wander_torch`` with a compiled kernel, which skips opaque rows early."""
    kernels.ops.wander(list(vars(scene).values()), strength, seed, step)


@kernels.fake("wander")
def _(fields: list[Tensor], strength: float, seed: int, step: int) -> None: ...


def wander_torch(scene: Gaussians, strength: float, step: int, seed: int) -> None:
    """Add noise to the means of faint rows, in place.

    The noise is the covariance times a normal vector, times ``strength`` and a factor that depends
    on the opacity (see ``GATE_OPACITY``).
    """
    # Compute in double precision and round once, so that all devices agree to the bit.
    half = quats_to_rotmats(scene.quats.double()) * scene.log_scales.double().exp()[:, None]
    eta = normals(seed, step, torch.arange(len(scene), device=half.device), NOISE).double()
    gate = (GATE_STEEPNESS * (GATE_OPACITY - scene.opacity_logits.double().sigmoid())).sigmoid()
    walk = (half @ (half.mT @ eta[..., None])).squeeze(-1) * (strength * gate[:, None])
    # Rows that cannot be drawn stay as they are, and the next edit replaces them.
    moves = drawable(scene) & (gate >= GATE_SHUT)
    walk = torch.where(moves[:, None], walk, 0.0)
    scene.means.copy_(scene.means.double() + walk)


@dataclass(frozen=True)
class Relocation(Edit):
    """An edit that turns rows into copies of other rows.

    A source and its copies divide the source's opacity and size among them, and all of them start
    with zero moments.
    """

    source: Int[Tensor, " m"]
    """The row that each copy is made of. A row may occur several times."""
    target: Int[Tensor, " m"]
    """The row that each copy is written to. Rows are distinct, and none is a source."""
    count: int
    faintest: float
    """Lower bound of the opacity logits of sources and copies."""

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
        # The old moments belong to the old opacities and sizes.
        for moment in rows.moments:
            moment[torch.cat([self.target, sources])] = 0


def shared(
    opacity_logits: Float[Tensor, " n"], parts: Int[Tensor, " n"], faintest: float
) -> tuple[Float[Tensor, " n"], Float[Tensor, " n"]]:
    """Return opacity and size of ``N`` equal parts that together look like one Gaussian.

    If the Gaussian has opacity ``o`` and size ``s``, the opacity ``o'`` of each part satisfies
    ``1 - (1 - o')^N = o``. The size ``s'`` of each part preserves the light that is absorbed along
    a line through the centre, the integral of ``1 - (1 - o' exp(-x^2 / 2 s'^2))^N`` over ``x``:
    ``s' / s = o / sum_k C(N, k) (-1)^(k-1) o'^k / sqrt(k)``. This is equation 9 of the paper, whose
    sum of ``C(i-1, k)`` over ``i`` is ``C(N, k+1)``.

    Args:
        opacity_logits: logits of ``o``.
        parts: ``N``, at least 1.
        faintest: lower bound of the logits of ``o'``. Where it applies, only the size is adapted
            to preserve the absorbed light.

    Returns:
        Logits of ``o'`` and logarithms of ``s' / s``, in float64.
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
    """Draw ``count`` rows from ``among`` with replacement, in proportion to their opacities."""
    lots = torch.where(among, (opacity_logits.double().sigmoid() * TICKETS).ceil(), 0.0)
    ends = lots.long().cumsum(0)
    counter = torch.full((count, 4), DRAW, dtype=torch.int64, device=ends.device)
    counter[:, 0], counter[:, 1], counter[:, 2] = step, torch.arange(count, device=ends.device), 0
    words = philox4x32(counter, (seed & WORD, (seed >> 32) & WORD))
    # A uniform number of 48 bits times the total is less than the total even after rounding. No
    # row would match the total itself.
    uniform = ((words[:, 0] << 16) + (words[:, 1] >> 16)).double() * 2.0**-48
    return torch.searchsorted(ends, (uniform * ends[-1]).long(), right=True)
