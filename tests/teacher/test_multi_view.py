"""A teacher with random weights that sees all views of a step together."""

from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers.models.attention_processor import AttnProcessor2_0
from torch import Tensor

from esd_splat import Orbit, load_config
from esd_splat.distill.distillation import Distillation
from esd_splat.distill.guidance import Guidance
from esd_splat.distill.lora import Lora
from esd_splat.distill.recent import Recent
from esd_splat.distill.step_config import StepConfig
from esd_splat.errors import TeacherError
from esd_splat.teacher import StableDiffusion, Teacher
from esd_splat.teacher.random_weights import save_blank
from esd_splat.teacher.view_prompts import PerpNeg, ViewPrompts
from tests.tiny import IMAGE_SIZE

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_blank(tmp_path_factory.mktemp("views") / "model", "tiny-views")


@pytest.fixture
def teacher(folder: Path) -> Teacher:
    return StableDiffusion(model=str(folder)).load(CPU, torch.float32)


def _latents(count: int, seed: int = 0) -> Tensor:
    return torch.randn(count, 4, 4, 4, generator=torch.Generator().manual_seed(seed))


def _c2w(count: int, seed: int = 0) -> Tensor:
    cameras = Orbit(distance=(2.0, 4.0)).sample(count, torch.Generator().manual_seed(seed))
    return cameras.c2w.float()


def _told(teacher: Teacher, c2w: Tensor) -> Tensor:
    return teacher.told(teacher.embed(["a red owl"] * len(c2w)), c2w)


@torch.no_grad()
def _eps(teacher: Teacher, noisy: Tensor, c2w: Tensor) -> Tensor:
    return teacher.eps(noisy, torch.full((len(noisy),), 600), _told(teacher, c2w))


def test_each_view_counts_for_all_of_a_group_and_for_no_other(teacher: Teacher) -> None:
    noisy, c2w, t = _latents(5), _c2w(5), torch.full((5,), 600)
    told = torch.cat([_told(teacher, c2w[:3]), _told(teacher, c2w[3:])])
    with torch.no_grad():
        before = teacher.eps(noisy, t, told)
        noisy[1] += 1
        moved = (teacher.eps(noisy, t, told) - before).abs().amax((1, 2, 3)) > 1e-6
    assert moved.tolist() == [True, True, True, False, False]
    torch.testing.assert_close(before[3:], _eps(teacher, noisy[3:], c2w[3:]))


def test_the_order_of_the_views_does_not_count(teacher: Teacher) -> None:
    noisy, c2w, order = _latents(4), _c2w(4), torch.tensor([2, 0, 3, 1])
    together = _eps(teacher, noisy, c2w)
    torch.testing.assert_close(_eps(teacher, noisy[order], c2w[order]), together[order])


@torch.no_grad()
def test_copies_of_a_view_have_nothing_to_tell_it(teacher: Teacher) -> None:
    """Attention over copies equals attention over one, for which the network is diffusers' own."""
    noisy, c2w, words = _latents(1), _c2w(1), teacher.embed(["a red owl"])
    unet: Any = teacher.network
    joined = unet.attn_processors
    unet.set_attn_processor(AttnProcessor2_0())
    alone = unet(noisy, torch.tensor([600]), words, class_labels=c2w.flatten(1)).sample
    unet.set_attn_processor(joined)
    copies = _eps(teacher, noisy.expand(3, -1, -1, -1), c2w.expand(3, 4, 4))
    torch.testing.assert_close(copies, alone.expand(3, -1, -1, -1))


def test_the_camera_counts(teacher: Teacher) -> None:
    noisy = _latents(2)
    assert not torch.allclose(_eps(teacher, noisy, _c2w(2)), _eps(teacher, noisy, _c2w(2, 1)))


def test_one_pass_for_all_branches_is_one_for_each(folder: Path) -> None:
    keys = [f"teacher.model={folder}", "teacher.guidance_scale=3", "loss.name=esd", "batch=3"]
    keys += ["loss.entropy_weight=0.5", f"cameras.size={IMAGE_SIZE}", "prompt=a red owl"]
    config = load_config(None, [*keys, "backend=reference", "lora.rank=2"])
    run = Distillation(StepConfig.of(config), config.teacher.load(CPU, torch.float32), "reference")
    run.step()
    cameras = config.cameras.sample(3, torch.Generator().manual_seed(1))
    noise = run.predictor.draw(3, torch.Generator().manual_seed(2))
    noised = run.predictor.noised(_latents(3), torch.full((3,), 600), cameras, noise)
    t, needs = torch.full((3,), 600), {"teacher_cond", "teacher_negative", "lora_null"}
    found = run.predictor.predict(noised, t, cameras, needs)
    for name in needs:
        alone = run.predictor.predict(noised, t, cameras, {name})
        torch.testing.assert_close(found[name], alone[name])


def test_perp_neg_asks_about_all_views_that_are_seen_together(folder: Path, tmp_path: Path) -> None:
    azimuths, elevations = torch.tensor([0.0, 90.0, 180.0]), torch.tensor([0.0, 0.0, 80.0])
    views = ViewPrompts(enabled=True, perp_neg=PerpNeg(enabled=True))
    rows = {}
    for model in (folder, save_blank(tmp_path / "model", "tiny-sd")):
        config = StableDiffusion(model=str(model), views=views, guidance_scale=3.0)
        guidance = Guidance(config, config.load(CPU, torch.float32), "a red owl", "")
        branches = guidance.branches({"teacher"}, azimuths, elevations)
        rows[model] = {name: len(branch.views) for name, branch in branches.items()}
    together, alone = rows.values()
    assert set(together.values()) == {3}
    assert together.keys() == alone.keys()
    assert alone["teacher_front"] == 2, "overhead views have no negative prompts"


def test_the_views_of_a_step_are_at_one_timestep(folder: Path) -> None:
    keys = [f"teacher.model={folder}", "loss.name=vsd", f"cameras.size={IMAGE_SIZE}", "batch=3"]
    config = load_config(None, [*keys, "prompt=a red owl", "backend=reference"])
    run, asked = (
        Distillation(StepConfig.of(config), config.teacher.load(CPU, torch.float32), "reference"),
        [],
    )
    run.teacher.network.register_forward_pre_hook(lambda m, inputs: asked.append(inputs[1]))
    run.step()
    assert len(asked) == 2
    assert all(len(set(t.tolist())) == 1 for t in asked)


def test_a_lora_of_a_joint_teacher_is_joint(teacher: Teacher) -> None:
    lora = Lora(rank=2, lr=1e-2, warmup=0).attach(teacher, seed=0)
    noisy, c2w, hidden = _latents(2), _c2w(2), torch.zeros(2, dtype=torch.bool)
    t = torch.full((2,), 600)
    before = lora.eps(noisy, t, _told(teacher, c2w), c2w, hidden)
    noisy[1] += 1
    after = lora.eps(noisy, t, _told(teacher, c2w), c2w, hidden)
    assert not torch.allclose(before[0], after[0])


def test_a_lora_of_a_joint_teacher_replays_whole_steps(
    teacher: Teacher, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each step's views stay together, with one timestep, and are told how many they are."""
    lora = Lora(rank=1, replay=2).attach(teacher, seed=0)
    seen: list[tuple[Tensor, ...]] = []
    output = teacher.output
    monkeypatch.setattr(teacher, "output", lambda *given: seen.append(given) or output(*given))
    steps = [Recent.of(_latents(3, seed), _c2w(3, seed), seed) for seed in range(4)]
    recent = steps[0].join(steps[1], 99).join(steps[2], 99).join(steps[3], 99)
    words, drawn = teacher.embed(["a red owl"]), lora.draw(3, torch.Generator().manual_seed(0))
    lora.train(steps[3], words, drawn, None, recent)
    ((_, t, told),) = seen
    assert t.view(3, 3).unique(dim=1).shape == (3, 1)
    assert len(t.unique()) == 3
    groups = [_told(teacher, step.c2w) for step in steps]
    assert torch.equal(told[:3], groups[3])
    for replayed in told[3:].split(3):
        assert any(torch.equal(replayed, group) for group in groups)


def test_a_unet_that_is_told_no_camera_is_refused(tmp_path: Path) -> None:
    folder = save_blank(tmp_path / "model", "tiny-sd")
    index = folder / "model_index.json"
    index.write_text(index.read_text().replace("StableDiffusionPipeline", "MultiViewPipeline"))
    message = "projection with 16 inputs, for the camera; this one has No"
    with pytest.raises(TeacherError, match=message):
        StableDiffusion(model=str(folder)).load(CPU, torch.float32)
