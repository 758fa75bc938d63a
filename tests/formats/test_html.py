"""The page as a text: what is in it. tests/viewers opens it."""

import base64
import json
import math
import re
from html.parser import HTMLParser
from pathlib import Path

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given, settings

from esd_splat.errors import EsdSplatError, OutputError
from esd_splat.formats import EXPORTERS, load_scene
from esd_splat.formats.frame import to_file_frame
from esd_splat.formats.html import BACKGROUND, DATA, FOV_DEG, Html
from esd_splat.scene.gaussians import Gaussians

MOST_BYTES = 2_500_000
HOSTILE = [
    "</script><script>alert(1)</script>",
    "</title><h1>mine</h1>",
    "<!-- \"an owl's\" & 'quoted' &amp; <b>bold</b> -->",
    "ein rötlicher Käuz, 赤いフクロウ, بومة حمراء, 🦉",
    "{{ title }} {% raw %} {# $title ${scene} $$ {0} \\1 \\u003c",
]


class _Page(HTMLParser):
    """The elements of a page with their attributes and texts, as a browser would see them."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[tuple[str, str]] = [("", "")]
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        self.texts.append((tag, ""))

    def handle_endtag(self, tag: str) -> None:
        self.texts.append(("", ""))

    def handle_data(self, data: str) -> None:
        tag, before = self.texts[-1]
        self.texts[-1] = (tag, before + data)

    def text(self, tag: str) -> str:
        """Of the first such element that has any."""
        return next(text.strip() for name, text in self.texts if name == tag and text.strip())

    @property
    def numbers(self) -> list[str]:
        return [text for name, text in self.texts if name == "span"]

    @property
    def scene(self) -> dict:
        return json.loads(self.text("script"))


def _scene(n: int = 40, k: int = 3, seed: int = 0) -> Gaussians:
    g = torch.Generator().manual_seed(seed)
    shapes = [3], [4], [3], [], [1, 3], [k, 3]
    scene = Gaussians(*(torch.randn(n, *shape, generator=g) for shape in shapes))
    scene.log_scales[:] = math.log(0.05)
    return scene


def _write(tmp_path: Path, comment: str = "", scene: Gaussians | None = None) -> _Page:
    Html().write(scene or _scene(), tmp_path / "owl.html", comment)
    return _Page(tmp_path / "owl.html")


@pytest.mark.parametrize("k", [0, 3, 8, 15])
def test_the_scene_is_in_it_with_every_degree(tmp_path: Path, k: int) -> None:
    scene = _scene(k=k)
    shown = _write(tmp_path, scene=scene).scene
    (tmp_path / shown["name"]).write_bytes(base64.b64decode(shown["data"]))
    back = load_scene(tmp_path / shown["name"])
    assert back.sh_degree == scene.sh_degree
    order = DATA.order(to_file_frame(scene))
    torch.testing.assert_close(back.means, scene.means[order], rtol=0, atol=1e-3)


def test_it_asks_nobody_for_anything(tmp_path: Path) -> None:
    """No address in any attribute, and a policy under which the browser would refuse to ask."""
    page = _write(tmp_path)
    for _, attributes in page.elements:
        assert not attributes.keys() & {"src", "href", "srcset", "action", "data"}
    policy = next(a["content"] for _, a in page.elements if "http-equiv" in a)
    assert policy is not None
    rules = dict(rule.strip().split(" ", 1) for rule in policy.split(";"))
    assert rules.pop("default-src") == "'none'"
    assert set(" ".join(rules.values()).split()) == {"'unsafe-inline'", "blob:"}
    style = page.text("style")
    assert "url(" not in style
    assert "@import" not in style


def test_it_is_small(tmp_path: Path) -> None:
    data = len(_write(tmp_path).scene["data"])
    assert (tmp_path / "owl.html").stat().st_size - data < MOST_BYTES


def test_the_caption_is_the_comment_and_the_numbers(tmp_path: Path) -> None:
    page = _write(tmp_path, "a red owl\nMI 1.73\n1 face", _scene(n=1234, k=8))
    assert page.text("title") == page.text("h1") == "a red owl"
    assert page.numbers == ["1,234 Gaussians", "SH degree 2", "MI 1.73", "1 face"]
    page = _write(tmp_path, "", _scene(n=1))
    assert page.text("h1") == "Gaussian splat"
    assert page.numbers == ["1 Gaussian", "SH degree 1"]


@pytest.mark.parametrize("text", HOSTILE)
def test_a_prompt_is_text_whatever_it_looks_like(tmp_path: Path, text: str) -> None:
    plain, page = _write(tmp_path, "\n1"), _write(tmp_path, f"{text}\n{text}")
    assert page.text("title") == page.text("h1") == text
    assert page.numbers[-1] == text
    assert page.elements == plain.elements
    assert page.scene == plain.scene
    assert [t for name, t in page.texts if name == "script"] == [
        t for name, t in plain.texts if name == "script"
    ]


@given(text=st.text(st.characters(exclude_categories=["C", "Zl", "Zp"]), min_size=1))
@settings(max_examples=10)
def test_so_is_any_other(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    page = _write(tmp_path_factory.mktemp("any"), f"a{text}b")
    assert page.text("h1") == f"a{text}b"


def test_the_licences_go_with_the_code(tmp_path: Path) -> None:
    _write(tmp_path)
    text = (tmp_path / "owl.html").read_text(encoding="utf-8")
    notices = re.findall(r"^(\S+) [\d.]+\n\n((?:.+\n|\n(?!----))+)", text, re.MULTILINE)
    assert [name for name, _ in notices] == ["@playcanvas/supersplat-viewer", "playcanvas"]
    for _, notice in notices:
        assert "Copyright (c) 2011-2026 PlayCanvas Ltd." in notice
        assert "Permission is hereby granted, free of charge" in notice
        assert "THE SOFTWARE IS PROVIDED" in notice


def _seen(scene: Gaussians, camera: dict) -> torch.Tensor:
    """``[n, 3]``: right, up and depth of each mean from the camera, right and up over depth; the
    picture ends at 1."""
    eye, target = (torch.tensor(camera[key]) for key in ("position", "target"))
    points = scene.means * torch.tensor([-1.0, 1, -1])  # in the viewer's world
    forward = torch.nn.functional.normalize(target - eye, dim=0)
    right = torch.nn.functional.normalize(
        torch.linalg.cross(forward, torch.tensor([0.0, 1, 0])), dim=0
    )
    up = torch.linalg.cross(right, forward)
    x, y, depth = ((points - eye) @ torch.stack([right, up, forward], dim=1)).unbind(dim=1)
    edge = math.tan(math.radians(camera["fov"] / 2)) * depth
    return torch.stack([x / edge, y / edge, depth], dim=1)


@pytest.mark.parametrize("scale", [0.01, 1.0, 300.0])
def test_the_camera_stands_in_front_and_sees_all_but_strays(tmp_path: Path, scale: float) -> None:
    scene = _scene(n=500)
    directions = torch.nn.functional.normalize(scene.means, dim=1)
    scene.means[:] = scale * (directions + torch.tensor([3.0, 2, 1]))
    scene.log_scales[:] = math.log(0.05 * scale)
    scene.means[:4] *= 100
    camera = _write(tmp_path, scene=scene).scene["camera"]
    assert camera["fov"] == FOV_DEG
    x, y, z = (p - t for p, t in zip(camera["position"], camera["target"], strict=True))
    assert x == 0
    assert z < -5 * y < 0  # the front is at -z of the viewer's world
    across, up, depth = _seen(scene, camera)[4:].unbind(dim=1)
    assert (depth > 0).all()
    assert (across.abs() < 1).all()
    assert (up.abs() < 1).all()
    assert across.abs().max() > 0.7
    front = scene.means[4:, 2] > scale * 1.9  # in our world, it is at +z
    assert depth[front].max() < depth[~front].mean()


def test_one_gaussian_is_seen_from_outside(tmp_path: Path) -> None:
    scene = _scene(n=1)
    camera = _write(tmp_path, scene=scene).scene["camera"]
    assert _seen(scene, camera)[0, 2] > 0.05 * 3


def test_a_gaussian_beyond_all_bounds_leaves_the_page_a_camera(tmp_path: Path) -> None:
    scene = _scene()
    scene.log_scales[0] = 95.0
    camera = _write(tmp_path, scene=scene).scene["camera"]
    assert all(map(math.isfinite, [*camera["position"], *camera["target"]]))


def test_the_background_is_one_colour(tmp_path: Path) -> None:
    page = _write(tmp_path)
    assert page.scene["background"] == [level / 255 for level in BACKGROUND]
    assert "background: #{:02x}{:02x}{:02x};".format(*BACKGROUND) in page.text("style")


def test_what_cannot_be_shown_is_not_written(tmp_path: Path) -> None:
    path = tmp_path / "owl.html"
    broken = _scene()
    broken.means[7, 1] = math.nan
    for scene, reason in ((_scene(n=0), "no Gaussians"), (broken, "row 7")):
        with pytest.raises(EsdSplatError, match=reason) as error:
            Html().write(scene, path)
        assert str(error.value).startswith(f"{path}: not written")
        assert "\n" not in str(error.value)
    assert list(tmp_path.iterdir()) == []


def test_what_cannot_be_written_is_said_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(OutputError, match=r"owl\.html: cannot be written \(File exists\)"):
        Html().write(_scene(), tmp_path / "file" / "owl.html")


def test_the_table_has_it() -> None:
    assert EXPORTERS["html"] is Html
    assert Html.suffix == ".html"
