"""What pyproject.toml cannot say: configs lie beside the package, and there are kernels to compile.

``ESD_SPLAT_BUILD`` is ``cuda`` (needs nvcc), ``cpu`` (needs a C++ compiler and torch) or ``none``;
unset, it is the most that is possible here. Only what was asked for by name may fail.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

from setuptools import Extension, find_packages, setup
from setuptools.command.build_ext import build_ext
from setuptools.errors import CompileError

TORCH_TARGET = "0x020a000000000000"
"""torch 2.10, the first whose stable interface has what we need: the result runs on all later."""
PYTHON_TARGET = "0x030a0000"
ARCHITECTURES = (75, 80, 90)
SOURCES = Path("cuda_ext")
ASKED = os.environ.get("ESD_SPLAT_BUILD", "")


def decide() -> str:
    """``cuda``, ``cpu`` or ``none``, and why not more in one line."""
    if ASKED not in ("", "cuda", "cpu", "none"):
        sys.exit(f"ESD_SPLAT_BUILD={ASKED}: must be cuda, cpu or none")
    home = cuda_home()
    try:
        import torch  # noqa: F401  a build dependency that pip cannot choose: CPU or CUDA
    except ImportError:
        missing = "torch, which pip's isolated builds hide (--no-build-isolation shows it)"
    else:
        lacking = ASKED == "cuda" and home is None
        missing = "nvcc, and CUDA_HOME with lib64/libcudart_static.a" if lacking else ""
    if not missing:
        return ASKED or ("cuda" if home else "cpu")
    if ASKED in ("cuda", "cpu"):
        sys.exit(f"ESD_SPLAT_BUILD={ASKED} needs {missing}")
    if not ASKED:
        print(f"no native kernels: they need {missing}", file=sys.stderr)
    return "none"


class Build(build_ext):
    """Compiles the CUDA files with nvcc, and links them to the rest."""

    def build_extension(self, ext: Extension) -> None:
        """As usual, with what nvcc made."""
        import torch
        from torch.utils.cpp_extension import include_paths, library_paths

        assert torch.__version__
        ext.include_dirs += [*include_paths(), str(SOURCES)]
        ext.library_dirs += library_paths()
        try:
            ext.extra_objects += [self._nvcc(Path(s)) for s in ext.sources if s.endswith(".cu")]
        except CompileError as error:
            if ASKED:
                raise
            print(f"no kernels for CUDA: {error}", file=sys.stderr)
            ext.sources = [s for s in ext.sources if Path(s).parent.name != "cuda"]
            ext.libraries = []
        ext.sources = [s for s in ext.sources if not s.endswith(".cu")]
        super().build_extension(ext)

    def _nvcc(self, source: Path) -> str:
        target = Path(self.build_temp) / f"{source.stem}_cuda.o"
        target.parent.mkdir(parents=True, exist_ok=True)
        codes = [f"-gencode=arch=compute_{a},code=sm_{a}" for a in ARCHITECTURES]
        newest = ARCHITECTURES[-1]
        codes.append(f"-gencode=arch=compute_{newest},code=compute_{newest}")
        options = ["-std=c++17", "-O3", "-Xcompiler=-fPIC", f"-I{SOURCES}", *codes]
        try:
            subprocess.check_call(["nvcc", "-c", str(source), "-o", str(target), *options])
        except subprocess.CalledProcessError as error:
            raise CompileError(
                f"nvcc cannot compile {source}; ESD_SPLAT_BUILD=cpu does without"
            ) from error
        return str(target)


def cuda_home() -> Path | None:
    """Where the CUDA toolkit is, if it is; nvcc may be a wrapper that stands elsewhere."""
    nvcc = shutil.which("nvcc")
    if nvcc is None:
        return None
    places = [os.environ.get("CUDA_HOME"), Path(nvcc).resolve().parent.parent, "/usr/local/cuda"]
    for place in filter(None, places):
        if (Path(place) / "lib64" / "libcudart_static.a").exists():
            return Path(place)
    return None


def extension(build: str) -> Extension:
    """``esd_splat._C`` against torch's stable interface and Python's limited one."""
    ext = Extension(
        "esd_splat._C",
        sorted(str(p) for p in [*SOURCES.glob("*.cpp"), *SOURCES.glob("cpu/*.cpp")]),
        depends=sorted(str(p) for p in SOURCES.rglob("*") if p.suffix in (".h", ".cuh", ".inc")),
        define_macros=[
            ("TORCH_TARGET_VERSION", TORCH_TARGET),
            ("Py_LIMITED_API", PYTHON_TARGET),
        ],
        extra_compile_args=["-std=c++20", "-O3", "-g0", "-fvisibility=hidden"],
        # By name: some linkers drop a library of which they see no symbol used.
        extra_link_args=["-Wl,--no-as-needed"] * (sys.platform == "linux")
        + ["-ltorch", "-ltorch_cpu"],
        language="c++",
        py_limited_api=True,
        optional=not ASKED,
    )
    if build == "cuda":
        ext.sources += sorted(str(p) for p in SOURCES.glob("cuda/*") if p.suffix in (".cpp", ".cu"))
        home = cuda_home()
        assert home is not None, "decided above"
        ext.include_dirs.append(str(home / "include"))
        ext.library_dirs += [str(home / "lib64")]
        ext.libraries += ["cudart_static", "dl", "rt", "pthread"]
    return ext


chosen = decide()
setup(
    packages=[*find_packages(include=["esd_splat", "esd_splat.*"]), "esd_splat.configs"],
    package_dir={"esd_splat.configs": "configs"},
    ext_modules=[] if chosen == "none" else [extension(chosen)],
    cmdclass={"build_ext": Build},
    options={"bdist_wheel": {"py_limited_api": "cp310"}} if chosen != "none" else {},
)
