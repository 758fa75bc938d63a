"""``esd-splat doctor``: runs every check and prints a line about each."""

import subprocess
from collections.abc import Callable, Sequence

from esd_splat import command
from esd_splat.doctor import gpu, resources, software
from esd_splat.doctor.finding import Finding, reason

DESCRIPTION = """\
Shows the versions, devices, compilers and folders that a bug report needs, and how to get what is
missing. The exit status is 0 if `esd-splat fit prompt="a red owl"` could start on this machine, in
this folder, and 1 if it would be refused."""
CANNOT_RUN = 1
"""Exit status if no run can start."""
UNKNOWN = (ImportError, OSError, RuntimeError, ValueError, subprocess.SubprocessError)
"""What a check may raise if it cannot find out."""


def checks() -> dict[str, Callable[[], Finding]]:
    """Every check, by the name that stands before what it finds."""
    return {
        "esd_splat": software.ours,
        "Python": software.python,
        "system": software.system,
        **software.packages(),
        "torch's build": software.torch_build,
        "NVIDIA driver": gpu.driver,
        "GPU": gpu.gpu,
        "our kernels": gpu.our_kernels,
        "gsplat's kernels": gpu.gsplat_kernels,
        "C++ compiler": gpu.compiler,
        "CUDA toolkit": gpu.toolkit,
        "ffmpeg": software.ffmpeg,
        "model hub": resources.hub,
        "hub's cache": resources.cache,
        "threads": resources.threads,
        "disk": resources.disk,
    }


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit status: 0 or 1, or see ``command.run``."""
    return command.run(lambda: _main(argv))


def _main(argv: Sequence[str] | None) -> int:
    command.Parser(prog=command.prog("doctor"), description=DESCRIPTION).parse_args(argv)
    every = checks()
    width = max(map(len, every))
    missing = []
    for name, check in every.items():
        finding = _tried(check)
        _say(f"{name:{width}}  {finding.found}")
        if finding.way_out:
            _say(f"{'':{width}}  -> {finding.way_out}")
        if finding.stops:
            missing.append(name)
    _say("")
    if missing:
        _say(f"No run can start here. Missing: {', '.join(missing)}")
        return CANNOT_RUN
    _say("A run can start here.")
    return command.DONE


def _tried(check: Callable[[], Finding]) -> Finding:
    try:
        return check()
    except UNKNOWN as error:
        return Finding(f"cannot be found out ({reason(error)})")


def _say(line: str) -> None:
    print(line, flush=True)
