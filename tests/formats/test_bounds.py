"""Whatever a scene file says of itself, reading it takes memory and time by its size."""

import time
import tracemalloc
from pathlib import Path

import pytest

from esd_splat.errors import SceneError
from esd_splat.formats import load_scene

NAMES = [
    "x",
    "y",
    "z",
    "f_dc_0",
    "f_dc_1",
    "f_dc_2",
    "opacity",
    "scale_0",
    "scale_1",
    "scale_2",
    "rot_0",
    "rot_1",
    "rot_2",
    "rot_3",
]


def _ply(elements: str, body: bytes = b"", kind: str = "binary_little_endian") -> bytes:
    return f"ply\nformat {kind} 1.0\n{elements}end_header\n".encode() + body


def _splat(count: int, kind: str = "uchar") -> str:
    return f"element vertex {count}\n" + "".join(f"property {kind} {name}\n" for name in NAMES)


LIST = "element face 300000000\nproperty list uchar int vertex_indices\n"
HOSTILE = {
    "no such count": (_ply("element foo -1\nproperty int x\n"), "the line 'element foo -1'"),
    "long count": (_ply(f"element vertex {'9' * 5000}\n"), r"the line 'element vertex 99*\.\.\."),
    "many rows": (_ply(_splat(10**9)), "ends within its element 'vertex'"),
    "many rows of text": (_ply(_splat(10**9), kind="ascii"), "ends within its element 'vertex'"),
    "many lists after": (_ply(_splat(1) + LIST, bytes(14)), "ends within its element 'face'"),
    "a list before": (
        _ply(LIST.replace("300000000", "3") + _splat(1), bytes(17)),
        "element 'face' has lists, such as 'vertex_indices'",
    ),
    "many rows of nothing": (_ply(f"element vertex {10**18 - 1}\n"), "its vertices lack x, y"),
    "long comment": (_ply("comment " + 10_000_000 * "a" + "\n" + _splat(1)), "no end in its first"),
    "many elements": (
        _ply("".join(f"element {n} 0\n" for n in range(20_000))),
        r"no element 'vertex', only 0, 1, 2, .*\.\.\.$",
    ),
    "many columns": (
        _ply("element vertex 0\n" + "".join(f"property char {n}\n" for n in range(20_000))),
        "its vertices lack x, y",
    ),
    "twice the same": (_ply("element vertex 0\nelement vertex 0\n"), "an element is there twice"),
    "a line that is none": (_ply("property int x\n"), "the line 'property int x'"),
}


@pytest.mark.parametrize("name", sorted(HOSTILE))
def test_a_hostile_ply_is_refused_within_the_bounds(tmp_path: Path, name: str) -> None:
    content, message = HOSTILE[name]
    path = tmp_path / "a.ply"
    path.write_bytes(content)
    began = time.process_time()
    tracemalloc.start()
    try:
        with pytest.raises(SceneError, match=message):
            load_scene(path)
        assert tracemalloc.get_traced_memory()[1] < 64e6 + 40 * len(content)
    finally:
        tracemalloc.stop()
    # With room for a slow machine and for the tracing of allocations.
    assert time.process_time() - began < 3 * (1 + len(content) / 1e6)


def test_the_smallest_rows_take_forty_times_their_bytes_at_most(tmp_path: Path) -> None:
    content = _ply(_splat(100_000), bytes(range(1, 15)) * 100_000)
    (tmp_path / "a.ply").write_bytes(content)
    tracemalloc.start()
    try:
        assert len(load_scene(tmp_path / "a.ply")) == 100_000
        assert tracemalloc.get_traced_memory()[1] < 40 * len(content)
    finally:
        tracemalloc.stop()


def test_what_follows_the_vertices_does_not_matter(tmp_path: Path) -> None:
    faces = LIST.replace("300000000", "1")
    content = _ply(_splat(1) + faces, bytes(range(1, 15)) + b"\3" + bytes(12))
    (tmp_path / "a.ply").write_bytes(content)
    assert load_scene(tmp_path / "a.ply").opacity_logits.tolist() == [7.0]


def test_a_text_with_the_line_ends_of_windows_is_read(tmp_path: Path) -> None:
    content = _ply(_splat(2, "float"), b"1 2 3 4 5 6 7 8 9 10 11 12 13 14\n" * 2, "ascii")
    (tmp_path / "a.ply").write_bytes(content.replace(b"\n", b"\r\n"))
    assert load_scene(tmp_path / "a.ply").log_scales.tolist() == [[8, 9, 10]] * 2
