"""Plug-ins from other packages, which declare them as entry points of ours.

A package that adds a loss has in its ``pyproject.toml``::

    [project.entry-points."esd_splat.losses"]
    mine = "my_package.mine:Mine"
"""

import sys
from collections.abc import Mapping
from importlib.metadata import entry_points
from typing import TypeVar

GROUPS = ("losses", "teachers", "densifiers", "formats", "initialisers")
"""Tables that other packages may add to; the entry points are those of ``esd_splat.<group>``."""

T = TypeVar("T")


def any_installed() -> bool:
    """Whether another package declares a plug-in. Loads none."""
    return any(entry_points(group=f"esd_splat.{group}") for group in GROUPS)


def with_installed(group: str, own: Mapping[str, type[T]]) -> dict[str, type[T]]:
    """A table of plug-ins: our ``own`` ones, and those that other installed packages declare.

    One that cannot be loaded, or has the name of one of ours, is left out, and a line on standard
    error says so.

    Args:
        group: one of ``GROUPS``.
    """
    table = dict(own)
    for point in entry_points(group=f"esd_splat.{group}"):
        try:
            if point.name in own:
                raise ValueError("esd_splat has one of that name")
            table[point.name] = point.load()
        except Exception as error:  # whatever another package may raise
            package = point.dist.name if point.dist else "an unknown package"
            message = f"esd_splat: left out {point.name!r} of {package} ({group}): {error}"
            print(message, file=sys.stderr)
    return table
