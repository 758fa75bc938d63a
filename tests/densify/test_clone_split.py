import dataclasses
import math

import pytest
import torch
from torch import Tensor

from esd_splat.densify import CloneSplit, Edit
from esd_splat.densify.clone_split import SPLIT_SHRINK
from esd_splat.densify.random import normals
from esd_splat.errors import RunError
from esd_splat.gaussians import Gaussians, quats_to_rotmats
from tests.densify.scenes import render_of, scene_of_rows, seen_by_all, with_rows

SMALL = CloneSplit(every=1, window=(0.0, 1.0), min_count=1)
"""Edits at every step; the thresholds are the defaults."""


def _edit(
    strategy: CloneSplit, scene: Gaussians, grad2d: Tensor, seed: int = 0, step: int = 1
) -> Edit:
    views, count, _ = grad2d.shape
    state = strategy.observe(strategy.start(count), seen_by_all(views, count), grad2d)
    edit = strategy.edit(scene, state, step, 10, seed)
    assert edit is not None
    return edit


def _steep(count: int, rows: list[int], ratio: float = 50.0) -> Tensor:
    """Gradients of one view that make ``rows`` grow."""
    grad2d = torch.ones(1, count, 2)
    grad2d[:, rows] = ratio
    return grad2d


# What is measured.


def test_statistic_is_the_mean_over_the_views_that_saw_a_gaussian() -> None:
    """By hand: row 0 is seen thrice, 3-4-5, 6-8-10 and 0; row 1 once, 5-12-13; row 2 never."""
    state = SMALL.start(3)
    first = torch.tensor([[[3.0, 4.0], [5.0, 12.0], [9.0, 9.0]], [[6.0, 8.0], [7.0, 7.0], [9, 9]]])
    seen = torch.tensor([[True, True, False], [True, False, False]])
    state = SMALL.observe(state, render_of(seen), first)
    second = torch.tensor([[[0.0, 0.0], [7.0, 7.0], [math.nan, 0.0]]])
    state = SMALL.observe(state, render_of(torch.tensor([[True, False, False]])), second)
    assert state["gradient"].tolist() == [15.0, 13.0, 0.0]
    assert state["seen"].tolist() == [3, 1, 0]


def test_being_seen_by_few_views_is_no_disadvantage() -> None:
    """Row 17 is seen by one view of four, and twice as steep there as the others."""
    grad2d, visible = torch.ones(4, 40, 2), torch.ones(4, 40, dtype=torch.bool)
    grad2d[0, 17], visible[1:, 17] = 2.0, False
    state = SMALL.observe(SMALL.start(40), render_of(visible), grad2d)
    edit = SMALL.edit(scene_of_rows(40), state, 1, 10, seed=0)
    assert edit is not None
    assert edit.parent.tolist() == [*range(40), 17]


def test_all_views_of_a_batch_count() -> None:
    """A Gaussian that only the first of four views wants to change grows all the same."""
    grad2d = torch.ones(4, 40, 2)
    grad2d[0, 17] = 100.0
    assert _edit(SMALL, scene_of_rows(40), grad2d).parent.tolist() == [*range(40), 17]


def _decisions(strategy: CloneSplit, grad2d: Tensor) -> Tensor:
    scene = scene_of_rows(grad2d.shape[1])
    large = scene.log_scales.amax(-1) > -3.8
    strategy = dataclasses.replace(strategy, split_size=math.exp(-3.8))
    assert large.any()
    assert not large.all()
    return _edit(strategy, scene, grad2d).parent


@pytest.mark.parametrize("max_growth", [1.0, 0.1])
def test_whatever_multiplies_the_gradient_changes_no_decision(max_growth: float) -> None:
    """Loss weight, guidance scale, 1 / b and the unit of a pixel are such factors."""
    strategy = dataclasses.replace(SMALL, grow_ratio=1.5, max_growth=max_growth)
    grad2d = torch.randn(4, 300, 2, generator=torch.Generator().manual_seed(0)).exp()
    parent = _decisions(strategy, grad2d)
    assert len(parent) > 300
    for factor in (2.0**-60, 2.0**40, 1e-12, 100.0, 4 / 7):
        assert torch.equal(_decisions(strategy, grad2d * factor), parent), factor
    doubled = torch.cat([grad2d, grad2d]) / 2
    assert torch.equal(_decisions(strategy, doubled), parent), "the same views twice, mean loss"
    assert not torch.equal(_decisions(strategy, grad2d.flip(1)), parent), "the test can fail"


def test_more_steps_of_the_same_change_no_decision() -> None:
    scene = scene_of_rows(50)
    grad2d = torch.randn(2, 50, 2, generator=torch.Generator().manual_seed(0)).exp()
    state, parents = SMALL.start(50), []
    for step in range(1, 4):
        state = SMALL.observe(state, seen_by_all(2, 50), grad2d)
        edit = SMALL.edit(scene, state, step, 10, seed=0)
        assert edit is not None
        parents.append(edit.parent)
    assert torch.equal(parents[0], parents[2])


def test_equal_or_absent_gradients_grow_nothing() -> None:
    scene = scene_of_rows(30)
    for grad2d in (torch.ones(2, 30, 2), torch.zeros(2, 30, 2)):
        assert _edit(SMALL, scene, grad2d).parent.tolist() == [*range(30)]
    unseen = SMALL.edit(scene, SMALL.start(30), 1, 10, seed=0)
    assert unseen is not None
    assert unseen.parent.tolist() == [*range(30)]


# What grows.


def test_order_of_the_rows_and_which_are_fresh() -> None:
    """Survivors in order, then clones, then first children, then second children."""
    scene = with_rows(
        scene_of_rows(40), log_scales={2: -2.0, 9: -2.0}, opacity_logits={0: -9.0, 30: -9.0}
    )
    edit = _edit(SMALL, scene, _steep(40, [0, 2, 5, 9, 20]))
    old = [row for row in range(40) if row not in (0, 2, 9, 30)]
    assert edit.parent.tolist() == [*old, 5, 20, 2, 9, 2, 9]
    assert edit.fresh.tolist() == [False] * len(old) + [True] * 6


def test_a_clone_is_its_source_and_together_they_are_as_opaque() -> None:
    scene = scene_of_rows(40, sh=3)
    edit = _edit(SMALL, scene, _steep(40, [5]))
    source, clone = (edit.gaussians.map(lambda v, row=row: v[row : row + 1]) for row in (5, 40))
    for name, value in vars(scene).items():
        assert torch.equal(getattr(source, name), getattr(clone, name))
        if name != "opacity_logits":
            assert torch.equal(getattr(source, name), value[5:6])
    through = (1 - source.opacities) * (1 - clone.opacities)
    torch.testing.assert_close(1 - through, scene.opacities[5:6], rtol=1e-6, atol=0.0)
    untouched = torch.arange(40) != 5
    assert torch.equal(
        edit.gaussians.opacity_logits[:40][untouched], scene.opacity_logits[untouched]
    )


@pytest.mark.parametrize("logit", [-3.8, 0.0, 8.0, 30.0])
def test_halving_an_opacity_is_accurate_at_both_ends(logit: float) -> None:
    scene = with_rows(scene_of_rows(40), opacity_logits={5: logit})
    halved = _edit(SMALL, scene, _steep(40, [5])).gaussians.opacity_logits[5].double()
    # 1 - o = sigmoid(-logit); in float64, where it does not round to zero.
    clear = torch.sigmoid(torch.tensor(-logit, dtype=torch.float64)).sqrt()
    torch.testing.assert_close(halved, torch.log((1 - clear) / clear), rtol=1e-5, atol=1e-5)


def test_children_are_drawn_from_their_parent() -> None:
    """By the definition: mean + R diag(s) n, n keyed by seed, step, row of the old scene, copy."""
    scene = with_rows(scene_of_rows(60, sh=8), log_scales={33: [-1.0, -2.0, -3.0], 50: -2.0})
    edit = _edit(SMALL, scene, _steep(60, [33, 50]), seed=11, step=3)
    assert edit.parent[58:].tolist() == [33, 50, 33, 50]
    for copy in (0, 1):
        child = edit.gaussians.map(lambda v, row=58 + 2 * copy: v[row : row + 1])
        parent = scene.map(lambda v: v[33:34])
        noise = normals(11, 3, torch.tensor([33]), copy)
        local = parent.log_scales.exp() * noise
        mean = parent.means + (quats_to_rotmats(parent.quats) @ local[..., None])[..., 0]
        torch.testing.assert_close(child.means, mean)
        torch.testing.assert_close(child.log_scales.exp() * SPLIT_SHRINK, parent.log_scales.exp())
        for name in ("quats", "opacity_logits", "sh0", "shN"):
            assert torch.equal(getattr(child, name), getattr(parent, name))


def test_children_spread_as_their_parent_does() -> None:
    """Over many equal parents, the children's means have the parents' mean and covariance."""
    scene = with_rows(scene_of_rows(60), log_scales={7: [-1.0, -2.0, -2.5]})
    scene = scene.map(lambda v: torch.cat([v[7:8].expand(3000, *v.shape[1:]), v]))
    eager = dataclasses.replace(SMALL, grow_ratio=0.99, max_growth=1.0)
    edit = _edit(eager, scene, _steep(3060, [*range(3000)]))
    means = edit.gaussians.means[edit.parent < 3000]
    assert len(means) == 6000
    torch.testing.assert_close(means.mean(0), scene.means[0], rtol=0.0, atol=0.03)
    torch.testing.assert_close(means.T.cov(), scene.covariances[0], rtol=0.0, atol=0.01)


def test_the_steepest_grow_when_growth_is_limited() -> None:
    grad2d = _steep(40, [3, 8, 21, 30], ratio=20.0)
    grad2d[:, 21], grad2d[:, 8] = 40.0, 30.0
    limited = dataclasses.replace(SMALL, max_growth=0.05)
    assert _edit(limited, scene_of_rows(40), grad2d).parent.tolist() == [*range(40), 8, 21]
    none = dataclasses.replace(SMALL, max_growth=0.0)
    assert _edit(none, scene_of_rows(40), grad2d).parent.tolist() == [*range(40)]


def test_nothing_is_cloned_below_what_would_be_pruned() -> None:
    floor = math.log(0.015 / 0.985)
    scene = with_rows(scene_of_rows(40), opacity_logits={5: floor})
    assert _edit(SMALL, scene, _steep(40, [5])).parent.tolist() == [*range(40)]


# What goes.


def test_faint_huge_and_broken_rows_go() -> None:
    scene = with_rows(
        scene_of_rows(40),
        opacity_logits={1: -5.0},
        log_scales={2: [-4.0, -4.0, 0.0]},
        means={3: [0.0, math.nan, 0.0]},
        sh0={4: math.inf},
    )
    for grad2d in (torch.ones(1, 40, 2), _steep(40, [1, 2, 3, 4])):
        assert _edit(SMALL, scene, grad2d).parent.tolist() == [0, *range(5, 40)]


def test_pruned_rows_do_not_set_the_standard() -> None:
    """Were the faint row's gradient part of the mean, row 5 would stay below it."""
    scene = with_rows(scene_of_rows(40), opacity_logits={0: -9.0})
    grad2d = _steep(40, [5])
    grad2d[:, 0] = 1e6
    assert _edit(SMALL, scene, grad2d).parent.tolist() == [*range(1, 40), 5]


def test_the_cap_keeps_the_most_important() -> None:
    """Opacity times cross-section; equal rows are kept in their order."""
    scene = scene_of_rows(6).map(torch.zeros_like)
    scene = with_rows(
        scene,
        quats={row: [1.0, 0.0, 0.0, 0.0] for row in range(6)},
        log_scales={
            0: [-4.0, -4.0, -4.0],
            1: [-2.0, -4.0, -9.0],  # a needle: area e^-6, volume e^-15
            2: [-3.0, -3.0, -9.0],  # a disk: area e^-6
            3: [-4.0, -4.0, -4.0],
            4: [-4.0, -4.0, -4.0],
            5: [-4.0, -4.0, -3.0],
        },
        opacity_logits={0: -2.0, 5: 3.0},
    )
    capped = dataclasses.replace(SMALL, max_count=4)
    assert _edit(capped, scene, torch.ones(1, 6, 2)).parent.tolist() == [1, 2, 3, 5]


def test_the_cap_counts_what_has_grown() -> None:
    scene = scene_of_rows(40)
    capped = dataclasses.replace(SMALL, max_count=42)
    edit = _edit(capped, scene, _steep(40, [1, 2, 3, 4, 5]))
    assert len(edit.parent) == 42
    parent = edit.parent.tolist()
    assert edit.fresh.tolist() == [row in parent[:i] for i, row in enumerate(parent)]
    importance = edit.gaussians.opacities * edit.gaussians.log_scales.exp().topk(2).values.prod(-1)
    free = _edit(SMALL, scene, _steep(40, [1, 2, 3, 4, 5])).gaussians
    assert len(free) == 45
    everyone = free.opacities * free.log_scales.exp().topk(2).values.prod(-1)
    torch.testing.assert_close(importance.sort().values, everyone.sort().values[3:])


def test_pruning_stops_at_the_floor() -> None:
    """First the faint, by importance, then the huge; never what is not finite."""
    scene = with_rows(
        scene_of_rows(8),
        opacity_logits=dict(enumerate([-9.0, -6.0, -7.0, -8.0, 0.0, 0.0, 9.0, math.nan])),
        log_scales=dict(enumerate([-4.0] * 5 + [0.0, 0.1, -4.0])),
    )
    kept = {}
    for floor in (1, 3, 6, 8):
        strategy = dataclasses.replace(SMALL, min_count=floor)
        kept[floor] = _edit(strategy, scene, torch.ones(1, 8, 2)).parent.tolist()
    assert kept == {1: [4], 3: [1, 2, 4], 6: [0, 1, 2, 3, 4, 6], 8: [0, 1, 2, 3, 4, 5, 6]}


def test_a_scene_without_survivors_is_an_error() -> None:
    scene = with_rows(
        scene_of_rows(3), opacity_logits={0: -9.0}, log_scales={1: 1.0}, means={2: math.nan}
    )
    with pytest.raises(RunError, match=r"step 1: all 3 Gaussians vanished: 1 .* 1 .* 1 below"):
        _edit(SMALL, scene, torch.ones(1, 3, 2))
