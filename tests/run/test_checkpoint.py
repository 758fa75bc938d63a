import os
import pickle
import signal
import subprocess
import sys
from collections import OrderedDict
from pathlib import Path
from typing import Any

import pytest
import torch

from esd_splat.errors import CheckpointError, OutputError
from esd_splat.run import checkpoint
from esd_splat.run.checkpoint import load_checkpoint, save_checkpoint
from esd_splat.scene.densify import CloneSplit, State
from esd_splat.scene.gaussians import Gaussians
from esd_splat.scene.optim import (
    Optim,
    adam_state,
    apply_edit,
    make_adam,
    restore_adam,
    scene_of,
    set_lr,
)
from tests.scene.densify.scenes import scene_of_rows, seen_by_all

DENSIFY = CloneSplit(every=8, window=(0.0, 1.0), grow_ratio=1.2, split_size=0.02, min_count=1)
STEPS = 40


def _advance(
    optimizer: torch.optim.Adam, state: State, generator: torch.Generator, first: int, last: int
) -> State:
    """Steps ``first + 1`` to ``last`` of a run in which everything that is saved matters."""
    config = Optim()
    for step in range(first + 1, last + 1):
        scene = scene_of(optimizer)
        set_lr(optimizer, config, step / STEPS)
        optimizer.zero_grad()
        noise = torch.randn(len(scene), generator=generator)
        shape = scene.covariances.sum((1, 2)) + scene.opacities + scene.sh0.sum((1, 2)).sin()
        ((scene.means.square().sum(1) + shape) * noise).sum().backward()
        assert scene.means.grad is not None
        grad2d = scene.means.grad[None, :, :2]
        DENSIFY.observe(state, seen_by_all(1, len(scene)), grad2d)
        optimizer.step()
        light = scene.opacities.detach
        if edit := DENSIFY.edit(scene_of(optimizer), state, light, step, STEPS, seed=3):
            apply_edit(optimizer, edit)
            state = DENSIFY.start(edit.count)
    return state


@pytest.mark.parametrize("sh", [0, 3])
@pytest.mark.parametrize("stop", [20, 24])  # between two edits, and right after one
def test_resuming_gives_the_same_bits(tmp_path: Path, stop: int, sh: int) -> None:
    through = make_adam(scene_of_rows(30, sh=sh), Optim())
    generator = torch.Generator().manual_seed(0)
    end = _advance(through, DENSIFY.start(30), generator, 0, STEPS)

    optimizer = make_adam(scene_of_rows(30, sh=sh), Optim())
    generator = torch.Generator().manual_seed(0)
    state = _advance(optimizer, DENSIFY.start(30), generator, 0, stop)
    whole = {
        "scene": adam_state(optimizer),
        "densify": state,
        "generator": generator.get_state(),
    }
    save_checkpoint(tmp_path / "last.ckpt", whole)
    _advance(optimizer, state, generator, stop, STEPS)  # what follows must not reach the file

    loaded = load_checkpoint(tmp_path / "last.ckpt", required=whole)
    resumed, fresh = restore_adam(loaded["scene"]), torch.Generator()
    fresh.set_state(loaded["generator"])
    again = _advance(resumed, loaded["densify"], fresh, stop, STEPS)

    assert len(scene_of(through)) > 30, "the run grew, or it shows nothing"
    assert torch.equal(fresh.get_state(), generator.get_state())
    _assert_same(again, end)
    _assert_same(adam_state(resumed), adam_state(through))


def _assert_same(a: Any, b: Any) -> None:
    assert type(a) is type(b)
    if isinstance(a, torch.Tensor):
        assert a.dtype == b.dtype
        assert torch.equal(a, b)
    elif isinstance(a, dict):
        assert a.keys() == b.keys()
        for key in a:
            _assert_same(a[key], b[key])
    elif isinstance(a, list | tuple):
        assert len(a) == len(b)
        for x, y in zip(a, b, strict=True):
            _assert_same(x, y)
    else:
        assert a == b


def test_an_optimizer_that_never_stepped_round_trips(tmp_path: Path) -> None:
    original = make_adam(scene_of_rows(4), Optim(betas=(0.5, 0.6), eps=1e-3))
    save_checkpoint(tmp_path / "a", adam_state(original))
    restored = restore_adam(load_checkpoint(tmp_path / "a"))
    _assert_same(adam_state(restored), adam_state(original))
    assert all(p.requires_grad for p in vars(scene_of(restored)).values())
    assert isinstance(scene_of(restored), Gaussians)


def test_plain_values_come_back_as_they_were(tmp_path: Path) -> None:
    whole = torch.arange(1_000_000)
    state = {"a": [1, 2.5, "text", None, True], "b": {"c": (0.9, 0.99), 7: whole[3:5]}}
    save_checkpoint(tmp_path / "a", state)
    _assert_same(load_checkpoint(tmp_path / "a"), state)
    assert (tmp_path / "a").stat().st_size < 10_000, "a view does not bring its storage along"
    save_checkpoint(tmp_path / "a", OrderedDict(w=torch.ones(2, requires_grad=True)))
    _assert_same(load_checkpoint(tmp_path / "a"), {"w": torch.ones(2)})


def test_what_could_not_be_loaded_is_not_saved(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match=r"state\.a\[1\]: a checkpoint cannot hold a PosixPath"):
        save_checkpoint(tmp_path / "a", {"a": [1, tmp_path]})
    assert list(tmp_path.iterdir()) == []


# Files that are not what they should be.


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    save_checkpoint(tmp_path / "last.ckpt", {"step": 20, "x": torch.arange(50.0)})
    return tmp_path / "last.ckpt"


def _refusal(path: Path, *required: str) -> str:
    with pytest.raises(CheckpointError) as caught:
        load_checkpoint(path, required)
    message = str(caught.value)
    assert message.startswith(f"{path}: ")
    assert "\n" not in message
    return message


def test_a_file_cut_short_anywhere_is_refused(saved: Path) -> None:
    content = saved.read_bytes()
    for size in [*range(0, 120), *range(120, len(content), 61), len(content) - 1]:
        saved.write_bytes(content[:size])
        assert any(
            words in _refusal(saved)
            for words in ("not a checkpoint of esd_splat", "cut short or damaged")
        )


def test_a_flipped_bit_anywhere_is_refused(saved: Path) -> None:
    """``torch.load`` alone accepts most of them and returns other numbers."""
    content = saved.read_bytes()
    for position in range(0, len(content), 17):
        damaged = bytearray(content)
        damaged[position] ^= 4
        saved.write_bytes(damaged)
        _refusal(saved)


def test_foreign_files_are_refused_unopened(tmp_path: Path) -> None:
    ran = tmp_path / "ran"

    class Attack:
        def __reduce__(self) -> tuple[Any, ...]:
            return os.mkdir, (str(ran),)

    (tmp_path / "pickle").write_bytes(pickle.dumps(Attack()))
    torch.save({"state_dict": torch.ones(3)}, tmp_path / "torch")
    (tmp_path / "text").write_text("esd_splat checkpoint\n")
    for name in ("pickle", "torch", "text"):
        assert "not a checkpoint of esd_splat" in _refusal(tmp_path / name)
    body = pickle.dumps(Attack(), protocol=2)
    head = b"esd_splat checkpoint 1\n%s\n" % checkpoint._digest(body)
    (tmp_path / "forged").write_bytes(head + body)
    _refusal(tmp_path / "forged")
    assert not ran.exists()


def test_a_newer_version_is_refused(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkpoint, "VERSION", checkpoint.VERSION + 1)
    save_checkpoint(saved, {"step": 20})
    monkeypatch.undo()
    assert "has version 2 and this program reads up to 1; update esd_splat" in _refusal(saved)


def test_missing_files_and_keys(saved: Path) -> None:
    assert "no such checkpoint" in _refusal(saved.with_name("none.ckpt"))
    assert "cannot be read" in _refusal(saved.parent)
    assert "lacks densify, scene" in _refusal(saved, "step", "scene", "densify")


# Interrupted writing.


def test_a_full_disk_leaves_the_old_file(saved: Path) -> None:
    """With a limit on the size of files in place of a full disk; it fails the same way."""
    before = saved.read_bytes()
    script = f"""
import resource, signal, torch
from esd_splat.run.checkpoint import save_checkpoint
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
save_checkpoint({str(saved)!r}, {{"x": torch.zeros(100_000)}})
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert f"{OutputError.__name__}: {saved}: cannot be written" in done.stderr
    assert saved.read_bytes() == before
    assert list(saved.parent.iterdir()) == [saved]


def test_being_killed_while_saving_leaves_a_whole_file(saved: Path) -> None:
    """The killed process writes without end; whatever is there afterwards is one of its states."""
    script = f"""
import torch
from esd_splat.run.checkpoint import save_checkpoint
for step in range(10**9):
    save_checkpoint({str(saved)!r}, {{"step": step, "x": torch.full((200_000,), float(step))}})
    print(step, flush=True)
"""
    process = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        reported = [int(process.stdout.readline()) for _ in range(5)][-1]
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
        process.stdout.close()
    state = load_checkpoint(saved, required=["step", "x"])
    assert state["step"] >= reported
    assert torch.equal(state["x"], torch.full((200_000,), float(state["step"])))
