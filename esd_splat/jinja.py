"""Pages and other texts made from templates, which lie beside the code that fills them."""

from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from jinja2 import Environment


def fill(template: Path, **values: Any) -> str:
    """The text of ``template`` with ``values`` filled in.

    A template may extend, import and include the files beside it.

    Args:
        template: of a name that ends in ``.html.j2``, every value is escaped, unless the template
            marks it as ``safe``; of another name, none is.
        values: by their names in the template.

    Raises:
        jinja2.UndefinedError: the template asks for a value that is not given.
    """
    return _environment(template.parent).get_template(template.name).render(values)


@lru_cache
def _environment(folder: Path) -> "Environment":
    import jinja2  # here, because most commands write no page

    return jinja2.Environment(
        loader=jinja2.FileSystemLoader(folder),
        autoescape=jinja2.select_autoescape(["html.j2"]),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
