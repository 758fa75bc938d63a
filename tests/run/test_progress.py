"""What a run shows while it goes and when it is done: on a terminal, in a log, and when quiet."""

import fcntl
import io
import os
import pty
import re
import struct
import subprocess
import sys
import termios
import threading
import time
from contextlib import suppress
from pathlib import Path

import pytest

from esd_splat.fit import main
from esd_splat.run import progress
from tests.tiny import DEFAULTS, IMAGE_SIZE, save_tiny

ROOT = Path(__file__).parents[2]
COLUMNS = 80


@pytest.fixture(scope="module")
def arguments(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Arguments of a run of five small steps."""
    folder = tmp_path_factory.mktemp("tiny")
    model = save_tiny(folder / "model")
    keys = [
        "--config",
        str(DEFAULTS),
        "prompt=a red owl",
        f"teacher.model={model}",
        f"out={folder / 'run'}",
        "overwrite=true",
    ]
    keys += ["steps=5", "batch=1", f"cameras.size={IMAGE_SIZE}", "init.count=20", "lora.rank=1"]
    return [*keys, "export.frames=2", "export.report=false"]


def _on_a_terminal(arguments: list[str], monkeypatch: pytest.MonkeyPatch) -> str:
    """What the command writes to a terminal of ``COLUMNS`` columns, control characters and all."""
    ours, its = pty.openpty()
    fcntl.ioctl(its, termios.TIOCSWINSZ, struct.pack("HHHH", 24, COLUMNS, 0, 0))
    written: list[bytes] = []

    def read() -> None:  # at once, as a terminal holds few characters that nobody reads
        with suppress(OSError):  # how Linux says that the other side has closed it
            while part := os.read(ours, 1 << 16):
                written.append(part)

    reader = threading.Thread(target=read)
    reader.start()
    with os.fdopen(its, "w") as terminal, monkeypatch.context() as patch:
        patch.setattr(sys, "stdout", terminal)
        patch.setattr(sys, "stderr", terminal)
        assert main(arguments) == 0
    reader.join()
    os.close(ours)
    return b"".join(written).decode()


def test_a_terminal_shows_a_bar_and_then_what_was_written(
    arguments: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = _on_a_terminal(arguments, monkeypatch).split("\r\n")
    assert lines[0].startswith('"a red owl" with loss esd: 5 steps')
    states = lines[1].split("\r")
    seen = re.compile(
        r"step (\d)/5 \|.{8}\| +[\d.]+ steps/s, \d\d:\d\d left, 20 Gaussians, direction [\d.e-]+"
    )
    steps = [int(found[1]) for state in states if (found := seen.match(state))]
    assert steps == sorted(steps)
    assert steps[-1] == 5
    assert max(map(len, states)) <= COLUMNS
    assert lines[2].startswith("5 steps in ")
    assert lines[-1] == "", "ends on a line of its own"


@pytest.mark.slow
def test_a_log_has_whole_lines_in_order_and_no_control_characters(arguments: list[str]) -> None:
    command = [sys.executable, "-m", "esd_splat.fit", *arguments]
    done = subprocess.run(
        command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=True
    )
    assert all(c.isprintable() or c == "\n" for c in done.stdout)
    first, *between, last = [line for line in done.stdout.splitlines() if line]
    assert first.startswith('"a red owl" with loss esd: 5 steps')
    shown = [line for line in between if line.startswith("step ")]
    number = r"[\d.e-]+"
    assert re.fullmatch(
        rf"step 5/5, {number} steps/s, 00:00 left, 20 Gaussians, direction {number}, "
        rf"lora {number}",
        shown[-1],
    )
    assert between[len(shown)].startswith("5 steps in "), "after the last step"
    assert last.startswith("wrote ")


def test_quiet_says_nothing(arguments: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    assert _on_a_terminal([*arguments, "--quiet"], monkeypatch) == ""


def test_a_log_gets_a_line_now_and_then(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """By a clock of our own: two steps a second first, one later; resumed at step 10 of 100."""
    now = 50.0
    monkeypatch.setattr(progress.time, "monotonic", lambda: now)
    with progress.progress(10, 100, quiet=False) as show:
        for step in range(11, 101):
            now += 0.5 if step <= 50 else 1.0
            show(step, {"direction": 0.25, "gaussians": 7.0})
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "step 30/100, 2.00 steps/s, 00:35 left, 7 Gaussians, direction 0.25"
    assert [line.split("/")[0] for line in lines] == [
        *(f"step {step}" for step in (30, 50, 60, 70, 80, 90, 100))
    ]
    assert lines[3].startswith("step 70/100, 1.00 steps/s, 00:30 left"), "the latest speed counts"


def test_slow_steps_are_counted_in_seconds() -> None:
    found = [progress.speed(rate) for rate in (2.0, 1.0, 0.5, 1 / 90, 0.0, None)]
    assert found == ["2.00 steps/s", "1.00 steps/s", "2.0 s/step", "90.0 s/step"] + 2 * [
        "? steps/s"
    ]


@pytest.mark.parametrize("terminal", [False, True])
def test_a_step_that_takes_long_shows_that_it_goes_on(
    monkeypatch: pytest.MonkeyPatch, terminal: bool
) -> None:
    """And says nothing more once the run is over."""
    written = io.StringIO()
    monkeypatch.setattr(written, "isatty", lambda: terminal)
    monkeypatch.setattr(sys, "stderr", written)
    monkeypatch.setattr(progress, "STILL_EVERY_S", 0.02)
    words = r"step 3/9[^\r\n]* its next step has taken \d+ s so far"
    with progress.progress(2, 9, quiet=False) as show:
        show(3, {"gaussians": 7.0})
        for _ in range(3000):  # at most a minute, on a machine that has much else to do
            if len(re.findall(words, written.getvalue())) > 1:
                break
            time.sleep(0.02)
    assert len(re.findall(words, written.getvalue())) > 1
    after = written.getvalue()
    time.sleep(0.1)
    assert written.getvalue() == after
