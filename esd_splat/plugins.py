"""Plug-ins from other packages, which declare them as entry points.

A package that adds a loss declares it in its ``pyproject.toml``::

    [project.entry-points."esd_splat.losses"]
    mine = "my_package.mine:Mine"
"""

import sys
from collections.abc import Mapping
from importlib.metadata import entry_points
from typing import TypeVar

GROUPS = ("losses", "teachers", "densifiers", "formats", "initialisers", "judges")
"""The tables that other packages can extend, with entry points in ``esd_splat.<group>``."""

T = TypeVar("T")


def any_installed() -> bool:
    """Return whether another package declares a plug-in, without loading any."""
    return any(entry_points(group=f"esd_splat.{group}") for group in GROUPS)


def with_installed(group: str, own: Mapping[str, type[T]]) -> dict[str, type[T]]:
    """Return a table of our ``own`` plug-ins and those that other installed packages declare.

    A plug-in that cannot be loaded, or that has the name of one of ours, is left out, and a line
    on standard error says so.

    Args:
        group: one of ``GROUPS``.
    """
    table = dict(own)
    for point in entry_points(group=f"esd_splat.{group}"):
        try:
            if point.name in own:
                raise ValueError("esd_splat already has one of that name")
            table[point.name] = point.load()
        except Exception as error:  # another package may raise anything
            package = point.dist.name if point.dist else "an unknown package"
            message = f"esd_splat: left out {point.name!r} of {package} ({group}): {error}"
            print(message, file=sys.stderr)
    return table
