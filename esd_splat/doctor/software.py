"""Which versions are installed, and whether they are those that this package requires."""

import importlib.metadata
import platform
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

from packaging.requirements import Requirement

from esd_splat import __version__
from esd_splat.doctor.finding import Finding, reason, short
from esd_splat.errors import OutputError

TORCH = "https://pytorch.org/get-started/locally"
"""Where users choose a build of torch."""
OPTIONAL = {"gsplat": "a GPU", "tensorboard": "log.tensorboard=true", "viser": "view=true"}
"""Packages that most runs do without, and what needs them."""


def ours() -> Finding:
    """This package."""
    found = f"{__version__} in {short(Path(__file__).parents[1])}"
    try:
        importlib.metadata.version("esd-splat")
    except importlib.metadata.PackageNotFoundError:
        return Finding(
            f"{found}, not installed, so the packages that it requires are not known",
            "python -m pip install --no-build-isolation -e . in the checkout",
        )
    return Finding(found)


def python() -> Finding:
    """The interpreter."""
    return Finding(f"{platform.python_version()} at {short(sys.executable)}")


def system() -> Finding:
    """The operating system."""
    return Finding(platform.platform())


def packages() -> dict[str, Callable[[], Finding]]:
    """A check for each package that ours requires; none if ours is not installed."""
    try:
        lines = importlib.metadata.requires("esd-splat") or []
    except importlib.metadata.PackageNotFoundError:
        return {}
    required = map(Requirement, lines)
    wanted = (r for r in required if r.marker is None or r.marker.evaluate({"extra": ""}))
    return {r.name: partial(package, r) for r in wanted}


def package(requirement: Requirement) -> Finding:
    """Whether ``requirement`` is installed, in a version that will do."""
    try:
        found = importlib.metadata.version(requirement.name)
        if requirement.specifier.contains(found, prereleases=True):
            return Finding(found)
        found += f", but {requirement.specifier} is required"
    except importlib.metadata.PackageNotFoundError:
        found = "not installed"
    except (KeyError, TypeError):  # an installation that was cut short has a folder and no version
        found = "installed only in part"
    optional = OPTIONAL.get(requirement.name)
    found += f"; only {optional} needs it" if optional else ""
    return Finding(found, f'python -m pip install "{requirement}"', stops=not optional)


def torch_build() -> Finding:
    """Whether torch can be imported, and for which CUDA it was built."""
    try:
        import torch
    except (ImportError, OSError) as error:
        return Finding(f"cannot be imported ({reason(error)})", f"install it: {TORCH}", stops=True)
    return Finding(f"for CUDA {torch.version.cuda}" if torch.version.cuda else "without CUDA")


def ffmpeg() -> Finding:
    """Whether turntables can be encoded; a run that cannot do so is refused before it starts."""
    from esd_splat.show.video import check_video

    try:
        import imageio_ffmpeg

        check_video(".mp4")
    except (ImportError, OutputError) as error:
        way_out = 'python -m pip install "imageio[ffmpeg]", or export.frames=0 for no video'
        return Finding(reason(error), way_out, stops=True)
    path = imageio_ffmpeg.get_ffmpeg_exe()
    return Finding(f"{imageio_ffmpeg.get_ffmpeg_version()} at {short(path)}")
