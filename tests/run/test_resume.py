"""A run that was cut, killed or interrupted goes on to the same bits, or says why it does not."""

import csv
import dataclasses
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from esd_splat.config import load_config
from esd_splat.distill.distillation import Distillation
from esd_splat.errors import CheckpointError, OutputError, SceneError
from esd_splat.fit import fit
from esd_splat.run.checkpoint import load_checkpoint, save_checkpoint
from tests.run.small import bytes_of, small_config, small_keys
from tests.tiny import DEFAULTS

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("until", [20, 23], ids=["at a checkpoint", "right before an edit"])
def test_resumed_runs_end_in_the_same_bits(
    model: Path, whole: Path, tmp_path: Path, until: int
) -> None:
    out = tmp_path / "cut"
    assert fit(small_config(model, out), quiet=True, until=until) == {}
    assert (out / "scene.ply").exists(), "an interrupted run leaves a scene"
    assert not (out / "summary.json").exists()
    fit(small_config(model, out, "resume=true"), quiet=True)
    assert bytes_of(out) == bytes_of(whole)
    steps = [row.split(",")[0] for row in (out / "metrics.csv").read_text().splitlines()]
    assert steps == ["step", *map(str, range(5, 41, 5))]


def test_the_pooled_views_are_part_of_what_resumes(model: Path, tmp_path: Path) -> None:
    """More views than a cut leaves behind, and fewer than the run draws."""
    keys = ("loss.marginal=pool", "loss.camera=noise", "pool.views=50")
    fit(small_config(model, tmp_path / "whole", *keys), quiet=True)
    fit(small_config(model, tmp_path / "cut", *keys), quiet=True, until=20)
    fit(small_config(model, tmp_path / "cut", *keys, "resume=true"), quiet=True)
    assert bytes_of(tmp_path / "cut") == bytes_of(tmp_path / "whole")


def _start(model: Path, out: Path, *more: str) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [
            sys.executable,
            "-m",
            "esd_splat.fit",
            "--config",
            DEFAULTS,
            *small_keys(model, out, *more),
        ],
        cwd=ROOT,
        # As many threads as here: torch's sums are rounded differently at another number.
        env=os.environ | {"OMP_NUM_THREADS": str(torch.get_num_threads())},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def _wait_for(path: Path) -> None:
    deadline = time.monotonic() + 120
    while not path.exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    assert path.exists()


def test_a_killed_run_resumes(model: Path, tmp_path: Path) -> None:
    """Cut while it checkpoints at every step, so that the kill may hit a write."""
    whole, out = tmp_path / "whole", tmp_path / "killed"
    fit(small_config(model, whole, "steps=15", "checkpoint_every=1"), quiet=True)
    process = _start(model, out, "steps=15", "checkpoint_every=1")
    _wait_for(out / "checkpoints" / "last.ckpt")
    process.kill()
    process.communicate()
    assert not (out / "summary.json").exists()
    fit(small_config(model, out, "steps=15", "checkpoint_every=1", "resume=true"), quiet=True)
    assert bytes_of(out) == bytes_of(whole)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_leaves_a_scene_and_a_run_that_resumes(
    model: Path, tmp_path: Path, number: int
) -> None:
    out = tmp_path / "run"
    process = _start(model, out, "steps=4000", "checkpoint_every=1")
    _wait_for(out / "checkpoints" / "last.ckpt")
    process.send_signal(number)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 130
    assert "resume=true" in errors
    assert "Traceback" not in errors
    assert (out / "scene.ply").exists()


def test_a_second_ctrl_c_ends_the_step_and_is_still_an_interrupt(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def step(run: Distillation) -> dict[str, float]:
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)
        raise AssertionError("the step went on")

    monkeypatch.setattr(Distillation, "step", step)
    # Where the tests run in the background, it may be ignored.
    outside = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            fit(small_config(model, tmp_path / "run"), quiet=True)
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    finally:
        signal.signal(signal.SIGINT, outside)


def test_folders_are_not_overwritten_unasked(
    model: Path, whole: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = bytes_of(whole)
    with pytest.raises(OutputError, match="holds a finished run; overwrite=true replaces it"):
        fit(small_config(model, whole), quiet=True)
    summary = fit(small_config(model, whole, "resume=true"))
    assert "nothing left to do" in capsys.readouterr().out
    assert summary["steps"] == 40
    assert bytes_of(whole) == before


def test_resuming_with_other_settings_is_refused(model: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    fit(small_config(model, out), quiet=True, until=2)
    with pytest.raises(
        CheckpointError, match=r"for batch, optim \(batch=\d+, optim.sh0=0.0\d+\); use"
    ):
        fit(small_config(model, out, "resume=true", "batch=3", "optim.sh0=0.5"), quiet=True)


def test_rows_of_a_contact_sheet_must_match(model: Path, tmp_path: Path) -> None:
    out, keys = tmp_path / "run", ("steps=4", "log.sheet_every=2", "resume=true")
    change = ("export.sheet_views=4", "export.elevation=5")
    fit(small_config(model, out, *keys), quiet=True, until=1)
    assert fit(small_config(model, out, *keys, *change), quiet=True, until=2) == {}
    with pytest.raises(CheckpointError, match=r"settings for export.elevation, export.sheet_views"):
        fit(small_config(model, out, *keys), quiet=True)
    same = (*change, "export.size=20", "export.frames=0")
    assert fit(small_config(model, out, *keys, *same), quiet=True)["steps"] == 4


def test_a_scene_that_was_started_from_is_not_needed_to_resume(
    model: Path, whole: Path, tmp_path: Path
) -> None:
    start, out = tmp_path / "start.ply", tmp_path / "run"
    keys = ("steps=4", "init=ply", f"init.path={start}")
    config = load_config(None, [k for k in small_keys(model, out, *keys) if "init.count" not in k])
    with pytest.raises(SceneError, match="No such file"):
        fit(config, quiet=True)
    assert not out.exists()
    shutil.copy(whole / "scene.ply", start)
    fit(config, quiet=True, until=2)
    start.unlink()
    assert fit(dataclasses.replace(config, resume=True), quiet=True)["steps"] == 4


def test_tensorboard_has_the_rows_of_the_table_however_often_a_run_is_cut(
    model: Path, tmp_path: Path
) -> None:
    out, keys = tmp_path / "run", ("steps=12", "log.every=2", "log.tensorboard=true")
    fit(small_config(model, out, *keys), quiet=True, until=6)
    shutil.copy(out / "checkpoints" / "last.ckpt", tmp_path / "kept")
    fit(small_config(model, out, *keys, "resume=true"), quiet=True, until=10)
    # As if it had been killed at step 10 with nothing saved since 6.
    shutil.copy(tmp_path / "kept", out / "checkpoints" / "last.ckpt")
    fit(small_config(model, out, *keys, "resume=true"), quiet=True)
    board = EventAccumulator(str(out / "tensorboard"))
    board.Reload()
    with (out / "metrics.csv").open() as lines:
        rows = list(csv.DictReader(lines))
    for name in ("direction", "gaussians", "seconds"):
        plotted = {event.step: event.value for event in board.Scalars(name)}
        assert len(plotted) == len(board.Scalars(name)) == 6
        expected = {int(row["step"]): float(row[name]) for row in rows}
        assert plotted == pytest.approx(expected, rel=1e-5), name


def test_a_damaged_checkpoint_starts_over_and_says_so(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    fit(small_config(model, out, "steps=3"), quiet=True, until=2)
    checkpoint = out / "checkpoints" / "last.ckpt"
    checkpoint.write_bytes(checkpoint.read_bytes()[:-50])
    fit(small_config(model, out, "steps=3", "resume=true"), quiet=True)
    said = capsys.readouterr().err
    assert "cut short or damaged" in said
    assert "starting from step 0" in said


def test_a_checkpoint_with_older_names_goes_on_to_the_same_bits(
    model: Path, tmp_path: Path
) -> None:
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    fit(small_config(model, whole, "steps=12"), quiet=True)
    fit(small_config(model, cut, "steps=12"), quiet=True, until=7)
    path = cut / "checkpoints" / "last.ckpt"
    state = load_checkpoint(path)
    state["config"] = state["config"].replace("\nlora:", "\nparticle:")
    state["config"] = state["config"].replace("camera: lora", "camera: particle")
    for part in (state["run"], state["run"]["generators"], *state["record"]["rows"]):
        older = {"particle" if name == "lora" else name: value for name, value in part.items()}
        part.clear()
        part.update(older)
    save_checkpoint(path, state)
    fit(small_config(model, cut, "steps=12", "resume=true"), quiet=True)
    assert (cut / "scene.ply").read_bytes() == (whole / "scene.ply").read_bytes()
    header = (cut / "metrics.csv").read_text().splitlines()[0]
    assert header == (whole / "metrics.csv").read_text().splitlines()[0]
