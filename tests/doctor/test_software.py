"""What is said of packages and of ffmpeg, also where they are missing."""

import sys
from importlib import metadata

import pytest
import torch
from packaging.requirements import Requirement

from esd_splat.doctor import software
from esd_splat.doctor.finding import Finding
from tests.doctor.fakes import failing


@pytest.mark.parametrize("lacks", ["package", "program"])
def test_without_ffmpeg_no_run_can_start(lacks: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if lacks == "package":
        monkeypatch.setitem(sys.modules, "imageio_ffmpeg", None)
    else:
        none = failing(RuntimeError("No ffmpeg exe could be found"))
        monkeypatch.setattr("imageio_ffmpeg.get_ffmpeg_exe", none)
    found = software.ffmpeg()
    assert found.stops
    assert "ffmpeg" in found.found
    assert 'pip install "imageio[ffmpeg]"' in found.way_out


def test_packages_are_held_to_what_ours_requires() -> None:
    assert software.package(Requirement("torch>=2")) == Finding(torch.__version__)
    old = software.package(Requirement("numpy>=999"))
    assert old.stops
    assert old.found.endswith(", but >=999 is required")
    assert old.way_out == 'python -m pip install "numpy>=999"'
    assert software.package(Requirement("esd-no-such-package")).found == "not installed"
    optional = software.package(Requirement("viser>=999"))
    assert not optional.stops
    assert optional.found.endswith("; only view=true needs it")


def test_a_torch_that_does_not_load_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    found = software.torch_build()
    assert found.stops
    assert found.found.startswith("cannot be imported (")


def test_a_package_that_is_not_installed_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("version", "requires"):
        monkeypatch.setattr(metadata, name, failing(metadata.PackageNotFoundError("esd-splat")))
    assert "not installed" in software.ours().found
    assert "pip install" in software.ours().way_out
    assert software.packages() == {}
