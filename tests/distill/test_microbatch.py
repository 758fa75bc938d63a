"""Saving memory or time: some views at a time, small views at first, and a linear encoder."""

import re
from pathlib import Path
from typing import Any

import pytest
import torch

from esd_splat.config import load_config
from esd_splat.distill.distillation import Distillation
from esd_splat.distill.step_config import StepConfig
from esd_splat.errors import ConfigError, RunError, TeacherError
from esd_splat.run import trainer
from esd_splat.run.out_of_memory import remedies
from esd_splat.scene.cameras import Orbit
from esd_splat.teacher.random_weights import save_blank
from tests.tiny import IMAGE_SIZE


def _keys(model: Path, *more: str) -> list[str]:
    keys = ["prompt=a red owl", f"teacher.model={model}", "batch=3", "steps=10"]
    if not any(key.startswith("cameras.size=") for key in more):
        keys.append(f"cameras.size={IMAGE_SIZE}")
    return [*keys, "init.count=20", "lora.rank=2", *more]


def _start(model: Path, *more: str) -> Distillation:
    config = load_config(None, _keys(model, *more))
    teacher = config.teacher.load(torch.device("cpu"), torch.float32, config.memory)
    return Distillation(StepConfig.of(config), teacher, "reference")


def _counted(run: Distillation, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    rows: list[int] = []
    encode = run.teacher.encode
    monkeypatch.setattr(run.teacher, "encode", lambda x: rows.append(len(x)) or encode(x))
    return rows


@pytest.mark.parametrize(
    ("keys", "passes"),
    [
        (["loss=esd", "teacher.guidance_scale=3", "image_loss=0.1"], 1),
        (["loss=esd", "loss.marginal=pool", "loss.camera=noise"], 2),
        (["loss=ism"], 1),
    ],
)
def test_some_views_at_a_time_give_the_step_of_all(
    model: Path, monkeypatch: pytest.MonkeyPatch, keys: list[str], passes: int
) -> None:
    """Three views, two at once: the scene's gradient, the densifier's state, logs and LoRA."""
    more = [*keys, "regularise.sparsity=1", "regularise.scale=1"]
    runs = [_start(model, *more, *extra) for extra in ([], ["memory.views_at_once=2"])]
    rows = _counted(runs[1], monkeypatch)
    found = []
    for run in runs:
        grads: list[torch.Tensor] = []
        step = run.optimizer.step
        monkeypatch.setattr(
            run.optimizer,
            "step",
            lambda run=run, grads=grads, step=step: (
                grads.extend(p.grad.clone() for p in vars(run.scene).values() if p.grad is not None)
                or step()
            ),
        )
        logged = run.step()
        state: dict[str, Any] = run.state()
        found.append((grads, run.densify_state, logged, run.recent and run.recent.latents))
        generators = {name: g.get_state() for name, g in run.generators.items()}
        found[-1] += (generators, state["lora"] and run.lora and run.lora.parameters)
    assert rows == [2, 1] * passes
    assert len(found[0][0]) >= 5
    for known, parted in zip(found[0], found[1], strict=True):
        torch.testing.assert_close(parted, known, atol=1e-5, rtol=1e-3)


def test_views_grow_while_the_run_goes_on() -> None:
    orbit = Orbit(size=64, size_start=16, size_until=0.5)
    assert [orbit.size_at(p) for p in (0.0, 0.25, 0.5, 1.0)] == [16, 32, 64, 64]
    assert Orbit(size=64).size_at(0.0) == 64
    draw = [orbit.sample(2, torch.Generator().manual_seed(0), size) for size in (16, None)]
    assert torch.equal(draw[0].viewmats, draw[1].viewmats)
    torch.testing.assert_close(draw[0].Ks[:, :2] * 4, draw[1].Ks[:, :2])
    with pytest.raises(ValueError, match=r"size_start: must be at most size = 64, got 65"):
        Orbit(size_start=65)
    with pytest.raises(ValueError, match=r"size_until: must be in \(0, 1\]"):
        Orbit(size_until=0.0)


def test_early_steps_draw_small_views_and_encode_linearly(
    model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Once the map is fitted, the encoder is not used in the first 3 of 10 steps."""
    more = ["cameras.size_start=8", "cameras.size_until=0.4", "latent_warmup=0.3", "loss=sds"]
    run = _start(model, *more)
    before = run.scene.means.detach().clone()
    rows = _counted(run, monkeypatch)
    sizes: list[int] = []
    sample = Orbit.sample
    monkeypatch.setattr(
        Orbit, "sample", lambda s, b, g, size=None: sizes.append(size or 0) or sample(s, b, g, size)
    )
    for _ in range(3):
        run.step()
    assert rows == []
    assert (run.scene.means - before).abs().max() > 0
    for _ in range(3):
        run.step()
    assert rows == [3, 3, 3]
    assert sizes[:6] == [8, 10, 11, 13, 16, 16]


def test_a_pool_forgets_the_linear_latents_once_the_encoder_takes_over(model: Path) -> None:
    keys = ["latent_warmup=0.3", "loss={name: esd, marginal: pool, camera: noise}"]
    run, counts = _start(model, *keys, "pool.views=64"), []
    for _ in range(5):
        run.step()
        assert run.recent is not None
        counts.append(len(run.recent))
    batch = run.config.batch
    assert counts == [batch, 2 * batch, 3 * batch, batch, 2 * batch]


def test_a_resumed_run_is_as_warm_and_as_small(model: Path, tmp_path: Path) -> None:
    more = [
        "cameras.size_start=8",
        "latent_warmup=0.6",
        "loss=sds",
        "export.frames=0",
        "export.report=false",
        "measure.views=8",
    ]
    scenes = []
    for name, cut in (("whole", None), ("cut", 3)):
        keys = [*_keys(model, *more), f"out={tmp_path / name}"]
        if cut is not None:
            trainer.run(load_config(None, keys), quiet=True, until=cut)
            keys = [*keys, "resume=true", "memory.offload=true"]
        trainer.run(load_config(None, keys), quiet=True)
        scenes.append((tmp_path / name / "scene.ply").read_bytes())
    assert scenes[0] == scenes[1]


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"),
        MemoryError(),
        RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"),
        RuntimeError('torch_call_dispatcher( "aten::new_empty", "") API call failed'),
    ],
)
def test_too_little_memory_says_what_to_try(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    """The message is one line. It names the checkpoint, and no remedy that is already in use."""
    step = Distillation.step

    def full(run: Distillation) -> dict[str, float]:
        if run.done == 4:
            raise error
        return step(run)

    monkeypatch.setattr(Distillation, "step", full)
    more = ["checkpoint_every=2", "memory.checkpointing=true", f"out={tmp_path / 'run'}"]
    with pytest.raises(RunError) as caught:
        trainer.run(load_config(None, _keys(model, *more)), quiet=True)
    line = str(caught.value)
    assert "\n" not in line
    assert "memory.views_at_once=1, precision=bf16-mixed" in line
    assert "checkpointing=true" not in line
    assert line.endswith("last.ckpt holds step 4")


def test_every_remedy_is_a_valid_key(model: Path) -> None:
    keys = re.findall(r"\S+=[\w-]+", remedies(load_config(None, _keys(model))))
    assert len(keys) == 6
    left = remedies(load_config(None, _keys(model, *keys)))
    assert left == "a smaller densify.max_count", "none is named that is in use"
    assert remedies(load_config(None, _keys(model)), joint=True).startswith("batch=1, ")
    ring = load_config(None, _keys(model, "cameras.ring=true"))
    assert "batch" not in remedies(ring, joint=True), "MVDream takes no other number of views"
    watched = load_config(None, _keys(model, "view=true"))
    assert remedies(watched).endswith("view=false")


def test_a_share_of_the_run(model: Path) -> None:
    with pytest.raises(ConfigError, match=r"latent_warmup: must be in \[0, 1\]"):
        load_config(None, _keys(model, "latent_warmup=1.5"))


def test_views_that_are_seen_together_are_not_parted(tmp_path: Path) -> None:
    folder = save_blank(tmp_path / "model", "tiny-views")
    with pytest.raises(TeacherError, match="must be null or batch, 3, got 2: this teacher looks"):
        _start(folder, "memory.views_at_once=2")
