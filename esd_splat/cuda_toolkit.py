"""CUDA toolkits on this machine, in the layouts of NVIDIA, conda, Debian and pip.

The build (``setup.py``), ``esd-splat doctor`` and the runs that have gsplat compile its kernels all
look for a toolkit here. Only the standard library is needed, as a build may have nothing else.
``python -m esd_splat.cuda_toolkit [VERSION]`` prints the chosen one as commands for a shell.
"""

import functools
import os
import platform
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path("/")
"""Where the folders of the system are."""
HEADER, LIBRARY = "cuda_runtime.h", "libcudart_static.a"
"""A file from each folder that the compilation of kernels needs."""
PIP = ("nvidia-cuda-nvcc", "nvidia-cuda-crt", "nvidia-cuda-cccl", "nvidia-nvvm")
"""The packages that are a compiler for CUDA 13 and later. There is no nvcc in those for CUDA 12."""


@dataclass(frozen=True)
class Toolkit:
    """A CUDA toolkit, or as much as there is of one."""

    home: Path
    """What ``CUDA_HOME`` should be."""
    nvcc: Path | None
    include: Path | None
    """The folder of ``HEADER``."""
    library: Path | None
    """The folder of ``LIBRARY``."""

    @functools.cached_property
    def version(self) -> str:
        """The version that nvcc tells, such as 13.0. Empty if there is none or it does not run."""
        if self.nvcc is None:
            return ""
        release = re.search(r"release ([\d.]+)", _output(self.nvcc, "--version"))
        return release[1].rstrip(".,") if release else ""

    @property
    def lacks(self) -> str:
        """What is missing for the compilation of kernels, in words. Empty if nothing is."""
        parts = {"nvcc": self.nvcc, HEADER: self.include, LIBRARY: self.library}
        missing = [name for name, place in parts.items() if place is None]
        if self.nvcc and not self.version:
            missing.append("an nvcc that runs")
        return " and ".join(missing)

    def environment(self) -> dict[str, str]:
        """Environment variables by which torch and the compilers use this toolkit."""
        assert self.nvcc is not None
        assert self.include is not None
        assert self.library is not None
        found = {"CUDA_HOME": str(self.home), "PATH": _before("PATH", self.nvcc.parent)}
        found["LIBRARY_PATH"] = _before("LIBRARY_PATH", self.library)
        if shared := self._versioned_only():
            # The linker looks for libcudart.so, which pip's packages do not have.
            links = _cache() / f"cudart-{self.version}"
            links.mkdir(parents=True, exist_ok=True)
            link = links / "libcudart.so"
            if link.resolve() != shared.resolve():
                link.unlink(missing_ok=True)
                link.symlink_to(shared)
            found["LIBRARY_PATH"] = _before("LIBRARY_PATH", links, self.library)
        # As a system folder, /usr/include must not be named: it would come too early.
        if self.include not in (self.home / "include", ROOT / "usr" / "include"):
            found["CPATH"] = _before("CPATH", self.include)
        return found

    def _versioned_only(self) -> Path | None:
        """The shared library of the runtime, if only a name with its version leads to it."""
        assert self.library is not None
        if (self.library / "libcudart.so").exists():
            return None
        return max(self.library.glob("libcudart.so.*"), default=None)


def toolkits() -> list[Toolkit]:
    """Return every nvcc that is found with what belongs to it, in the order of preference.

    The order is: ``CUDA_HOME``; that of the nvcc on PATH, which may be a script that stands
    elsewhere; conda's; pip's; those in ``/usr/local``; Debian's.
    """
    found: dict[Any, Toolkit] = {}
    for toolkit in map(_look, _homes()):
        if toolkit.nvcc:
            places = toolkit.nvcc, toolkit.include, toolkit.library
            found.setdefault(tuple(place and place.resolve() for place in places), toolkit)
    return list(found.values())


def choose(cuda: str | None = None) -> Toolkit | None:
    """Return the first toolkit that lacks nothing, or ``None``.

    Args:
        cuda: the CUDA version of torch, as ``torch.version.cuda``. Only a toolkit of the same
            major version can then be chosen, the same minor version first.
    """
    able = [toolkit for toolkit in toolkits() if not toolkit.lacks]
    if cuda is not None:
        able = [t for t in able if t.version.split(".")[0] == cuda.split(".")[0]]
        able.sort(key=lambda t: t.version != cuda)
    return next(iter(able), None)


def missing(cuda: str | None = None) -> str:
    """Explain in one line why ``choose`` finds nothing. Empty if it finds a toolkit."""
    if choose(cuda):
        return ""
    found = toolkits()
    if not found:
        return "there is no nvcc: not in CUDA_HOME, on PATH, from conda or pip, or in /usr/local"
    faults = [
        f"the toolkit in {t.home} "
        + (f"lacks {t.lacks}" if t.lacks else f"is of CUDA {t.version}, and torch's is {cuda}")
        for t in found
    ]
    return "; ".join(faults)


def how_to_get(cuda: str | None) -> str:
    """Say in one line how to install a toolkit for ``torch.version.cuda``."""
    if cuda is None:
        return "install a CUDA build of torch first"
    if int(cuda.split(".")[0]) >= 13:
        return "pip install " + " ".join(f'"{name}=={cuda}.*"' for name in PIP)
    return (
        f"conda install -c nvidia cuda-toolkit={cuda}, or CUDA {cuda} from "
        "https://developer.nvidia.com/cuda-toolkit-archive (pip has no nvcc before CUDA 13)"
    )


def compiler_errors(output: str, most: int = 3) -> str:
    """Return the lines of a compiler's or ninja's ``output`` that say what is wrong, as one line.

    Example:
        >>> compiler_errors("[1/2] nvcc -c a.cu\\na.cu(7): error: expected a ;\\nninja: stopped")
        'a.cu(7): error: expected a ;'
    """
    lines = [line.strip() for line in output.splitlines()]
    wrong = re.compile(
        r"\berror\b ?[:#C\d]|\bfatal\b|undefined reference|cannot find|not found|Killed"
    )
    found = [line for line in lines if wrong.search(line)] or [line for line in lines if line][-1:]
    found = list(dict.fromkeys(found))
    more = f" (and {len(found) - most} more)" if len(found) > most else ""
    return "; ".join(line[:200] for line in found[:most]) + more


def _homes() -> Iterator[Path]:
    """Yield the folders that may be the home of a toolkit."""
    yield from (Path(os.environ[k]) for k in ("CUDA_HOME", "CUDA_PATH") if os.environ.get(k))
    if nvcc := shutil.which("nvcc"):
        # A script may call the real one, which knows its own place.
        top = re.search(r"^#\$ TOP=(.+)$", _output(nvcc, "--dryrun", "-c", "none.cu"), re.MULTILINE)
        if top:
            yield Path(os.path.normpath(top[1]))
        else:
            yield from (Path(nvcc).parents[1], Path(nvcc).resolve().parents[1])
    yield from (Path(place) for place in (os.environ.get("CONDA_PREFIX"), sys.prefix) if place)
    for folder in map(Path, sys.path):
        yield from sorted(folder.glob("nvidia/cu[0-9]*"), reverse=True)
    yield ROOT / "usr" / "local" / "cuda"
    yield from sorted((ROOT / "usr" / "local").glob("cuda-*"), reverse=True)
    yield from (ROOT / "usr", ROOT / "usr" / "lib" / "nvidia-cuda-toolkit")


def _look(home: Path) -> Toolkit:
    """Return what there is of a toolkit in ``home``."""
    usr, machine = ROOT / "usr", platform.machine()
    if home.is_relative_to(usr / "lib") and (usr / "include" / HEADER).exists():
        home = usr  # Debian's, of which torch and gsplat know the parts by this name
    parts = [home, *sorted(home.glob(f"targets/{machine}-*"))]
    libraries = [p / name for p in parts for name in ("lib64", "lib", f"lib/{machine}-linux-gnu")]
    nvcc = home / "bin" / "nvcc"
    return Toolkit(
        home,
        nvcc if os.access(nvcc, os.X_OK) else None,
        next((p / "include" for p in parts if (p / "include" / HEADER).exists()), None),
        next((p for p in libraries if (p / LIBRARY).exists()), None),
    )


def _output(program: str | Path, *arguments: str) -> str:
    """Return what a program prints, or nothing if it cannot be started or takes a minute."""
    try:
        done = subprocess.run(
            [program, *arguments],
            timeout=60,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            encoding="utf-8",
            errors="replace",
        )
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout


def _before(variable: str, *folders: Path) -> str:
    """Return the value of a list of folders with ``folders`` in front of it."""
    old = os.environ.get(variable, "").split(os.pathsep)
    new = list(map(str, folders))
    return os.pathsep.join([*new, *(place for place in old if place and place not in new)])


def _cache() -> Path:
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(cache) / "esd_splat"


def main(argv: Sequence[str] = ()) -> int:
    """Print the chosen toolkit as ``export`` commands, or complain and return 2.

    Args:
        argv: the CUDA version that it must have, or nothing.
    """
    cuda = next(iter(argv), None)
    toolkit = choose(cuda)
    if toolkit is None:
        print(f"esd_splat: {missing(cuda)}", file=sys.stderr)
        return 2
    for name, value in toolkit.environment().items():
        print(f"export {name}={shlex.quote(value)}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
