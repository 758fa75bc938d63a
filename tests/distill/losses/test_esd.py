"""ESD against identities, a hand-computed value and a closed-form Gaussian problem."""

import math
from typing import Literal

import pytest
import torch
from torch import Tensor

from esd_splat.config import load_config
from esd_splat.distill.losses import Esd, Sds, Vsd


def _eps(seed: int, dtype: torch.dtype = torch.float64) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(2, 4, 3, 3, dtype=torch.float64, generator=generator).to(dtype)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16])
def test_zero_entropy_weight_is_vsd_bit_for_bit(dtype: torch.dtype) -> None:
    teacher, lora, pooled = _eps(0, dtype), _eps(1, dtype), _eps(2, dtype)
    pooled[0] = float("inf")  # 0 * inf would be NaN, so this must not be read
    vsd = Vsd().direction(teacher, lora)
    assert torch.equal(Esd(0.0).direction(teacher, lora, pooled), vsd)
    assert torch.equal(Esd(0.0).direction(teacher, lora), vsd)


def test_unit_entropy_weight_is_vsd_with_the_camera_dropped() -> None:
    teacher, lora, pooled = _eps(0), _eps(1), _eps(2)
    expected = Vsd().direction(teacher, pooled)
    assert torch.equal(Esd(1.0).direction(teacher, lora, pooled), expected)
    assert torch.equal(Esd(1.0).direction(teacher, lora_null=pooled), expected)


def test_vsd_with_a_perfect_lora_of_one_image_is_sds() -> None:
    """If the LoRA knew the one image exactly, it would predict the noise that was drawn."""
    teacher, noise = _eps(0), _eps(1)
    assert torch.equal(Vsd().direction(teacher, lora=noise), Sds().direction(teacher, noise=noise))


@pytest.mark.parametrize(
    ("entropy_weight", "expected"),
    # 1 - ((1 - w) * 0.4 + w * 0.8)
    [(0.0, 0.6), (0.25, 0.5), (1.0, 0.2), (2.0, -0.2), (4.0, -1.0)],
)
def test_direction_by_hand(entropy_weight: float, expected: float) -> None:
    def full(v: float) -> Tensor:
        return torch.full((1, 4, 1, 1), v, dtype=torch.float64)

    d = Esd(entropy_weight).direction(full(1.0), full(0.4), full(0.8))
    torch.testing.assert_close(d, full(expected))


@pytest.mark.parametrize(
    ("entropy_weight", "s", "expected"),
    # -E[d z] = -s (1/5 - w / (s^2 + 1)); it vanishes at s^2 + 1 = 5 w
    [
        (1.0, 1.0, 1 / 2 - 1 / 5),
        (1.0, 2.0, 0.0),
        (0.5, 1.5**0.5, 0.0),
        (2.0, 3.0, 0.0),
        (0.0, 1.0, -1 / 5),
        (0.0, 2.0, -2 / 5),
    ],
    ids=["esd spreads", "at p", "half", "double", "vsd shrinks", "vsd shrinks past p"],
)
def test_descent_on_the_width_of_a_gaussian(
    entropy_weight: float, s: float, expected: float
) -> None:
    """q = N(0, s^2) fitted to p = N(0, 4) with exact scores, at alpha = sigma = 1.

    Renderings are x = s * z, so s moves by -E[d * z]. Pooled over z the renderings have variance
    s^2; given z they are a point, and a point's noise prediction is the noise that was drawn.
    The four points (z, noise) = (+-1, +-1) have the moments of two standard normals up to the
    second, which is all that E[d * z] depends on.
    """
    z = torch.tensor([1.0, 1.0, -1.0, -1.0], dtype=torch.float64).view(-1, 1, 1, 1)
    noise = torch.tensor([1.0, -1.0, 1.0, -1.0], dtype=torch.float64).view(-1, 1, 1, 1)
    noisy = s * z + noise
    d = Esd(entropy_weight).direction(noisy / (4 + 1), noise, noisy / (s**2 + 1))
    assert -(d * z).mean().item() == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("told", [True, False], ids=["told the view", "told no view"])
@pytest.mark.parametrize("entropy_weight", [0.0, 0.5, 1.0, 1.5])
def test_it_descends_the_objective_that_it_names(told: bool, entropy_weight: float) -> None:
    """Two cameras, c = -1 and 1. Renderings are points u c, noised to N(u c, 1).

    The teacher's images are N(m c, 1) if it is told the view, and their mean if it is not. All
    integrals over x are sums over a fine grid.
    """
    m, w = 0.7, entropy_weight
    x = torch.linspace(-10, 10, 4001, dtype=torch.float64).requires_grad_()
    step = 20 / 4000
    c = torch.tensor([[-1.0], [1.0]], dtype=torch.float64)

    def log_density(centre: float | Tensor) -> Tensor:
        return -((x - centre * c) ** 2) / 2 - math.log(2 * math.pi) / 2

    def pooled(log_q: Tensor) -> Tensor:
        return (log_q.logsumexp(0) - math.log(2)).expand_as(log_q)

    def mean(log_q: Tensor, value: Tensor) -> Tensor:
        return (log_q.exp() * value).sum() * step / 2

    def eps(log_q: Tensor) -> Tensor:
        rows = [torch.autograd.grad(row.sum(), x, retain_graph=True)[0] for row in log_q]
        return -torch.stack(rows).view(2, 1, 1, -1)

    teacher = log_density(m) if told else pooled(log_density(m))
    u = torch.tensor(0.7, dtype=torch.float64, requires_grad=True)
    q = log_density(u)
    information = mean(q, q - pooled(q))
    named = mean(q, q - teacher) - w * information
    if not told:
        split = w * mean(q, pooled(q) - teacher) + (1 - w) * mean(q, q - teacher)
        torch.testing.assert_close(split, named)
    elif w == 1:
        telling = log_density(m) - pooled(log_density(m))  # log p(c|x) / p(c)
        split = mean(q, pooled(q) - pooled(log_density(m))) - mean(q, telling)
        torch.testing.assert_close(split, named)
    (slope,) = torch.autograd.grad(named, u, retain_graph=True)
    d = Esd(w).direction(eps(teacher), eps(q), eps(pooled(q))).view(2, -1)
    # A rendering is u c, so that u moves by the mean of d c.
    torch.testing.assert_close(mean(q, d * c), slope)
    # At u = m the renderings are the teacher's own images.
    if told and w:
        assert slope < -0.05, "the renderings are moved apart"
    elif told or w == 1:
        assert slope.abs() < 1e-6


@pytest.mark.parametrize("given", ["lora", "lora_null"])
def test_a_missing_prediction_is_named(given: str) -> None:
    with pytest.raises(TypeError, match=r"needs lora, lora_null, teacher"):
        Esd(0.5).direction(_eps(0), **{given: _eps(1)})


@pytest.mark.parametrize(("weight", "given"), [(0.0, "lora_null"), (1.0, "lora")])
def test_the_prediction_that_counts_cannot_be_left_out(weight: float, given: str) -> None:
    with pytest.raises(TypeError, match="needs"):
        Esd(weight).direction(_eps(0), **{given: _eps(1)})


@pytest.mark.parametrize("weight", [-0.1, 4.5, float("nan"), float("inf")])
def test_rejects_weights_outside_the_range(weight: float) -> None:
    with pytest.raises(ValueError, match=r"^entropy_weight: must be in \[0, 4\], got"):
        Esd(entropy_weight=weight)


@pytest.mark.parametrize(
    ("camera", "marginal", "expected"),
    [
        ("lora", "lora", {"lora", "lora_null"}),
        ("noise", "lora", {"noise", "lora_null"}),
        ("lora", "pool", {"lora", "pooled"}),
        ("noise", "pool", {"noise", "pooled"}),
    ],
)
def test_either_prediction_may_be_computed_instead_of_learned(
    camera: Literal["lora", "noise"], marginal: Literal["lora", "pool"], expected: set[str]
) -> None:
    names = ("lora", "noise", "lora_null", "pooled")
    values = {name: _eps(i) for i, name in enumerate(names, start=1)}
    loss = Esd(0.25, camera, marginal)
    assert loss.needs == {"teacher"} | expected
    known, unknown = (values[name] for name in names if name in expected)
    given = {name: values[name] for name in expected}
    expected_direction = _eps(0) - 0.75 * known - 0.25 * unknown
    torch.testing.assert_close(loss.direction(_eps(0), **given), expected_direction)
    with pytest.raises(TypeError, match="needs"):
        loss.direction(_eps(0), **{k: v for k, v in values.items() if k not in expected})


def test_sds_with_no_entropy_asked_for_is_sds() -> None:
    loss = Esd(0.0, camera="noise")
    assert loss.needs == Sds().needs
    assert torch.equal(loss.direction(_eps(0), noise=_eps(1)), Sds().direction(_eps(0), _eps(1)))


def test_threestudio_calls_it_guidance_scale_lora() -> None:
    """Its eps_uncond + s (eps_camera - eps_uncond) is our blend at entropy weight 1 - s."""
    teacher, camera, null = _eps(0), _eps(1), _eps(2)
    for s in (1.0, 0.5, 0.0, -1.0):
        theirs = teacher - (null + s * (camera - null))
        loss = load_config(None, ["prompt=a", f"loss.guidance_scale_lora={s}"]).loss
        torch.testing.assert_close(loss.direction(teacher, camera, null), theirs)
