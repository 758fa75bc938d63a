"""Exit status and error messages of all commands."""

import io
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from esd_splat.command import run, say
from esd_splat.compare import main as compare
from esd_splat.errors import SceneError
from esd_splat.export import main as export
from esd_splat.fit import main as fit
from esd_splat.report import main as report
from esd_splat.toy import main as toy


def _raise(error: BaseException) -> Callable[[], None]:
    def command() -> None:
        raise error

    return command


@pytest.mark.parametrize(
    ("error", "status", "line"),
    [
        (SceneError("a.ply: no such file"), 2, "us: a.ply: no such file\n"),
        (KeyboardInterrupt(), 130, "us: stopped\n"),
    ],
)
def test_what_a_user_can_cause_is_one_line(
    error: BaseException, status: int, line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(_raise(error), "us", interrupted="stopped") == status
    assert capsys.readouterr().err == line


@pytest.mark.parametrize("error", [ValueError("a bug"), OSError(5, "Input/output error")])
def test_a_bug_keeps_its_traceback(error: Exception) -> None:
    with pytest.raises(type(error)):
        run(_raise(error))


def test_sigterm_is_an_interrupt_and_only_the_first_one_counts(
    capsys: pytest.CaptureFixture[str],
) -> None:
    before, ended = signal.getsignal(signal.SIGTERM), []

    def command() -> None:
        try:
            signal.raise_signal(signal.SIGTERM)
        finally:
            signal.raise_signal(signal.SIGTERM)
            ended.append(True)

    assert run(command, "us", interrupted="stopped") == 130
    assert ended
    assert capsys.readouterr().err == "us: stopped\n"
    assert signal.getsignal(signal.SIGTERM) is before


def test_what_cannot_be_printed_ends_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    ascii_only = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr(sys, "stdout", ascii_only)
    say("Läufe")
    assert ascii_only.buffer.getvalue() == b"L\\xe4ufe\n"
    ascii_only.close()
    say("to a closed stream")
    with Path("/dev/full").open("w") as full:
        monkeypatch.setattr(sys, "stderr", full)
        say("to a full disk", to_stderr=True)
        assert run(lambda: 0) == 0
    monkeypatch.setattr(sys, "stdout", None)
    say("to nobody")


def test_results_that_cannot_be_written_are_one_line() -> None:
    call = [sys.executable, "-m", "esd_splat.fit", "--version"]
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(call, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert (done.returncode, done.stderr) == (2, "esd_splat: stdout: No space left on device\n")


LONG = "x" * 300


@pytest.mark.parametrize(
    ("main", "arguments"),
    [
        (fit, ["prompt=a red owl", "--print-config", "--config", LONG]),
        (fit, ["prompt=a red owl", f"teacher.model={LONG}"]),
        (fit, ["prompt=a red owl", f"teacher.lora=[{LONG}.safetensors]"]),
        (fit, ["prompt=a red owl", f"out={LONG}"]),
        (report, [LONG]),
        (compare, [LONG]),
        (export, [f"{LONG}.ply", "a.ply"]),
    ],
)
def test_a_name_that_no_file_system_takes_is_one_line(
    main: Callable[[list[str]], int],
    arguments: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(arguments) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("esd_splat: ")
    assert captured.err.count("\n") == 1
    assert "File name too long" in captured.err
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("main", "arguments"),
    [(fit, ["--config"]), (report, ["--x"]), (compare, ["--x"]), (export, ["--x"]), (toy, ["--x"])],
)
def test_a_flag_that_cannot_be_read_is_one_line(
    main: Callable[[list[str]], int], arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 2
    err = capsys.readouterr().err
    assert err.count("\n") == 1
    assert "usage" not in err


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_a_reader_that_has_left_is_told_of_by_the_status(unbuffered: str) -> None:
    """The status is 128 plus the number of SIGPIPE, with and without buffering of stdout."""
    ours, theirs = os.pipe()
    os.close(ours)
    call = [sys.executable, "-m", "esd_splat.fit", "--version"]
    env = os.environ | {"PYTHONUNBUFFERED": unbuffered}
    done = subprocess.run(call, stdout=theirs, stderr=subprocess.PIPE, env=env, check=False)
    os.close(theirs)
    assert (done.returncode, done.stderr) == (141, b"")
