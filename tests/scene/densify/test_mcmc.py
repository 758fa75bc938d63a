"""Moving, adding and dividing Gaussians, and the noise (Kheradmand et al., arXiv:2404.09591)."""

import dataclasses
import math

import pytest
import torch
from torch import Tensor

from esd_splat.errors import RunError
from esd_splat.scene.densify.base import Rows
from esd_splat.scene.densify.mcmc import (
    DRAW,
    TICKETS,
    Mcmc,
    Relocation,
    draw,
    shared,
)
from esd_splat.scene.densify.random import philox4x32
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
