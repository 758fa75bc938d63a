"""Editing rows in place: PyTorch against a slow loop, the kernels against PyTorch to the bit."""

import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from esd_splat.scene import kernels
from esd_splat.scene.densify import CloneSplit, Rows, classify, clone_split, growth
from esd_splat.scene.densify.classify import (
    Limits,
    classify_native,
    classify_torch,
    observe_native,
    observe_torch,
)
from esd_splat.scene.densify.growth import CLONE, DROP, KEEP, SPLIT, Growth, grow_native, grow_torch
from tests.scene.densify.scenes import outcome, scene_of_rows, seen_by_all, with_room, with_rows

compiled = pytest.mark.skipif(bool(kernels.MISSING), reason=f"no kernels: {kernels.MISSING}")
on_each = pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
actions = st.lists(st.integers(DROP, SPLIT), min_size=1, max_size=40)
LIMITS = Limits(math.log(0.5), -4.6, -3.9, -3.8, 1.5)


def _growth(action: list[int]) -> Growth:
    count = len(action) + sum(a >= CLONE for a in action) - action.count(DROP)
    return Growth(torch.tensor(action, dtype=torch.uint8), count, seed=5, step=9)


def _by_hand(action: list[int]) -> list[int]:
    """Return the parent of each row after the edit, one operation at a time."""
    rows: list[int | None] = [None if a == DROP else row for row, a in enumerate(action)]
    for row, a in enumerate(action):
        if a < CLONE:
            continue
        if None in rows:
            rows[rows.index(None)] = row
        else:
            rows.append(row)
    spare = rows.count(None)
    tail = [row for row in rows[len(rows) - spare :] if row is not None]
    rows = rows[: len(rows) - spare]
    return [tail.pop(0) if row is None else row for row in rows]


@given(action=actions)
def test_rows_go_where_the_rule_says(action: list[int]) -> None:
    edit = _growth(action)
    found = outcome(scene_of_rows(len(action)), edit)
    assert found.parent == _by_hand(action)


def test_the_rule_by_example() -> None:
    """Of six rows, 1, 2 and 5 are dropped. The clone of row 3 fills hole 1, row 4 hole 2."""
    assert _by_hand([KEEP, DROP, DROP, CLONE, KEEP, DROP]) == [0, 3, 4, 3]


@compiled
@on_each
@given(action=actions, sh=st.sampled_from([0, 3, 8, 15]), moments=st.integers(0, 2))
def test_the_kernel_equals_torch_to_the_bit(
    device: str, action: list[int], sh: int, moments: int
) -> None:
    edit = _growth(action)
    one, other = (_rows(len(action), edit, sh, moments, on) for on in ("cpu", device))
    grow_torch(one, edit)
    grow_native(other, replace(edit, action=edit.action.to(device)))
    for a, b in zip(one.buffers, other.buffers, strict=True):
        assert torch.equal(a[: edit.count], b[: edit.count].cpu())


def _rows(count: int, edit: Growth, sh: int, moments: int, device: str = "cpu") -> Rows:
    room = max(count, edit.count) + 3
    scene = scene_of_rows(count, sh=sh).map(lambda v: with_room(v, room))
    tracers = [v.sin() + 2 for v in vars(scene).values() for _ in range(moments)]
    return Rows(scene.map(lambda v: v.to(device)), [v.to(device) for v in tracers])


@compiled
@pytest.mark.parametrize("threads", [1, 2, 8])
def test_a_large_scene_is_the_same_at_any_thread_count(threads: int) -> None:
    count = 30_000
    g = torch.Generator().manual_seed(3)
    edit = _growth(torch.randint(0, 4, (count,), generator=g).tolist())
    gradient = torch.rand(count, generator=g, dtype=torch.float64)
    seen = torch.randint(0, 9, (count,), generator=g, dtype=torch.int32)
    grad2d, visible = torch.randn(3, count, 2, generator=g), torch.rand(3, count, generator=g) < 0.5
    one, other = (_rows(count, edit, 3, 1) for _ in range(2))
    scene = scene_of_rows(count)
    scene.opacity_logits[::9] = -9.0
    sums = [(gradient.clone(), seen.clone()) for _ in range(2)]
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        grow_native(one, edit)
        action, counts = classify_native(scene, gradient, seen, LIMITS, None)
        observe_native(*sums[0], grad2d, visible)
    finally:
        torch.set_num_threads(before)
    grow_torch(other, edit)
    assert all(
        torch.equal(a[: edit.count], b[: edit.count])
        for a, b in zip(one.buffers, other.buffers, strict=True)
    )
    expected, totals = classify_torch(scene, gradient, seen, LIMITS, None)
    assert set(action.tolist()) == {DROP, KEEP, CLONE, SPLIT}
    assert torch.equal(action, expected)
    assert torch.equal(counts, totals)
    observe_torch(*sums[1], grad2d, visible)
    assert all(torch.equal(a, b) for a, b in zip(*sums, strict=True))


@compiled
@on_each
@pytest.mark.parametrize("given_keep", [False, True])
def test_the_kernel_judges_odd_rows_as_torch_does(given_keep: bool, device: str) -> None:
    """Values not finite or at a limit, zero quaternions, rows never seen, overflowing squares."""
    odd = [math.nan, math.inf, -math.inf, 3.4e38]
    scene = with_rows(
        scene_of_rows(60, sh=3),
        means={i: [0.0, value, 0.0] for i, value in enumerate(odd)},
        quats={4: 0.0, 5: [1e-30] * 4, 6: [1e25, 0, 0, 0], 7: math.nan},
        log_scales={8: math.log(0.5), 9: math.nan, 10: -math.inf, 11: 44.2, 12: -3.8, 13: -3.79},
        opacity_logits={14: -4.6, 15: -4.61, 16: -3.9, 17: -3.91, 18: math.nan, 19: math.inf},
        sh0={20: math.nan},
        shN={21: math.inf},
    )
    g = torch.Generator().manual_seed(0)
    gradient = torch.randn(60, generator=g, dtype=torch.float64).exp() + 0.5
    gradient[8:20] = 100.0
    seen = torch.ones(60, dtype=torch.int32)
    seen[30:33] = 0
    keep = torch.rand(60, generator=g) < 0.8 if given_keep else None
    for limits in (LIMITS, replace(LIMITS, largest=math.inf), replace(LIMITS, faintest=-math.inf)):
        one = classify_torch(scene, gradient, seen, limits, keep)
        there = scene.map(lambda v: v.to(device)), gradient.to(device), seen.to(device)
        other = classify_native(*there, limits, None if keep is None else keep.to(device))
        assert set(one[0].tolist()) == {DROP, KEEP, CLONE, SPLIT}
        assert torch.equal(one[0], other[0].cpu())
        assert torch.equal(one[1], other[1].cpu())


@compiled
@on_each
def test_the_kernel_sees_what_torch_sees(device: str) -> None:
    g = torch.Generator().manual_seed(1)
    grad2d, visible = torch.randn(3, 999, 2, generator=g), torch.rand(3, 999, generator=g) < 0.5
    grad2d[0, ~visible[0]] = math.nan
    sums = [(torch.ones(999, dtype=torch.float64), torch.ones(999).int()) for _ in range(2)]
    observe_torch(*sums[0], grad2d, visible)
    there = sums[1][0].to(device), sums[1][1].to(device)
    observe_native(*there, grad2d.to(device), visible.to(device))
    for a, b in zip(sums[0], there, strict=True):
        assert torch.equal(a, b.cpu())


@compiled
def test_nothing_grows_where_nothing_was_seen() -> None:
    scene, nothing = scene_of_rows(5), torch.zeros(5, dtype=torch.float64)
    for choose in (classify_torch, classify_native):
        action, counts = choose(scene, nothing, nothing.int(), LIMITS, None)
        assert action.tolist() == [KEEP] * 5
        assert counts.tolist() == [5, 0]


@compiled
def test_an_empty_scene_is_no_crash() -> None:
    scene, nothing = scene_of_rows(0), torch.zeros(0, dtype=torch.float64)
    action, counts = classify_native(scene, nothing, nothing.int(), LIMITS, None)
    assert (len(action), counts.tolist()) == (0, [0, 0])
    grow_native(Rows(scene, []), Growth(action, 0, 0, 0))
    observe_native(nothing, nothing.int(), torch.zeros(0, 0, 2), torch.zeros(0, 0).bool())


def _call(**changes: object) -> None:
    edit = _growth([KEEP, CLONE, DROP, CLONE])
    rows = _rows(4, edit, 0, 1)
    arguments = {
        "action": edit.action,
        "fields": list(vars(rows.scene).values()),
        "moments": rows.moments,
        "count": edit.count,
        **changes,
    }
    kernels.ops.grow(*arguments.values(), 0, 1)


def _fields(**changes: Tensor) -> list[Tensor]:
    scene = scene_of_rows(9)
    return list((vars(scene) | changes).values())


@compiled
@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"action": torch.zeros(4)}, "action: must be uint8, got float32"),
        ({"action": torch.full((4,), 7, dtype=torch.uint8)}, "action: row 0 has 7, must be 0 to 3"),
        ({"count": 6}, "count: 4 rows of which 1 are dropped and 2 grow make 5, got 6"),
        ({"fields": _fields()[:5]}, "fields: must be 6 tensors, got 5"),
        ({"fields": _fields(means=torch.zeros(4, 3))}, r"means: must have at least 5 rows, got \["),
        ({"fields": _fields(quats=torch.zeros(9, 3))}, r"quats: must have 4 numbers a row, got"),
        ({"fields": _fields(sh0=torch.zeros(9, 1, 3).double())}, "sh0: must be float32, got"),
        ({"fields": _fields(means=torch.zeros(3, 9).mT)}, "means: must be contiguous"),
        ({"moments": [torch.zeros(9)] * 13}, "moments: at most 12 tensors, got 13"),
        ({"moments": [torch.zeros(2, 3)]}, "moments: must have at least 5 rows"),
    ],
)
def test_bad_arguments_are_one_line(changes: dict[str, object], message: str) -> None:
    _call()
    with pytest.raises(RuntimeError, match=message):
        _call(**changes)


@compiled
def test_the_operators_keep_their_schema() -> None:
    edit = _growth([KEEP, CLONE, DROP, SPLIT])
    rows, scene = _rows(4, edit, 3, 2), scene_of_rows(4)
    gradient, seen = torch.rand(4, dtype=torch.float64), torch.ones(4, dtype=torch.int32)
    checks = ("test_schema", "test_faketensor")
    fields = list(vars(rows.scene).values())
    torch.library.opcheck(
        kernels.ops.grow, (edit.action, fields, rows.moments, 5, 1, 2), test_utils=checks
    )
    limits = (LIMITS.largest, LIMITS.faintest, LIMITS.faintest_to_grow, LIMITS.split_above, 1.5)
    torch.library.opcheck(
        kernels.ops.classify,
        (list(vars(scene).values()), gradient, seen, None, *limits),
        test_utils=checks,
    )
    visible = torch.ones(2, 4, dtype=torch.bool)
    torch.library.opcheck(
        kernels.ops.observe, (gradient, seen, torch.rand(2, 4, 2), visible), test_utils=checks
    )


@compiled
def test_strategies_use_the_kernels_where_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    scene = scene_of_rows(200)
    strategy = CloneSplit(every=1, window=(0.0, 1.0), min_count=1)
    grad2d = torch.randn(2, 200, 2, generator=torch.Generator().manual_seed(0)).exp()
    found = []
    for missing, other in (("", "torch"), ("as if", "native")):
        monkeypatch.setattr(kernels, "MISSING", missing)
        assert kernels.has("grow", grad2d) == (not missing)
        unused = pytest.MonkeyPatch()
        unused.setattr(clone_split, f"observe_{other}", _forbidden)
        unused.setattr(classify, f"classify_{other}", _forbidden)
        unused.setattr(growth, f"grow_{other}", _forbidden)
        state = strategy.start(200)
        strategy.observe(state, seen_by_all(2, 200), grad2d)
        edit = strategy.edit(scene, state, scene.opacities.clone, 1, 10, seed=0)
        assert edit is not None
        found.append(outcome(scene, edit))
        unused.undo()
    assert len(found[0].parent) > 200
    assert found[0].parent == found[1].parent
    for a, b in zip(*(vars(one.gaussians).values() for one in found), strict=True):
        assert torch.equal(a, b)


def _forbidden(*args: object) -> None:
    raise AssertionError("the other implementation was asked")
