"""Moving, adding and dividing Gaussians, and the noise (Kheradmand et al., arXiv:2404.09591)."""

import dataclasses
import math

import pytest
import torch
from torch import Tensor

from esd_splat.errors import RunError
from esd_splat.scene import kernels
from esd_splat.scene.densify.base import Rows
from esd_splat.scene.densify.mcmc import (
    DRAW,
    GATE_OPACITY,
    MAX_PARTS,
    NOISE,
    OPAQUE,
    TICKETS,
    Mcmc,
    Relocation,
    draw,
    shared,
    wander_native,
    wander_torch,
)
from esd_splat.scene.densify.random import normals, philox4x32
from esd_splat.scene.gaussians import Gaussians
from esd_splat.scene.optim import Optim, apply_edit, make_adam, scene_of
from tests.scene.densify.scenes import scene_of_rows, seen_by_all, with_rows

ALWAYS = Mcmc(every=1, window=(0.0, 1.0))
"""Edits at every step, with defaults otherwise."""
STILL = dataclasses.replace(ALWAYS, growth=0.0)
"""The same without growth."""
ANYTHING = -math.inf
"""A lower bound of opacity logits that has no effect."""


def _never() -> Tensor:
    raise AssertionError("MCMC asks for no importance")


def _edit(strategy: Mcmc, scene: Gaussians, seed: int = 0, step: int = 1) -> Relocation:
    edit = strategy.edit(scene, {}, _never, step, 10, seed)
    assert isinstance(edit, Relocation)
    return edit


def _carried_out(edit: Relocation, scene: Gaussians) -> tuple[Gaussians, list[Tensor]]:
    """Return the scene and the moments after the edit. All moments were 1 before."""
    room = edit.count + 3

    def roomy(value: Tensor) -> Tensor:
        buffer = torch.full((room, *value.shape[1:]), math.nan)
        buffer[: len(value)] = value
        return buffer

    rows = Rows(scene.map(roomy), [torch.ones_like(roomy(v)) for v in vars(scene).values()])
    edit.carry_out(rows)
    assert all(buffer[edit.count :].isnan().all() for buffer in vars(rows.scene).values())
    assert all((moment[edit.count :] == 1).all() for moment in rows.moments)
    cut = [moment[: edit.count] for moment in rows.moments]
    return rows.scene.map(lambda v: v[: edit.count]), cut


# Dividing one Gaussian into several (equation 9).


@pytest.mark.parametrize("opacity", [0.006, 0.1, 0.5, 0.9, 0.999, 1 - 1e-7])
@pytest.mark.parametrize("parts", [1, 2, 3, 5, 20, MAX_PARTS])
def test_parts_in_front_of_one_another_are_as_opaque_as_the_whole(
    opacity: float, parts: int
) -> None:
    logit = torch.tensor([opacity], dtype=torch.float64).logit()
    part, _ = shared(logit, torch.tensor([parts]), ANYTHING)
    assert 1 - (1 - part.sigmoid().item()) ** parts == pytest.approx(opacity, rel=0, abs=1e-12)


def _ratio_by_the_papers_sum(opacity: float, parts: int) -> float:
    """Equation 9 as printed, term by term."""
    part = 1 - (1 - opacity) ** (1 / parts)
    total = 0.0
    for i in range(1, parts + 1):
        for k in range(i):
            total += math.comb(i - 1, k) * (-1) ** k * part ** (k + 1) / math.sqrt(k + 1)
    return opacity / total


def _ratio_by_integration(opacity: float, parts: int) -> float:
    """Integrate the light absorbed along a line, by the trapezoidal rule up to 9 sigma."""
    x = torch.linspace(-9, 9, 3001, dtype=torch.float64)
    part = 1 - (1 - opacity) ** (1 / parts)
    light = 1 - (1 - part * (-x * x / 2).exp()) ** parts
    return opacity * math.sqrt(2 * math.pi) / (light.sum() * (x[1] - x[0])).item()


@pytest.mark.parametrize("opacity", [0.01, 0.3, 0.8, 0.999])
@pytest.mark.parametrize("parts", range(1, 6))
def test_sizes_are_those_of_the_papers_sum(opacity: float, parts: int) -> None:
    logit = torch.tensor([opacity], dtype=torch.float64).logit()
    _, log_ratio = shared(logit, torch.tensor([parts]), ANYTHING)
    expected = _ratio_by_the_papers_sum(opacity, parts)
    assert log_ratio.exp().item() == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("opacity", [0.01, 0.5, 0.999, 1 - 1e-6])
@pytest.mark.parametrize("parts", [1, 2, 5, 20, MAX_PARTS])
def test_the_light_taken_along_a_line_is_kept(opacity: float, parts: int) -> None:
    """This holds even for many parts of an opaque Gaussian, where terms of the sum cancel."""
    logit = torch.tensor([opacity], dtype=torch.float64).logit()
    _, log_ratio = shared(logit, torch.tensor([parts]), ANYTHING)
    expected = _ratio_by_integration(opacity, parts)
    assert log_ratio.exp().item() == pytest.approx(expected, rel=1e-9)


def test_one_part_is_the_whole() -> None:
    logits = torch.linspace(-6, 16, 200, dtype=torch.float64)
    part, log_ratio = shared(logits, torch.ones(200, dtype=torch.int64), ANYTHING)
    torch.testing.assert_close(part, logits, rtol=0, atol=1e-12)
    torch.testing.assert_close(log_ratio, torch.zeros_like(logits), rtol=0, atol=1e-12)


def test_more_than_the_table_holds_share_as_if_they_were_as_many_as_it_holds() -> None:
    logits = torch.tensor([0.3, 0.3])
    part, log_ratio = shared(logits, torch.tensor([MAX_PARTS, 1000]), ANYTHING)
    assert part[0] == part[1]
    assert log_ratio[0] == log_ratio[1]


def test_the_extremes_stay_finite() -> None:
    """Opacities above 1 - 2^-24 are divided like it, and no part is fainter than the bound."""
    logits = torch.tensor([OPAQUE, 60.0, 1e30, -5.0, -5.0])
    bound = -5.2
    part, log_ratio = shared(logits, torch.tensor([51, 51, 51, 2, 51]), bound)
    assert (part[:3] == part[0]).all()
    assert part[3:].tolist() == [bound, bound]
    assert log_ratio.isfinite().all()
    # Where the opacity is at its bound, the size changes instead.
    o, faint = torch.tensor([-5.0, bound], dtype=torch.float64).sigmoid().tolist()
    kept = 2 * faint - faint**2 / math.sqrt(2)
    assert log_ratio[3].exp().item() == pytest.approx(o / kept, rel=1e-12)


# Drawing the sources of copies.


def test_the_seen_are_drawn_as_often_as_they_are_opaque() -> None:
    """Counts are within 5 standard errors, each less than sqrt(expected)."""
    opacity = torch.tensor([0.01, 0.9, 0.3, 0.6, 0.05])
    among = torch.tensor([True, True, False, True, True])
    count = 40_000
    times = draw(opacity.logit(), among, count, step=3, seed=1).bincount(minlength=5)
    expected = count * opacity * among / opacity[among].sum()
    assert times[2] == 0
    assert ((times - expected).abs() <= 5 * expected.sqrt()).all()


def test_a_draw_is_the_lot_that_its_own_number_falls_on() -> None:
    """This is the definition that kernels in other languages have to reproduce."""
    logits = scene_of_rows(50).opacity_logits
    among = torch.arange(50) % 3 > 0
    seed, step = 0x1122334455667788, 70
    drawn = draw(logits, among, 20, step, seed)
    lots = [
        math.ceil(o * TICKETS) if a else 0
        for o, a in zip(logits.double().sigmoid().tolist(), among.tolist(), strict=True)
    ]
    for i, row in enumerate(drawn.tolist()):
        counter = torch.tensor([[step, i, 0, DRAW]])
        first, second, *_ = philox4x32(counter, (0x55667788, 0x11223344))[0].tolist()
        ticket = ((first << 16) + (second >> 16)) * sum(lots) >> 48
        assert sum(lots[:row]) <= ticket < sum(lots[: row + 1])


def test_faint_but_living_rows_have_a_chance_and_others_none() -> None:
    """Rows with opacity exp(-40) are drawn, and dead rows before, between and behind them never."""
    among = torch.tensor([False, True, False, True, False])
    drawn = draw(torch.full((5,), -40.0), among, 200, step=1, seed=0)
    assert drawn.unique().tolist() == [1, 3]


# Carrying out edits.


@pytest.mark.parametrize("sh", [0, 3, 8, 15])
def test_the_dead_become_copies_of_the_seen_and_nobody_else_changes(sh: int) -> None:
    dead = [0, 17, 39]
    scene = with_rows(scene_of_rows(40, sh=sh), opacity_logits=dict.fromkeys(dead, -6.0))
    edit = _edit(STILL, scene)
    assert edit.target.tolist() == dead
    assert edit.count == 40
    after, _ = _carried_out(edit, scene)
    sources = edit.source.tolist()
    assert not set(sources) & set(dead)
    for name, new in vars(after).items():
        old = getattr(scene, name)
        assert torch.equal(new[dead], new[sources]), "copies and sources are alike"
        shared_out = name in ("opacity_logits", "log_scales")
        same = [row for row in range(40) if row not in (*dead, *(sources if shared_out else []))]
        assert torch.equal(new[same], old[same]), name


def test_a_source_shares_with_all_its_copies() -> None:
    scene = scene_of_rows(6)
    edit = Relocation(torch.tensor([4, 1, 4]), torch.tensor([2, 0, 6]), 7, ANYTHING)
    after, _ = _carried_out(edit, scene)
    for row, parts in ((4, 3), (1, 2)):
        part, log_ratio = shared(scene.opacity_logits[[row]], torch.tensor([parts]), ANYTHING)
        assert after.opacity_logits[row] == part.float()
        expected = (scene.log_scales[row].double() + log_ratio).float()
        assert torch.equal(after.log_scales[row], expected)
    assert torch.equal(after.opacity_logits[[2, 6]], after.opacity_logits[[4, 4]])
    assert torch.equal(after.means[[2, 0, 6]], scene.means[[4, 1, 4]])


def test_moments_restart_where_a_row_was_copied_from_or_to_and_nowhere_else() -> None:
    scene = with_rows(scene_of_rows(50, sh=3), opacity_logits={7: -9.0, 30: -9.0})
    edit = _edit(ALWAYS, scene)
    _, moments = _carried_out(edit, scene)
    touched = set(edit.source.tolist()) | set(edit.target.tolist())
    assert len(touched) < 50
    for moment in moments:
        for row in range(edit.count):
            assert (moment[row] == (0 if row in touched else 1)).all()


@pytest.mark.parametrize(
    ("count", "growth", "max_count", "expected"),
    [
        (40, 0.05, 1000, 42),
        (59, 0.05, 1000, 61),
        (40, 1.0, 1000, 80),
        (40, 0.5, 50, 50),
        (40, 0.05, 40, None),
        (40, 0.05, 30, None),
        (40, 0.0, 1000, None),
        (19, 0.05, 1000, None),
    ],
)
def test_growth_is_a_share_rounded_down_and_ends_at_the_limit(
    count: int, growth: float, max_count: int, expected: int | None
) -> None:
    strategy = dataclasses.replace(ALWAYS, growth=growth, max_count=max_count)
    edit = strategy.edit(scene_of_rows(count), {}, _never, 1, 10, seed=0)
    if expected is None:
        assert edit is None, "an edit of nothing would cost as much as one"
        return
    assert isinstance(edit, Relocation)
    assert edit.count == expected
    assert edit.target.tolist() == [*range(count, expected)]
    assert edit.source.max() < count


def test_the_dead_move_also_where_there_is_no_room_to_grow() -> None:
    strategy = dataclasses.replace(ALWAYS, max_count=30)
    edit = _edit(strategy, with_rows(scene_of_rows(40), opacity_logits={5: -9.0}))
    assert edit.target.tolist() == [5]
    assert edit.count == 40


def test_who_is_dead() -> None:
    """Rows below the least opacity or not drawable are dead. A row exactly at it is alive."""
    least = torch.tensor(math.log(STILL.min_opacity / (1 - STILL.min_opacity)))
    below = torch.nextafter(least, torch.tensor(-math.inf))
    scene = with_rows(
        scene_of_rows(40),
        opacity_logits={0: least, 1: below, 2: math.nan, 3: math.inf},
        means={4: [math.nan, 0.0, 0.0]},
        log_scales={5: 60.0},
        quats={6: 0.0},
        sh0={7: -math.inf},
    )
    edit = _edit(STILL, scene)
    assert edit.target.tolist() == [1, 2, 3, 4, 5, 6, 7]
    after, _ = _carried_out(edit, scene)
    assert all(value.isfinite().all() for value in vars(after).values())


def test_being_made_as_faint_as_allowed_is_no_death() -> None:
    """A row that is barely alive gets forty copies. All end at the bound, and survive."""
    scene = with_rows(
        scene_of_rows(41), opacity_logits={row: -5.0 if row == 3 else -9.0 for row in range(41)}
    )
    after, _ = _carried_out(_edit(STILL, scene), scene)
    assert after.opacity_logits.unique().numel() == 1
    assert STILL.edit(after, {}, _never, 2, 10, seed=0) is None


def test_nothing_alive_is_an_error_that_says_why() -> None:
    scene = scene_of_rows(3).map(lambda v: v - 100.0)
    scene = with_rows(scene, means={1: math.nan})
    message = (
        r"step 4: all 3 Gaussians vanished: 1 are not finite and 2 below densify\.min_opacity="
        r"0\.005; lower the learning rates \(optim\) or the weights in regularise, or set densify="
    )
    with pytest.raises(RunError, match=message):
        ALWAYS.edit(scene, {}, _never, 4, 10, seed=0)


def test_edits_happen_at_their_interval_inside_their_window() -> None:
    strategy, scene = Mcmc(every=10, window=(0.2, 0.5)), scene_of_rows(40)
    edits = [s for s in range(1, 101) if strategy.edit(scene, {}, _never, s, 100, seed=0)]
    assert edits == [20, 30, 40, 50]


def test_same_arguments_same_bits_other_seed_or_step_other_bits() -> None:
    scene = scene_of_rows(200)
    grow = dataclasses.replace(ALWAYS, growth=0.5)
    torch.manual_seed(0)
    first = _edit(grow, scene, seed=4).source
    torch.manual_seed(1)
    assert torch.equal(_edit(grow, scene.map(lambda v: v.requires_grad_()), seed=4).source, first)
    for other in ({"seed": 5}, {"seed": 4 + 2**32}, {"seed": 4, "step": 2}):
        assert not torch.equal(_edit(grow, scene, **other).source, first)


@pytest.mark.parametrize("sh", [0, 3, 8, 15])
def test_an_optimizer_goes_on_after_an_edit(sh: int) -> None:
    """The next step moves copies and sources alike, as the moments of both were reset."""
    optimizer = make_adam(scene_of_rows(50, sh=sh), Optim())

    def step() -> None:
        optimizer.zero_grad()
        values = [value.sin().flatten() for value in vars(scene_of(optimizer)).values()]
        torch.cat(values).square().sum().backward()
        optimizer.step()

    step()
    before = {
        name: optimizer.state[value]["exp_avg_sq"].clone()
        for name, value in vars(scene_of(optimizer)).items()
    }
    edit = _edit(dataclasses.replace(ALWAYS, growth=0.2), scene_of(optimizer))
    apply_edit(optimizer, edit)
    scene, touched = scene_of(optimizer), torch.cat([edit.source, edit.target])
    rest = [row for row in range(50) if row not in touched.tolist()]
    assert len(scene) == edit.count == 60
    assert 0 < len(rest) < 50
    for name, value in vars(scene).items():
        state = optimizer.state[value]
        assert not state["exp_avg"][touched].any()
        assert torch.equal(state["exp_avg_sq"][rest], before[name][rest])
        assert before[name].all()
    step()
    assert torch.equal(scene.means[edit.target], scene.means[edit.source])


# The noise.

FAINT = math.log(GATE_OPACITY / (1 - GATE_OPACITY))
"""Opacity logit at which the factor of the noise is 0.5."""


def _walk(scene: Gaussians, noise: float = 2000.0, seed: int = 0, step: int = 1) -> Tensor:
    """Return in float64 what the noise adds to the means at a learning rate of 0.005."""
    moved = scene.map(lambda v: v.detach().clone())
    dataclasses.replace(ALWAYS, noise=noise).nudge(moved, 0.005, step, 10, seed)
    for name, value in vars(moved).items():
        assert name == "means" or torch.equal(value, getattr(scene, name))
    return moved.means.double() - scene.means.double()


def _copies(count: int, log_scales: list[float], logit: float = FAINT) -> Gaussians:
    """Copies of a tilted Gaussian at the origin, where adding a small step loses no digits."""
    one = scene_of_rows(1, seed=3).map(lambda v: v.expand(count, *v.shape[1:]).clone())
    changed = {
        "means": torch.zeros(count, 3),
        "log_scales": torch.tensor(log_scales).expand(count, 3).clone(),
        "opacity_logits": torch.full((count,), logit),
    }
    return Gaussians(**vars(one) | changed)


def test_the_noise_has_the_covariance_of_the_formula() -> None:
    """The covariance is ``(noise lr gate)^2 Sigma Sigma^T``, estimated from 20000 rows."""
    count = 20_000
    scene = _copies(count, [-2.0, -3.0, -2.5])
    walk = _walk(scene)
    sigma = scene.covariances[0].double()
    expected = (2000 * 0.005 * 0.5) ** 2 * sigma @ sigma.T
    # The variance of the estimate of cov_ij is (cov_ii cov_jj + cov_ij^2) / n for normal numbers,
    # and less for our distribution with its lighter tails.
    variances = expected.diagonal()
    error = ((variances[:, None] * variances + expected**2) / count).sqrt()
    assert ((walk.T @ walk / count - expected).abs() <= 4 * error).all()
    assert (walk.mean(0).abs() <= 4 * (variances / count).sqrt()).all()
    assert expected[0, 1].abs() > 20 * error[0, 1], "the axes are told apart"


def test_the_noise_is_the_formula_row_by_row() -> None:
    scene = with_rows(scene_of_rows(30), means=dict.fromkeys(range(30), 0.0))
    scene = Gaussians(**vars(scene) | {"opacity_logits": torch.linspace(-8, -3, 30)})
    eta = normals(7, 3, torch.arange(30), NOISE).double()
    wide = scene.map(lambda v: v.double())
    for row, moved in enumerate(_walk(scene, noise=500.0, seed=7, step=3)):
        gate = 1 / (1 + math.exp(-100 * ((1 - wide.opacities[row].item()) - 0.995)))
        expected = 500 * 0.005 * gate * wide.covariances[row] @ eta[row]
        torch.testing.assert_close(moved, expected, rtol=1e-6, atol=0.0)


def test_faint_rows_wander_and_opaque_ones_stay() -> None:
    logits = [-12.0, FAINT, -3.5, -2.0, 0.0, 8.0]
    lengths = [_walk(_copies(100, [-3.0] * 3, logit)).norm(dim=1).mean().item() for logit in logits]
    assert lengths == sorted(lengths, reverse=True)
    open_gate = 1 / (1 + math.exp(-0.5))  # without any opacity: sigmoid(100 * 0.005)
    assert lengths[1] == pytest.approx(0.5 / open_gate * lengths[0], rel=1e-2)
    assert lengths[3] < 1e-4 * lengths[0], "at an opacity of 0.12"
    assert max(lengths[4:]) < 1e-15


def test_the_noise_stays_in_the_plane_of_a_flat_gaussian() -> None:
    scene = _copies(200, [-2.0, -2.0, -12.0])
    axes = _walk(scene) @ scene.covariance_factors[0].double() / scene.log_scales[0].double().exp()
    assert axes[:, :2].abs().mean() > 1e-3
    assert axes[:, 2].abs().max() < 1e-6 * axes[:, :2].abs().mean()


def test_the_noise_goes_with_strength_and_learning_rate() -> None:
    scene = _copies(50, [-3.0] * 3)
    torch.testing.assert_close(_walk(scene, noise=4000.0), 2 * _walk(scene), rtol=1e-6, atol=0.0)
    halved = scene.map(torch.clone)
    ALWAYS.nudge(halved, 0.0025, 1, 10, seed=0)
    torch.testing.assert_close(2 * halved.means.double(), _walk(scene), rtol=1e-6, atol=0.0)
    assert not _walk(scene, noise=0.0).any()


def test_noise_is_a_function_of_seed_step_and_row() -> None:
    scene = _copies(64, [-3.0] * 3)
    torch.manual_seed(0)
    first = _walk(scene, seed=4)
    torch.manual_seed(1)
    assert torch.equal(_walk(scene, seed=4), first)
    assert torch.equal(_walk(scene.map(lambda v: v[:10]), seed=4), first[:10])
    for other in (_walk(scene, seed=5), _walk(scene, seed=4, step=2), first.roll(1, 0)):
        assert not (other == first).any()


def test_rows_without_a_picture_are_left_as_they_are() -> None:
    """If the noise made them infinite, the run would end before the next edit replaces them."""
    walk = _walk(with_rows(_copies(5, [-3.0] * 3), log_scales={1: 60.0, 2: 700.0}, quats={3: 0.0}))
    assert walk[[0, 4]].all()
    assert not walk[1:4].any()


# Configuration.


def test_nothing_is_measured() -> None:
    state = ALWAYS.start(7)
    ALWAYS.observe(state, seen_by_all(1, 7), torch.ones(1, 7, 2))
    assert state == {}


def test_every_range_problem_is_reported() -> None:
    with pytest.raises(ValueError, match="every: must be at least 1, got 0") as caught:
        Mcmc(0, (0.5, 1.5), min_opacity=0.0, growth=1.5, max_count=0, noise=math.inf)
    keys = [line.split(":")[0] for line in str(caught.value).splitlines()]
    assert keys == [field.name for field in dataclasses.fields(Mcmc)]
    with pytest.raises(ValueError, match=r"^window: low must not exceed high, got \[0\.5, 0\.1\]$"):
        Mcmc(window=(0.5, 0.1))
    for key in ("min_opacity", "growth", "noise"):
        with pytest.raises(ValueError, match=f"{key}: .*nan"):
            Mcmc(**{key: math.nan})  # pyright: ignore[reportArgumentType]


@pytest.mark.skipif(bool(kernels.MISSING), reason=f"no kernels: {kernels.MISSING}")
@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
def test_the_kernels_noise_equals_torchs(device: str) -> None:
    scene = scene_of_rows(5000, sh=3)
    scene.opacity_logits.copy_(torch.linspace(-9.0, 9.0, 5000))
    scene.means[::3] = 0.0
    scene.log_scales[7], scene.quats[8], scene.means[9] = 60.0, 0.0, torch.nan
    one, other = (scene.map(lambda v: v.clone()) for _ in range(2))
    other = other.map(lambda v: v.to(device))
    wander_torch(one, 10.0, 3, 2**40 + 1)
    wander_native(other, 10.0, 3, 2**40 + 1)
    assert torch.equal(one.means.nan_to_num(5.0), other.means.cpu().nan_to_num(5.0))
    moved = (one.means != scene.means).any(1)
    assert moved[:1000].double().mean() > 0.99, "the faint wander"
    assert not moved[4000:].any(), "the opaque do not"
