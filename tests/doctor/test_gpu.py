"""What is said of GPUs and compilers, on machines that are faked."""

import warnings
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from esd_splat.doctor import cli, gpu
from esd_splat.doctor.finding import Finding
from esd_splat.errors import BackendError
from esd_splat.scene import kernels
from tests.doctor.fakes import failing


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine without a GPU or any program; its folder of programs."""
    programs = tmp_path / "cuda" / "bin"
    programs.mkdir(parents=True)
    monkeypatch.setenv("PATH", str(programs))
    monkeypatch.setenv("CUDA_HOME", str(tmp_path / "cuda"))
    monkeypatch.setenv("TORCH_EXTENSIONS_DIR", str(tmp_path / "extensions"))
    monkeypatch.delenv("CXX", raising=False)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    return programs


@pytest.fixture
def with_gpu(machine: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The same machine with a GPU, and torch built for CUDA 12.8."""
    device = SimpleNamespace(name="NVIDIA T4", total_memory=15 * 2**30)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _: device)
    monkeypatch.setattr(torch.version, "cuda", "12.8")
    return machine


def _install(programs: Path, name: str, prints: str, status: int = 0) -> None:
    (programs / name).write_text(f"#!/bin/sh\necho '{prints}'\nexit {status}\n")
    (programs / name).chmod(0o755)


def _install_toolkit(programs: Path, release: str) -> None:
    _install(programs, "nvcc", f"Cuda compilation tools, release {release}, V{release}.93")
    library = programs.parent / "lib64" / "libcudart_static.a"
    library.parent.mkdir()
    library.touch()


def test_a_machine_without_a_gpu_lacks_nothing_but_a_compiler(machine: Path) -> None:
    assert gpu.gpu() == Finding("none, so runs compute on the CPU")
    assert gpu.driver() == Finding("no nvidia-smi")
    assert gpu.gsplat_kernels() == Finding("not needed without a GPU")
    assert gpu.toolkit() == Finding("no nvcc; only a GPU needs it")
    assert gpu.compiler().found == "none"
    assert "g++" in gpu.compiler().way_out
    _install(machine, "g++", "g++ 12.2\nmore")
    assert gpu.compiler() == Finding(f"g++ 12.2 at {machine}/g++")


def test_a_gpu_without_nvcc_cannot_run_until_there_is_one(with_gpu: Path) -> None:
    assert gpu.gpu() == Finding("NVIDIA T4, 15 GiB; NVIDIA T4, 15 GiB")
    assert gpu.toolkit().found == "no nvcc"
    assert gpu.toolkit().way_out.startswith("install the CUDA toolkit 12.8 and put nvcc on PATH")
    assert gpu.gsplat_kernels().stops
    assert "no nvcc" in gpu.gsplat_kernels().found
    _install_toolkit(with_gpu, "12.4")
    assert gpu.toolkit() == Finding(
        f"nvcc 12.4 at {with_gpu}/nvcc, libraries in {with_gpu.parent}/lib64"
    )
    assert gpu.gsplat_kernels().found.startswith("not compiled yet")
    assert f"{with_gpu.parents[1]}/extensions/gsplat_cuda" in gpu.gsplat_kernels().found
    assert not gpu.gsplat_kernels().stops
    assert not (with_gpu.parents[1] / "extensions").exists(), "nothing was begun"


def test_a_toolkit_of_another_cuda_is_no_use(with_gpu: Path) -> None:
    _install_toolkit(with_gpu, "13.0")
    assert "but torch is built for CUDA 12.8" in gpu.toolkit().found
    assert "install the CUDA toolkit 12.8" in gpu.toolkit().way_out


def test_gsplat_s_kernels_are_loaded_only_if_they_are_compiled(
    with_gpu: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    compiled = with_gpu.parents[1] / "extensions" / "gsplat_cuda" / "gsplat_cuda.so"
    compiled.parent.mkdir(parents=True)
    compiled.touch()
    resolve = "esd_splat.scene.rasterize.resolve_backend"
    monkeypatch.setattr(resolve, lambda name, device: name)
    assert gpu.gsplat_kernels() == Finding(f"compiled, in {compiled}")
    monkeypatch.setattr(resolve, failing(BackendError("cut short")))
    broken = gpu.gsplat_kernels()
    assert (broken.found, broken.stops) == ("cut short", True)
    assert f"remove {compiled.parent}," in broken.way_out


def test_a_gpu_that_torch_cannot_use_is_told_from_none(
    machine: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _install(machine, "nvidia-smi", "470.57, NVIDIA T4")
    assert gpu.driver() == Finding("470.57, NVIDIA T4")
    monkeypatch.setattr(torch.version, "cuda", None)
    assert gpu.gpu().found == "torch is a build without CUDA, so runs compute on the CPU"
    assert "CUDA build of torch" in gpu.gpu().way_out

    def warn() -> bool:
        warnings.warn("The NVIDIA driver is too old", stacklevel=1)
        return False

    monkeypatch.setattr(torch.version, "cuda", "12.8")
    monkeypatch.setattr(torch.cuda, "is_available", warn)
    assert "torch cannot use it (The NVIDIA driver is too old)" in gpu.gpu().found
    assert "update the NVIDIA driver" in gpu.gpu().way_out


def test_a_driver_that_fails_is_no_traceback(machine: Path) -> None:
    _install(machine, "nvidia-smi", "Driver/library version mismatch", status=9)
    with pytest.raises(cli.UNKNOWN):
        gpu.driver()


def test_missing_kernels_are_said_with_the_reason(
    machine: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kernels, "MISSING", "")
    assert gpu.our_kernels() == Finding("for the CPU")
    monkeypatch.setattr(kernels, "MISSING", "No module named 'esd_splat._C'")
    missing = gpu.our_kernels()
    assert "No module named 'esd_splat._C'" in missing.found
    assert (missing.way_out, missing.stops) == (kernels.COMPILE, False)


@pytest.mark.parametrize("compiled", [True, False])
def test_kernels_for_a_gpu(compiled: bool, with_gpu: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernels, "MISSING", "")
    monkeypatch.setattr(kernels, "has", lambda name, tensor: compiled)
    monkeypatch.setattr(torch, "empty", lambda size, device: device)
    found = gpu.our_kernels()
    assert found.found.startswith("for the CPU and CUDA" if compiled else "for the CPU only")
    assert bool(found.way_out) is not compiled
