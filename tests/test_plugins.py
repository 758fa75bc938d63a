"""Plug-ins from other packages are found by their entry points and used like our own."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

PROJECT = """\
[build-system]
requires = ["setuptools"]
build-backend = "setuptools.build_meta"

[project]
name = "somebody-s-losses"
version = "1.0"

[tool.setuptools]
py-modules = ["somebody"]

[project.entry-points."esd_splat.losses"]
halfway = "somebody:Halfway"
broken = "somebody:Missing"
esd = "somebody:Halfway"
"""
CODE = '''\
"""A loss."""

from esd_splat.distill.losses.base import ScoreDistillation
from esd_splat.settings.schema import Field, section


@section
class Halfway(ScoreDistillation):
    """A part of SDS."""

    strength: float = Field(default=0.5, ge=0, le=1)
    """How much of it."""

    def direction(self, teacher, noise):
        """Less than SDS."""
        return self.strength * (teacher - noise)
'''


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder into which pip has installed the package."""
    source, target = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("installed")
    (source / "pyproject.toml").write_text(PROJECT)
    (source / "somebody.py").write_text(CODE)
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index"]
    pip += ["--no-build-isolation", "--target", str(target), str(source)]
    done = subprocess.run(pip, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return target


def fit(installed: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
    """Run ``python -m esd_splat.fit`` with the package installed."""
    paths = [str(installed), str(Path(__file__).parent.parent)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}
    command = [sys.executable, "-m", "esd_splat.fit", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, env=environment)


def test_a_loss_of_another_package_makes_a_scene(
    installed: Path, model: Path, tmp_path: Path
) -> None:
    keys = ["prompt=a red owl", f"teacher.model={model}", f"out={tmp_path / 'run'}", "steps=2"]
    keys += ["batch=2", "cameras.size=16", "init.count=30", "export.frames=0"]
    done = fit(installed, "--config", "sds", *keys, "loss=halfway", "loss.strength=0.25")
    assert done.returncode == 0, done.stderr
    assert '"a red owl" with loss halfway: 2 steps' in done.stdout
    config = (tmp_path / "run" / "config.yaml").read_text()
    assert "loss:\n  name: halfway\n  strength: 0.25\n" in config


def test_its_keys_are_checked_and_explained(installed: Path) -> None:
    done = fit(installed, "prompt=a", "loss=halfway", "loss.strenght=2", "loss.strength=3")
    assert done.returncode == 2
    assert "loss.strenght: unknown key; did you mean 'loss.strength'?" in done.stderr
    assert "loss.strength: must be in [0, 1], got 3" in done.stderr
    described = "loss.strength  (a number, in [0, 1]; default 0.5)\n      How much of it.\n"
    assert described in fit(installed, "--help").stdout


def test_what_cannot_be_used_is_left_out_with_a_line(installed: Path) -> None:
    done = fit(installed, "prompt=a", "loss=broken")
    assert done.returncode == 2
    left_out = "esd_splat: left out {} of somebody-s-losses (losses): "
    assert left_out.format("'broken'") in done.stderr
    assert left_out.format("'esd'") + "esd_splat already has one of that name" in done.stderr
    assert "loss: expected one of asd, csd, esd, halfway, ism, " in done.stderr
