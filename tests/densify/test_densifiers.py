"""What the trainer may rely on, whichever strategy is chosen."""

import ast
import dataclasses
import inspect
import math
from itertools import pairwise

import pytest
import torch

from esd_splat.densify import DENSIFIERS, CloneSplit, Densifier, NoDensify
from tests.densify.scenes import scene_of_rows, seen_by_all

NAMES = sorted(DENSIFIERS)


@pytest.mark.parametrize("name", NAMES)
def test_strategies_are_frozen_and_every_key_is_explained(name: str) -> None:
    strategy = DENSIFIERS[name]
    assert issubclass(strategy, Densifier)
    assert dataclasses.is_dataclass(strategy)
    with pytest.raises(dataclasses.FrozenInstanceError):
        strategy().every = 1  # pyright: ignore[reportAttributeAccessIssue]
    (node,) = ast.parse(inspect.getsource(strategy)).body
    assert isinstance(node, ast.ClassDef)
    for field, below in pairwise(node.body):
        if isinstance(field, ast.AnnAssign):
            assert isinstance(below, ast.Expr), f"{ast.unparse(field)} has no docstring"
            assert isinstance(below.value, ast.Constant)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("sh", [0, 3, 15])
def test_edits_fit_the_scene_they_came_from(name: str, sh: int) -> None:
    count, steps = 200, 200
    scene, strategy = scene_of_rows(count, sh=sh), DENSIFIERS[name]()
    g = torch.Generator().manual_seed(1)
    state = strategy.start(count)
    for step in range(1, steps + 1):
        grad2d = torch.randn(2, count, 2, generator=g).exp()
        before = {key: value.clone() for key, value in state.items()}
        after = strategy.observe(state, seen_by_all(2, count), grad2d)
        assert all(torch.equal(state[key], before[key]) for key in before), "state is a value"
        state = after
        edit = strategy.edit(scene, state, step, steps, seed=0)
        if edit is None:
            continue
        assert edit.parent.min() >= 0
        assert edit.parent.max() < count
        assert edit.parent.shape == edit.fresh.shape == (len(edit.gaussians),)
        for field in dataclasses.fields(scene):
            old, new = getattr(scene, field.name), getattr(edit.gaussians, field.name)
            assert new.shape[1:] == old.shape[1:]
            assert new.dtype == old.dtype
            assert not new.requires_grad
        scene, count = edit.gaussians, len(edit.gaussians)
        state = strategy.start(count)


@pytest.mark.parametrize("name", NAMES)
def test_same_arguments_same_bits(name: str) -> None:
    scene, strategy = scene_of_rows(100), DENSIFIERS[name]()
    grad2d = torch.randn(3, 100, 2, generator=torch.Generator().manual_seed(2)).exp()
    state = strategy.observe(strategy.start(100), seen_by_all(3, 100), grad2d)
    torch.manual_seed(0)
    first = strategy.edit(scene, state, 50, 100, seed=4)
    torch.manual_seed(1)
    second = strategy.edit(scene.map(lambda v: v.requires_grad_()), state, 50, 100, seed=4)
    assert (first is None) == (second is None)
    if first is not None and second is not None:
        assert torch.equal(first.parent, second.parent)
        for a, b in zip(*(vars(e.gaussians).values() for e in (first, second)), strict=True):
            assert torch.equal(a, b)


def test_none_is_off() -> None:
    strategy = NoDensify()
    state = strategy.observe(strategy.start(5), seen_by_all(1, 5), torch.ones(1, 5, 2))
    assert state == {}
    assert all(strategy.edit(scene_of_rows(5), state, s, 10, seed=0) is None for s in range(11))


def test_edits_happen_at_their_interval_inside_their_window() -> None:
    strategy = CloneSplit(every=10, window=(0.2, 0.5), min_count=1)
    scene, state = scene_of_rows(4), strategy.start(4)
    edits = [s for s in range(1, 101) if strategy.edit(scene, state, s, 100, seed=0) is not None]
    assert edits == [20, 30, 40, 50]


def test_every_range_problem_is_reported() -> None:
    with pytest.raises(ValueError, match="every: must be at least 1, got 0") as caught:
        CloneSplit(every=0, window=(0.5, 0.1), prune_opacity=1.5, min_count=9, max_count=8)
    keys = [line.split(":")[0] for line in str(caught.value).splitlines()]
    assert keys == ["every", "window", "prune_opacity", "max_count"]
    for key in ("grow_ratio", "max_growth", "split_size", "prune_opacity", "prune_size"):
        with pytest.raises(ValueError, match=f"{key}: .*nan"):
            CloneSplit(**{key: math.nan})  # pyright: ignore[reportArgumentType]
