"""``.splat``: records made by hand."""

import struct
from pathlib import Path

import pytest
import torch

from esd_splat.errors import SceneError
from esd_splat.formats import load_scene
from esd_splat.formats.splat import Splat
from esd_splat.scene.gaussians import SH_C0
from tests.formats.scenes import scene


def test_a_record_by_hand(tmp_path: Path) -> None:
    record = struct.pack("<6f8B", 1, 2, 3, 0.5, 0, 2, 255, 0, 51, 102, 128, 128, 0, 128)
    (tmp_path / "a.splat").write_bytes(record)
    read = load_scene(tmp_path / "a.splat")
    assert read.means.tolist() == [[1, -2, -3]]
    assert read.log_scales[0, 0].exp() == 0.5
    assert read.log_scales[0, 1] == -85, "a flat Gaussian stays finite"
    assert (0.5 + SH_C0 * read.sh0).flatten().tolist() == pytest.approx([1, 0, 0.2], abs=1e-6)
    assert read.opacities.item() == pytest.approx(0.4)
    assert read.sh_degree == 0
    # 180 degrees about y of the file are 180 degrees about z of the scene, up to the sign.
    unit = read.quats[0] / read.quats[0].norm()
    assert unit.abs().tolist() == [0, 0, 0, 1]


def test_what_is_written_is_records_of_32_bytes() -> None:
    original = scene(1, 15)
    content = Splat().encode(original)
    *numbers, red, green, blue, alpha, w, x, y, z = struct.unpack("<6f8B", content)
    assert numbers[:3] == original.means[0].tolist()
    assert numbers[3:] == pytest.approx(original.log_scales[0].exp().tolist())
    rgba = torch.cat([0.5 + SH_C0 * original.sh0[0, 0], original.opacities])
    assert [red, green, blue, alpha] == (255 * rgba).int().tolist()
    unit = original.quats[0] / original.quats[0].norm()
    assert [w, x, y, z] == (128 * unit + 128).int().tolist()


@pytest.mark.parametrize("size", [1, 31, 33, 100])
def test_a_part_of_a_record_is_refused(tmp_path: Path, size: int) -> None:
    (tmp_path / "a.splat").write_bytes(bytes(size))
    with pytest.raises(SceneError, match=rf"\(its size of {size} bytes is not a multiple of 32\)"):
        load_scene(tmp_path / "a.splat")


def test_no_record_is_no_scene(tmp_path: Path) -> None:
    (tmp_path / "a.splat").write_bytes(b"")
    with pytest.raises(SceneError, match="the scene has no Gaussians"):
        load_scene(tmp_path / "a.splat")


def test_a_negative_size_and_a_quaternion_of_zero_are_counted(tmp_path: Path) -> None:
    negative = struct.pack("<6f8B", *[0] * 3, -0.1, 1, 1, *[9] * 8)
    zero = struct.pack("<6f8B", *[1] * 6, *[9] * 4, *[128] * 4)
    good = struct.pack("<6f8B", *[1] * 6, *[9] * 8)
    (tmp_path / "a.splat").write_bytes(good + negative + zero)
    with pytest.raises(SceneError, match=r"2 of 3 Gaussians hold NaN.*the first is row 1"):
        load_scene(tmp_path / "a.splat")
