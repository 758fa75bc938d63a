"""The shapes of figurines: axis-aligned ellipsoids, y up, front towards +z, radius about 1."""

from typing import NamedTuple

RGB = tuple[float, float, float]

COLOURS: dict[str, RGB] = {
    "red": (0.82, 0.10, 0.12),
    "orange": (0.95, 0.50, 0.08),
    "yellow": (0.95, 0.85, 0.15),
    "green": (0.15, 0.62, 0.20),
    "blue": (0.12, 0.28, 0.85),
    "purple": (0.50, 0.16, 0.68),
    "pink": (0.98, 0.55, 0.75),
    "white": (0.93, 0.93, 0.93),
}
"""The paint of the coloured parts before shading, in display-referred RGB."""

WHITE: RGB = (0.97, 0.97, 0.97)
SNOW: RGB = (0.90, 0.93, 0.97)
CREAM: RGB = (0.93, 0.87, 0.70)
BLACK: RGB = (0.03, 0.03, 0.04)
GREY: RGB = (0.50, 0.52, 0.55)
BEAK: RGB = (0.98, 0.62, 0.05)
ROSE: RGB = (0.95, 0.40, 0.55)
GLASS: RGB = (0.45, 0.75, 0.90)
LAMP: RGB = (1.00, 0.97, 0.65)
WOOD: RGB = (0.40, 0.22, 0.10)


class Part(NamedTuple):
    """One ellipsoid."""

    centre: tuple[float, float, float]
    radii: tuple[float, float, float]
    paint: str | RGB
    """``body`` (the figurine's colour), ``dark`` (half as bright), or a fixed RGB."""


def _both(
    x: float, y: float, z: float, radii: tuple[float, float, float], paint: str | RGB
) -> tuple[Part, Part]:
    """Return a part and its mirror image, as every figurine is symmetric from left to right."""
    return Part((-x, y, z), radii, paint), Part((x, y, z), radii, paint)


_KINDS: dict[str, tuple[Part, ...]] = {
    "owl": (
        Part((0, -0.20, 0), (0.55, 0.72, 0.46), "body"),
        Part((0, -0.32, 0.16), (0.37, 0.46, 0.36), CREAM),
        *_both(0.22, 0.26, 0.30, (0.21, 0.21, 0.14), WHITE),
        *_both(0.22, 0.26, 0.41, (0.10, 0.10, 0.07), BLACK),
        Part((0, 0.06, 0.46), (0.08, 0.14, 0.12), BEAK),
        *_both(0.55, -0.22, -0.06, (0.13, 0.48, 0.30), "dark"),
        *_both(0.30, 0.55, 0.02, (0.11, 0.22, 0.10), "dark"),
        Part((0, -0.74, -0.46), (0.22, 0.13, 0.30), "dark"),
    ),
    "cat": (
        Part((0, -0.45, -0.08), (0.40, 0.48, 0.46), "body"),
        Part((0, 0.32, 0.12), (0.42, 0.37, 0.35), "body"),
        *_both(0.29, 0.68, 0.08, (0.13, 0.24, 0.09), "dark"),
        *_both(0.17, 0.39, 0.41, (0.11, 0.11, 0.08), (0.35, 0.95, 0.35)),
        *_both(0.17, 0.39, 0.48, (0.04, 0.09, 0.04), BLACK),
        Part((0, 0.20, 0.46), (0.17, 0.11, 0.09), WHITE),
        Part((0, 0.25, 0.54), (0.07, 0.05, 0.05), ROSE),
        Part((0, -0.40, 0.18), (0.24, 0.34, 0.26), WHITE),
        *_both(0.20, -0.84, 0.26, (0.13, 0.11, 0.20), WHITE),
        Part((0, -0.30, -0.62), (0.09, 0.46, 0.12), "dark"),
        Part((0, 0.20, -0.64), (0.13, 0.16, 0.13), WHITE),
    ),
    "robot": (
        Part((0, -0.38, 0), (0.46, 0.48, 0.36), "body"),
        Part((0, 0.40, 0), (0.40, 0.34, 0.34), "body"),
        *_both(0.18, 0.47, 0.28, (0.13, 0.13, 0.10), WHITE),
        *_both(0.18, 0.47, 0.36, (0.06, 0.06, 0.05), BLACK),
        Part((0, 0.22, 0.28), (0.20, 0.06, 0.08), BLACK),
        Part((0, -0.30, 0.24), (0.29, 0.22, 0.16), (0.15, 0.16, 0.18)),
        *_both(0.12, -0.30, 0.38, (0.06, 0.06, 0.05), LAMP),
        Part((0, -0.30, -0.38), (0.33, 0.38, 0.20), GREY),
        *_both(0.58, -0.35, 0, (0.13, 0.42, 0.14), "dark"),
        *_both(0.22, -0.88, 0.04, (0.17, 0.10, 0.22), GREY),
        Part((0, 0.80, 0), (0.05, 0.16, 0.05), GREY),
    ),
    "rabbit": (
        Part((0, -0.50, -0.05), (0.42, 0.46, 0.44), "body"),
        Part((0, 0.16, 0.10), (0.35, 0.33, 0.33), "body"),
        *_both(0.17, 0.64, 0.02, (0.12, 0.34, 0.09), "body"),
        *_both(0.17, 0.64, 0.08, (0.07, 0.26, 0.06), ROSE),
        *_both(0.16, 0.24, 0.36, (0.08, 0.10, 0.07), BLACK),
        Part((0, 0.08, 0.42), (0.15, 0.11, 0.09), WHITE),
        Part((0, 0.13, 0.49), (0.06, 0.05, 0.05), ROSE),
        Part((0, -0.45, 0.22), (0.26, 0.32, 0.24), WHITE),
        *_both(0.24, -0.86, 0.22, (0.14, 0.10, 0.26), "dark"),
        Part((0, -0.60, -0.54), (0.20, 0.20, 0.18), WHITE),
    ),
    "duck": (
        Part((0, -0.40, -0.10), (0.46, 0.40, 0.62), "body"),
        Part((0, 0.28, 0.26), (0.33, 0.33, 0.33), "body"),
        Part((0, 0.20, 0.62), (0.22, 0.09, 0.22), BEAK),
        *_both(0.20, 0.40, 0.49, (0.09, 0.10, 0.08), BLACK),
        *_both(0.46, -0.34, -0.14, (0.11, 0.24, 0.40), "dark"),
        Part((0, -0.12, -0.70), (0.24, 0.15, 0.20), "dark"),
        Part((0, 0.00, 0.20), (0.29, 0.09, 0.29), WHITE),
        *_both(0.20, -0.82, 0.10, (0.15, 0.07, 0.24), BEAK),
    ),
    "car": (
        Part((0, -0.25, 0), (0.50, 0.28, 0.90), "body"),
        Part((0, 0.08, -0.12), (0.40, 0.34, 0.50), "body"),
        Part((0, 0.14, 0.14), (0.31, 0.22, 0.34), GLASS),
        *_both(0.20, 0.14, -0.12, (0.24, 0.17, 0.34), GLASS),
        *_both(0.46, -0.45, 0.50, (0.14, 0.22, 0.22), BLACK),
        *_both(0.46, -0.45, -0.50, (0.14, 0.22, 0.22), BLACK),
        *_both(0.27, -0.20, 0.76, (0.13, 0.12, 0.10), LAMP),
        Part((0, -0.36, 0.80), (0.20, 0.08, 0.10), BLACK),
        *_both(0.30, -0.18, -0.76, (0.12, 0.07, 0.08), (0.75, 0.02, 0.02)),
        Part((0, -0.34, -0.82), (0.16, 0.08, 0.08), WHITE),
    ),
    "snowman": (
        Part((0, -0.48, 0), (0.50, 0.46, 0.50), SNOW),
        Part((0, 0.22, 0), (0.35, 0.33, 0.35), SNOW),
        Part((0, -0.06, 0), (0.38, 0.11, 0.38), "body"),
        Part((0, 0.50, 0), (0.42, 0.07, 0.42), "dark"),
        Part((0, 0.70, 0), (0.27, 0.24, 0.27), "body"),
        *_both(0.13, 0.30, 0.31, (0.06, 0.06, 0.05), BLACK),
        Part((0, 0.18, 0.46), (0.06, 0.06, 0.20), BEAK),
        Part((0, -0.30, 0.47), (0.06, 0.06, 0.05), BLACK),
        Part((0, -0.52, 0.50), (0.06, 0.06, 0.05), BLACK),
    ),
    "mushroom": (
        Part((0, -0.48, 0), (0.36, 0.50, 0.36), CREAM),
        Part((0, 0.28, 0), (0.78, 0.46, 0.78), "body"),
        Part((0, 0.02, 0), (0.64, 0.16, 0.64), CREAM),
        Part((0, -0.60, 0.27), (0.19, 0.28, 0.13), WOOD),
        Part((0.08, -0.60, 0.38), (0.04, 0.04, 0.04), LAMP),
        Part((0, 0.72, 0), (0.20, 0.06, 0.20), WHITE),
    ),
}

KINDS: tuple[str, ...] = tuple(_KINDS)
HARD_KINDS: tuple[str, ...] = ("snowman", "mushroom")
"""Kinds with only a small feature in front, on a body that looks the same all around."""


def parts(kind: str, colour: str) -> list[tuple[Part, RGB]]:
    """Return the ellipsoids of a figurine, each with its paint.

    Raises:
        KeyError: the kind or colour does not exist.
    """
    body = COLOURS[colour]
    paints = {"body": body, "dark": (0.5 * body[0], 0.5 * body[1], 0.5 * body[2])}
    return [
        (part, paints[part.paint] if isinstance(part.paint, str) else part.paint)
        for part in _KINDS[kind]
    ]
