"""What is no .ply of a splat, and what could not be read back, is refused."""

import itertools
import math
from pathlib import Path

import numpy as np
import plyfile
import pytest

from esd_splat.errors import OutputError, SceneError
from esd_splat.formats import load_ply, save_ply
from tests.formats.plys import any_scene, read_columns, write_columns


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
    save_ply(any_scene(), tmp_path / "a.ply")
    whole = write_columns(
        tmp_path / "b.ply", read_columns(tmp_path / "a.ply"), text=text
    ).read_bytes()
    path = tmp_path / "cut.ply"
    # In a text file, missing last digits of the last number go unnoticed.
    last = whole.rindex(b" ") if text else len(whole) - 1
    for length in [*range(0, last, 23), last]:
        path.write_bytes(whole[:length])
        _refusal(path)


def test_a_ply_that_is_no_splat_is_refused_by_what_it_lacks(tmp_path: Path) -> None:
    points = {name: np.zeros(4, np.float32) for name in ("x", "y", "z", "red", "opacity")}
    message = _refusal(write_columns(tmp_path / "points.ply", points))
    assert "not a Gaussian splat: its vertices lack f_dc_0, f_dc_1, f_dc_2, scale_0" in message
    assert message.endswith("rot_3")

    faces = np.array([([0, 1, 2],)], dtype=[("vertex_indices", "O")])
    element = plyfile.PlyElement.describe(faces, "face")
    plyfile.PlyData([element]).write(str(tmp_path / "mesh.ply"))
    assert "no element 'vertex', only face" in _refusal(tmp_path / "mesh.ply")

    save_ply(any_scene(), tmp_path / "a.ply")
    none = {name: value[:0] for name, value in read_columns(tmp_path / "a.ply").items()}
    assert "the scene has no Gaussians" in _refusal(write_columns(tmp_path / "none.ply", none))


@pytest.mark.parametrize("change", ["one less", "one more", "renumbered"])
def test_a_wrong_number_of_colour_coefficients_is_refused(tmp_path: Path, change: str) -> None:
    save_ply(any_scene(k=3), tmp_path / "a.ply")
    columns = read_columns(tmp_path / "a.ply")
    if change == "one more":
        columns["f_rest_9"] = columns["f_rest_0"]
    if change == "one less":
        del columns["f_rest_8"]
    if change == "renumbered":
        columns["f_rest_9"] = columns.pop("f_rest_8")
    count = {"one less": 8, "one more": 10, "renumbered": 9}[change]
    message = _refusal(write_columns(tmp_path / "b.ply", columns))
    assert f"has {count} properties f_rest_*" in message


def test_a_list_where_a_number_belongs_is_refused(tmp_path: Path) -> None:
    save_ply(any_scene(n=2), tmp_path / "a.ply")
    columns = read_columns(tmp_path / "a.ply")
    columns["opacity"] = np.array([[1.0], [2.0]])
    rows = np.empty(2, dtype=[(n, "O" if n == "opacity" else "f4") for n in columns])
    for name, value in columns.items():
        rows[name] = list(value) if name == "opacity" else value
    element = plyfile.PlyElement.describe(rows, "vertex", val_types={"opacity": "f4"})
    plyfile.PlyData([element]).write(str(tmp_path / "b.ply"))
    assert "element 'vertex' has lists, such as 'opacity'" in _refusal(tmp_path / "b.ply")


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, 1e300])
@pytest.mark.parametrize("name", ["x", "f_dc_1", "f_rest_4", "opacity", "scale_2", "rot_3"])
def test_rows_that_are_not_finite_are_counted(tmp_path: Path, name: str, value: float) -> None:
    """1e300 is finite as a double, but infinite as the float32 that is kept."""
    save_ply(any_scene(), tmp_path / "a.ply")
    columns = {k: v.astype(np.float64) for k, v in read_columns(tmp_path / "a.ply").items()}
    columns[name][[2, 4]] = value
    message = _refusal(write_columns(tmp_path / "b.ply", columns))
    assert "2 of 5 Gaussians hold NaN, infinity or a zero quaternion" in message
    assert "(the first is row 2)" in message


def test_nan_in_a_field_that_is_not_ours_does_not_matter(tmp_path: Path) -> None:
    save_ply(any_scene(), tmp_path / "a.ply")
    columns = {**read_columns(tmp_path / "a.ply"), "nx": np.full(5, math.nan, np.float32)}
    assert len(load_ply(write_columns(tmp_path / "b.ply", columns))) == 5


def test_scenes_that_could_not_be_read_back_are_not_written(tmp_path: Path) -> None:
    path = tmp_path / "a.ply"
    with pytest.raises(SceneError, match="the scene has no Gaussians"):
        save_ply(any_scene(n=0), path)
    for name, value in itertools.product(vars(any_scene()), (math.nan, math.inf)):
        scene = any_scene()
        getattr(scene, name).view(-1)[-1] = value
        with pytest.raises(SceneError, match=r"not written: 1 of 5 Gaussians hold NaN.*row 4"):
            save_ply(scene, path)
    scene = any_scene()
    scene.quats[1] = 0.0
    with pytest.raises(SceneError, match="row 1"):
        save_ply(scene, path)
    assert list(tmp_path.iterdir()) == []


def test_a_failed_write_keeps_the_old(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.ply"
    save_ply(any_scene(seed=1), path)
    before = path.read_bytes()

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(OutputError, match="No space left on device"):
        save_ply(any_scene(seed=2), path)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]
