"""Whole runs on a tiny teacher: what they leave, and that they resume to the same bits."""

import csv
import dataclasses
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import plyfile
import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from typing_extensions import override

from esd_splat.config import Config, load_config
from esd_splat.distill.distillation import Distillation
from esd_splat.distill.losses import LOSSES, ScoreDistillation
from esd_splat.errors import BackendError, CheckpointError, OutputError, RunError, SceneError
from esd_splat.fit import fit
from esd_splat.run.checkpoint import load_checkpoint, save_checkpoint
from esd_splat.run.record import Record
from esd_splat.scene import kernels
from esd_splat.scene.rasterize import resolve_backend
from esd_splat.settings.schema import section
from esd_splat.types import Latents
from tests.tiny import DEFAULTS, IMAGE_SIZE

ROOT = Path(__file__).parents[2]


def _keys(model: Path, out: Path, *more: str) -> list[str]:
    """A run of 40 small steps in which every part of the state changes, the row count too."""
    keys = [
        "prompt=a red owl",
        f"teacher.model={model}",
        f"out={out}",
        *("steps=40", "batch=2", f"cameras.size={IMAGE_SIZE}", "checkpoint_every=20"),
        *("init.count=30", "densify.every=6", "densify.min_count=5", "densify.grow_ratio=1.0"),
        *("loss.entropy_weight=0.5", "teacher.guidance_scale=2", "lora.rank=2"),
        *("export.frames=2", f"export.size={IMAGE_SIZE}", "export.report=false"),
        "measure.views=8",
        *("log.every=5", "log.sheet_every=10"),
    ]
    replaced = {key.partition("=")[0] for key in more}
    return [key for key in keys if key.partition("=")[0] not in replaced] + list(more)


def _config(model: Path, out: Path, *more: str) -> Config:
    return load_config(None, _keys(model, out, *more))


def _bytes(folder: Path) -> dict[str, bytes]:
    return {name: (folder / name).read_bytes() for name in ("scene.ply", "contact_sheet.png")}


@pytest.fixture(scope="module")
def whole(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run without a cut."""
    out = tmp_path_factory.mktemp("whole") / "run"
    fit(_config(model, out), quiet=True)
    return out


def test_what_a_run_leaves(whole: Path) -> None:
    files = {str(p.relative_to(whole)) for p in whole.rglob("*") if p.is_file()}
    assert files == {
        *("config.yaml", "scene.ply", "turntable.mp4", "contact_sheet.png", "metrics.csv"),
        *("summary.json", "checkpoints/last.ckpt"),
    }
    summary = json.loads((whole / "summary.json").read_text())
    assert summary["steps"] == 40
    assert summary["backend"] == resolve_backend("auto", "cpu")
    assert summary["gaussians"] != 30, "the densifier had its say"
    rows = (whole / "metrics.csv").read_text().splitlines()
    assert [row.split(",")[0] for row in rows] == ["step", *map(str, range(5, 41, 5))]
    resolved = load_config(whole / "config.yaml")
    assert resolved.steps == 40


def test_scene_files_say_what_they_show(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The prompt and, where it was measured, whether there is more than one face."""
    keys = ("steps=2", "export.formats=[ply,html]", "export.frames=0")
    for faces, said in ((1, "1 face"), (2, "2 faces")):
        found = {"MI": 1.7349, "faces": faces, "front_share": 1.0}
        found |= {"recognised": 1.0, "psnr_aligned": 20.0}
        monkeypatch.setattr(Record, "_measures", lambda *_, found=found: found)
        out = tmp_path / said
        assert fit(_config(model, out, *keys), quiet=True)["measures"] == found
        comments = plyfile.PlyData.read(str(out / "scene.ply")).comments
        assert comments[1:] == ["a red owl", "MI 1.73 nats", said]
        page = (out / "scene.html").read_text(encoding="utf-8")
        for line in comments[1:]:
            assert f">{line}</" in page


def test_a_run_leaves_its_caller_denormals(whole: Path) -> None:
    assert whole.exists()
    assert sys.float_info.min / 2 > 0


def test_the_same_seed_gives_the_same_bits(model: Path, whole: Path, tmp_path: Path) -> None:
    fit(_config(model, tmp_path / "again"), quiet=True)
    assert _bytes(tmp_path / "again") == _bytes(whole)
    fit(_config(model, tmp_path / "other", "seed=1"), quiet=True)
    assert _bytes(tmp_path / "other")["scene.ply"] != _bytes(whole)["scene.ply"]


@pytest.mark.parametrize("until", [20, 23], ids=["at a checkpoint", "right before an edit"])
def test_resumed_runs_end_in_the_same_bits(
    model: Path, whole: Path, tmp_path: Path, until: int
) -> None:
    out = tmp_path / "cut"
    assert fit(_config(model, out), quiet=True, until=until) == {}
    assert (out / "scene.ply").exists(), "an interrupted run leaves a scene"
    assert not (out / "summary.json").exists()
    fit(_config(model, out, "resume=true"), quiet=True)
    assert _bytes(out) == _bytes(whole)
    steps = [row.split(",")[0] for row in (out / "metrics.csv").read_text().splitlines()]
    assert steps == ["step", *map(str, range(5, 41, 5))]


def test_the_pooled_views_are_part_of_what_resumes(model: Path, tmp_path: Path) -> None:
    """More views than a cut leaves behind, and fewer than the run draws."""
    keys = ("loss.marginal=pool", "loss.camera=noise", "pool.views=50")
    fit(_config(model, tmp_path / "whole", *keys), quiet=True)
    fit(_config(model, tmp_path / "cut", *keys), quiet=True, until=20)
    fit(_config(model, tmp_path / "cut", *keys, "resume=true"), quiet=True)
    assert _bytes(tmp_path / "cut") == _bytes(tmp_path / "whole")


def _start(model: Path, out: Path, *more: str) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-m", "esd_splat.fit", "--config", DEFAULTS, *_keys(model, out, *more)],
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
    fit(_config(model, whole, "steps=15", "checkpoint_every=1"), quiet=True)
    process = _start(model, out, "steps=15", "checkpoint_every=1")
    _wait_for(out / "checkpoints" / "last.ckpt")
    process.kill()
    process.communicate()
    assert not (out / "summary.json").exists()
    fit(_config(model, out, "steps=15", "checkpoint_every=1", "resume=true"), quiet=True)
    assert _bytes(out) == _bytes(whole)


def test_ctrl_c_leaves_a_scene_and_a_run_that_resumes(model: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    process = _start(model, out, "steps=4000", "checkpoint_every=1")
    _wait_for(out / "checkpoints" / "last.ckpt")
    process.send_signal(signal.SIGINT)
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
            fit(_config(model, tmp_path / "run"), quiet=True)
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    finally:
        signal.signal(signal.SIGINT, outside)


def test_folders_are_not_overwritten_unasked(
    model: Path, whole: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = _bytes(whole)
    with pytest.raises(OutputError, match="holds a finished run; overwrite=true replaces it"):
        fit(_config(model, whole), quiet=True)
    summary = fit(_config(model, whole, "resume=true"))
    assert "nothing left to do" in capsys.readouterr().out
    assert summary["steps"] == 40
    assert _bytes(whole) == before


def test_resuming_with_other_settings_is_refused(model: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    fit(_config(model, out), quiet=True, until=2)
    with pytest.raises(
        CheckpointError, match=r"for batch, optim \(batch=\d+, optim.sh0=0.0\d+\); use"
    ):
        fit(_config(model, out, "resume=true", "batch=3", "optim.sh0=0.5"), quiet=True)


def test_rows_of_a_contact_sheet_must_match(model: Path, tmp_path: Path) -> None:
    out, keys = tmp_path / "run", ("steps=4", "log.sheet_every=2", "resume=true")
    change = ("export.sheet_views=4", "export.elevation=5")
    fit(_config(model, out, *keys), quiet=True, until=1)
    assert fit(_config(model, out, *keys, *change), quiet=True, until=2) == {}
    with pytest.raises(CheckpointError, match=r"settings for export.elevation, export.sheet_views"):
        fit(_config(model, out, *keys), quiet=True)
    same = (*change, "export.size=20", "export.frames=0")
    assert fit(_config(model, out, *keys, *same), quiet=True)["steps"] == 4


def test_a_scene_that_was_started_from_is_not_needed_to_resume(
    model: Path, whole: Path, tmp_path: Path
) -> None:
    start, out = tmp_path / "start.ply", tmp_path / "run"
    keys = ("steps=4", "init=ply", f"init.path={start}")
    config = load_config(None, [k for k in _keys(model, out, *keys) if "init.count" not in k])
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
    fit(_config(model, out, *keys), quiet=True, until=6)
    shutil.copy(out / "checkpoints" / "last.ckpt", tmp_path / "kept")
    fit(_config(model, out, *keys, "resume=true"), quiet=True, until=10)
    # As if it had been killed at step 10 with nothing saved since 6.
    shutil.copy(tmp_path / "kept", out / "checkpoints" / "last.ckpt")
    fit(_config(model, out, *keys, "resume=true"), quiet=True)
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
    fit(_config(model, out, "steps=3"), quiet=True, until=2)
    checkpoint = out / "checkpoints" / "last.ckpt"
    checkpoint.write_bytes(checkpoint.read_bytes()[:-50])
    fit(_config(model, out, "steps=3", "resume=true"), quiet=True)
    said = capsys.readouterr().err
    assert "cut short or damaged" in said
    assert "starting from step 0" in said


def test_a_checkpoint_with_older_names_goes_on_to_the_same_bits(
    model: Path, tmp_path: Path
) -> None:
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    fit(_config(model, whole, "steps=12"), quiet=True)
    fit(_config(model, cut, "steps=12"), quiet=True, until=7)
    path = cut / "checkpoints" / "last.ckpt"
    state = load_checkpoint(path)
    state["config"] = state["config"].replace("\nlora:", "\nparticle:")
    state["config"] = state["config"].replace("camera: lora", "camera: particle")
    for part in (state["run"], state["run"]["generators"], *state["record"]["rows"]):
        older = {"particle" if name == "lora" else name: value for name, value in part.items()}
        part.clear()
        part.update(older)
    save_checkpoint(path, state)
    fit(_config(model, cut, "steps=12", "resume=true"), quiet=True)
    assert (cut / "scene.ply").read_bytes() == (whole / "scene.ply").read_bytes()
    header = (cut / "metrics.csv").read_text().splitlines()[0]
    assert header == (whole / "metrics.csv").read_text().splitlines()[0]


def test_nan_stops_the_run_and_keeps_the_last_good_checkpoint(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    @section
    class Breaks(ScoreDistillation):
        """Turns NaN at the third step."""

        @override
        def direction(self, teacher: Latents) -> Latents:
            calls.append(1)
            return teacher * (float("nan") if len(calls) == 3 else 1.0)

    calls: list[int] = []
    config = _config(model, tmp_path / "run", "checkpoint_every=1")
    config = dataclasses.replace(config, loss=Breaks())
    with pytest.raises(RunError, match=r"step 3: direction, .*NaN"):
        fit(config, quiet=True)
    state = load_checkpoint(tmp_path / "run" / "checkpoints" / "last.ckpt")
    assert state["run"]["done"] == 2
    assert all(v.isfinite().all() for v in state["run"]["optimizer"]["scene"].values())


def test_cuda_asked_for_and_absent(model: Path, tmp_path: Path) -> None:
    if torch.cuda.is_available():
        pytest.skip("there is a CUDA device")
    with pytest.raises(BackendError, match="no CUDA device; use device=cpu"):
        fit(_config(model, tmp_path / "run", "device=cuda"), quiet=True)
    assert not (tmp_path / "run").exists()


def test_a_new_loss_is_one_class_and_one_line(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It asks for the teacher and the noise only, so no LoRA is made for it."""

    @section
    class Halfway(ScoreDistillation):
        """Half of SDS."""

        strength: float = 0.5

        @override
        def direction(self, teacher: Latents, noise: Latents) -> Latents:
            return self.strength * (teacher - noise)

    monkeypatch.setitem(LOSSES, "halfway", Halfway)
    attached: list[Any] = []
    monkeypatch.setattr("esd_splat.distill.lora.Lora.attach", lambda *a: attached.append(a))
    config = _config(model, tmp_path / "run", "steps=2")
    config = dataclasses.replace(config, loss=Halfway(strength=0.1))
    assert fit(config, quiet=True)["steps"] == 2
    assert attached == []


@pytest.mark.slow
def test_the_kernels_of_densification_change_no_run(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """500 steps, some 40 edits up to the cap, by our kernels and by PyTorch: the same scene."""
    keys = (
        *("steps=500", "densify.every=12", "densify.window=[0, 1]", "densify.max_count=80"),
        *("loss.camera=noise", "loss.entropy_weight=0"),  # SDS: no LoRA to train
    )
    compiled = kernels.has
    for left in ({"observe", "classify", "grow"}, set()):

        def has(operator: str, tensor: torch.Tensor, left: set[str] = left) -> bool:
            return operator in left and compiled(operator, tensor)

        monkeypatch.setattr(kernels, "has", has)
        out = tmp_path / f"with{len(left)}"
        assert fit(_config(model, out, *keys), quiet=True)["gaussians"] == 80
    assert _bytes(tmp_path / "with0") == _bytes(tmp_path / "with3")
