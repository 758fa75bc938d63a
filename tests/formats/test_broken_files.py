"""A damaged file, whatever the damage, loads as a scene or is refused in one line."""

from pathlib import Path

import hypothesis.strategies as st
import pytest
from hypothesis import given

from esd_splat.errors import SceneError
from esd_splat.formats import load_scene
from tests.formats.scenes import FORMATS, scene

WHOLE = {
    f"{name}-{k}": (exporter.suffix, exporter().encode(scene(40, k)))
    for name, exporter in FORMATS.items()
    for k in (0, 8)
}
each_file = pytest.mark.parametrize("case", sorted(WHOLE))


def _loads(folder: Path, suffix: str, content: bytes) -> bool:
    path = folder / f"scene{suffix}"
    path.write_bytes(content)
    try:
        assert len(load_scene(path)) > 0
    except SceneError as error:
        message = str(error)
        assert message.startswith(str(path))
        assert "\n" not in message
        return False
    return True


@each_file
@given(data=st.data())
def test_a_file_cut_short(
    tmp_path_factory: pytest.TempPathFactory, case: str, data: st.DataObject
) -> None:
    suffix, whole = WHOLE[case]
    length = data.draw(st.integers(0, len(whole) - 1))
    # A .splat has no header, so a number of whole records is a scene.
    complete = suffix == ".splat" and length > 0 and length % 32 == 0
    assert _loads(tmp_path_factory.mktemp("cut"), suffix, whole[:length]) == complete


@each_file
@given(data=st.data())
def test_a_file_with_changed_bits(
    tmp_path_factory: pytest.TempPathFactory, case: str, data: st.DataObject
) -> None:
    """Most of the changes are near the beginning, where headers are."""
    suffix, whole = WHOLE[case]
    changed = bytearray(whole)
    anywhere = st.integers(0, len(whole) - 1)
    header = st.integers(0, min(600, len(whole) - 1))
    for place in data.draw(st.lists(header | anywhere, min_size=1, max_size=4)):
        changed[place] ^= 1 << data.draw(st.integers(0, 7))
    _loads(tmp_path_factory.mktemp("bits"), suffix, bytes(changed))


@each_file
@given(data=st.data())
def test_a_file_with_bytes_between(
    tmp_path_factory: pytest.TempPathFactory, case: str, data: st.DataObject
) -> None:
    suffix, whole = WHOLE[case]
    place = data.draw(st.integers(0, len(whole)))
    more = data.draw(st.binary(min_size=1, max_size=50))
    _loads(tmp_path_factory.mktemp("more"), suffix, whole[:place] + more + whole[place:])


@pytest.mark.parametrize("suffix", [".ply", ".splat", ".spz", ".sog"])
@given(content=st.binary(max_size=300))
def test_a_file_of_something_else(
    tmp_path_factory: pytest.TempPathFactory, suffix: str, content: bytes
) -> None:
    _loads(tmp_path_factory.mktemp("else"), suffix, content)


def test_files_that_are_none(tmp_path: Path) -> None:
    for path, reason in {
        tmp_path / "none.sog": "cannot be read (No such file or directory)",
        tmp_path / "scene.splta": ".splta is not one of .ply, .sog, .splat, .spz; "
        "did you mean .splat?",
        tmp_path / "scene": "an empty suffix is not one of .ply, .sog, .splat, .spz",
    }.items():
        with pytest.raises(SceneError) as error:
            load_scene(path)
        assert str(error.value).startswith(f"{path}: {reason}")


def test_the_case_of_a_suffix_does_not_matter(tmp_path: Path) -> None:
    assert _loads(tmp_path, ".SPZ", WHOLE["spz-0"][1])
