"""The one door for what parsers raise, and the one line for texts of files."""

import doctest
import errno

import pytest

from esd_splat import errors
from esd_splat.errors import SceneError, UsageError, one_line, quoted, reading, reason


class Panic(BaseException):
    """Like the PanicException of libraries in Rust, which is no Exception."""


@pytest.mark.parametrize(
    ("raised", "message"),
    [
        (Panic("index out of bounds"), "a.x: not an x (index out of bounds); copy it again"),
        (KeyError("b"), "a.x: not an x (KeyError: 'b'); copy it again"),
        (RecursionError(), "a.x: not an x (RecursionError); copy it again"),
        (ValueError("\x1b[31m\nmore"), r"a.x: not an x (\x1b[31m); copy it again"),
        (OSError("no picture"), "a.x: not an x (no picture); copy it again"),
        (OSError(errno.EACCES, "Permission denied"), "a.x: cannot be read (Permission denied)"),
        (UsageError("of this package"), "of this package"),
    ],
)
def test_what_a_parser_raises_becomes_one_line(raised: BaseException, message: str) -> None:
    with (
        pytest.raises((SceneError, UsageError)) as caught,
        reading("a.x", SceneError, "not an x", "; copy it again"),
    ):
        raise raised
    assert str(caught.value) == message


@pytest.mark.parametrize("raised", [KeyboardInterrupt, SystemExit])
def test_what_ends_the_program_passes_the_door(raised: type[BaseException]) -> None:
    with pytest.raises(raised), reading("a.x", SceneError, "not an x"):
        raise raised


def test_texts_of_files_are_one_printable_line() -> None:
    assert doctest.testmod(errors).failed == 0
    wild = "\n\x1b]0;x\x07\u202e\ud800" + 10**6 * "a"
    for text in (one_line(wild), quoted(wild), reason(ValueError(wild)), str(SceneError(wild[:9]))):
        assert text.isprintable()
        assert len(text) <= 200
