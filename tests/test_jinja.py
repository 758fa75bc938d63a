"""Templates: what they are filled with stays text."""

from pathlib import Path

import jinja2
import pytest

from esd_splat.jinja import fill

HOSTILE = "<b>{{ name }}</b> & \"'"


def _template(folder: Path, name: str, text: str) -> Path:
    (folder / name).write_text(text)
    return folder / name


def test_a_value_is_escaped_in_a_page_and_nowhere_else(tmp_path: Path) -> None:
    page = _template(
        tmp_path, "a.html.j2", '<i title="{{ name }}">{{ name }}|{{ name|safe }}</i>\n'
    )
    escaped = "&lt;b&gt;{{ name }}&lt;/b&gt; &amp; &#34;&#39;"
    assert fill(page, name=HOSTILE) == f'<i title="{escaped}">{escaped}|{HOSTILE}</i>\n'
    assert fill(_template(tmp_path, "a.md.j2", "{{ name }}\n"), name=HOSTILE) == f"{HOSTILE}\n"


def test_what_a_page_includes_is_taken_as_it_is(tmp_path: Path) -> None:
    _template(tmp_path, "page.css", 'a > b { content: "&" }\n')
    page = _template(tmp_path, "page.html.j2", '<style>\n{% include "page.css" %}\n</style>\n')
    assert fill(page) == '<style>\na > b { content: "&" }\n</style>\n'


def test_a_value_that_is_not_given_is_a_mistake(tmp_path: Path) -> None:
    with pytest.raises(jinja2.UndefinedError, match="'nmae' is undefined"):
        fill(_template(tmp_path, "a.html.j2", "{{ nmae }}"), name="x")
