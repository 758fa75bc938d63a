"""``.sog`` against the description of the format, and files whose parts do not fit together."""

import io
import json
import tracemalloc
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from esd_splat.errors import SceneError
from esd_splat.formats import load_scene
from esd_splat.formats.frame import to_file_frame
from esd_splat.formats.sog import Sog
from esd_splat.scene.gaussians import Gaussians
from tests.formats.scenes import scene


def _files(content: bytes) -> dict[str, bytes]:
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def _zip(files: dict[str, bytes], packing: int = zipfile.ZIP_DEFLATED) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", packing) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return file.getvalue()


def _webp(pixels: Any, mode: str = "RGBA") -> bytes:
    file = io.BytesIO()
    Image.fromarray(np.array(pixels, np.uint8)).convert(mode).save(
        file, "webp", lossless=True, exact=True
    )
    return file.getvalue()


@pytest.mark.parametrize("k", [0, 8])
def test_what_is_in_the_file(k: int) -> None:
    original = scene(100, k)
    files = _files(Sog().encode(original, "a red owl"))
    meta = json.loads(files["meta.json"])
    assert (meta["version"], meta["count"]) == (2, 100)
    assert meta["asset"] == {"generator": "esd_splat", "comment": "a red owl"}
    named = [
        name for part in meta.values() if isinstance(part, dict) for name in part.get("files", [])
    ]
    assert sorted([*named, "meta.json"]) == sorted(files)
    assert ("shN" in meta) == (k > 0)
    for name in set(named) - {"shN_centroids.webp"}:
        picture = Image.open(io.BytesIO(files[name]))
        assert picture.size == (12, 9)
        assert picture.format == "WEBP"
    for name in ("scales", "sh0"):
        assert len(meta[name]["codebook"]) == 256
        assert meta[name]["codebook"] == sorted(meta[name]["codebook"])
    if k:
        assert (meta["shN"]["bands"], meta["shN"]["count"]) == (2, 100)
        centroids = Image.open(io.BytesIO(files["shN_centroids.webp"]))
        assert centroids.size == (64 * k, 2)


def test_a_file_by_hand(tmp_path: Path) -> None:
    """Two Gaussians in images of 2 by 1. The last quaternion component of the second is largest."""
    book = np.linspace(-8, 8, 256).tolist()
    meta: dict[str, Any] = {
        "version": 2,
        "count": 2,
        "means": {"mins": [-1, 0, 0], "maxs": [1, 0, 2], "files": ["l.webp", "u.webp"]},
        "scales": {"codebook": book, "files": ["s.webp"]},
        "quats": {"files": ["q.webp"]},
        "sh0": {"codebook": book, "files": ["c.webp"]},
        "shN": {"count": 2, "bands": 1, "codebook": book, "files": ["n.webp", "i.webp"]},
    }
    palette = np.zeros((1, 64 * 3, 4), np.uint8)
    palette[0, 3:6] = [[1, 2, 3, 255], [4, 5, 6, 255], [7, 8, 9, 255]]
    files = {
        "meta.json": json.dumps(meta).encode(),
        "l.webp": _webp([[[0, 0, 255, 255], [255, 7, 0, 255]]], "RGB"),
        "u.webp": _webp([[[0, 0, 127, 255], [255, 0, 128, 255]]], "RGB"),
        "s.webp": _webp([[[0, 1, 255, 255], [9, 9, 9, 255]]], "RGB"),
        "q.webp": _webp([[[255, 0, 127, 252], [127, 127, 127, 255]]]),
        "c.webp": _webp([[[10, 20, 30, 0], [40, 50, 60, 255]]]),
        "n.webp": _webp(palette),
        "i.webp": _webp([[[1, 0, 0, 255], [0, 0, 0, 255]]]),
    }
    (tmp_path / "a.sog").write_bytes(_zip(files))
    read = load_scene(tmp_path / "a.sog")
    z = [np.expm1(2 * (255 + 256 * 127) / 65535), np.expm1(2 * (256 * 128) / 65535)]
    expected = torch.tensor([[-np.expm1(1), 0, -z[0]], [np.expm1(1), 0, -z[1]]]).float()
    torch.testing.assert_close(read.means, expected)
    step = 16 / 255
    torch.testing.assert_close(read.log_scales[0], torch.tensor([-8, -8 + step, 8]))
    torch.testing.assert_close(read.sh0[1, 0], -8 + step * torch.tensor([40.0, 50, 60]))
    assert read.opacities[0] < 1 / 255 < 254 / 255 < read.opacities[1]
    # In the file, wxyz of the first are 0 and sqrt(1/2) times 1, -1, -1/255. x becomes w.
    torch.testing.assert_close(
        read.quats[0], torch.tensor([1, 0, -1 / 255, 1]) * 0.5**0.5, rtol=0, atol=3e-3
    )
    assert read.quats[1].abs().argmax() == 2
    # For degree 1, the change of frame keeps the sign of x, the third coefficient.
    x = -8 + step * torch.tensor([7.0, 8, 9])
    torch.testing.assert_close(read.shN[0, 2], x)
    torch.testing.assert_close(read.shN[1], torch.tensor([[8.0], [8], [-8]]).expand(3, 3))


def test_more_gaussians_than_sets_share_them(tmp_path: Path) -> None:
    original = scene(4000, 3)
    Sog().write(original, tmp_path / "a.sog")
    meta = json.loads(_files((tmp_path / "a.sog").read_bytes())["meta.json"])
    assert meta["shN"]["count"] == 2048
    back = load_scene(tmp_path / "a.sog")
    order = Sog().order(to_file_frame(original))
    off = (back.shN - original.shN[order]).square().mean().sqrt()
    assert off < 0.5 * original.shN.square().mean().sqrt()


WHOLE = Sog().encode(scene(100, 8))
Change = Callable[[dict[str, Any], dict[str, bytes]], None]


def _set(*path: Any) -> Change:
    *keys, last, value = path

    def change(meta: dict[str, Any], _: dict[str, bytes]) -> None:
        for key in keys:
            meta = meta[key]
        meta[last] = value

    return change


def _drop(name: str) -> Change:
    def change(_: dict[str, Any], files: dict[str, bytes]) -> None:
        del files[name]

    return change


def _replace(name: str, data: bytes) -> Change:
    return lambda _, files: files.update({name: data})


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (_set("version", 1), "is a .sog of version 1; only version 2 can be read"),
        (_set("version", None), "is a .sog of version None; only version 2 can be read"),
        (_set("count", 101 * 109), "means has 108 pixels for 11009 Gaussians"),
        (_set("count", -1), "says that it has -1 Gaussians"),
        (_set("count", 0), "the scene has no Gaussians"),
        (_set("count", "many"), "ValueError: invalid literal"),
        (_set("count", float("inf")), "OverflowError"),
        (_set("means", "mins", [0.0]), "ValueError: cannot reshape"),
        (_set("means", "maxs", [1e9] * 3), "100 of 100 Gaussians hold NaN, infinity"),
        (_set("scales", "codebook", [0.0] * 3), "ValueError: cannot reshape"),
        (_set("scales", "codebook", [float("nan")] * 256), "100 of 100 Gaussians hold NaN"),
        (_set("sh0", None), "TypeError"),
        (_set("quats", "files", []), "IndexError"),
        (_set("quats", "files", ["sh0.webp"]), "ValueError: quats has pixels that name no"),
        (_set("sh0", "files", ["no\nne"]), "KeyError"),
        (_set("shN", "bands", 4), "KeyError: 4"),
        (_set("shN", "bands", 3), "ValueError: shN has 8 coefficients a set, not 15"),
        (_set("shN", "count", 5), "IndexError"),
        (_drop("meta.json"), "no item named 'meta.json'"),
        (_drop("quats.webp"), "no item named 'quats.webp'"),
        (_replace("meta.json", b"[1]"), "AttributeError"),
        (_replace("meta.json", b"{"), "JSONDecodeError"),
        (_replace("meta.json", b'{"\xff": 0}'), "UnicodeDecodeError"),
        (_replace("meta.json", b"[" * 20_000), "RecursionError"),
        (_replace("quats.webp", b"RIFF"), "an image is no WebP"),
        (_replace("sh0.webp", _webp(np.zeros((9, 12, 4)))[:-9]), "Error"),
    ],
)
def test_a_file_that_does_not_fit_together_is_refused_in_one_line(
    tmp_path: Path, change: Change, reason: str
) -> None:
    files = _files(WHOLE)
    meta = json.loads(files["meta.json"])
    before = dict(files)
    change(meta, files)
    if files.get("meta.json") == before["meta.json"]:
        files["meta.json"] = json.dumps(meta).encode()
    (tmp_path / "a.sog").write_bytes(_zip(files))
    with pytest.raises(SceneError) as error:
        load_scene(tmp_path / "a.sog")
    message = str(error.value)
    assert message.startswith(f"{tmp_path / 'a.sog'}: cannot be used: ")
    assert reason in message
    assert "\n" not in message


def _bounded(path: Path, content: bytes, message: str) -> None:
    """Check that a file is refused with ``message``, in a few megabytes."""
    path.write_bytes(content)
    tracemalloc.start()
    try:
        with pytest.raises(SceneError, match=message):
            load_scene(path)
        assert tracemalloc.get_traced_memory()[1] < 8e6 + 40 * len(content)
    finally:
        tracemalloc.stop()


def test_what_would_fill_the_memory_is_refused_unread(tmp_path: Path) -> None:
    files = _files(WHOLE)
    zeros = {"meta.json": files["meta.json"] + b" " * 10_000_000}
    _bounded(tmp_path / "a.sog", _zip(files | zeros), r"'meta.json' unpacks to 100\d{5} bytes")
    many = json.loads(files["meta.json"]) | {"count": 16_000_000}
    _bounded(
        tmp_path / "b.sog",
        _zip(files | {"meta.json": json.dumps(many).encode()}),
        r"says that it has 16000000 Gaussians, but \d+ bytes can hold at most",
    )


@pytest.mark.parametrize("kind", [b"VP8L", b"VP8X", b"VP8 "])
def test_the_pixels_of_an_image_are_counted_before_they_are_allocated(
    tmp_path: Path, kind: bytes
) -> None:
    side = 9400 if kind != b"VP8 " else 9400 & 0x3FFF
    head = {
        b"VP8L": b"\x2f" + (side - 1 | (side - 1) << 14).to_bytes(4, "little"),
        b"VP8X": bytes(4) + 2 * (side - 1).to_bytes(3, "little"),
        b"VP8 ": bytes(3) + b"\x9d\x01\x2a" + 2 * side.to_bytes(2, "little"),
    }[kind]
    image = b"RIFF\0\0\0\0WEBP" + kind + bytes(4) + head + bytes(40)
    content = _zip(_files(WHOLE) | {"means_l.webp": image})
    _bounded(tmp_path / "a.sog", content, "'means_l.webp' has 9400 x 9400 pixels, more than")


def test_other_images_than_those_that_are_named_are_not_read(tmp_path: Path) -> None:
    (tmp_path / "a.sog").write_bytes(_zip(_files(WHOLE) | {"junk": bytes(10_000_000)}))
    assert len(load_scene(tmp_path / "a.sog")) == 100


def test_a_damaged_member_is_refused(tmp_path: Path) -> None:
    damaged = bytearray(_zip(_files(WHOLE), zipfile.ZIP_DEFLATED))
    damaged[60:200] = bytes(140)
    (tmp_path / "a.sog").write_bytes(damaged)
    with pytest.raises(SceneError, match=r"not a \.sog file, or cut short"):
        load_scene(tmp_path / "a.sog")


@pytest.mark.parametrize("packing", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_packings_whose_size_nothing_bounds_are_refused(tmp_path: Path, packing: int) -> None:
    content = _zip(_files(WHOLE) | {"junk": bytes(10_000_000)}, packing)
    _bounded(tmp_path / "a.sog", content, f"is compressed by method {packing}; only files")


def test_what_is_transparent_keeps_its_colour(tmp_path: Path) -> None:
    """A WebP encoder may change the colour of pixels whose alpha, here the opacity, is 0."""
    original = scene(200, 0)
    clear = original.opacity_logits - 100
    original = Gaussians(**vars(original) | {"opacity_logits": clear})
    Sog().write(original, tmp_path / "a.sog")
    back = load_scene(tmp_path / "a.sog")
    torch.testing.assert_close(
        back.sh0.flatten().sort().values, original.sh0.flatten().sort().values, rtol=0, atol=0.03
    )


def test_a_picture_that_pillow_finds_too_large_is_refused_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Sog().write(scene(30, 3), tmp_path / "a.sog")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 4)
    with pytest.raises(SceneError, match="DecompressionBombError"):
        load_scene(tmp_path / "a.sog")
