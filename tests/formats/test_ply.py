import itertools
import math
from pathlib import Path

import hypothesis.strategies as st
import numpy as np
import plyfile
import pytest
import torch
from hypothesis import given, settings
from hypothesis.extra import numpy as hnp
from torch import Tensor

from esd_splat.errors import OutputError, SceneError
from esd_splat.formats import EXPORTERS, load_ply, save_ply
from esd_splat.formats.comment import load_comment
from esd_splat.formats.frame import FRAME_COMMENT
from esd_splat.formats.ply import Ply
from esd_splat.scene.gaussians import SH_DEGREES, Gaussians, quats_to_rotmats, sh_basis


def _scene(n: int = 5, k: int = 3, seed: int = 0) -> Gaussians:
    g = torch.Generator().manual_seed(seed)
    shapes = [3], [4], [3], [], [1, 3], [k, 3]
    return Gaussians(*(torch.randn(n, *shape, generator=g) for shape in shapes))


def _same_bits(a: Tensor, b: Tensor) -> bool:
    return a.shape == b.shape and torch.equal(a.view(torch.int32), b.view(torch.int32))


def _write(path: Path, columns: dict[str, np.ndarray], **options: object) -> Path:
    """A file as another program writes it: the given columns in their order and types."""
    types = [(name, value.dtype) for name, value in columns.items()]
    rows = np.array(list(zip(*columns.values(), strict=True)), dtype=types)
    element = plyfile.PlyElement.describe(rows, "vertex")
    plyfile.PlyData([element], **options).write(str(path))  # pyright: ignore[reportArgumentType]
    return path


def _columns(path: Path) -> dict[str, np.ndarray]:
    data = plyfile.PlyData.read(str(path))["vertex"].data
    return {name: np.array(data[name]) for name in data.dtype.names}


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
        assert _same_bits(value, getattr(again, name)), name


@pytest.mark.parametrize("k", sorted(SH_DEGREES))
def test_the_file_is_the_scene_turned_about_x(tmp_path: Path, k: int) -> None:
    """Means, orientations and the colours seen from every direction rotate together."""
    scene, turn = _scene(k=k), torch.diag(torch.tensor([1.0, -1.0, -1.0]))
    save_ply(scene, tmp_path / "scene.ply")
    file = _columns(tmp_path / "scene.ply")

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
    scene = _scene(k=k)
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
    save_ply(_scene(), tmp_path / "a.ply", comment="a red owl\nseed 3, café")
    comments = plyfile.PlyData.read(str(tmp_path / "a.ply")).comments
    assert comments == [FRAME_COMMENT, "a red owl", r"seed 3, caf\xe9"]
    assert "y down" in FRAME_COMMENT


@pytest.mark.parametrize("text", ["ein Käuzchen 赤いフクロウ 🦉", r"C:\new \x41 \\u0041", "a\nb"])
def test_a_comment_is_read_back_whatever_it_is(tmp_path: Path, text: str) -> None:
    save_ply(_scene(), tmp_path / "a.ply", comment=text)
    assert load_comment(tmp_path / "a.ply") == text


@pytest.mark.parametrize("k", sorted(SH_DEGREES))
@pytest.mark.parametrize("variant", ["inria", "shuffled", "double", "ascii", "big-endian"])
def test_files_of_other_tools_load(tmp_path: Path, k: int, variant: str) -> None:
    """With normals and extra properties, in any order and of any number type."""
    scene = _scene(k=k)
    save_ply(scene, tmp_path / "ours.ply")
    columns = _columns(tmp_path / "ours.ply")
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
    loaded = load_ply(_write(tmp_path / "theirs.ply", columns, **options))
    for name, value in vars(scene).items():
        if variant == "ascii":
            torch.testing.assert_close(getattr(loaded, name), value, rtol=1e-5, atol=0)
        else:
            assert _same_bits(getattr(loaded, name), value), name


def test_what_is_loaded_can_be_optimized(tmp_path: Path) -> None:
    save_ply(_scene(k=15), tmp_path / "a.ply")
    for value in vars(load_ply(tmp_path / "a.ply")).values():
        value.requires_grad_().sum().backward()
        assert value.is_contiguous()
        value.detach().add_(1.0)


def _refusal(path: Path) -> str:
    with pytest.raises(SceneError) as error:
        load_ply(path)
    message = str(error.value)
    assert str(path) in message
    assert "\n" not in message
    return message


def test_what_is_no_ply_file_is_refused(tmp_path: Path) -> None:
    assert "cannot be read (No such file or directory)" in _refusal(tmp_path / "none.ply")
    assert "cannot be read (Is a directory)" in _refusal(tmp_path)
    contents = {
        "empty": b"",
        "text": "not a ply, but café\n".encode(),
        "png": b"\x89PNG\r\n\x1a\n" + bytes(range(256)),
        "no end": b"ply\nformat binary_little_endian 1.0\nelement vertex 3\n",
        "odd count": b"ply\nformat ascii 1.0\nelement vertex -3\nproperty float x\nend_header\n",
        "odd number": b"ply\nformat ascii 1.0\nelement vertex 1\nproperty int x\nend_header\n"
        b"99999999999\n",
        "odd type": b"ply\nformat ascii 1.0\nelement vertex 1\nproperty quad x\nend_header\n1\n",
        "huge": b"ply\nformat binary_little_endian 1.0\nelement vertex 999999999999999\n"
        b"property float x\nend_header\n",
    }
    for name, content in contents.items():
        path = tmp_path / f"{name}.ply"
        path.write_bytes(content)
        assert "not a .ply file, or cut short (" in _refusal(path), name


@pytest.mark.parametrize("text", [False, True])
def test_a_file_cut_short_anywhere_is_refused(tmp_path: Path, text: bool) -> None:
    save_ply(_scene(), tmp_path / "a.ply")
    whole = _write(tmp_path / "b.ply", _columns(tmp_path / "a.ply"), text=text).read_bytes()
    path = tmp_path / "cut.ply"
    # In a text file, missing last digits of the last number go unnoticed.
    last = whole.rindex(b" ") if text else len(whole) - 1
    for length in [*range(0, last, 23), last]:
        path.write_bytes(whole[:length])
        _refusal(path)


def test_a_ply_that_is_no_splat_is_refused_by_what_it_lacks(tmp_path: Path) -> None:
    points = {name: np.zeros(4, np.float32) for name in ("x", "y", "z", "red", "opacity")}
    message = _refusal(_write(tmp_path / "points.ply", points))
    assert "not a Gaussian splat: its vertices lack f_dc_0, f_dc_1, f_dc_2, scale_0" in message
    assert message.endswith("rot_3")

    faces = np.array([([0, 1, 2],)], dtype=[("vertex_indices", "O")])
    element = plyfile.PlyElement.describe(faces, "face")
    plyfile.PlyData([element]).write(str(tmp_path / "mesh.ply"))
    assert "no element 'vertex', only face" in _refusal(tmp_path / "mesh.ply")

    save_ply(_scene(), tmp_path / "a.ply")
    none = {name: value[:0] for name, value in _columns(tmp_path / "a.ply").items()}
    assert "the scene has no Gaussians" in _refusal(_write(tmp_path / "none.ply", none))


@pytest.mark.parametrize("change", ["one less", "one more", "renumbered"])
def test_a_wrong_number_of_colour_coefficients_is_refused(tmp_path: Path, change: str) -> None:
    save_ply(_scene(k=3), tmp_path / "a.ply")
    columns = _columns(tmp_path / "a.ply")
    if change == "one more":
        columns["f_rest_9"] = columns["f_rest_0"]
    if change == "one less":
        del columns["f_rest_8"]
    if change == "renumbered":
        columns["f_rest_9"] = columns.pop("f_rest_8")
    count = {"one less": 8, "one more": 10, "renumbered": 9}[change]
    message = _refusal(_write(tmp_path / "b.ply", columns))
    assert f"has {count} properties f_rest_*" in message


def test_a_list_where_a_number_belongs_is_refused(tmp_path: Path) -> None:
    save_ply(_scene(n=2), tmp_path / "a.ply")
    columns = _columns(tmp_path / "a.ply")
    columns["opacity"] = np.array([[1.0], [2.0]])
    rows = np.empty(2, dtype=[(n, "O" if n == "opacity" else "f4") for n in columns])
    for name, value in columns.items():
        rows[name] = list(value) if name == "opacity" else value
    element = plyfile.PlyElement.describe(rows, "vertex", val_types={"opacity": "f4"})
    plyfile.PlyData([element]).write(str(tmp_path / "b.ply"))
    assert "lack opacity" in _refusal(tmp_path / "b.ply")


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, 1e300])
@pytest.mark.parametrize("name", ["x", "f_dc_1", "f_rest_4", "opacity", "scale_2", "rot_3"])
def test_rows_that_are_not_finite_are_counted(tmp_path: Path, name: str, value: float) -> None:
    """1e300 is finite as a double, but infinite as the float32 that is kept."""
    save_ply(_scene(), tmp_path / "a.ply")
    columns = {k: v.astype(np.float64) for k, v in _columns(tmp_path / "a.ply").items()}
    columns[name][[2, 4]] = value
    message = _refusal(_write(tmp_path / "b.ply", columns))
    assert "2 of 5 Gaussians hold NaN, infinity or a zero quaternion" in message
    assert "(the first is row 2)" in message


def test_nan_in_a_field_that_is_not_ours_does_not_matter(tmp_path: Path) -> None:
    save_ply(_scene(), tmp_path / "a.ply")
    columns = {**_columns(tmp_path / "a.ply"), "nx": np.full(5, math.nan, np.float32)}
    assert len(load_ply(_write(tmp_path / "b.ply", columns))) == 5


def test_scenes_that_could_not_be_read_back_are_not_written(tmp_path: Path) -> None:
    path = tmp_path / "a.ply"
    with pytest.raises(SceneError, match="the scene has no Gaussians"):
        save_ply(_scene(n=0), path)
    for name, value in itertools.product(vars(_scene()), (math.nan, math.inf)):
        scene = _scene()
        getattr(scene, name).view(-1)[-1] = value
        with pytest.raises(SceneError, match=r"not written: 1 of 5 Gaussians hold NaN.*row 4"):
            save_ply(scene, path)
    scene = _scene()
    scene.quats[1] = 0.0
    with pytest.raises(SceneError, match="row 1"):
        save_ply(scene, path)
    assert list(tmp_path.iterdir()) == []


def test_a_failed_write_keeps_the_old(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.ply"
    save_ply(_scene(seed=1), path)
    before = path.read_bytes()

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(OutputError, match="No space left on device"):
        save_ply(_scene(seed=2), path)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_the_table_has_it(tmp_path: Path) -> None:
    assert EXPORTERS["ply"] is Ply
    Ply().write(_scene(), tmp_path / f"scene{Ply.suffix}", comment="x")
    assert len(load_ply(tmp_path / "scene.ply")) == 5


@pytest.mark.parametrize("k", sorted(SH_DEGREES))
def test_padding_adds_zeros_up_to_degree_3(tmp_path: Path, k: int) -> None:
    scene = _scene(k=k)
    Ply(pad_sh=True).write(scene, tmp_path / "scene.ply")
    padded = load_ply(tmp_path / "scene.ply")
    assert padded.shN.shape == (5, 15, 3)
    assert torch.equal(padded.shN[:, :k], scene.shN)
    assert not padded.shN[:, k:].any()
