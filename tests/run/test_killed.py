"""Nothing of a run is lost in silence: killed, ended by SIGTERM, or without a place to print to."""

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from esd_splat.distill.distillation import Distillation
from esd_splat.errors import OutputError
from esd_splat.fit import fit
from esd_splat.run.checkpoint import load_checkpoint
from esd_splat.run.folder import CHECKPOINT, claimed
from esd_splat.show.observers import Report
from tests.run.small import small_keys
from tests.tiny import DEFAULTS, tiny_config

ROOT = Path(__file__).parents[2]
SHORT = ("steps=4", "export.frames=0")


def test_a_run_killed_at_any_file_event_goes_on_to_the_same_bits() -> None:
    """A sample of the events, drawn by the day."""
    call = [sys.executable, "-m", "tests.run.killed", "5"]
    done = subprocess.run(
        call, cwd=ROOT, env=os.environ | {"OMP_NUM_THREADS": "1"}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr


def _interrupted_at(monkeypatch: pytest.MonkeyPatch, step: int, *signals: int) -> None:
    """Send this process ``signals`` in the middle of ``step``."""
    whole = Distillation.step

    def interrupted(run: Distillation) -> dict[str, float]:
        if run.done == step - 1:
            for number in signals:
                signal.raise_signal(number)
        return whole(run)

    monkeypatch.setattr(Distillation, "step", interrupted)


@pytest.mark.parametrize("step", [2, 4], ids=["in the middle", "in the last step"])
def test_sigterm_ends_the_step_and_saves_however_often_it_comes(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: int
) -> None:
    """Also in a job of SLURM, where Lightning would handle it."""
    monkeypatch.setenv("SLURM_NTASKS", "2")
    monkeypatch.setenv("SLURM_JOB_NAME", "owls")
    before = signal.getsignal(signal.SIGTERM)
    out = tmp_path / "run"
    with monkeypatch.context() as patch:
        _interrupted_at(patch, step, signal.SIGTERM, signal.SIGTERM)
        with pytest.raises(KeyboardInterrupt):
            fit(tiny_config(model, out, *SHORT), quiet=True)
    assert signal.getsignal(signal.SIGTERM) is before
    assert load_checkpoint(out / CHECKPOINT)["run"]["done"] == step
    assert (out / "scene.ply").exists()
    assert not (out / "summary.json").exists()
    assert fit(tiny_config(model, out, *SHORT, "resume=true"), quiet=True)["steps"] == 4


def test_a_run_killed_before_its_report_writes_it_when_resumed(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out, keys = tmp_path / "run", (*SHORT, "export.report=true")
    with monkeypatch.context() as patch:

        def after_summary(report: Report) -> None:
            raise KeyboardInterrupt

        patch.setattr(Report, "after_summary", after_summary)
        with pytest.raises(KeyboardInterrupt):
            fit(tiny_config(model, out, *keys), quiet=True)
    assert not (out / "report.html").exists()
    shutil.rmtree(out / "checkpoints")  # the report is made without it
    fit(tiny_config(model, out, *keys, "resume=true"))
    assert "wrote its report.html" in capsys.readouterr().out
    assert (out / "report.html").exists()


def test_a_finished_run_writes_what_was_removed(model: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    fit(tiny_config(model, out, *SHORT), quiet=True)
    scene = (out / "scene.ply").read_bytes()
    for name in ("scene.ply", "contact_sheet.png"):
        (out / name).unlink()
        fit(tiny_config(model, out, *SHORT, "resume=true"), quiet=True)
        assert (out / name).exists()
    assert (out / "scene.ply").read_bytes() == scene


@pytest.mark.parametrize("taken", [False, True], ids=["removed", "taken over"])
def test_a_folder_that_vanishes_ends_the_run_in_one_line(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, taken: bool
) -> None:
    whole, out = Distillation.step, tmp_path / "run"

    def vanishing(run: Distillation) -> dict[str, float]:
        if run.done == 2:
            shutil.rmtree(out)
            if taken:
                out.mkdir()
                for name in (".lock", "config.yaml"):
                    (out / name).write_text("of another run")
        return whole(run)

    monkeypatch.setattr(Distillation, "step", vanishing)
    with pytest.raises(OutputError, match="run was removed during the run"):
        fit(tiny_config(model, out, *SHORT), quiet=True)
    left = {path.name: path.read_text() for path in out.glob("*")}
    assert left == (dict.fromkeys((".lock", "config.yaml"), "of another run") if taken else {})


def test_a_claimed_folder_is_checked(tmp_path: Path) -> None:
    with claimed(tmp_path) as check:
        (tmp_path / "config.yaml").touch()
        check()
        (tmp_path / ".lock").unlink()  # somebody took it for the one of a killed run
        check()


@pytest.mark.parametrize("where", ["full", "closed"])
def test_a_run_needs_no_place_to_print_to(model: Path, tmp_path: Path, where: str) -> None:
    out = tmp_path / "Läufe"
    keys = small_keys(model, out, *SHORT, "checkpoint_every=0")
    arguments = ["-m", "esd_splat.fit", "--config", str(DEFAULTS), *keys]
    to = {"full": ">/dev/full 2>/dev/full", "closed": "<&- >&- 2>&-"}[where]
    call = ["sh", "-c", f'exec "$0" "$@" {to}', sys.executable, *arguments]
    env = os.environ | {"PYTHONIOENCODING": "ascii"}
    assert subprocess.run(call, cwd=ROOT, env=env, check=False).returncode == 0
    assert (out / "summary.json").exists()
    # With the number of a closed stream, they would take in what libraries print.
    assert (out / CHECKPOINT).read_bytes().startswith(b"esd_splat checkpoint ")
