"""``esd-splat doctor``: what it prints, and with which status it ends."""

import io
import subprocess
import sys
from pathlib import Path

import pytest

from esd_splat.doctor import cli, main
from esd_splat.doctor.finding import Finding, short
from tests.doctor.fakes import failing


def test_this_machine_can_run_and_every_line_is_aligned(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main([]) == 0
    text = capsys.readouterr().out
    *lines, last = text.replace("\n\n", "\n").splitlines()
    width = max(map(len, cli.checks()))
    assert last == "A run can start here."
    assert all(line[width : width + 2] == "  " and line[width + 2] != " " for line in lines)
    assert "cannot be found out" not in text
    for name in ("torch", "diffusers", "viser", "GPU", "ffmpeg", "disk"):
        assert f"\n{name} " in text
    assert not list(tmp_path.iterdir())


def test_what_is_missing_is_said_with_the_way_to_get_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    found = {
        "paint": lambda: Finding("red"),
        "brush": lambda: Finding("none", "buy one", stops=True),
        "a frame": lambda: Finding("none", "build one"),
    }
    monkeypatch.setattr(cli, "checks", lambda: found)
    assert main([]) == 1
    assert capsys.readouterr().out == (
        "paint    red\n"
        "brush    none\n"
        "         -> buy one\n"
        "a frame  none\n"
        "         -> build one\n"
        "\n"
        "No run can start here. Missing: brush\n"
    )


@pytest.mark.parametrize(
    "error",
    [
        ImportError("no such\nmodule"),
        OSError("no such\nfile"),
        RuntimeError("no such\ndevice"),
        ValueError("no such\nnumber"),
        subprocess.TimeoutExpired("nvcc", 60),
        subprocess.CalledProcessError(1, "nvcc"),
    ],
)
def test_what_cannot_be_found_out_costs_its_line_alone(
    error: Exception, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    found = {"one": failing(error), "two": lambda: Finding("there")}
    monkeypatch.setattr(cli, "checks", lambda: found)
    assert main([]) == 0
    first = str(error).splitlines()[0]
    lines = capsys.readouterr().out.splitlines()
    assert lines[:2] == [f"one  cannot be found out ({first})", "two  there"]


def test_a_terminal_without_unicode_gets_escapes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cli, "checks", lambda: {"disk": lambda: Finding("in /home/zoë/\udcff")})
    stdout = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr(sys, "stdout", stdout)
    assert main([]) == 0
    assert stdout.buffer.getvalue().startswith(rb"disk  in /home/zo\xeb/\udcff")


def test_the_home_of_the_user_is_not_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/zoe")
    assert short("/home/zoe/runs") == "~/runs"
    assert short("/home/zoe") == "~"
    assert short("/home/zoelle/runs") == "/home/zoelle/runs"
