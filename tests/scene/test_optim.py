import math

import pytest
import torch

from esd_splat.scene.densify.growth import CLONE, DROP, KEEP, SPLIT, Growth
from esd_splat.scene.gaussians import Gaussians
from esd_splat.scene.optim import Optim, apply_edit, clip_gradients, make_adam, scene_of, set_lr

CONFIG = Optim()
FIELDS = ("means", "quats", "log_scales", "opacity_logits", "sh0", "shN")


def _scene(n: int, sh: int = 0) -> Gaussians:
    g = torch.Generator().manual_seed(0)
    shapes = ([3], [4], [3], [], [1, 3], [sh, 3])
    return Gaussians(*(torch.randn(n, *s, generator=g) for s in shapes))


def _step(optimizer: torch.optim.Adam) -> None:
    optimizer.zero_grad()
    torch.cat(
        [p.sin().flatten() for p in vars(scene_of(optimizer)).values()]
    ).square().sum().backward()
    optimizer.step()


def _assert_equal(a: Gaussians, b: Gaussians) -> None:
    for x, y in zip(vars(a).values(), vars(b).values(), strict=True):
        torch.testing.assert_close(x, y, rtol=0, atol=0)


def _edit(*actions: int) -> Growth:
    action = torch.tensor(actions, dtype=torch.uint8)
    count = len(action) + int((action >= CLONE).sum()) - int((action == DROP).sum())
    return Growth(action, count, seed=0, step=1)


@pytest.mark.parametrize("sh", [0, 3])
def test_pruning_commutes_with_stepping(sh: int) -> None:
    """Adam is elementwise, so dropping rows before or after a step must give the same rows."""
    scenes = []
    for prune_at in (0, 1, 2):
        optimizer = make_adam(_scene(5, sh), CONFIG)
        for i in range(3):
            if i == prune_at:
                apply_edit(optimizer, _edit(KEEP, DROP, KEEP, KEEP, DROP))
            _step(optimizer)
        scenes.append(scene_of(optimizer))
    assert len(scenes[0]) == 3
    _assert_equal(scenes[0], scenes[1])
    _assert_equal(scenes[1], scenes[2])


def test_fresh_rows_restart_and_sources_keep_their_moments() -> None:
    optimizer = make_adam(_scene(2), CONFIG)
    _step(optimizer)
    before = {k: v.clone() for k, v in optimizer.state[scene_of(optimizer).means].items()}
    apply_edit(optimizer, _edit(KEEP, CLONE))
    after = optimizer.state[scene_of(optimizer).means]
    for key in ("exp_avg", "exp_avg_sq"):
        assert before[key].all()
        expected = torch.cat([before[key], torch.zeros(1, 3)])
        torch.testing.assert_close(after[key], expected, rtol=0, atol=0)
    assert after["step"] == before["step"] == 1
    assert len(optimizer.state) == len(FIELDS), "no state is left behind for dead parameters"


def test_as_many_rows_as_adam_has_counters() -> None:
    """With one row, moments have shape [1]. The step counter must not be taken for a moment."""
    optimizer = make_adam(_scene(1), CONFIG)
    _step(optimizer)
    apply_edit(optimizer, _edit(SPLIT))
    for state in optimizer.state.values():
        assert state["step"] == 1


def test_the_edited_scene_can_be_trained() -> None:
    optimizer = make_adam(_scene(3), CONFIG)
    _step(optimizer)
    apply_edit(optimizer, _edit(KEEP, CLONE, DROP))
    before = scene_of(optimizer).map(lambda v: v.detach().clone())
    _step(optimizer)
    assert all(
        value.is_leaf and value.requires_grad for value in vars(scene_of(optimizer)).values()
    )
    assert not torch.equal(scene_of(optimizer).means, before.means)


def test_nothing_is_copied_while_there_is_room() -> None:
    """Growth reserves half of the rows in addition. Until they are full, no row is copied."""
    optimizer = make_adam(_scene(10, sh=3), CONFIG)
    _step(optimizer)
    apply_edit(optimizer, _edit(*[KEEP] * 9, CLONE))
    homes = [v.data_ptr() for v in vars(scene_of(optimizer)).values()]
    moments = [s["exp_avg"].data_ptr() for s in optimizer.state.values()]
    apply_edit(optimizer, _edit(*[CLONE] * 4, *[KEEP] * 7))
    assert len(scene_of(optimizer)) == 15
    apply_edit(optimizer, _edit(*[DROP] * 14, KEEP))
    apply_edit(optimizer, _edit(SPLIT))
    assert [v.data_ptr() for v in vars(scene_of(optimizer)).values()] == homes
    assert [s["exp_avg"].data_ptr() for s in optimizer.state.values()] == moments
    apply_edit(optimizer, _edit(*[CLONE] * 2))
    assert [v.data_ptr() for v in vars(scene_of(optimizer)).values()] == homes


def test_the_first_step_of_a_new_row_is_one_learning_rate_long() -> None:
    """Rows share the scene's step counter, so this depends on betas, even late in a run."""
    optimizer = make_adam(_scene(1), CONFIG)
    for _ in range(3000):  # until Adam's own correction with 0.99^t has vanished
        scene_of(optimizer).means.grad = torch.ones(1, 3)
        optimizer.step()
    apply_edit(optimizer, _edit(SPLIT))
    before = scene_of(optimizer).means.detach().clone()
    scene_of(optimizer).means.grad = torch.full((2, 3), 1e-6)
    optimizer.step()
    moved = before - scene_of(optimizer).means.detach()
    torch.testing.assert_close(moved, torch.full((2, 3), CONFIG.means), rtol=1e-3, atol=0.0)


def test_the_loss_weight_does_not_change_the_path() -> None:
    """Weights of 2^-30 and 2^20 give the same path, as eps is far below every gradient."""
    scenes = []
    for factor in (1.0, 2.0**-30, 2.0**20):
        optimizer = make_adam(_scene(4), CONFIG)
        for _ in range(3):
            optimizer.zero_grad()
            (factor * scene_of(optimizer).means.sin().sum()).backward()
            optimizer.step()
        scenes.append(scene_of(optimizer).means)
    torch.testing.assert_close(scenes[1], scenes[0], rtol=1e-5, atol=1e-7)
    torch.testing.assert_close(scenes[2], scenes[0], rtol=1e-5, atol=1e-7)


def test_each_field_has_its_own_rate() -> None:
    config = Optim(quats=0.0, sh0=0.5)
    optimizer = make_adam(_scene(4, sh=3), config)
    before = scene_of(optimizer).map(lambda v: v.detach().clone())
    _step(optimizer)
    for name in FIELDS:
        moved = (getattr(scene_of(optimizer), name) - getattr(before, name)).abs().max().item()
        assert moved == pytest.approx(getattr(config, name), rel=1e-3), name


def test_the_rate_of_the_means_decays_exponentially_and_no_other_changes() -> None:
    optimizer = make_adam(_scene(2), CONFIG)
    for progress, expected in ((0.0, 0.005), (0.5, math.sqrt(0.005 * 0.0005)), (1.0, 0.0005)):
        set_lr(optimizer, CONFIG, progress)
        rates = {group["name"]: group["lr"] for group in optimizer.param_groups}
        assert rates.pop("means") == pytest.approx(expected)
        assert rates == {name: getattr(CONFIG, name) for name in FIELDS if name != "means"}


def test_clipping_is_per_field_and_only_above_the_limit() -> None:
    config = Optim(max_norm=2.0)
    optimizer = make_adam(_scene(2), config)
    scene = scene_of(optimizer)
    scene.means.grad, scene.quats.grad = torch.full((2, 3), 10.0), torch.full((2, 4), 0.1)
    clip_gradients(optimizer, config)
    assert scene.means.grad.norm().item() == pytest.approx(2.0, rel=1e-5)
    assert torch.equal(scene.quats.grad, torch.full((2, 4), 0.1))
    scene.means.grad.fill_(10.0)
    clip_gradients(optimizer, Optim())
    assert torch.equal(scene.means.grad, torch.full((2, 3), 10.0)), "off by default"


def test_clipping_does_not_hide_what_is_not_finite() -> None:
    optimizer = make_adam(_scene(2), CONFIG)
    scene = scene_of(optimizer)
    scene.means.grad = torch.full((2, 3), math.nan)
    clip_gradients(optimizer, Optim(max_norm=1.0))
    assert scene.means.grad.isnan().all()


def test_every_range_problem_is_reported() -> None:
    with pytest.raises(ValueError, match=r"sh0: must be in \[0, 1000000\], got -1") as caught:
        Optim(sh0=-1.0, means=0.0, quats=math.nan, betas=(0.9, 1.0), eps=math.inf)
    keys = {line.split(":")[0] for line in str(caught.value).splitlines()}
    assert keys == {"sh0", "means", "quats", "betas", "eps"}
