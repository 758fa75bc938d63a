"""A file is either the complete old one or the complete new one, whatever happens to its writer."""

import errno
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from esd_splat.errors import OutputError
from esd_splat.files import atomic_path, expanded, write_text


def test_the_new_file_takes_the_place_of_the_old_one(tmp_path: Path) -> None:
    target = tmp_path / "a" / "scene.ply"
    for text in ("first", "second"):
        with atomic_path(target) as temporary:
            assert temporary.parent == target.parent, "a rename is atomic only within a file system"
            assert temporary.suffix == ".ply"
            temporary.write_text(text)
        assert target.read_text() == text
    assert os.listdir(target.parent) == ["scene.ply"]


def test_until_the_end_readers_see_the_old_file(tmp_path: Path) -> None:
    target = tmp_path / "x.csv"
    write_text(target, "old")
    with atomic_path(target) as temporary:
        temporary.write_text("new, and not yet comp")
        assert target.read_text() == "old"
    assert target.read_text() == "new, and not yet comp"


def test_who_reads_the_old_file_reads_it_to_its_end(tmp_path: Path) -> None:
    target = tmp_path / "x.csv"
    write_text(target, "old")
    with target.open() as reader:
        write_text(target, "new")
        assert reader.read() == "old"
    assert target.read_text() == "new"


@pytest.mark.parametrize("error", [ValueError("a bug"), KeyboardInterrupt()])
def test_other_errors_pass_through_and_leave_the_target(
    tmp_path: Path, error: BaseException
) -> None:
    target = tmp_path / "x.csv"
    write_text(target, "old")

    def write() -> None:
        with atomic_path(target) as temporary:
            temporary.write_text("half")
            raise error

    with pytest.raises(type(error)):
        write()
    assert target.read_text() == "old"
    assert os.listdir(tmp_path) == ["x.csv"]


def test_a_full_disk_is_one_line_and_leaves_the_target(tmp_path: Path) -> None:
    target = tmp_path / "x.csv"
    write_text(target, "old")

    def write() -> None:
        with atomic_path(target) as temporary:
            temporary.write_text("half")
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with pytest.raises(OutputError) as caught:
        write()
    assert str(caught.value) == (
        f"{target}: cannot be written (No space left on device); "
        "free space there or choose another folder"
    )
    assert target.read_text() == "old"
    assert os.listdir(tmp_path) == ["x.csv"]


def test_a_real_limit_on_file_size(tmp_path: Path) -> None:
    script = """
import resource, signal, sys
from esd_splat.errors import OutputError
from esd_splat.files import write_text
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
try:
    write_text(sys.argv[1], "x" * 2000)
except OutputError as error:
    print(error)
"""
    target = tmp_path / "x.csv"
    write_text(target, "old")
    done = _python(script, target)
    assert "cannot be written (File too large)" in done.stdout
    assert target.read_text() == "old"
    assert os.listdir(tmp_path) == ["x.csv"]


def test_a_killed_writer_leaves_the_target(tmp_path: Path) -> None:
    script = """
import os, signal, sys
from esd_splat.files import atomic_path
with atomic_path(sys.argv[1]) as temporary:
    temporary.write_text("half")
    os.kill(os.getpid(), signal.SIGKILL)
"""
    target = tmp_path / "x.csv"
    write_text(target, "old")
    assert _python(script, target).returncode == -signal.SIGKILL
    assert target.read_text() == "old"
    assert [name for name in os.listdir(tmp_path) if not name.startswith(".")] == ["x.csv"]


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(OutputError, match=r"choose another folder"):
        write_text(tmp_path / "file" / "x.csv", "new")


def test_a_target_that_is_a_folder(tmp_path: Path) -> None:
    (tmp_path / "x.csv").mkdir()
    with pytest.raises(OutputError, match="Is a directory"):
        write_text(tmp_path / "x.csv", "new")
    assert os.listdir(tmp_path) == ["x.csv"]


def test_text_is_utf8_whatever_the_locale(tmp_path: Path) -> None:
    write_text(tmp_path / "x.txt", "ä 猫")
    assert (tmp_path / "x.txt").read_bytes() == "ä 猫".encode()


def _python(script: str, target: Path) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-c", script, str(target)], capture_output=True, text=True, check=False
    )


def test_only_a_home_that_is_known_is_put_in_place(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/us")
    assert expanded("~/a.ply") == Path("/home/us/a.ply")
    assert expanded("~nobody-of-that-name/a.ply") == Path("~nobody-of-that-name/a.ply")
