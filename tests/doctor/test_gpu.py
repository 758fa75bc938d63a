"""What is said of GPUs and compilers, on machines that are faked."""

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from esd_splat import cuda_toolkit
from esd_splat.doctor import cli, gpu
from esd_splat.doctor.finding import Finding
from esd_splat.scene import kernels
from esd_splat.scene.rasterize import gsplat_build


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
    monkeypatch.setattr(cuda_toolkit, "ROOT", tmp_path)
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
    for name in ("lib64/libcudart_static.a", "include/cuda_runtime.h"):
        (programs.parent / name).parent.mkdir()
        (programs.parent / name).touch()


def test_a_machine_without_a_gpu_lacks_nothing_but_a_compiler(machine: Path) -> None:
    assert gpu.gpu() == Finding("none, so runs compute on the CPU")
    assert gpu.driver() == Finding("no nvidia-smi")
    assert gpu.gsplat_kernels() == Finding("not needed without a GPU")
    assert gpu.toolkit().found.startswith("there is no nvcc")
    assert gpu.toolkit().found.endswith("; only a GPU needs it")
    assert not gpu.toolkit().way_out
    assert gpu.compiler().found == "none"
    assert "g++" in gpu.compiler().way_out
    _install(machine, "g++", "g++ 12.2\nmore")
    assert gpu.compiler() == Finding(f"g++ 12.2 at {machine}/g++")


def test_a_gpu_without_nvcc_draws_on_the_cpu(
    with_gpu: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert gpu.gpu() == Finding("NVIDIA T4, 15 GiB; NVIDIA T4, 15 GiB")
    assert gpu.toolkit().found.startswith("there is no nvcc")
    assert gpu.toolkit().way_out.startswith("conda install -c nvidia cuda-toolkit=12.8, or")
    monkeypatch.setattr(kernels, "MISSING", "")
    assert gpu.gsplat_kernels() == Finding(
        "not compiled, as there is no toolkit for it, so our kernels draw on the CPU",
        "install the CUDA toolkit, see below",
    )
    _install_toolkit(with_gpu, "12.4")
    assert gpu.toolkit() == Finding(f"CUDA 12.4 in {with_gpu.parent}")
    assert gpu.gsplat_kernels().found.startswith("not compiled yet")
    assert f"{with_gpu.parents[1]}/extensions/gsplat_cuda" in gpu.gsplat_kernels().found
    assert not (with_gpu.parents[1] / "extensions").exists(), "nothing was begun"


def test_a_toolkit_of_another_cuda_is_no_use(
    with_gpu: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And what to install depends on the CUDA version of torch."""
    _install_toolkit(with_gpu, "12.4")
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    assert gpu.toolkit() == Finding(
        f"the toolkit in {with_gpu.parent} is of CUDA 12.4, and torch's is 13.0",
        'pip install "nvidia-cuda-nvcc==13.0.*" "nvidia-cuda-crt==13.0.*" '
        '"nvidia-cuda-cccl==13.0.*" "nvidia-nvvm==13.0.*"',
    )


def test_gsplat_s_kernels_are_loaded_only_if_they_are_compiled(
    with_gpu: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    compiled = with_gpu.parents[1] / "extensions" / "gsplat_cuda" / "gsplat_cuda.so"
    compiled.parent.mkdir(parents=True)
    compiled.touch()
    monkeypatch.setattr(gsplat_build, "missing", lambda: "")
    assert gpu.gsplat_kernels() == Finding(f"compiled, in {compiled}")
    monkeypatch.setattr(gsplat_build, "missing", lambda: "cut short")
    monkeypatch.setattr(kernels, "MISSING", "")
    broken = gpu.gsplat_kernels()
    assert broken.found == "cut short, so our kernels draw on the CPU"
    assert f"remove {compiled.parent}," in broken.way_out


def test_a_gpu_that_torch_cannot_use_is_told_from_none(
    machine: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def init() -> None:
        raise RuntimeError("The NVIDIA driver on your system is too old (found version 11040). x")

    assert gpu.gpu() == Finding("none, so runs compute on the CPU")
    _install(machine, "nvidia-smi", "470.57, NVIDIA T4")
    assert gpu.driver() == Finding("470.57, NVIDIA T4")
    monkeypatch.setattr(torch.version, "cuda", None)
    assert gpu.gpu().found.startswith("torch is a build without CUDA, on a machine with an NVIDIA")
    assert "CUDA build of torch" in gpu.gpu().way_out
    monkeypatch.setattr(torch.cuda, "init", init)
    assert (
        "torch cannot use the GPU (The NVIDIA driver on your system is too old" in gpu.gpu().found
    )
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
    monkeypatch.setattr(kernels, "missing_on_cuda", lambda: "" if compiled else "no nvcc")
    found = gpu.our_kernels()
    assert found.found.startswith("for the CPU and CUDA" if compiled else "for the CPU only")
    assert bool(found.way_out) is not compiled
