"""CUDA toolkits in folders that are laid out as NVIDIA, conda, Debian and pip lay them out."""

import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest

from esd_splat import cuda_toolkit
from esd_splat.cuda_toolkit import Toolkit, choose, compiler_errors, missing, toolkits

MACHINE = platform.machine()
DEBIAN = f"usr/lib/{MACHINE}-linux-gnu"
TARGET = f"targets/{MACHINE}-linux"


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine without any toolkit."""
    monkeypatch.setattr(cuda_toolkit, "ROOT", tmp_path)
    monkeypatch.setattr(sys, "path", [])
    monkeypatch.setattr(sys, "prefix", str(tmp_path / "python"))
    monkeypatch.setenv("PATH", str(tmp_path / "programs"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    for name in ("CUDA_HOME", "CUDA_PATH", "CONDA_PREFIX", "LIBRARY_PATH", "CPATH"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


def _nvcc(path: Path, version: str = "13.0", top: Path | None = None) -> None:
    """A program that tells its version and, as the real one does, its place."""
    path.parent.mkdir(parents=True, exist_ok=True)
    says = f"#$ TOP={top or path.parents[1]}"
    path.write_text(
        f'#!/bin/sh\ncase $1 in --version) echo "release {version}, V{version}.88";; '
        f'--dryrun) echo "{says}" >&2;; esac\n'
    )
    path.chmod(0o755)


def _files(home: Path, include: str, library: str, *more: str) -> Toolkit:
    for name in (f"{include}/cuda_runtime.h", f"{library}/libcudart_static.a", *more):
        (home / name).parent.mkdir(parents=True, exist_ok=True)
        (home / name).touch()
    return Toolkit(home, home / "bin" / "nvcc", home / include, home / library)


def test_nvidia(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In its usual place, by CUDA_HOME, and by a script on PATH that calls its nvcc."""
    usual, other = root / "usr/local/cuda", root / "opt/cuda-12.8"
    expected = _files(usual, "include", "lib64", "lib64/libcudart.so")
    _nvcc(usual / "bin/nvcc")
    assert toolkits() == [expected]
    assert expected.version == "13.0"
    assert expected.environment() == {
        "CUDA_HOME": str(usual),
        "PATH": f"{usual}/bin:{root}/programs",
        "LIBRARY_PATH": f"{usual}/lib64",
    }
    second = _files(other, "include", "lib64")
    _nvcc(other / "bin/nvcc", "12.8")
    _nvcc(root / "programs/nvcc", "12.8", top=other / "bin" / "..")
    assert toolkits() == [second, expected]
    monkeypatch.setenv("CUDA_HOME", str(usual))
    assert toolkits() == [expected, second]
    assert choose() == expected
    assert choose("12.6") == second, "torch needs its own major version"
    assert choose("11.8") is None


def test_conda(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home = root / "miniforge"
    expected = _files(home, f"{TARGET}/include", f"{TARGET}/lib", f"{TARGET}/lib/libcudart.so")
    _nvcc(home / "bin/nvcc", "12.9")
    monkeypatch.setenv("CONDA_PREFIX", str(home))
    assert toolkits() == [expected]
    # torch looks for headers in CUDA_HOME/include, where conda has none.
    assert expected.environment()["CPATH"] == f"{home}/{TARGET}/include"
    assert expected.environment()["LIBRARY_PATH"] == f"{home}/{TARGET}/lib"


@pytest.mark.parametrize("script", [True, False])
def test_debian(root: Path, monkeypatch: pytest.MonkeyPatch, script: bool) -> None:
    """Its nvcc is a script or a link, and its headers and libraries are those of the system."""
    real = root / "usr/lib/nvidia-cuda-toolkit"
    _nvcc(real / "bin/nvcc", "12.4")
    if script:
        _nvcc(root / "usr/bin/nvcc", "12.4", top=real / "bin" / "..")
    else:
        (root / "usr/bin").mkdir()
        (root / "usr/bin/nvcc").symlink_to(real / "bin/nvcc")
    expected = _files(root / "usr", "include", DEBIAN.removeprefix("usr/"))
    (root / DEBIAN / "libcudart.so").touch()
    monkeypatch.setenv("PATH", str(root / "usr/bin"))
    assert toolkits() == [expected]
    found = expected.environment()
    assert found["CUDA_HOME"] == str(root / "usr")
    assert "CPATH" not in found, "the system's headers must not come before those of others"


def test_pip(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The packages have a shared library without the name that linkers look for."""
    home = root / "site-packages/nvidia/cu13"
    expected = _files(home, "include", "lib", "lib/libcudart.so.13")
    _nvcc(home / "bin/nvcc")
    monkeypatch.setattr(sys, "path", [str(home.parents[1])])
    assert toolkits() == [expected]
    links, library = expected.environment()["LIBRARY_PATH"].split(os.pathsep)
    assert library == f"{home}/lib"
    assert (Path(links) / "libcudart.so").resolve() == home / "lib/libcudart.so.13"
    assert expected.environment()["LIBRARY_PATH"].split(os.pathsep) == [links, library]


def test_what_is_missing_is_said(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert missing().startswith("there is no nvcc: not in CUDA_HOME")
    home = root / "usr/local/cuda"
    _nvcc(home / "bin/nvcc")
    assert missing() == (f"the toolkit in {home} lacks cuda_runtime.h and libcudart_static.a")
    assert choose() is None
    _files(home, "include", "lib64")
    assert missing() == ""
    assert missing("12.8") == f"the toolkit in {home} is of CUDA 13.0, and torch's is 12.8"
    (home / "bin/nvcc").write_text("#!/bin/sh\nexit 1\n")
    assert missing() == f"the toolkit in {home} lacks an nvcc that runs"


def test_how_to_get_one() -> None:
    assert cuda_toolkit.how_to_get("13.0") == (
        'pip install "nvidia-cuda-nvcc==13.0.*" "nvidia-cuda-crt==13.0.*" '
        '"nvidia-cuda-cccl==13.0.*" "nvidia-nvvm==13.0.*"'
    )
    assert cuda_toolkit.how_to_get("12.8").startswith("conda install -c nvidia cuda-toolkit=12.8")


def test_a_shell_can_use_it(root: Path) -> None:
    home = root / "usr/local/cuda"
    _files(home, "include", "lib64", "lib64/libcudart.so")
    _nvcc(home / "bin/nvcc")
    code = (
        "from pathlib import Path; from esd_splat import cuda_toolkit as c; import sys\n"
        f"c.ROOT, sys.path = Path({str(root)!r}), []\n"
        "sys.exit(c.main())"
    )
    words = [sys.executable, "-c", code]
    env = {"PATH": "/nowhere", "PYTHONPATH": str(Path(__file__).parents[1])}
    done = subprocess.run(words, env=env, capture_output=True, text=True)
    assert f"export CUDA_HOME={home}" in done.stdout.splitlines()
    (home / "bin/nvcc").unlink()
    done = subprocess.run(words, env=env, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("esd_splat: there is no nvcc")


def test_of_a_failed_build_the_errors_are_shown() -> None:
    command = "/usr/local/cuda/bin/nvcc --generate-dependencies-with-compile " + "-I/x " * 200
    output = f"""Error building extension 'gsplat_cuda': [1/30] {command}
FAILED: [code=1] Projection.cuda.o
{command}
/x/Projection.cu(12): error: identifier "foo" is undefined
/x/Projection.cu(13): error: expected a ";"
2 errors detected in the compilation of "/x/Projection.cu".
[2/30] {command}
nvcc fatal   : Unsupported gpu architecture 'compute_120'
ninja: build stopped: subcommand failed.
"""
    assert compiler_errors(output, most=2) == (
        '/x/Projection.cu(12): error: identifier "foo" is undefined; '
        '/x/Projection.cu(13): error: expected a ";" (and 1 more)'
    )
    assert compiler_errors("something\nelse\n") == "else"
