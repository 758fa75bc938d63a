"""How gsplat's kernels are built, announced and tried, with a gsplat and a GPU that are faked."""

import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gsplat
import pytest
import torch
from torch.utils import cpp_extension

from esd_splat import cuda_toolkit
from esd_splat.cuda_toolkit import Toolkit
from esd_splat.scene.rasterize import gsplat_build


@pytest.fixture(autouse=True)
def _gpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A GPU, a toolkit of torch's version, and nothing compiled yet."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    monkeypatch.setenv("TORCH_EXTENSIONS_DIR", str(tmp_path))
    for name in ("PATH", "CUDA_HOME", "LIBRARY_PATH"):
        monkeypatch.setenv(name, os.environ.get(name, ""))  # to be restored
    monkeypatch.setattr("torch.utils.cpp_extension.CUDA_HOME", None)
    toolkit = Toolkit(tmp_path, tmp_path / "bin/nvcc", tmp_path / "include", tmp_path / "lib64")
    monkeypatch.setattr(Toolkit, "version", "13.0")
    monkeypatch.setattr(cuda_toolkit, "toolkits", lambda: [toolkit])
    yield
    gsplat_build._missing.cache_clear()


def _loads(monkeypatch: pytest.MonkeyPatch, compiled: Any) -> None:
    """Have gsplat load ``compiled`` as its kernels, or raise it."""

    class Backend:
        @property
        def _C(self) -> Any:
            if isinstance(compiled, Exception):
                raise compiled
            return compiled

    monkeypatch.setitem(sys.modules, "gsplat.cuda._backend", Backend())


def _draws(monkeypatch: pytest.MonkeyPatch, centre: float | Exception) -> None:
    def rasterization(**kwargs: Any) -> tuple[torch.Tensor, ...]:
        if isinstance(centre, Exception):
            raise centre
        return (torch.full((1, 16, 16, 3), centre),)

    monkeypatch.setattr(gsplat, "rasterization", rasterization)
    for name in ("tensor", "eye"):
        made = getattr(torch, name)
        monkeypatch.setattr(torch, name, lambda *a, device, made=made: made(*a))


def test_it_is_compiled_with_the_toolkit_that_was_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _loads(monkeypatch, object())
    _draws(monkeypatch, 0.9)
    assert gsplat_build.missing() == ""
    assert os.environ["CUDA_HOME"] == str(tmp_path)
    assert os.environ["PATH"].startswith(f"{tmp_path}/bin")
    assert str(tmp_path) == cpp_extension.CUDA_HOME


def test_a_failed_build_shows_the_compilers_errors(monkeypatch: pytest.MonkeyPatch) -> None:
    long = f"Error building extension 'gsplat_cuda': [1/30] nvcc {'-I/x ' * 200}\n"
    _loads(monkeypatch, RuntimeError(f"{long}a.cu(3): error: no such thing\nninja: stopped"))
    assert gsplat_build.missing() == "RuntimeError: a.cu(3): error: no such thing"


@pytest.mark.parametrize(
    ("centre", "why"),
    [
        (
            RuntimeError(
                "CUDA error: the provided PTX was compiled with an unsupported toolchain.\n"
            ),
            "CUDA error: the provided PTX was compiled with an unsupported toolchain.",
        ),
        (0.0, "a white dot of opacity 0.9 becomes 0"),
    ],
)
def test_kernels_that_do_not_run_are_found_out(
    centre: float | Exception, why: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They do not run if the toolkit is newer than the driver."""
    _loads(monkeypatch, object())
    _draws(monkeypatch, centre)
    assert gsplat_build.missing() == why


def test_no_cuda_is_no_build(monkeypatch: pytest.MonkeyPatch) -> None:
    _loads(monkeypatch, AssertionError("must not be asked"))
    monkeypatch.setattr(torch.version, "hip", "6.4")
    assert "ROCm" in gsplat_build.missing()
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert gsplat_build.missing() == ""


def test_a_build_is_announced_and_lives(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gsplat_build, "MINUTE", 0.01)
    folder = tmp_path / "gsplat_cuda"
    folder.mkdir()
    (folder / "one.cuda.o").touch()
    lines: list[str] = []
    with gsplat_build.announced(lines.append):
        while len(lines) < 3:
            time.sleep(0.01)
    assert lines[0].startswith(f"gsplat compiles its kernels, once for this machine, in {folder}")
    assert lines[2] == "gsplat still compiles: 1 of 29 files after 2 min"
    (folder / "gsplat_cuda.so").touch()
    lines.clear()
    with gsplat_build.announced(lines.append):
        pass
    assert lines == [], "what is compiled is loaded in no time"


def test_the_number_of_files_is_gsplats() -> None:
    root = Path(gsplat.__file__).parent / "cuda"
    assert len([*root.glob("csrc/*.cu"), *root.glob("csrc/*.cpp"), root / "ext.cpp"]) == (
        gsplat_build.SOURCES
    )
