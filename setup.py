"""The parts of the build that pyproject.toml cannot express: kernels to compile, and the configs.

``ESD_SPLAT_BUILD`` is ``cuda`` (needs nvcc), ``cpu`` (needs a C++ compiler and torch) or ``none``.
If it is not set, as much as possible is built, and the installation succeeds even if the kernels
cannot be compiled. If it is set, a failure to compile them is an error.
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
"""Version 2.10, the first torch whose stable interface has all that the kernels use. The extension
runs with this and all later versions."""
PYTHON_TARGET = "0x030a0000"
ARCHITECTURES = (75, 80, 90)
SOURCES = Path("cuda_ext")
ASKED = os.environ.get("ESD_SPLAT_BUILD", "")


def decide() -> str:
    """Return ``cuda``, ``cpu`` or ``none``. If it is ``none`` by necessity, print the reason."""
    if ASKED not in ("", "cuda", "cpu", "none"):
        sys.exit(f"ESD_SPLAT_BUILD={ASKED}: must be cuda, cpu or none")
    home = cuda_home()
    try:
        # A build dependency that pyproject.toml does not list, because pip cannot know whether to
        # install the CPU or the CUDA build.
        import torch  # noqa: F401
    except ImportError:
        missing = "torch, which pip hides from the build without --no-build-isolation"
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
    """Builds the extension, with CUDA sources compiled by nvcc."""

    def build_extension(self, ext: Extension) -> None:
        """Compile the CUDA sources with nvcc, then build the rest as usual and link both."""
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
                f"nvcc cannot compile {source}; set ESD_SPLAT_BUILD=cpu to build without CUDA"
            ) from error
        return str(target)


def cuda_home() -> Path | None:
    """Return the folder of the CUDA toolkit, or ``None`` if there is none.

    It is not always the parent folder of nvcc, which may be a wrapper in another place.
    """
    nvcc = shutil.which("nvcc")
    if nvcc is None:
        return None
    places = [os.environ.get("CUDA_HOME"), Path(nvcc).resolve().parent.parent, "/usr/local/cuda"]
    for place in filter(None, places):
        if (Path(place) / "lib64" / "libcudart_static.a").exists():
            return Path(place)
    return None


def extension(build: str) -> Extension:
    """Return ``esd_splat._C``, built with torch's stable interface and Python's limited API."""
    ext = Extension(
        "esd_splat._C",
        sorted(str(p) for p in [*SOURCES.glob("*.cpp"), *SOURCES.glob("cpu/*.cpp")]),
        depends=sorted(str(p) for p in SOURCES.rglob("*") if p.suffix in (".h", ".cuh", ".inc")),
        define_macros=[
            ("TORCH_TARGET_VERSION", TORCH_TARGET),
            ("Py_LIMITED_API", PYTHON_TARGET),
        ],
        extra_compile_args=["-std=c++20", "-O3", "-g0", "-fvisibility=hidden"],
        # Some linkers drop a library if they see no use of its symbols.
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
