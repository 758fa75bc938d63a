"""``esd-splat``: one command that starts all others."""

import re
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

import esd_splat
from esd_splat.__main__ import COMMANDS, main

ROOT = Path(__file__).parent.parent
each_command = pytest.mark.parametrize("name", COMMANDS)


@pytest.mark.parametrize("arguments", [[], ["--help"], ["-h"]])
def test_alone_it_shows_every_command_with_a_line_each(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 0
    text, errors = capsys.readouterr()
    assert errors == ""
    for name, what in COMMANDS.items():
        assert re.search(rf"^  {name} +{re.escape(what)}$", text, re.MULTILINE)


def test_it_tells_its_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"{esd_splat.__version__}\n"


@pytest.mark.parametrize(
    ("typed", "way_out"),
    [
        ("fti", "did you mean fit?"),
        ("comparison", "did you mean compare?"),
        ("prompt=a red owl", f"choose from {', '.join(COMMANDS)}"),
    ],
)
def test_an_unknown_command_is_one_line_with_the_nearest(
    typed: str, way_out: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([typed, "more"]) == 2
    assert capsys.readouterr() == ("", f"esd_splat: {typed}: unknown command; {way_out}\n")


def test_every_command_of_the_package_is_in_the_table() -> None:
    package = ROOT / "esd_splat"
    modules = {p.stem for p in package.glob("*.py") if "\ndef main(" in p.read_text("utf-8")}
    folders = {path.parent.name for path in package.glob("*/__main__.py")}
    assert (modules | folders) - {"__main__"} == set(COMMANDS)


@each_command
def test_a_command_is_the_same_as_its_module(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in (["--nonsense"], ["nonsense=1"]):
        status, printed = main([name, *arguments]), capsys.readouterr()
        assert import_module(f"esd_splat.{name}").main(arguments) == status == 2
        assert capsys.readouterr() == printed


@each_command
@pytest.mark.parametrize("start", ["esd-splat {}", "python -m esd_splat.{}"])
def test_usage_repeats_how_the_command_was_started(
    name: str, start: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    by_script = start.startswith("esd-splat")
    started = "/usr/bin/esd-splat" if by_script else f"/src/esd_splat/{name}.py"
    monkeypatch.setattr(sys, "argv", [started])
    try:
        status = main([name, "--help"])
    except SystemExit as ended:  # argparse's own --help
        status = ended.code
    assert status == 0
    text = capsys.readouterr().out
    assert text.startswith(f"usage: {start.format(name)} ")
    assert ("python -m esd_splat" in text) == (not by_script)


def test_help_loads_no_library() -> None:
    code = "import sys; from esd_splat.__main__ import main; main(['--help']); "
    code += "print(*sys.modules, file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = {name.split(".")[0] for name in done.stderr.split()}
    assert "esd_splat" in loaded
    assert not loaded & {"torch", "numpy", "yaml", "omegaconf", "pydantic", "diffusers"}


def test_it_runs_as_a_module() -> None:
    call = [sys.executable, "-W", "error", "-m", "esd_splat", "fti"]
    done = subprocess.run(call, capture_output=True, text=True, check=False, cwd=ROOT)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "esd_splat: fti: unknown command; did you mean fit?\n"


def test_the_script_that_pip_makes_starts_it() -> None:
    project = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    ((module, function),) = re.findall(r'^esd-splat = "(.*):(.*)"$', project, re.MULTILINE)
    assert getattr(import_module(module), function) is main
