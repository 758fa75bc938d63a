"""The device and what draws on it, on machines whose answers to torch are faked."""

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from esd_splat import cuda_toolkit
from esd_splat.config import Config, load_config
from esd_splat.errors import BackendError, RunError
from esd_splat.fit import fit
from esd_splat.run.device import settle
from esd_splat.run.out_of_memory import short_of_memory
from esd_splat.scene import kernels
from esd_splat.scene.rasterize import gsplat_build
from esd_splat.teacher.stable_diffusion import StableDiffusion
from tests.run.small import bytes_of, small_config

OLD = (
    "The NVIDIA driver on your system is too old (found version 11040). Please update your GPU "
    "driver by downloading and installing a new version from the URL: http://www.nvidia.com/"
)


@pytest.fixture(autouse=True)
def _fresh() -> Iterator[None]:
    yield
    gsplat_build._missing.cache_clear()
    kernels._fails_on_cuda.cache_clear()


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """Two GPUs and a CUDA build of torch, but no toolkit, and no compiled kernels of gsplat."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "NVIDIA T4")
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    monkeypatch.setattr(kernels, "MISSING", "")
    monkeypatch.setattr(cuda_toolkit, "toolkits", list)
    monkeypatch.setattr(gsplat_build, "compiled", lambda: None)
    _answers(monkeypatch, lambda: torch.zeros(1))
    return monkeypatch


def _answers(patch: pytest.MonkeyPatch, first: Callable[[], torch.Tensor]) -> None:
    """Have the first tensor on a GPU be what ``first`` returns or raises."""
    ones = torch.ones

    def answer(*size: Any, device: Any = None, **rest: Any) -> torch.Tensor:
        return first() if device and device.type == "cuda" else ones(*size, device=device, **rest)

    patch.setattr(torch, "ones", answer)


def _config(*keys: str) -> Config:
    return load_config(None, ["prompt=a red owl", *keys])


def _settled(*keys: str) -> tuple[str, str, list[str]]:
    lines: list[str] = []
    config = _config(*keys)
    settled = settle(config, config, lines.append)
    assert not any("\n" in line for line in lines)
    return settled.device, settled.backend, lines


def _refused(*keys: str) -> str:
    with pytest.raises(BackendError) as error:
        _settled(*keys)
    assert "\n" not in str(error.value)
    return str(error.value)


@pytest.mark.usefixtures("gpu")
@pytest.mark.parametrize("keys", [[], ["device=cuda"]])
def test_without_nvcc_our_kernels_draw_on_the_cpu(keys: list[str]) -> None:
    assert _settled(*keys) == (
        "cuda",
        "cpu",
        [
            "gsplat cannot draw (there is no nvcc: not in CUDA_HOME, on PATH, from conda or pip, "
            "or in /usr/local; `esd-splat doctor` says how to get it), so our kernels draw on the "
            "CPU; the networks stay on cuda"
        ],
    )


def test_without_any_kernels_pytorch_draws(gpu: pytest.MonkeyPatch) -> None:
    gpu.setattr(kernels, "MISSING", "No module named 'esd_splat._C'")
    device, backend, lines = _settled()
    assert (device, backend) == ("cuda", "reference")
    drawing, densifying = lines
    assert drawing.startswith("gsplat cannot draw (there is no nvcc")
    assert "no compiled kernels (No module named 'esd_splat._C'), so PyTorch draws" in drawing
    assert drawing.endswith(kernels.COMPILE)
    assert densifying.startswith("PyTorch densifies, more slowly than our kernels (No module")
    assert densifying.endswith(kernels.COMPILE_CUDA)


def test_gsplat_draws_where_its_kernels_load(gpu: pytest.MonkeyPatch) -> None:
    gpu.setattr(gsplat_build, "_missing", lambda: "")
    gpu.setattr(kernels, "missing_on_cuda", lambda: "")
    assert _settled() == ("cuda", "gsplat", [])
    assert _settled("device=cuda:1") == ("cuda:1", "gsplat", [])


def test_what_is_asked_for_is_not_replaced(gpu: pytest.MonkeyPatch) -> None:
    assert _settled("backend=cpu") == ("cuda", "cpu", [])
    assert "backend=gsplat cannot load its CUDA kernels (there is no nvcc" in _refused(
        "backend=gsplat"
    )


def test_rocm_has_the_same_split(gpu: pytest.MonkeyPatch) -> None:
    gpu.setattr(torch.version, "cuda", None)
    gpu.setattr(torch.version, "hip", "6.4")
    device, backend, (line,) = _settled()
    assert (device, backend) == ("cuda", "cpu")
    assert "gsplat cannot draw (torch is built for ROCm" in line


def test_apple_has_the_same_split(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernels, "MISSING", "")
    assert "torch finds no Apple GPU; use device=cpu" in _refused("device=mps")
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    assert _settled("device=mps") == (
        "mps",
        "cpu",
        [
            "gsplat draws on CUDA only, not on mps, so our kernels draw on the CPU; the networks "
            "stay on mps"
        ],
    )
    assert _settled()[0] == "cpu", "as before, it has to be asked for"


def test_a_run_on_a_gpu_without_nvcc(
    model: Path, tmp_path: Path, gpu: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The networks are on the CPU here, which takes the place of the GPU."""
    if kernels._load():
        pytest.skip(kernels._load())
    load = StableDiffusion.load
    asked: list[torch.device] = []

    def load_here(self: StableDiffusion, device: torch.device, *rest: Any) -> Any:
        asked.append(device)
        return load(self, torch.device("cpu"), *rest)

    gpu.setattr(StableDiffusion, "load", load_here)
    # Lightning and the summary ask too, after the choice.
    gpu.setattr(torch.cuda, "max_memory_allocated", lambda: 0)
    keys = ("steps=8", "measure.views=8")
    summary = fit(small_config(model, tmp_path / "gpu", *keys))
    said = capsys.readouterr().out
    assert "so our kernels draw on the CPU; the networks stay on cuda" in said
    assert "8 steps on cuda, rendered by cpu" in said
    assert asked == [torch.device("cuda")]
    assert summary["backend"] == "cpu"
    gpu.undo()
    fit(small_config(model, tmp_path / "cpu", *keys), quiet=True)
    assert bytes_of(tmp_path / "gpu") == bytes_of(tmp_path / "cpu")


def _raises(error: Exception) -> Callable[..., Any]:
    def fail(*args: Any, **kwargs: Any) -> Any:
        raise error

    return fail


def test_a_driver_that_is_too_old(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "init", _raises(RuntimeError(OLD)))
    why = "torch cannot use the GPU (The NVIDIA driver on your system is too old (found version "
    assert _refused("device=cuda") == (
        f"device: cuda was asked for and {why}11040)); use device=cpu, or update the NVIDIA "
        "driver, or install torch for an older CUDA: https://pytorch.org/get-started/locally"
    )
    device, _, lines = _settled()
    assert device == "cpu"
    assert lines[0].startswith(f"{why}11040)), so the CPU computes; update the NVIDIA driver")


def test_no_gpu_is_worth_no_word(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernels, "MISSING", "")
    for said in ("Torch not compiled with CUDA enabled", "Found no NVIDIA driver on your system"):
        monkeypatch.setattr(torch.cuda, "init", _raises(AssertionError(said)))
        assert _settled() == ("cpu", "cpu", [])
    assert "torch finds no CUDA device; use device=cpu, or install" in _refused("device=cuda")


@pytest.mark.usefixtures("gpu")
def test_a_device_beyond_the_last() -> None:
    assert _refused("device=cuda:7") == (
        "device: cuda:7 was asked for and torch finds 2 CUDA devices; use cuda:0 or cuda:1"
    )


@pytest.mark.parametrize(
    ("said", "advice"),
    [
        (
            "CUDA error: no kernel image is available for execution on the device\nCUDA kernel",
            "torch has no kernels for its architecture; choose another build: https://pytorch.org/"
            "get-started/locally, or use device=cpu",
        ),
        (
            "CUDA error: out of memory",
            "other programs fill it; end or await those that nvidia-smi lists, or use device=cpu",
        ),
        ("CUDA error: unknown error\nmore", "CUDA error: unknown error, or use device=cpu"),
    ],
)
def test_a_card_that_computes_nothing(said: str, advice: str, gpu: pytest.MonkeyPatch) -> None:
    _answers(gpu, _raises(RuntimeError(said)))
    assert _refused() == f"device: cuda (NVIDIA T4) cannot be used: {advice}"


@pytest.mark.parametrize(
    ("free", "says"),
    [
        (1, "has too little memory, as other programs have 11.0 of its 15.0 GiB (nvidia-smi lists"),
        (11, "has too little memory; try, in the order"),
    ],
)
def test_memory_that_other_programs_have(free: int, says: str, gpu: pytest.MonkeyPatch) -> None:
    """This one has reserved 3 of 15 GiB, and 1 belongs to the desktop or to nobody."""
    gpu.setattr(torch.cuda, "mem_get_info", lambda device: (free * 2**30, 15 * 2**30))
    gpu.setattr(torch.cuda, "memory_reserved", lambda device: 3 * 2**30)
    with (
        pytest.raises(RunError, match=f"^cuda:1 {re.escape(says)}"),
        short_of_memory(_config("device=cuda:1")),
    ):
        raise torch.OutOfMemoryError("CUDA out of memory")
