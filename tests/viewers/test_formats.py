"""Every file we write, opened by the viewers that others use: what they show is what we draw."""

from pathlib import Path
from typing import TYPE_CHECKING

import plyfile
import pytest

from esd_splat.formats import EXPORTERS, save_ply
from esd_splat.formats.html import Html
from esd_splat.scene.cameras import Cameras
from esd_splat.scene.gaussians import Gaussians
from tests.viewers import gate
from tests.viewers.gate import Expected
from tests.viewers.objects import owl
from tests.viewers.viewers import READS, VIEWERS

if TYPE_CHECKING:
    from playwright.sync_api import Browser

FLAT = {".splat"}
"""Suffixes of the formats that have no place for colour that depends on the view."""

each_viewer = pytest.mark.parametrize("viewer", VIEWERS)
each_pair = pytest.mark.parametrize(
    ("name", "viewer"),
    [(n, v) for n, kind in EXPORTERS.items() for v in VIEWERS if kind.suffix in READS[v]],
)


@pytest.mark.slow
@each_pair
def test_a_viewer_shows_what_we_draw(
    request: pytest.FixtureRequest,
    tmp_path: Path,
    browser: "Browser",
    scene: Gaussians,
    views: Cameras,
    name: str,
    viewer: str,
) -> None:
    file = tmp_path / f"thing{EXPORTERS[name].suffix}"
    EXPORTERS[name]().write(scene, file)
    kept = "expected_flat" if file.suffix in FLAT else "expected"
    assert request.getfixturevalue(kept).problems(VIEWERS[viewer](browser, file, views)) == []


@pytest.mark.slow
@each_pair
def test_a_viewer_shows_one_colour_from_everywhere(
    tmp_path: Path, browser: "Browser", views: Cameras, name: str, viewer: str
) -> None:
    """A scene without coefficients of degree 1 and up, which formats leave out each in its way."""
    file = tmp_path / f"owl{EXPORTERS[name].suffix}"
    EXPORTERS[name]().write(owl(), file)
    shown = VIEWERS[viewer](browser, file, views[:1])
    assert gate.psnr(shown, gate.posed(owl(), views[:1])).item() >= gate.LEAST_DB


def test_every_format_is_opened_by_some_viewer() -> None:
    """But for the page, which brings its own."""
    opened = set().union(*READS.values())
    assert {kind.suffix for kind in EXPORTERS.values()} - opened == {Html.suffix}


@pytest.mark.slow
@each_viewer
def test_a_file_that_was_not_turned_fails(
    tmp_path: Path,
    browser: "Browser",
    scene: Gaussians,
    views: Cameras,
    expected: Expected,
    viewer: str,
) -> None:
    """As our own axes are no viewer's: it stands on its head, with its back to the camera."""
    save_ply(scene, tmp_path / "thing.ply")
    data = plyfile.PlyData.read(str(tmp_path / "thing.ply"), mmap=False)  # pyright: ignore[reportArgumentType]
    rows = data["vertex"].data
    for name, value in zip("xyz", scene.means.T, strict=True):
        rows[name] = value
    for n, value in enumerate(scene.quats.T):
        rows[f"rot_{n}"] = value
    for n, value in enumerate(scene.shN.mT.flatten(1).T):
        rows[f"f_rest_{n}"] = value
    data.write(str(tmp_path / "thing.ply"))
    found = expected.problems(VIEWERS[viewer](browser, tmp_path / "thing.ply", views))
    assert any("(1.0, -1.0, -1.0)" in line for line in found)
