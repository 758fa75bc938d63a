"""Whether there is a GPU that runs can use, and what compiles kernels for it."""

import importlib.util
import os
import re
import shutil
import sys
import warnings
from pathlib import Path

from esd_splat.doctor.finding import Finding, output, reason, short
from esd_splat.doctor.software import TORCH
from esd_splat.errors import BackendError

TOOLKITS = "https://developer.nvidia.com/cuda-toolkit-archive"


def driver() -> Finding:
    """NVIDIA's driver, with the GPUs that it sees."""
    if shutil.which("nvidia-smi") is None:
        return Finding("no nvidia-smi")
    asked = output("nvidia-smi", "--query-gpu=driver_version,name", "--format=csv,noheader")
    return Finding("; ".join(asked.splitlines()))


def gpu() -> Finding:
    """The GPUs that torch can use, or why there is none."""
    import torch

    with warnings.catch_warnings(record=True) as warned:  # torch says why it cannot use a GPU
        warnings.simplefilter("always")
        usable = torch.cuda.is_available()
    if usable:
        devices = map(torch.cuda.get_device_properties, range(torch.cuda.device_count()))
        return Finding("; ".join(f"{d.name}, {d.total_memory / 2**30:.0f} GiB" for d in devices))
    if shutil.which("nvidia-smi") is None:
        return Finding("none, so runs compute on the CPU")
    if torch.version.cuda is None:
        why, way_out = "torch is a build without CUDA", f"install a CUDA build of torch: {TORCH}"
    else:
        why = f"torch cannot use it ({reason(warned[0].message)})" if warned else "torch finds none"
        way_out = f"update the NVIDIA driver, or install torch for an older CUDA: {TORCH}"
    return Finding(f"{why}, so runs compute on the CPU", way_out)


def our_kernels() -> Finding:
    """Whether our kernels are compiled; without them runs are slower."""
    import torch

    from esd_splat.scene import kernels

    if kernels.MISSING:
        return Finding(f"none, so PyTorch draws, more slowly ({kernels.MISSING})", kernels.COMPILE)
    if not torch.cuda.is_available():
        return Finding("for the CPU")
    if kernels.has("grow", torch.empty(0, device="cuda")):
        return Finding("for the CPU and CUDA")
    found = "for the CPU only, so PyTorch densifies on the GPU, more slowly"
    return Finding(found, f"with nvcc on PATH, {kernels.COMPILE}")


def gsplat_kernels() -> Finding:
    """Whether gsplat's kernels are compiled; never compiles them itself, which takes minutes."""
    import torch

    if not torch.cuda.is_available():
        return Finding("not needed without a GPU")
    from esd_splat.scene.rasterize import resolve_backend

    spec = importlib.util.find_spec("gsplat")
    if spec is None or not spec.submodule_search_locations:
        return Finding("gsplat is not installed", "install gsplat, see above", stops=True)
    package, cache = Path(spec.submodule_search_locations[0]), _gsplat_cache()
    if found := [*package.glob("csrc*.so"), *cache.glob("gsplat_cuda.so")]:
        try:
            resolve_backend("gsplat", "cuda")
        except BackendError as error:
            way_out = f"remove {short(found[0].parent)}, and the next run compiles them"
            return Finding(reason(error), way_out, stops=True)
        return Finding(f"compiled, in {short(found[0])}")
    if _nvcc() is None:
        way_out = "install the CUDA toolkit, see below; or backend=reference, which is slow"
        return Finding("not compiled, and there is no nvcc to compile them", way_out, stops=True)
    return Finding(f"not compiled yet; the first run takes minutes to do it, in {short(cache)}")


def _gsplat_cache() -> Path:
    """Where gsplat has torch compile its kernels; asking torch itself would make the folder."""
    import torch
    from torch.utils.cpp_extension import get_default_build_root

    version = f"py{sys.version_info.major}{sys.version_info.minor}{sys.abiflags}"
    version += f"_cu{str(torch.version.cuda).replace('.', '')}"
    default = Path(get_default_build_root()) / version
    return Path(os.environ.get("TORCH_EXTENSIONS_DIR", default)) / "gsplat_cuda"


def compiler() -> Finding:
    """The C++ compiler."""
    names = [*os.environ.get("CXX", "").split()[:1], "c++", "g++", "clang++"]
    path = next(filter(None, map(shutil.which, names)), None)
    if path is None:
        way_out = "apt install g++, or on macOS xcode-select --install, to compile kernels"
        return Finding("none", way_out)
    return Finding(f"{output(path, '--version').partition(chr(10))[0]} at {path}")


def toolkit() -> Finding:
    """The CUDA toolkit, which compiles our kernels and gsplat's."""
    import torch

    needed, nvcc = torch.cuda.is_available(), _nvcc()
    install = f"install the CUDA toolkit {torch.version.cuda} and put nvcc on PATH: {TOOLKITS}"
    if nvcc is None:
        return Finding("no nvcc", install) if needed else Finding("no nvcc; only a GPU needs it")
    release = re.search(r"release ([\d.]+)", output(nvcc, "--version"))
    version = release[1] if release else "of an unknown version"
    found = f"nvcc {version} at {nvcc}"
    # The places where setup.py looks, as nvcc may be a script that stands elsewhere.
    homes = [os.environ.get("CUDA_HOME"), Path(nvcc).resolve().parents[1], "/usr/local/cuda"]
    libraries = [Path(home) / "lib64" for home in homes if home]
    library = next((p for p in libraries if (p / "libcudart_static.a").exists()), None)
    if library is None:
        return Finding(f"{found}, without libcudart_static.a", "set CUDA_HOME to the toolkit")
    found += f", libraries in {library}"
    if needed and version.split(".")[0] != str(torch.version.cuda).split(".")[0]:
        return Finding(f"{found}, but torch is built for CUDA {torch.version.cuda}", install)
    return Finding(found)


def _nvcc() -> str | None:
    home = os.environ.get("CUDA_HOME", "/usr/local/cuda")
    return shutil.which("nvcc") or shutil.which("nvcc", path=str(Path(home) / "bin"))
