"""What is said of kernels that the build left out."""

import json
from pathlib import Path

import pytest

from esd_splat.scene import kernels


def test_the_build_said_why_there_are_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(name: str) -> None:
        raise ImportError("No module named 'esd_splat._C'")

    monkeypatch.setattr(kernels, "__file__", str(tmp_path / "scene" / "kernels.py"))
    monkeypatch.setattr(kernels.importlib, "import_module", absent)
    assert kernels._load() == "No module named 'esd_splat._C'", "an older build left no note"
    why = {"cpu": "the build found no torch", "cuda": "there is no nvcc"}
    (tmp_path / "_C.json").write_text(json.dumps(why))
    assert kernels._load() == "No module named 'esd_splat._C'; the build found no torch"
    monkeypatch.setattr(kernels, "MISSING", "")
    monkeypatch.setattr(kernels, "_compiled", lambda operator, device_type: False)
    assert kernels.missing_on_cuda() == "there is no nvcc"


def test_the_advice_is_a_command_that_says_more() -> None:
    assert "`ESD_SPLAT_BUILD=cpu pip install -v --no-build-isolation .`" in kernels.COMPILE
    assert "`ESD_SPLAT_BUILD=cuda pip install -v --no-build-isolation .`" in kernels.COMPILE_CUDA
