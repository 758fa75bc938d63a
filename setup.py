"""The parts of the build that pyproject.toml cannot express: kernels to compile, and the configs.

``ESD_SPLAT_BUILD`` is ``cuda`` (needs nvcc), ``cpu`` (needs a C++ compiler and torch) or ``none``.
If it is not set, as much as possible is built, and the installation succeeds even if the kernels
cannot be compiled. If it is set, a failure to compile them is an error. What was left out, and why,
is written to ``esd_splat/_C.json``, so that runs can say it.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

from setuptools import Extension, find_packages, setup
from setuptools.command.build_ext import build_ext
from setuptools.command.build_py import build_py
from setuptools.errors import CompileError

sys.path.insert(0, str(Path(__file__).parent))  # a build by pip does not look here
from esd_splat import cuda_toolkit

TORCH_TARGET = "0x020a000000000000"
"""Version 2.10, the first torch whose stable interface has all that the kernels use. The extension
runs with this and all later versions."""
PYTHON_TARGET = "0x030a0000"
ARCHITECTURES = (75, 80, 90)
SOURCES = Path("cuda_ext")
ASKED = os.environ.get("ESD_SPLAT_BUILD", "")


LEFT_OUT: dict[str, str] = {}
"""Why there are no kernels for ``cpu`` or ``cuda``, in a line each."""


def decide() -> str:
    """Return ``cuda``, ``cpu`` or ``none``. If it is less than ``cuda``, note the reason."""
    if ASKED not in ("", "cuda", "cpu", "none"):
        sys.exit(f"ESD_SPLAT_BUILD={ASKED}: must be cuda, cpu or none")
    if ASKED in ("cpu", "none"):
        LEFT_OUT["cuda"] = f"the build was asked for with ESD_SPLAT_BUILD={ASKED}"
    elif without := cuda_toolkit.missing():
        LEFT_OUT["cuda"] = without
    if ASKED == "none":
        LEFT_OUT["cpu"] = LEFT_OUT["cuda"]
        return ASKED
    try:
        # A build dependency that pyproject.toml does not list, because pip cannot know whether to
        # install the CPU or the CUDA build.
        import torch  # noqa: F401
    except ImportError:
        LEFT_OUT["cpu"] = "the build found no torch, which pip hides without --no-build-isolation"
        LEFT_OUT["cuda"] = LEFT_OUT["cpu"]
    if ASKED in LEFT_OUT:
        sys.exit(f"ESD_SPLAT_BUILD={ASKED}: {LEFT_OUT[ASKED]}")
    for kind, why in LEFT_OUT.items():
        print(f"no kernels for {kind}: {why}", file=sys.stderr)
    return "none" if "cpu" in LEFT_OUT else "cpu" if "cuda" in LEFT_OUT else "cuda"


def toolkit() -> cuda_toolkit.Toolkit:
    """Return the toolkit to build with: one of torch's CUDA version, or else the first."""
    import torch

    found = cuda_toolkit.choose(torch.version.cuda) or cuda_toolkit.choose()
    assert found is not None, "decided above"
    return found


def note(package: Path) -> None:
    """Write beside the extension, or where it would be, what was left out of it."""
    package.mkdir(parents=True, exist_ok=True)
    (package / "_C.json").write_text(json.dumps(LEFT_OUT, indent=1) + "\n", encoding="utf-8")


class Modules(build_py):
    """Builds the Python files, and the note about the kernels if there are none."""

    def run(self) -> None:
        """Build as usual; with an extension, ``Build`` writes the note."""
        super().run()
        if chosen == "none":
            note(Path("esd_splat") if self.editable_mode else Path(self.build_lib) / "esd_splat")


class Build(build_ext):
    """Builds the extension, with CUDA sources compiled by nvcc, and the note beside it."""

    def run(self) -> None:
        """Build as usual, then write the note, also if the kernels cannot be compiled."""
        super().run()
        note(Path(self.get_ext_fullpath("esd_splat._C")).parent)

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
            LEFT_OUT["cuda"] = str(error)
            print(f"no kernels for CUDA: {error}", file=sys.stderr)
            ext.sources = [s for s in ext.sources if Path(s).parent.name != "cuda"]
            ext.libraries = []
        ext.sources = [s for s in ext.sources if not s.endswith(".cu")]
        try:
            super().build_extension(ext)
        except Exception:
            LEFT_OUT["cpu"] = LEFT_OUT["cuda"] = "the C++ compiler failed"  # in the build's output
            raise

    def _nvcc(self, source: Path) -> str:
        target = Path(self.build_temp) / f"{source.stem}_cuda.o"
        target.parent.mkdir(parents=True, exist_ok=True)
        codes = [f"-gencode=arch=compute_{a},code=sm_{a}" for a in ARCHITECTURES]
        newest = ARCHITECTURES[-1]
        codes.append(f"-gencode=arch=compute_{newest},code=compute_{newest}")
        options = ["-std=c++17", "-O3", "-Xcompiler=-fPIC", f"-I{SOURCES}", *codes]
        nvcc = str(toolkit().nvcc)
        words = [nvcc, "-c", str(source), "-o", str(target), *options]
        done = subprocess.run(words, stderr=subprocess.PIPE, encoding="utf-8", errors="replace")
        sys.stderr.write(done.stderr)
        if done.returncode:
            errors = cuda_toolkit.compiler_errors(done.stderr)
            raise CompileError(f"{nvcc} cannot compile {source}: {errors}")
        return str(target)


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
        ext.include_dirs.append(str(toolkit().include))
        ext.library_dirs.append(str(toolkit().library))
        ext.libraries += ["cudart_static", "dl", "rt", "pthread"]
    return ext


chosen = decide()
wheel = {"py_limited_api": "cp310"} if chosen != "none" else {}
if ASKED == "cuda":
    # torch's stable interface makes one wheel do for all versions of Python and torch, but CUDA's
    # runtime is part of it: its name says which, as its build number.
    wheel["build_number"] = f"{toolkit().version.split('.')[0]}cuda"
setup(
    packages=[*find_packages(include=["esd_splat", "esd_splat.*"]), "esd_splat.configs"],
    package_dir={"esd_splat.configs": "configs"},
    ext_modules=[] if chosen == "none" else [extension(chosen)],
    cmdclass={"build_ext": Build, "build_py": Modules},
    options={"bdist_wheel": wheel},
)
