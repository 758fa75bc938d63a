"""``.spz`` byte by byte, against the description of the format."""

import gzip
import math
import struct
from pathlib import Path

import numpy as np
import pytest

from esd_splat.errors import SceneError
from esd_splat.formats import load_scene
from esd_splat.formats.spz import Spz, decode_spz
from esd_splat.scene.gaussians import SH_C0
from tests.formats.scenes import scene


def _file(version: int, body: bytes, count: int = 1, degree: int = 0, bits: int = 12) -> bytes:
    header = struct.pack("<4sIIBBBB", b"NGSP", version, count, degree, bits, 0, 0)
    return gzip.compress(header + body)


def _body(quat: bytes, rest: bytes = b"") -> bytes:
    """One Gaussian at (1, -1/4096, -2), opacity 51/255, white, scales e^-10, e^0, e^-2."""
    mean = (4096).to_bytes(3, "little") + b"\xff\xff\xff" + (-8192 & 0xFFFFFF).to_bytes(3, "little")
    white = bytes([round(255 * (0.5 + 0.15 * 0.5 / SH_C0))] * 3)
    return mean + bytes([51]) + white + bytes([0, 160, 128]) + quat + rest


def test_version_3_by_hand() -> None:
    """The largest of xyzw is y; x, z and w are 0, -511 and 255 steps of sqrt(1/2) / 511."""
    word = 1 << 30 | 0 << 20 | (512 + 511) << 10 | 255
    read = decode_spz(_file(3, _body(struct.pack("<I", word))))
    assert read.means.tolist() == [[1.0, -1 / 4096, -2.0]]
    assert read.log_scales.tolist() == [[-10.0, 0.0, -2.0]]
    assert read.opacities.item() == pytest.approx(0.2)
    assert (0.5 + SH_C0 * read.sh0).flatten().tolist() == pytest.approx([1.0] * 3, abs=0.004)
    w, z = math.sqrt(0.5) * 255 / 511, -math.sqrt(0.5)
    y = math.sqrt(1 - w * w - z * z)
    assert read.quats[0].tolist() == pytest.approx([w, 0.0, y, z])


def test_version_2_by_hand() -> None:
    read = decode_spz(_file(2, _body(bytes([255, 0, 127]))))
    x, y, z = 1.0, -1.0, 127 / 127.5 - 1
    assert read.quats[0].tolist() == pytest.approx([0.0, x, y, z])
    assert read.means.tolist() == [[1.0, -1 / 4096, -2.0]]


def test_coefficients_are_red_green_blue_for_each_in_turn() -> None:
    rest = bytes([128, 192, 64, 129, 127, 0, 255, 128, 128])
    read = decode_spz(_file(3, _body(bytes(4), rest), degree=1))
    expected = [[0, 0.5, -0.5], [1 / 128, -1 / 128, -1], [127 / 128, 0, 0]]
    assert read.shN[0].tolist() == expected


def test_what_is_written_begins_as_described(tmp_path: Path) -> None:
    original = scene(3, 8)
    content = gzip.decompress(Spz().encode(original))
    magic, version, count, degree, bits, flags, _ = struct.unpack_from("<4sIIBBBB", content)
    assert (magic, version, count, degree, flags) == (b"NGSP", 3, 3, 2, 0)
    assert len(content) == 16 + 3 * (9 + 1 + 3 + 3 + 4 + 24)
    first = int.from_bytes(content[16:19], "little", signed=True)
    assert first / 2**bits == pytest.approx(original.means[0, 0].item(), abs=2**-bits)


@pytest.mark.parametrize(
    ("unit", "bits"), [(1e-12, 23), (0.9, 15), (1.1, 14), (500, 12), (5000, 10), (3e6, 1)]
)
def test_positions_have_the_steps_that_the_scene_needs(unit: float, bits: int) -> None:
    original = scene(5, 0)
    original.means.div_(original.means.abs().max()).mul_(unit)
    assert gzip.decompress(Spz().encode(original))[13] == bits


def test_one_far_gaussian_costs_the_others_little() -> None:
    original = scene(50, 0)
    original.means[0] = 500.0
    read = decode_spz(Spz().encode(original))
    assert (read.means - original.means)[1:].abs().max() <= 2**-13


@pytest.mark.parametrize("version", [1, 4, 77])
def test_other_versions_are_named(tmp_path: Path, version: int) -> None:
    path = tmp_path / "a.spz"
    path.write_bytes(_file(version, b""))
    message = rf"a\.spz: cannot be used: is a \.spz of version {version}; only 2 and 3 can be read"
    with pytest.raises(SceneError, match=message):
        load_scene(path)
    path.write_bytes(struct.pack("<4sI", b"NGSP", version) + bytes(40))  # not in a gzip stream
    with pytest.raises(SceneError, match=message):
        load_scene(path)


def test_what_is_no_spz_is_said_so(tmp_path: Path) -> None:
    path = tmp_path / "a.spz"
    contents = {
        "it ends within its header": gzip.compress(b"NGSP"),
        "it begins with b'ngsp'": gzip.compress(b"ngsp" + bytes(40)),
        "incorrect header check": b"no gzip stream at all",
        "has 0 of the 20 bytes": _file(3, b""),
    }
    for reason, content in contents.items():
        path.write_bytes(content)
        with pytest.raises(SceneError, match=r"not a \.spz file, or cut short") as error:
            load_scene(path)
        assert reason in str(error.value)
    path.write_bytes(_file(3, bytes(200), degree=4))
    with pytest.raises(SceneError, match="its colours have SH degree 4; only 0 to 3 can be read"):
        load_scene(path)
    path.write_bytes(_file(3, b"", count=0))
    with pytest.raises(SceneError, match="the scene has no Gaussians"):
        load_scene(path)


def test_a_changed_digit_is_noticed(tmp_path: Path) -> None:
    """By the checksum at the end of the stream, as without compression a bit changes one value."""
    whole = gzip.compress(gzip.decompress(Spz().encode(scene(20, 0))), compresslevel=0)
    path = tmp_path / "a.spz"
    changed = bytearray(whole)
    changed[len(whole) // 2] ^= 1
    path.write_bytes(changed)
    with pytest.raises(SceneError, match="incorrect data check"):
        load_scene(path)
    path.write_bytes(whole[:-8])
    with pytest.raises(SceneError, match="has no checksum"):
        load_scene(path)
    path.write_bytes(whole)
    assert len(load_scene(path)) == 20


def test_a_count_that_no_memory_holds_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.spz"
    for count in (2**32 - 1, 500_000):
        path.write_bytes(_file(3, bytes(1000), count=count, degree=3))
        with pytest.raises(SceneError, match=rf"says that it has {count} Gaussians, but \d+ bytes"):
            load_scene(path)
    path.write_bytes(_file(3, bytes(1000), count=200_000, degree=3))
    with pytest.raises(SceneError, match=r"has 1000 of the \d+ bytes"):
        load_scene(path)


def test_coefficients_have_the_levels_of_the_reference_encoder() -> None:
    """Every eighth byte value for degree 1, every sixteenth for higher ones, around 128."""
    original = scene(200, 15)
    body = gzip.decompress(Spz().encode(original))[16 + 200 * 20 :]
    levels = np.frombuffer(body, np.uint8).reshape(200, 15, 3)
    assert set(np.unique(levels[:, :3])) <= {*range(0, 256, 8), 255}
    assert set(np.unique(levels[:, 3:])) <= {*range(0, 256, 16), 255}
