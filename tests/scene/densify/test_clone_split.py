import dataclasses
import math

import pytest
import torch
from torch import Tensor

from esd_splat.errors import RunError
from esd_splat.scene.densify import CloneSplit
from esd_splat.scene.densify.growth import SPLIT_SHRINK
from esd_splat.scene.densify.random import normals
from esd_splat.scene.gaussians import Gaussians, quats_to_rotmats
from esd_splat.scene.rasterize.base import Render
from tests.scene.densify.scenes import (
    Outcome,
    outcome,
    render_of,
    scene_of_rows,
    seen_by_all,
    with_rows,
)

SMALL = CloneSplit(every=1, window=(0.0, 1.0), min_count=1)
"""Edits at every step, with the default thresholds."""


def _edit(
    strategy: CloneSplit,
    scene: Gaussians,
    grad2d: Tensor,
    render: Render | None = None,
    importance: Tensor | None = None,
    seed: int = 0,
    step: int = 1,
) -> Outcome:
    views, count, _ = grad2d.shape
    state = strategy.start(count)
    strategy.observe(state, render or seen_by_all(views, count), grad2d)
    ask = _never if importance is None else lambda: importance
    edit = strategy.edit(scene, state, ask, step, 10, seed)
    assert edit is not None
    return outcome(scene, edit)


def _never() -> Tensor:
    raise AssertionError("importance costs a rendering: only a scene at its limits asks for it")


def _steep(count: int, rows: list[int], ratio: float = 50.0) -> Tensor:
    """Gradients in one view that make ``rows`` grow."""
    grad2d = torch.ones(1, count, 2)
    grad2d[:, rows] = ratio
    return grad2d


# Measuring the gradients.


def test_statistic_is_the_mean_over_the_views_that_saw_a_gaussian() -> None:
    """Row 0 is seen three times, with lengths 5, 10 and 0, row 1 once, with 13, row 2 never."""
    state = SMALL.start(3)
    first = torch.tensor([[[3.0, 4.0], [5.0, 12.0], [9.0, 9.0]], [[6.0, 8.0], [7.0, 7.0], [9, 9]]])
    seen = torch.tensor([[True, True, False], [True, False, False]])
    SMALL.observe(state, render_of(seen), first)
    second = torch.tensor([[[0.0, 0.0], [7.0, 7.0], [math.nan, 0.0]]])
    SMALL.observe(state, render_of(torch.tensor([[True, False, False]])), second)
    assert state["gradient"].tolist() == [15.0, 13.0, 0.0]
    assert state["seen"].tolist() == [3, 1, 0]


def test_being_seen_by_few_views_is_no_disadvantage() -> None:
    """Row 17 is seen in one of four views, where its gradient is twice as long as the others."""
    grad2d, visible = torch.ones(4, 40, 2), torch.ones(4, 40, dtype=torch.bool)
    grad2d[0, 17], visible[1:, 17] = 2.0, False
    edit = _edit(SMALL, scene_of_rows(40), grad2d, render_of(visible))
    assert edit.parent == [*range(40), 17]


def test_all_views_of_a_batch_count() -> None:
    """A Gaussian grows even if it has a large gradient in only the first of four views."""
    grad2d = torch.ones(4, 40, 2)
    grad2d[0, 17] = 100.0
    assert _edit(SMALL, scene_of_rows(40), grad2d).parent == [*range(40), 17]


def _decisions(strategy: CloneSplit, grad2d: Tensor) -> list[int]:
    scene = scene_of_rows(grad2d.shape[1])
    large = scene.log_scales.amax(-1) > -3.8
    strategy = dataclasses.replace(strategy, split_size=math.exp(-3.8))
    assert large.any()
    assert not large.all()
    return _edit(strategy, scene, grad2d).parent


@pytest.mark.parametrize("max_growth", [1.0, 0.1])
def test_whatever_multiplies_the_gradient_changes_no_decision(max_growth: float) -> None:
    """Such factors are the loss weight, the guidance scale, 1 / b and the size of a pixel."""
    strategy = dataclasses.replace(SMALL, grow_ratio=1.5, max_growth=max_growth)
    grad2d = torch.randn(4, 300, 2, generator=torch.Generator().manual_seed(0)).exp()
    parent = _decisions(strategy, grad2d)
    assert len(parent) > 300
    for factor in (2.0**-60, 2.0**40, 1e-12, 100.0, 4 / 7):
        assert _decisions(strategy, grad2d * factor) == parent, factor
    doubled = torch.cat([grad2d, grad2d]) / 2
    assert _decisions(strategy, doubled) == parent, "the same views twice, mean loss"
    assert _decisions(strategy, grad2d.flip(1)) != parent, "the test can fail"


def test_more_steps_of_the_same_change_no_decision() -> None:
    scene = scene_of_rows(50)
    grad2d = torch.randn(2, 50, 2, generator=torch.Generator().manual_seed(0)).exp()
    state, parents = SMALL.start(50), []
    for step in range(1, 4):
        SMALL.observe(state, seen_by_all(2, 50), grad2d)
        edit = SMALL.edit(scene, state, _never, step, 10, seed=0)
        assert edit is not None
        parents.append(outcome(scene, edit).parent)
    assert len(parents[0]) > 50
    assert parents[0] == parents[2]


def test_equal_or_absent_gradients_grow_nothing() -> None:
    scene = scene_of_rows(30)
    for grad2d in (torch.ones(2, 30, 2), torch.zeros(2, 30, 2)):
        assert _edit(SMALL, scene, grad2d).parent == [*range(30)]
    unseen = SMALL.edit(scene, SMALL.start(30), _never, 1, 10, seed=0)
    assert unseen is not None
    assert outcome(scene, unseen).parent == [*range(30)]


# Growing.


def test_where_rows_go_and_which_are_fresh() -> None:
    """The first two of four new rows fill the holes of rows 0 and 30. Splits reset moments."""
    scene = with_rows(
        scene_of_rows(40), log_scales={2: -2.0, 9: -2.0}, opacity_logits={0: -9.0, 30: -9.0}
    )
    edit = _edit(SMALL, scene, _steep(40, [0, 2, 5, 9, 20]))
    assert edit.parent == [2, *range(1, 30), 5, *range(31, 40), 9, 20]
    assert [row for row, fresh in enumerate(edit.fresh) if fresh] == [0, 2, 9, 30, 40, 41]


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
    # 1 - o = sigmoid(-logit), which does not round to zero in float64.
    clear = torch.sigmoid(torch.tensor(-logit, dtype=torch.float64)).sqrt()
    torch.testing.assert_close(halved, torch.log((1 - clear) / clear), rtol=1e-5, atol=1e-5)


def test_children_are_drawn_from_their_parent() -> None:
    """Means are mean + R diag(s) n, with n drawn for the seed, step, old row and copy."""
    scene = with_rows(scene_of_rows(60, sh=8), log_scales={33: [-1.0, -2.0, -3.0], 50: -2.0})
    edit = _edit(SMALL, scene, _steep(60, [33, 50]), seed=11, step=3)
    assert edit.parent == [*range(60), 33, 50]
    for copy, row in ((0, 33), (1, 60)):
        child = edit.gaussians.map(lambda v, row=row: v[row : row + 1])
        parent = scene.map(lambda v: v[33:34])
        noise = normals(11, 3, torch.tensor([33]), copy)
        local = parent.log_scales.exp() * noise
        mean = parent.means + (quats_to_rotmats(parent.quats) @ local[..., None])[..., 0]
        torch.testing.assert_close(child.means, mean)
        torch.testing.assert_close(child.log_scales.exp() * SPLIT_SHRINK, parent.log_scales.exp())
        for name in ("quats", "opacity_logits", "sh0", "shN"):
            assert torch.equal(getattr(child, name), getattr(parent, name))


def test_children_spread_as_their_parent_does() -> None:
    """The children of many equal parents have the mean and the covariance of the parents."""
    scene = with_rows(scene_of_rows(60), log_scales={7: [-1.0, -2.0, -2.5]})
    scene = scene.map(lambda v: torch.cat([v[7:8].expand(3000, *v.shape[1:]), v]))
    eager = dataclasses.replace(SMALL, grow_ratio=0.99, max_growth=1.0)
    edit = _edit(eager, scene, _steep(3060, [*range(3000)]))
    means = edit.gaussians.means[torch.tensor(edit.parent) < 3000]
    assert len(means) == 6000
    torch.testing.assert_close(means.mean(0), scene.means[0], rtol=0.0, atol=0.03)
    torch.testing.assert_close(means.T.cov(), scene.covariances[0], rtol=0.0, atol=0.01)


def test_the_steepest_grow_when_growth_is_limited() -> None:
    grad2d = _steep(40, [3, 8, 21, 30], ratio=20.0)
    grad2d[:, 21], grad2d[:, 8] = 40.0, 30.0
    limited = dataclasses.replace(SMALL, max_growth=0.05)
    assert _edit(limited, scene_of_rows(40), grad2d).parent == [*range(40), 8, 21]
    none = dataclasses.replace(SMALL, max_growth=0.0)
    assert _edit(none, scene_of_rows(40), grad2d).parent == [*range(40)]


def test_nothing_is_cloned_below_what_would_be_pruned() -> None:
    floor = math.log(0.015 / 0.985)
    scene = with_rows(scene_of_rows(40), opacity_logits={5: floor})
    assert _edit(SMALL, scene, _steep(40, [5])).parent == [*range(40)]


# Pruning.


def test_faint_huge_and_broken_rows_go() -> None:
    scene = with_rows(
        scene_of_rows(40),
        opacity_logits={1: -5.0},
        log_scales={2: [-4.0, -4.0, 0.0]},
        means={3: [0.0, math.nan, 0.0]},
        sh0={4: math.inf},
    )
    for grad2d in (torch.ones(1, 40, 2), _steep(40, [1, 2, 3, 4])):
        assert _edit(SMALL, scene, grad2d).parent == [0, 36, 37, 38, 39, *range(5, 36)]


def test_pruned_rows_do_not_set_the_standard() -> None:
    """If the gradient of the faint row were part of the mean, row 5 would not grow."""
    scene = with_rows(scene_of_rows(40), opacity_logits={0: -9.0})
    grad2d = _steep(40, [5])
    grad2d[:, 0] = 1e6
    assert _edit(SMALL, scene, grad2d).parent == [5, *range(1, 40)]


def test_the_cap_drops_what_sends_the_least_light() -> None:
    """Row 3 is dropped, and the first of the equal rows 0 and 4. The last rows fill the holes."""
    light = torch.tensor([1.0, 5.0, 3.0, 0.5, 1.0, 2.0])
    capped = dataclasses.replace(SMALL, max_count=4)
    edit = _edit(capped, scene_of_rows(6), torch.ones(1, 6, 2), importance=light)
    assert edit.parent == [4, 1, 2, 5]


def test_the_cap_makes_room_for_what_grows() -> None:
    """Five of 40 rows grow, up to 42 rows: the three least important of the others are dropped."""
    light = torch.arange(40.0).flip(0)
    light[1:6] = 0.0
    capped = dataclasses.replace(SMALL, max_count=42)
    steep = _steep(40, [1, 2, 3, 4, 5])
    edit = _edit(capped, scene_of_rows(40), steep, importance=light)
    assert edit.parent == [*range(37), 1, 2, 3, 4, 5]
    full = dataclasses.replace(SMALL, max_count=8)
    edit = _edit(full, scene_of_rows(40), steep, importance=light)
    assert sorted(edit.parent) == [1, 1, 2, 2, 3, 3, 4, 4], "growers are half of a full scene"


def test_pruning_stops_at_the_floor() -> None:
    """It keeps faint rows by importance, then huge ones, but never rows that are not finite."""
    scene = with_rows(
        scene_of_rows(8),
        opacity_logits=dict(enumerate([-9.0, -6.0, -7.0, -8.0, 0.0, 0.0, 9.0, math.nan])),
        log_scales=dict(enumerate([-4.0] * 5 + [0.0, 0.1, -4.0])),
    )
    light = torch.tensor([1.0, 4.0, 3.0, 2.0, 9.0, 5.0, 6.0, 9.0])
    kept = {}
    for floor in (1, 3, 6, 8):
        strategy = dataclasses.replace(SMALL, min_count=floor)
        edit = _edit(strategy, scene, torch.ones(1, 8, 2), importance=light)
        kept[floor] = sorted(edit.parent)
    assert kept == {1: [4], 3: [1, 2, 4], 6: [0, 1, 2, 3, 4, 6], 8: [0, 1, 2, 3, 4, 5, 6]}


def test_opacity_decays_by_its_share_until_the_last_edit() -> None:
    fading = dataclasses.replace(SMALL, opacity_decay=0.1, window=(0.0, 0.5))
    scene = with_rows(scene_of_rows(4), opacity_logits={0: -20.0, 1: 20.0, 2: -100.0})
    before = scene.opacity_logits.double().sigmoid()
    fading.nudge(scene, 0.1, 5, 10, 0)
    torch.testing.assert_close(scene.opacity_logits.double().sigmoid(), 0.9 * before)
    after = scene.opacity_logits.clone()
    fading.nudge(scene, 0.1, 6, 10, 0)
    SMALL.nudge(scene, 0.1, 1, 10, 0)
    assert torch.equal(scene.opacity_logits, after)


def test_a_scene_without_survivors_is_an_error() -> None:
    scene = with_rows(
        scene_of_rows(3), opacity_logits={0: -9.0}, log_scales={1: 1.0}, means={2: math.nan}
    )
    with pytest.raises(RunError, match=r"step 1: all 3 Gaussians vanished: 1 .* 1 .* 1 below"):
        _edit(SMALL, scene, torch.ones(1, 3, 2))
