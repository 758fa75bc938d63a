"""Curves hold the numbers."""

import re
from itertools import pairwise

import pytest

from esd_splat.show.pages import curves


def test_they_pass_over_what_is_missing() -> None:
    """At steps 0, 1 and 3 the curve is at 0, 2 and 3: the second step of x is a third as steep."""
    rows = [{"step": 0.0, "y": 0.0}, {"step": 1.0, "y": 2.0}, {"step": 2.0}]
    drawn = curves([*rows, {"step": 3.0, "y": 3.0}])
    (svg,) = drawn.plots
    (path,) = re.findall(r'<path d="M ([^"]*)" clip-path[^>]*stroke-linecap: square', svg)
    (x0, y0), (x1, y1), (x2, y2) = (map(float, p.split()) for p in path.strip().split("\nL "))
    assert (x2 - x1) / (x1 - x0) == pytest.approx(2, rel=1e-4)
    assert (y2 - y1) / (y1 - y0) == pytest.approx(0.5, rel=1e-4)
    assert y1 < y0, "up is down in SVG"
    assert drawn.legend == []


def test_a_line_for_each_value_of_a_column() -> None:
    rows = [{"step": s, "t": t, "y": s * t} for s in (0.0, 1.0) for t in (0.2, 0.7)]
    drawn = curves(rows, lines="t")
    (svg,) = drawn.plots  # t and step have no curve of their own
    assert [label for _, label in drawn.legend] == ["t = 0.2", "t = 0.7"]
    for color, _ in drawn.legend:
        assert f"stroke: {color}; stroke-width: 1.5; stroke-linecap: square" in svg


def test_what_falls_by_decades_has_a_logarithmic_axis() -> None:
    """Over it, equal factors are equal heights."""
    (svg,) = curves([{"step": float(s), "y": 10.0**-s} for s in range(4)]).plots
    (path,) = re.findall(r'<path d="M ([^"]*)" clip-path[^>]*stroke-linecap: square', svg)
    heights = [float(point.split()[1]) for point in path.strip().split("\nL ")]
    drops = [b - a for a, b in pairwise(heights)]
    assert drops == pytest.approx([drops[0]] * 3, rel=1e-3)
