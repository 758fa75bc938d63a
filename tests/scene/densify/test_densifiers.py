"""What the trainer relies on with every strategy."""

import dataclasses
import math

import pytest
import torch

from esd_splat.scene.densify import DENSIFIERS, CloneSplit, Densifier, NoDensify
from tests.scene.densify.scenes import outcome, scene_of_rows, seen_by_all

NAMES = sorted(DENSIFIERS)


@pytest.mark.parametrize("name", NAMES)
def test_strategies_are_frozen(name: str) -> None:
    strategy = DENSIFIERS[name]
    assert issubclass(strategy, Densifier)
    assert dataclasses.is_dataclass(strategy)
    with pytest.raises(dataclasses.FrozenInstanceError):
        strategy().every = 1  # pyright: ignore[reportAttributeAccessIssue]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("sh", [0, 3, 15])
def test_a_scene_lives_through_all_its_edits(name: str, sh: int) -> None:
    count, steps = 200, 200
    scene, strategy = scene_of_rows(count, sh=sh), DENSIFIERS[name]()
    g = torch.Generator().manual_seed(1)
    state = strategy.start(count)
    for step in range(1, steps + 1):
        slope = torch.arange(1.0, count + 1)[:, None]  # some rows are always steeper
        grad2d = slope * torch.rand(2, count, 2, generator=g)
        strategy.observe(state, seen_by_all(2, count), grad2d)
        strategy.nudge(scene, 1e-3, step, steps, seed=0)
        edit = strategy.edit(scene, state, scene.opacities.clone, step, steps, seed=0)
        if edit is None:
            continue
        found = outcome(scene, edit)
        assert set(found.parent) <= set(range(count))
        for name_, old in vars(scene).items():
            new = getattr(found.gaussians, name_)
            assert new.shape == (edit.count, *old.shape[1:])
            assert new.isfinite().all()
        scene, count = found.gaussians, edit.count
        state = strategy.start(count)
    assert (count == 200) == (name == "none"), "the strategy had its say"


@pytest.mark.parametrize("name", NAMES)
def test_same_arguments_same_bits(name: str) -> None:
    scene, strategy = scene_of_rows(100), DENSIFIERS[name]()
    state = strategy.start(100)
    grad2d = torch.randn(3, 100, 2, generator=torch.Generator().manual_seed(2)).exp()
    strategy.observe(state, seen_by_all(3, 100), grad2d)
    found = []
    for seed, one in enumerate((scene, scene.map(lambda v: v.clone().requires_grad_()))):
        torch.manual_seed(seed)
        edit = strategy.edit(one, state, scene.opacities.clone, 50, 100, seed=4)
        found.append(None if edit is None else outcome(scene, edit))
    first, second = found
    assert (first is None) == (second is None)
    if first is not None and second is not None:
        assert first.parent == second.parent
        for a, b in zip(*(vars(o.gaussians).values() for o in (first, second)), strict=True):
            assert torch.equal(a, b)


def test_none_is_off() -> None:
    strategy, scene = NoDensify(), scene_of_rows(5)
    state = strategy.start(5)
    strategy.observe(state, seen_by_all(1, 5), torch.ones(1, 5, 2))
    assert state == {}
    importance = scene.opacities.clone
    for step in range(11):
        assert strategy.edit(scene, state, importance, step, 10, seed=0) is None


def test_edits_happen_at_their_interval_inside_their_window() -> None:
    strategy = CloneSplit(every=10, window=(0.2, 0.5), min_count=1)
    scene, state = scene_of_rows(4), strategy.start(4)
    light = scene.opacities.clone
    edits = [s for s in range(1, 101) if strategy.edit(scene, state, light, s, 100, seed=0)]
    assert edits == [20, 30, 40, 50]


def _keys(error: ValueError) -> list[str]:
    return [line.split(":")[0] for line in str(error).splitlines()]


def test_every_range_problem_is_reported() -> None:
    with pytest.raises(ValueError, match="every: must be at least 1, got 0") as caught:
        CloneSplit(every=0, prune_opacity=1.5)
    assert _keys(caught.value) == ["every", "prune_opacity"]
    with pytest.raises(ValueError, match="window: low must not exceed high") as caught:
        CloneSplit(window=(0.5, 0.1), min_count=9, max_count=8)
    assert _keys(caught.value) == ["window", "max_count"]
    for key in ("grow_ratio", "max_growth", "split_size", "prune_opacity", "prune_size"):
        with pytest.raises(ValueError, match=f"{key}: .*nan"):
            CloneSplit(**{key: math.nan})  # pyright: ignore[reportArgumentType]
