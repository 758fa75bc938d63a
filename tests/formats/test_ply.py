from pathlib import Path

import hypothesis.strategies as st
import numpy as np
import plyfile
import pytest
import torch
from hypothesis import given, settings
from hypothesis.extra import numpy as hnp
from torch import Tensor

from esd_splat.formats import EXPORTERS, load_ply, save_ply
from esd_splat.formats.comment import load_comment
from esd_splat.formats.frame import FRAME_COMMENT
from esd_splat.formats.ply import Ply
from esd_splat.scene.gaussians import SH_DEGREES, Gaussians, quats_to_rotmats, sh_basis
from tests.formats.plys import any_scene, read_columns, same_bits, write_columns

finite = st.floats(width=32, allow_nan=False, allow_infinity=False)


@given(data=st.data(), n=st.integers(1, 4), k=st.sampled_from(sorted(SH_DEGREES)))
@settings(max_examples=60, deadline=None)
def test_what_is_read_is_what_was_written_bit_for_bit(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject, n: int, k: int
) -> None:
    """For any finite float32, including -0.0 and denormals, after two round trips, as the rotation
    has order four in quaternions."""
    scene = Gaussians(
        *(
            torch.from_numpy(data.draw(hnp.arrays(np.float32, (n, *shape), elements=finite)))
            for shape in ([3], [4], [3], [], [1, 3], [k, 3])
        )
    )
    scene.quats[:, 1] = 1.0
    path = tmp_path_factory.mktemp("ply") / "scene.ply"
    again = scene
    for _ in range(2):
        save_ply(again, path)
        again = load_ply(path)
    for name, value in vars(scene).items():
        assert same_bits(value, getattr(again, name)), name


@pytest.mark.parametrize("k", sorted(SH_DEGREES))
def test_the_file_is_the_scene_turned_about_x(tmp_path: Path, k: int) -> None:
    """Means, orientations and the colours seen from every direction rotate together."""
    scene, turn = any_scene(k=k), torch.diag(torch.tensor([1.0, -1.0, -1.0]))
    save_ply(scene, tmp_path / "scene.ply")
    file = read_columns(tmp_path / "scene.ply")

    def columns(*names: str) -> Tensor:
        return torch.from_numpy(np.stack([file[name] for name in names], axis=1))

    assert torch.equal(columns("x", "y", "z"), scene.means @ turn)
    rotations = quats_to_rotmats(columns("rot_0", "rot_1", "rot_2", "rot_3"))
    torch.testing.assert_close(rotations, turn @ quats_to_rotmats(scene.quats))
    d = torch.nn.functional.normalize(torch.randn(20, 3))
    ours = torch.cat([scene.sh0, scene.shN], dim=1)
    theirs = columns("f_dc_0", "f_dc_1", "f_dc_2")[:, None]
    if k:
        rest = columns(*(f"f_rest_{i}" for i in range(3 * k)))
        theirs = torch.cat([theirs, rest.view(-1, 3, k).mT], dim=1)
    torch.testing.assert_close(
        torch.einsum("dk,nkc->dnc", sh_basis(d, SH_DEGREES[k]), ours),
        torch.einsum("dk,nkc->dnc", sh_basis(d @ turn, SH_DEGREES[k]), theirs),
    )


@pytest.mark.parametrize("k", sorted(SH_DEGREES))
def test_the_layout_is_that_of_gsplats_exporter(tmp_path: Path, k: int) -> None:
    """Apart from our comments, the bytes are those of gsplat when given the rotated scene."""
    exporter = pytest.importorskip("gsplat.exporter")
    scene = any_scene(k=k)
    save_ply(scene, tmp_path / "scene.ply")
    w, x, y, z = scene.quats.T
    signs = torch.tensor([1.0, -1, -1, 1, -1, 1, 1, -1, 1, -1, 1, -1, -1, 1, -1, 1])[:, None]
    expected = exporter.export_splats(
        means=scene.means * torch.tensor([1.0, -1, -1]),
        scales=scene.log_scales,
        quats=torch.stack([-x, w, -z, y], dim=1),
        opacities=scene.opacity_logits,
        sh0=scene.sh0,
        shN=scene.shN * signs[1 : 1 + k],
    )
    header, _, body = (tmp_path / "scene.ply").read_bytes().partition(b"end_header\n")
    lines = [line for line in header.split(b"\n") if not line.startswith(b"comment")]
    assert b"\n".join(lines) + b"end_header\n" + body == expected


def test_the_header_says_how_the_axes_lie_and_keeps_the_comment(tmp_path: Path) -> None:
    save_ply(any_scene(), tmp_path / "a.ply", comment="a red owl\nseed 3, café")
    comments = plyfile.PlyData.read(str(tmp_path / "a.ply")).comments
    assert comments == [FRAME_COMMENT, "a red owl", r"seed 3, caf\xe9"]
    assert "y down" in FRAME_COMMENT


@pytest.mark.parametrize("text", ["ein Käuzchen 赤いフクロウ 🦉", r"C:\new \x41 \\u0041", "a\nb"])
def test_a_comment_is_read_back_whatever_it_is(tmp_path: Path, text: str) -> None:
    save_ply(any_scene(), tmp_path / "a.ply", comment=text)
    assert load_comment(tmp_path / "a.ply") == text


@pytest.mark.parametrize("k", sorted(SH_DEGREES))
@pytest.mark.parametrize("variant", ["inria", "shuffled", "double", "ascii", "big-endian"])
def test_files_of_other_tools_load(tmp_path: Path, k: int, variant: str) -> None:
    """With normals and extra properties, in any order and of any number type."""
    scene = any_scene(k=k)
    save_ply(scene, tmp_path / "ours.ply")
    columns = read_columns(tmp_path / "ours.ply")
    if variant == "inria":
        names = list(columns)
        zeros = {name: np.zeros(5, np.float32) for name in ("nx", "ny", "nz")}
        columns = {**{n: columns[n] for n in names[:3]}, **zeros, **columns}
    if variant == "shuffled":
        names = sorted(columns, reverse=True)
        columns = {**{n: columns[n] for n in names}, "segment": np.arange(5, dtype=np.int32)}
    if variant == "double":
        columns = {name: value.astype(np.float64) for name, value in columns.items()}
    options = {"text": True} if variant == "ascii" else {}
    if variant == "big-endian":
        options = {"byte_order": ">"}
    loaded = load_ply(write_columns(tmp_path / "theirs.ply", columns, **options))
    for name, value in vars(scene).items():
        if variant == "ascii":
            torch.testing.assert_close(getattr(loaded, name), value, rtol=1e-5, atol=0)
        else:
            assert same_bits(getattr(loaded, name), value), name


def test_what_is_loaded_can_be_optimized(tmp_path: Path) -> None:
    save_ply(any_scene(k=15), tmp_path / "a.ply")
    for value in vars(load_ply(tmp_path / "a.ply")).values():
        value.requires_grad_().sum().backward()
        assert value.is_contiguous()
        value.detach().add_(1.0)


def test_the_table_has_it(tmp_path: Path) -> None:
    assert EXPORTERS["ply"] is Ply
    Ply().write(any_scene(), tmp_path / f"scene{Ply.suffix}", comment="x")
    assert len(load_ply(tmp_path / "scene.ply")) == 5


@pytest.mark.parametrize("k", sorted(SH_DEGREES))
def test_padding_adds_zeros_up_to_degree_3(tmp_path: Path, k: int) -> None:
    scene = any_scene(k=k)
    Ply(pad_sh=True).write(scene, tmp_path / "scene.ply")
    padded = load_ply(tmp_path / "scene.ply")
    assert padded.shN.shape == (5, 15, 3)
    assert torch.equal(padded.shN[:, :k], scene.shN)
    assert not padded.shN[:, k:].any()
