"""A run's folder: nothing goes before there is something better, and what is not ours stays."""

import errno
import fcntl
import json
import shutil
from contextlib import ExitStack
from pathlib import Path

import pytest
from filelock import FileLock

from esd_splat.config import Config, load_config
from esd_splat.distill.distillation import Distillation
from esd_splat.errors import BusyError, CheckpointError, OutputError, RunError
from esd_splat.fit import fit
from esd_splat.run.folder import CHECKPOINT, LOCK, claimed
from tests.tiny import tiny_config


@pytest.fixture(scope="module")
def finished(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("finished") / "run"
    fit(_config(model, out), quiet=True)
    return out


@pytest.fixture
def out(finished: Path, tmp_path: Path) -> Path:
    """A copy of a finished run."""
    return shutil.copytree(finished, tmp_path / "run")


def _config(model: Path, out: Path, *more: str) -> Config:
    return tiny_config(model, out, "steps=2", "export.frames=0", *more)


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
        fit(_config(model, out, "overwrite=true"), quiet=True)
    assert _content(out) == before
    with pytest.raises(type(error)):
        fit(_config(model, out.with_name("new")), quiet=True)
    assert not out.with_name("new").exists()


def test_overwriting_removes_what_a_run_left_and_nothing_else(model: Path, out: Path) -> None:
    mine = {out / name: b"kept" for name in ("notes.txt", "scene.blend", "turntable.mov")}
    for path, content in mine.items():
        path.write_bytes(content)
    (out / "turntable.gif").write_text("of an older run")
    fit(_config(model, out, "overwrite=true"), quiet=True, until=1)
    left = _content(out)
    assert mine.items() <= left.items()
    names = {"config.yaml", "metrics.csv", "scene.ply", "last.ckpt"}
    assert {path.name for path in left.keys() - mine.keys()} == names


@pytest.mark.parametrize("key", ["resume=false", "resume=true"])
def test_files_of_others_are_left_alone(model: Path, tmp_path: Path, key: str) -> None:
    (tmp_path / "thesis.tex").write_text("years of work")
    (tmp_path / "config.yaml").write_text("of: another program")
    before = _content(tmp_path)
    with pytest.raises(OutputError, match=r"holds other files but no run to resume; out= "):
        fit(_config(model, tmp_path, key), quiet=True)
    assert _content(tmp_path) == before
    with pytest.raises(OutputError, match="is a file; choose another folder"):
        fit(_config(model, tmp_path / "thesis.tex", key), quiet=True)


def test_among_files_of_others_only_those_of_the_same_names_are_lost(
    model: Path, tmp_path: Path
) -> None:
    for name in ("report.html", "config.yaml", "tensorboard"):
        (tmp_path / name).write_text("of another program")
    fit(_config(model, tmp_path, "overwrite=true"), quiet=True)
    assert load_config(tmp_path / "config.yaml").steps == 2
    for name in ("report.html", "tensorboard"):
        assert (tmp_path / name).read_text() == "of another program"


def test_what_led_to_a_failure_is_on_record(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make = Distillation.step

    def step(run: Distillation) -> dict[str, float]:
        if run.done == 2:
            raise RunError("NaN")
        return make(run)

    monkeypatch.setattr(Distillation, "step", step)
    with pytest.raises(RunError, match="NaN; no checkpoint was due yet"):
        fit(_config(model, tmp_path / "run", "steps=4", "log.every=1"), quiet=True)
    assert len((tmp_path / "run" / "metrics.csv").read_text().splitlines()) == 3


def test_a_run_without_a_checkpoint_goes_on_from_the_start_as_it_began(
    model: Path, out: Path
) -> None:
    """As one that was killed in its first steps."""
    for path in out.iterdir():
        if path.name != "config.yaml":
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    with pytest.raises(CheckpointError, match="other settings for batch"):
        fit(_config(model, out, "resume=true", "batch=3"), quiet=True)
    assert fit(_config(model, out, "resume=true"), quiet=True)["steps"] == 2


def test_one_run_at_a_time(model: Path, out: Path) -> None:
    before = _content(out)
    with claimed(out), pytest.raises(BusyError, match="another run is writing to"):
        fit(_config(model, out, "overwrite=true"), quiet=True)
    assert _content(out) == before
    fit(_config(model, out, "overwrite=true", "steps=1"), quiet=True)
    assert json.loads((out / "summary.json").read_text())["steps"] == 1


def test_a_claim_ends_with_the_run(tmp_path: Path) -> None:
    """And one that failed leaves to the other what is the other's."""
    out = tmp_path / "run"
    with claimed(out):
        with pytest.raises(BusyError), claimed(out):
            raise AssertionError("claimed twice")
        assert out.is_dir()
    assert not out.exists(), "it was empty"
    with claimed(out):
        (out / "file").touch()
    with claimed(out):
        pass
    assert [path.name for path in out.iterdir()] == ["file"]


def test_who_claims_it_the_moment_it_is_free_keeps_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    release, waiting = FileLock.release, [claimed(tmp_path)]
    with ExitStack() as next_run:

        def release_to_the_next(lock: FileLock) -> None:
            release(lock)
            if waiting:
                next_run.enter_context(waiting.pop())

        monkeypatch.setattr(FileLock, "release", release_to_the_next)
        with claimed(tmp_path):
            pass
        with pytest.raises(BusyError), claimed(tmp_path):
            raise AssertionError("claimed twice")
    assert not list(tmp_path.iterdir())


def test_a_lock_file_removed_since_it_was_opened_is_worth_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    flock = fcntl.flock

    def late(descriptor: int, operation: int) -> None:
        (tmp_path / LOCK).unlink(missing_ok=True)
        flock(descriptor, operation)

    monkeypatch.setattr(fcntl, "flock", late)
    with pytest.raises(BusyError), claimed(tmp_path):
        raise AssertionError("claimed what another run can claim too")


def test_a_killed_run_leaves_a_lock_file_that_stops_nobody(model: Path, tmp_path: Path) -> None:
    """It may have been killed before it wrote anything else."""
    (tmp_path / LOCK).touch()
    assert fit(_config(model, tmp_path), quiet=True)["steps"] == 2
    assert not (tmp_path / LOCK).exists()


@pytest.mark.parametrize("code", [errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS])
def test_a_file_system_without_locks_is_written_to_without_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    def flock(descriptor: int, operation: int) -> None:
        raise OSError(code, "no locks here")

    monkeypatch.setattr(fcntl, "flock", flock)
    with claimed(tmp_path / "run"):
        assert (tmp_path / "run").is_dir()
    assert not (tmp_path / "run").exists()


def test_a_finished_run_that_can_only_be_read_is_still_finished(
    model: Path, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def acquire(lock: FileLock) -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(FileLock, "acquire", acquire)
    assert fit(_config(model, out, "resume=true"), quiet=True)["steps"] == 2


@pytest.mark.parametrize("damage", ["", "{", "5", "\udcff"])
def test_a_damaged_summary_is_written_anew(
    model: Path, out: Path, monkeypatch: pytest.MonkeyPatch, damage: str
) -> None:
    known = json.loads((out / "summary.json").read_text())
    (out / "summary.json").write_bytes(damage.encode(errors="surrogateescape"))
    monkeypatch.delattr(Distillation, "step")
    assert fit(_config(model, out, "resume=true"), quiet=True)["steps"] == known["steps"]
    assert json.loads((out / "summary.json").read_text()).keys() == known.keys()


@pytest.mark.parametrize("damaged", [False, True], ids=["gone", "damaged"])
def test_a_finished_run_without_its_checkpoint_is_not_made_again(
    model: Path, out: Path, damaged: bool
) -> None:
    (out / CHECKPOINT).unlink()
    if damaged:
        (out / CHECKPOINT).write_text("cut short")
    before = _content(out)
    assert fit(_config(model, out, "resume=true"), quiet=True)["steps"] == 2
    words = r"last\.ckpt: no.* checkpoint.*; ask for what config\.yaml has, or overwrite=true"
    with pytest.raises(CheckpointError, match=words):
        fit(_config(model, out, "resume=true", "export.fps=12"), quiet=True)
    assert _content(out) == before


@pytest.mark.parametrize("config", [True, False], ids=["", "no config.yaml"])
def test_a_finished_run_writes_what_it_is_asked_for_later(
    model: Path, out: Path, monkeypatch: pytest.MonkeyPatch, config: bool
) -> None:
    if not config:
        (out / "config.yaml").unlink()  # its checkpoint knows as well
    monkeypatch.delattr(Distillation, "step")
    more = ("resume=true", "export.formats=[ply,spz]", "export.frames=2", "export.video=gif")
    scene = (out / "scene.ply").read_bytes()

    def full(*unused: object, **none: object) -> None:
        raise OutputError("no space left")

    with monkeypatch.context() as patch:
        patch.setattr("esd_splat.show.observers.write_video", full)
        with pytest.raises(OutputError, match=r"no space left.*resume=true writes the rest"):
            fit(_config(model, out, *more), quiet=True)
    assert not (out / "turntable.gif").exists()
    fit(_config(model, out, *more), quiet=True)
    assert {"scene.spz", "turntable.gif", "config.yaml"} <= {p.name for p in out.iterdir()}
    assert (out / "scene.ply").read_bytes() == scene
    assert load_config(out / "config.yaml").export.frames == 2
