"""What can be wrong with a file: a strategy of hypothesis that damages a whole one."""

import hypothesis.strategies as st

from esd_splat.errors import ConfigError, EsdSplatError

TOKENS = (
    *(b"\0", b"\n", b"\x1b[31m", b"\xff", b"\xed\xa0\x80", b"-1", b"9" * 30, b"1e999", b"nan"),
    *(b"null", b"[]", b"{}", b'"', b"[" * 400, b"{" * 400, b": ", b"&a [*a]", b"- ", b"${steps}"),
    *(b"!!int x", b'"\\ud800"', b'"\\UFFFFFFFF"', b"2001-99-99", b"\\", b","),
)
"""Pieces that are dangerous in one format or another."""


@st.composite
def damaged(draw: st.DrawFn, whole: bytes) -> bytes:
    """Return ``whole`` with up to four pieces cut out, put in, doubled, or replaced."""
    content = whole
    for _ in range(draw(st.integers(1, 4))):
        start = draw(st.integers(0, len(content)))
        end = min(len(content), start + draw(st.sampled_from([0, 1, 4, 40, len(content)])))
        piece = draw(
            st.sampled_from(TOKENS) | st.binary(max_size=8) | st.just(2 * content[start:end])
        )
        content = content[:start] + piece + content[end:]
    return content


def check_message(error: EsdSplatError) -> None:
    """Check that the message is printable, in one line but for the list of a ``ConfigError``."""
    lines = str(error).splitlines() if isinstance(error, ConfigError) else [str(error)]
    assert all(line.isprintable() for line in lines)
