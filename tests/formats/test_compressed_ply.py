"""Compressed ``.ply``: values worked out by hand, and files with missing parts."""

import io
from pathlib import Path
from typing import Any

import numpy as np
import plyfile
import pytest
import torch

from esd_splat.errors import SceneError
from esd_splat.formats import load_ply, load_scene
from esd_splat.formats.compressed_ply import CompressedPly
from esd_splat.formats.frame import to_file_frame
from esd_splat.scene.gaussians import SH_C0
from tests.formats.scenes import scene

RANGES = [
    f"{end}_{name}"
    for name in ("x", "y", "z", "scale_x", "scale_y", "scale_z")
    for end in ("min", "max")
]
PACKED = ["packed_position", "packed_rotation", "packed_scale", "packed_color"]


def _element(name: str, columns: dict[str, Any], kind: type) -> plyfile.PlyElement:
    rows = np.array(list(zip(*columns.values(), strict=True)), [(c, kind) for c in columns])
    return plyfile.PlyElement.describe(rows, name)


def _write(path: Path, *elements: plyfile.PlyElement, **options: Any) -> Path:
    plyfile.PlyData(elements, **options).write(str(path))
    return path


def _parts(n: int = 2, **changed: Any) -> tuple[plyfile.PlyElement, plyfile.PlyElement]:
    """One chunk with positions in (0, 1), (-2, 2) and (1, 3) and scales from e^-5 to e^-3."""
    ends = [0, 1, -2, 2, 1, 3, -5, -3, -5, -3, -5, -3]
    chunk = {name: [end] for name, end in zip(RANGES, ends, strict=True)}
    word = {
        "packed_position": 2047 << 21 | 0 << 11 | 2047,
        "packed_rotation": 2 << 30 | 1023 << 20 | 0 << 10 | 511,
        "packed_scale": 0 << 21 | 1023 << 11 | 0,
        "packed_color": 255 << 24 | 0 << 16 | 51 << 8 | 102,
    }
    vertex = {name: [value] * n for name, value in (word | changed).items()}
    return _element("chunk", chunk, np.float32), _element("vertex", vertex, np.uint32)


@pytest.mark.parametrize("options", [{}, {"byte_order": ">"}, {"text": True}])
def test_a_file_by_hand(tmp_path: Path, options: dict[str, Any]) -> None:
    """The file has no colour ranges, like older files. The change of frame negates y and z."""
    read = load_ply(_write(tmp_path / "a.ply", *_parts(), **options))
    assert read.means.tolist() == [[1.0, 2.0, -3.0]] * 2
    assert read.log_scales.tolist() == [[-5.0, -3.0, -5.0]] * 2
    rgb = 0.5 + SH_C0 * read.sh0[0, 0]
    assert rgb.tolist() == pytest.approx([1.0, 0.0, 0.2], abs=1e-6)
    assert read.opacities.tolist() == pytest.approx([0.4, 0.4])
    # In the file, w, x, z are 1, -1 and 0 times sqrt(1/2), and y is left out. x becomes w.
    expected = torch.tensor([-1.0, -1.0, 0.0, 0.0]) * 0.5**0.5
    torch.testing.assert_close(read.quats[0], expected, rtol=0, atol=1e-3)


def test_any_name_that_ends_in_ply_will_do(tmp_path: Path) -> None:
    for name in ("a.compressed.ply", "a.ply"):
        CompressedPly().write(scene(10), tmp_path / name)
        assert len(load_scene(tmp_path / name)) == 10


def test_a_chunk_is_256_rows(tmp_path: Path) -> None:
    chunk, vertex = _parts(n=257)
    with pytest.raises(SceneError, match="has 1 chunks of 256 for 257 Gaussians"):
        load_ply(_write(tmp_path / "a.ply", chunk, vertex))


@pytest.mark.parametrize("missing", [*RANGES, *PACKED])
def test_what_a_file_lacks_is_named(tmp_path: Path, missing: str) -> None:
    elements = []
    for element in _parts():
        names = [name for name in element.data.dtype.names if name != missing]
        rows = {name: element.data[name] for name in names}
        elements.append(_element(element.name, rows, element.data[names[0]].dtype.type))
    with pytest.raises(SceneError, match=rf"its (chunk|vertex) lacks {missing}$"):
        load_ply(_write(tmp_path / "a.ply", *elements))


def test_a_file_without_vertices_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SceneError, match="no element 'vertex', only chunk"):
        load_ply(_write(tmp_path / "a.ply", _parts()[0]))


def test_words_must_be_words(tmp_path: Path) -> None:
    chunk, vertex = _parts()
    wide = _element("vertex", {n: vertex.data[n] for n in PACKED}, np.float32)
    with pytest.raises(SceneError, match="its vertex lacks packed_position"):
        load_ply(_write(tmp_path / "a.ply", chunk, wide))


@pytest.mark.parametrize(("rows", "names"), [(1, 9), (2, 8), (2, 10)])
def test_coefficients_that_do_not_fit_are_refused(tmp_path: Path, rows: int, names: int) -> None:
    rest = _element("sh", {f"f_rest_{i}": [128] * rows for i in range(names)}, np.uint8)
    with pytest.raises(SceneError, match=f"has {rows} rows of {names} coefficients"):
        load_ply(_write(tmp_path / "a.ply", *_parts(), rest))


def test_coefficients_by_hand(tmp_path: Path) -> None:
    """Red comes first. Bytes stand for the middle of their interval, but 0 and 255 for the ends."""
    levels = [0, 255, 128, *[127] * 3, 160, 0, 0]
    rest = _element("sh", {f"f_rest_{i}": [level] * 2 for i, level in enumerate(levels)}, np.uint8)
    read = load_ply(_write(tmp_path / "a.ply", *_parts(), rest))
    # For degree 1, the change of frame negates y and z, which are the first two.
    assert read.shN[0, :, 0].tolist() == [4.0, -4.0, 1 / 64]
    assert read.shN[0, :, 1].tolist() == [1 / 64, 1 / 64, -1 / 64]
    assert read.shN[0, :, 2].tolist() == [-(1 + 1 / 64), 4.0, -4.0]


def test_the_invisible_are_kept() -> None:
    """By default, gsplat's exporter drops Gaussians with an opacity below 1/255."""
    original = scene(10)
    original.opacity_logits[:9] = -20.0
    assert b"element vertex 10\n" in CompressedPly().encode(original)


def test_without_coefficients_there_are_no_rows_of_them() -> None:
    """SuperSplat's viewer hangs on rows that have no columns."""
    for k, names in ((0, ["chunk", "vertex"]), (3, ["chunk", "vertex", "sh"])):
        content = CompressedPly().encode(to_file_frame(scene(300, k)))
        data = plyfile.PlyData.read(io.BytesIO(content))
        assert [element.name for element in data.elements] == names
