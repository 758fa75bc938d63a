"""How a run refuses, stops and goes on: what it costs, and what it leaves."""

import json
import shutil
from pathlib import Path

import imageio_ffmpeg
import pytest
import torch

from esd_splat.config import load_config
from esd_splat.errors import (
    BackendError,
    CheckpointError,
    NewerCheckpointError,
    OutputError,
    PromptError,
    RunError,
    SceneError,
    TeacherError,
)
from esd_splat.fit import fit
from esd_splat.formats import load_scene
from esd_splat.run.checkpoint import MAGIC, load_checkpoint, save_checkpoint
from esd_splat.scene import kernels
from tests.formats.scenes import FORMATS
from tests.tiny import tiny_config


@pytest.mark.parametrize(
    ("more", "error"),
    [
        (("teacher.model=/nowhere",), TeacherError),
        (("init={name: ply, path: /nowhere.ply}",), SceneError),
    ],
)
def test_what_cannot_start_costs_nothing(
    model: Path, tmp_path: Path, more: tuple[str, ...], error: type[Exception]
) -> None:
    out = tmp_path / "run"
    with pytest.raises(error):
        fit(tiny_config(model, out, *more), quiet=True)
    assert not out.exists()
    fit(tiny_config(model, out), quiet=True)
    before = {p: p.read_bytes() for p in out.rglob("*") if p.is_file()}
    with pytest.raises(error):
        fit(tiny_config(model, out, "overwrite=true", *more), quiet=True)
    assert {p: p.read_bytes() for p in out.rglob("*") if p.is_file()} == before


def test_a_video_that_cannot_be_made_is_known_before_the_run(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing() -> str:
        raise RuntimeError("No ffmpeg exe could be found.")

    monkeypatch.setattr(imageio_ffmpeg, "get_ffmpeg_exe", missing)
    config = tiny_config(model, tmp_path / "run", "export.video=gif")
    with pytest.raises(
        OutputError, match=r"^export\.video: .*pip install.*export\.frames=0 makes no"
    ):
        fit(config, quiet=True)
    assert not (tmp_path / "run").exists()
    fit(tiny_config(model, tmp_path / "run", "export.frames=0"), quiet=True)


def test_a_report_that_fails_leaves_a_finished_run(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(folder: Path) -> None:
        raise OutputError("report.html: no space left")

    monkeypatch.setattr("esd_splat.show.observers.write_report", full)
    out = tmp_path / "run"
    with pytest.raises(OutputError, match=r"no space left; all but the report is there, and pyt"):
        fit(tiny_config(model, out, "export.report=true"), quiet=True)
    assert fit(tiny_config(model, out, "resume=true"), quiet=True)["steps"] == 3


def test_a_video_that_fails_in_the_end_costs_no_scene(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "run"
    keys = ("export.video=both", "log.every=1")
    with monkeypatch.context() as patch:
        patch.setattr("esd_splat.show.video.QUALITY_CRF", "worst")
        patch.setattr("esd_splat.show.observers.check_video", lambda suffix: None)
        with pytest.raises(OutputError, match=r"turntable\.mp4: .*resume=true writes the rest"):
            fit(tiny_config(model, out, *keys), quiet=True)
    left = {name: (out / name).read_bytes() for name in ("scene.ply", "contact_sheet.png")}
    assert {p.name for p in out.iterdir()} == {*left, "config.yaml", "metrics.csv", "checkpoints"}
    assert fit(tiny_config(model, out, *keys, "resume=true"), quiet=True)["steps"] == 3
    assert {p.name for p in out.glob("turntable.*")} == {"turntable.mp4", "turntable.gif"}
    assert left == {name: (out / name).read_bytes() for name in left}
    assert len((out / "metrics.csv").read_text().splitlines()) == 4, "no step was done again"


@pytest.mark.parametrize(
    "more",
    [
        ("optim.opacity_logits=100", "regularise.opacity=1e6"),
        ("optim.opacity_logits=100", "regularise.opacity=1e6", "steps=1"),
        ("optim.means=100", "optim.means_end=100"),
    ],
    ids=["faded", "faded in the last step", "flown away"],
)
def test_a_scene_that_vanishes_stops_the_run(
    model: Path, tmp_path: Path, more: tuple[str, ...]
) -> None:
    out = tmp_path / "run"
    keys = ("steps=20", "densify=none", "checkpoint_every=1", "log.every=1", *more)
    words = r"step \d+: all 30 Gaussians vanished.*(no checkpoint|last\.ckpt holds step \d+)"
    with pytest.raises(RunError, match=words):
        fit(tiny_config(model, out, *keys), quiet=True)
    assert not (out / "summary.json").exists()


def test_a_run_writes_the_formats_it_is_asked_for(model: Path, tmp_path: Path) -> None:
    """And replacing it removes those of before."""
    out, names = tmp_path / "run", sorted(FORMATS)
    formats = f"export.formats=[{','.join(names)}]"
    fit(tiny_config(model, out, "steps=1", formats), quiet=True)
    assert sorted(path.name for path in out.glob("scene.*")) == [f"scene.{n}" for n in names]
    whole = load_scene(out / "scene.ply")
    assert {len(load_scene(path)) for path in out.glob("scene.*")} == {len(whole)}
    fit(tiny_config(model, out, "steps=1", "overwrite=true"), quiet=True)
    assert [path.name for path in out.glob("scene.*")] == ["scene.ply"]


def test_auto_is_decided_once(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run that began with the kernels does not go on without them unasked."""
    if kernels.MISSING:
        pytest.skip(f"no kernels: {kernels.MISSING}")
    out = tmp_path / "run"
    fit(tiny_config(model, out), quiet=True, until=1)
    settled = load_config(out / "config.yaml")
    assert (settled.backend, settled.device) == ("cpu", "cpu")
    with monkeypatch.context() as without:
        without.setattr(kernels, "MISSING", "as if")
        with pytest.raises(BackendError, match="backend=cpu needs the compiled kernels"):
            fit(tiny_config(model, out, "resume=true"), quiet=True)
    with pytest.raises(CheckpointError, match="other settings for backend"):
        fit(tiny_config(model, out, "resume=true", "backend=reference"), quiet=True)
    assert fit(tiny_config(model, out, "resume=true"), quiet=True)["backend"] == "cpu"


def test_a_run_of_a_gpu_stays_there(model: Path, tmp_path: Path) -> None:
    if torch.cuda.is_available():
        pytest.skip("there is one")
    out = tmp_path / "run"
    with pytest.raises(BackendError, match="no CUDA device; use device=cpu, or install"):
        fit(tiny_config(model, out, "device=cuda"), quiet=True)
    fit(tiny_config(model, out), quiet=True, until=1)
    path = out / "checkpoints" / "last.ckpt"
    state = load_checkpoint(path)
    state["config"] = state["config"].replace("device: cpu", "device: cuda")
    save_checkpoint(path, state)
    with pytest.raises(BackendError, match="no CUDA device; go on with the run where it began, or"):
        fit(tiny_config(model, out, "resume=true"), quiet=True)


def test_a_newer_checkpoint_is_kept(model: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    fit(tiny_config(model, out), quiet=True, until=1)
    path = out / "checkpoints" / "last.ckpt"
    newer = MAGIC + b"9\n" + path.read_bytes().partition(b"\n")[2]
    path.write_bytes(newer)
    with pytest.raises(NewerCheckpointError, match=r"has version 9 .* update esd_splat"):
        fit(tiny_config(model, out, "resume=true"), quiet=True)
    assert path.read_bytes() == newer


def test_a_finished_run_of_something_else_is_not_this_one(model: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    fit(tiny_config(model, out), quiet=True)
    with pytest.raises(CheckpointError, match='prompt \\(prompt="a red owl"\\); use'):
        fit(tiny_config(model, out, "resume=true", "prompt=a blue cat"), quiet=True)


def test_sheets_and_numbers_are_there_while_it_runs(model: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    keys = ("log.sheet_every=1", "log.every=1", "checkpoint_every=1")
    fit(tiny_config(model, out, *keys), quiet=True, until=2)
    assert (out / "contact_sheet.png").exists()
    assert len((out / "metrics.csv").read_text().splitlines()) == 3


def test_unknown_words_are_named_with_the_key_they_came_by(model: Path, tmp_path: Path) -> None:
    words = {"words": ["a", "red", "owl", ","], "kinds": ["owl"], "colours": ["red"]}
    model = shutil.copytree(model, tmp_path / "model")
    (model / "vocabulary.json").write_text(json.dumps(words))
    for more, key, said in (
        ("prompt=a corgi", "prompt", r"'corgi'\. It"),
        ("prompt=a rad owl", "prompt", r"'rad'; did you mean 'red'\? It"),
        ("negative_prompt=blurry", "negative_prompt", "'blurry'"),
        ("teacher.views.enabled=true", r"teacher\.views \(front view\)", "'front', 'view'"),
    ):
        with pytest.raises(PromptError, match=f"^{key}: .*does not know {said}"):
            fit(tiny_config(model, tmp_path / "run", more), quiet=True)
