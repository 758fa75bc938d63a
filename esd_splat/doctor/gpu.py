"""Whether there is a GPU that runs can use, and what compiles kernels for it."""

import os
import shutil

from esd_splat import cuda_toolkit
from esd_splat.doctor.finding import Finding, output, short


def driver() -> Finding:
    """NVIDIA's driver, with the GPUs that it sees."""
    if shutil.which("nvidia-smi") is None:
        return Finding("no nvidia-smi")
    asked = output("nvidia-smi", "--query-gpu=driver_version,name", "--format=csv,noheader")
    return Finding("; ".join(asked.splitlines()))


def gpu() -> Finding:
    """The GPUs that torch can use, or why there is none."""
    import torch

    from esd_splat.run.device import NO_GPU, way_out, why_no_cuda

    if why := why_no_cuda():
        if torch.backends.mps.is_available():
            return Finding("Apple's, which runs use with device=mps")
        if why == NO_GPU and shutil.which("nvidia-smi") is None:
            return Finding("none, so runs compute on the CPU")
        return Finding(f"{why}, so runs compute on the CPU", way_out(why))
    devices = map(torch.cuda.get_device_properties, range(torch.cuda.device_count()))
    return Finding("; ".join(f"{d.name}, {d.total_memory / 2**30:.0f} GiB" for d in devices))


def our_kernels() -> Finding:
    """Whether our kernels are compiled; without them runs are slower."""
    import torch

    from esd_splat.scene import kernels

    if kernels.MISSING:
        return Finding(f"none, so PyTorch draws, more slowly ({kernels.MISSING})", kernels.COMPILE)
    if not torch.cuda.is_available():
        return Finding("for the CPU")
    if why := kernels.missing_on_cuda():
        found = f"for the CPU only, so PyTorch densifies on the GPU, more slowly ({why})"
        return Finding(found, kernels.COMPILE_CUDA)
    return Finding("for the CPU and CUDA")


def gsplat_kernels() -> Finding:
    """Whether gsplat's kernels are compiled; never compiles them itself, which takes minutes."""
    import torch

    if not torch.cuda.is_available():
        return Finding("not needed without a GPU")
    from esd_splat.scene import kernels
    from esd_splat.scene.rasterize import gsplat_build

    instead = "PyTorch draws, which is slow" if kernels.MISSING else "our kernels draw on the CPU"
    if found := gsplat_build.compiled():
        if why := gsplat_build.missing():
            way_out = f"remove {short(found.parent)}, and the next run compiles them"
            return Finding(f"{why}, so {instead}", way_out)
        return Finding(f"compiled, in {short(found)}")
    if torch.version.hip:
        return Finding(f"none for ROCm, so {instead}")
    if cuda_toolkit.choose(torch.version.cuda) is None:
        found = f"not compiled, as there is no toolkit for it, so {instead}"
        return Finding(found, "install the CUDA toolkit, see below")
    folder = short(gsplat_build.folder())
    return Finding(f"not compiled yet; the first run takes minutes to do it, in {folder}")


def compiler() -> Finding:
    """The C++ compiler."""
    names = [*os.environ.get("CXX", "").split()[:1], "c++", "g++", "clang++"]
    path = next(filter(None, map(shutil.which, names)), None)
    if path is None:
        way_out = "apt install g++, or on macOS xcode-select --install, to compile kernels"
        return Finding("none", way_out)
    return Finding(f"{output(path, '--version').partition(chr(10))[0]} at {path}")


def toolkit() -> Finding:
    """The CUDA toolkits, which compile our kernels and gsplat's, and which of them is used."""
    import torch

    needed, cuda = torch.cuda.is_available() and not torch.version.hip, torch.version.cuda
    chosen = cuda_toolkit.choose(cuda if needed else None)
    if chosen is None:
        why = cuda_toolkit.missing(cuda if needed else None)
        if needed:
            return Finding(why, cuda_toolkit.how_to_get(cuda))
        return Finding(f"{why}; only a GPU needs it")
    others = [
        f"{short(t.home)} (" + (f"lacks {t.lacks})" if t.lacks else f"CUDA {t.version})")
        for t in cuda_toolkit.toolkits()
        if t != chosen
    ]
    found = f"CUDA {chosen.version} in {short(chosen.home)}"
    return Finding(found + (f"; not used: {', '.join(others)}" if others else ""))
