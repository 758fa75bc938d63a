"""A run's folder: nothing goes before there is something better, and what is not ours stays."""

import json
import shutil
from pathlib import Path

import pytest

from esd_splat import trainer
from esd_splat.config import Config, load_config
from esd_splat.distillation import Distillation
from esd_splat.errors import CheckpointError, OutputError, RunError
from esd_splat.folder import claimed
from tests.tiny import IMAGE_SIZE


@pytest.fixture(scope="module")
def finished(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("finished") / "run"
    trainer.run(_config(model, out), quiet=True)
    return out


@pytest.fixture
def out(finished: Path, tmp_path: Path) -> Path:
    """A copy of a finished run."""
    return shutil.copytree(finished, tmp_path / "run")


def _config(model: Path, out: Path, *more: str) -> Config:
    keys = {
        "prompt": "a red owl",
        "teacher.model": model,
        "out": out,
        "steps": 2,
        "batch": 2,
        "cameras.size": IMAGE_SIZE,
        "init.count": 20,
        "export.frames": 0,
        "export.report": "false",
    }
    keys |= dict(override.split("=", 1) for override in more)
    return load_config(None, [f"{key}={value}" for key, value in keys.items()])


def _content(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("error", [RunError("NaN"), RuntimeError("a bug"), KeyboardInterrupt()])
def test_a_run_that_makes_no_step_costs_none_that_did(
    model: Path, out: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    def step(run: Distillation) -> dict[str, float]:
        raise error

    monkeypatch.setattr(Distillation, "step", step)
    before = _content(out)
    with pytest.raises(type(error)):
        trainer.run(_config(model, out, "overwrite=true"), quiet=True)
    assert _content(out) == before
    with pytest.raises(type(error)):
        trainer.run(_config(model, out.with_name("new")), quiet=True)
    assert not out.with_name("new").exists()


def test_overwriting_removes_what_a_run_left_and_nothing_else(model: Path, out: Path) -> None:
    mine = {out / name: b"kept" for name in ("notes.txt", "scene.blend", "turntable.mov")}
    for path, content in mine.items():
        path.write_bytes(content)
    (out / "turntable.gif").write_text("of an older run")
    trainer.run(_config(model, out, "overwrite=true"), quiet=True, until=1)
    left = _content(out)
    assert mine.items() <= left.items()
    names = {"config.yaml", "metrics.csv", "scene.ply", "last.ckpt"}
    assert {path.name for path in left.keys() - mine.keys()} == names


@pytest.mark.parametrize("key", ["resume=false", "resume=true"])
def test_files_of_others_are_left_alone(model: Path, tmp_path: Path, key: str) -> None:
    (tmp_path / "thesis.tex").write_text("years of work")
    (tmp_path / "scene.ply").write_text("of another program")
    before = _content(tmp_path)
    with pytest.raises(OutputError, match=r"holds other files, and no run to go on with; out= "):
        trainer.run(_config(model, tmp_path, key), quiet=True)
    assert _content(tmp_path) == before


def test_a_run_without_a_checkpoint_goes_on_from_the_start_as_it_began(
    model: Path, out: Path
) -> None:
    """As one that was killed in its first steps."""
    for path in out.iterdir():
        if path.name != "config.yaml":
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    with pytest.raises(CheckpointError, match="other settings for batch"):
        trainer.run(_config(model, out, "resume=true", "batch=3"), quiet=True)
    assert trainer.run(_config(model, out, "resume=true"), quiet=True)["steps"] == 2


def test_one_run_at_a_time(model: Path, out: Path) -> None:
    before = _content(out)
    with claimed(out), pytest.raises(OutputError, match="another run is writing to"):
        trainer.run(_config(model, out, "overwrite=true"), quiet=True)
    assert _content(out) == before
    trainer.run(_config(model, out, "overwrite=true"), quiet=True)


@pytest.mark.parametrize("damage", ["", "{", "5", "\udcff"])
def test_a_damaged_summary_is_written_anew(model: Path, out: Path, damage: str) -> None:
    known = json.loads((out / "summary.json").read_text())
    (out / "summary.json").write_bytes(damage.encode(errors="surrogateescape"))
    assert trainer.run(_config(model, out, "resume=true"), quiet=True)["steps"] == known["steps"]
    assert json.loads((out / "summary.json").read_text()).keys() == known.keys()


def test_a_finished_run_without_its_checkpoint_is_not_made_again(model: Path, out: Path) -> None:
    shutil.rmtree(out / "checkpoints")
    before = _content(out)
    assert trainer.run(_config(model, out, "resume=true"), quiet=True)["steps"] == 2
    with pytest.raises(CheckpointError, match=r"has no checkpoints/last\.ckpt to go on from"):
        trainer.run(_config(model, out, "resume=true", "export.fps=12"), quiet=True)
    assert _content(out) == before


def test_a_finished_run_writes_what_it_is_asked_for_later(model: Path, out: Path) -> None:
    scene = (out / "scene.ply").read_bytes()
    more = ("resume=true", "export.formats=[ply,spz]", "export.frames=2", "export.video=gif")
    (out / "config.yaml").unlink()  # its checkpoint knows as well
    trainer.run(_config(model, out, *more), quiet=True)
    assert {"scene.spz", "turntable.gif", "config.yaml"} <= {p.name for p in out.iterdir()}
    assert (out / "scene.ply").read_bytes() == scene, "no step was made again"
    assert load_config(out / "config.yaml").export.frames == 2
