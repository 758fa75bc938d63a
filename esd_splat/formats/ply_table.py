"""The elements of a ``.ply`` file as tables, read in bounded memory and time.

Only numbers are read. A splat has no lists, which other libraries read row by row and take at
their word: a file of 463 bytes can claim a list of 300 million elements.
"""

import io
import re
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from esd_splat.errors import SceneError, one_line, quoted

MAX_HEADER = 1 << 20
"""The longest header in bytes, which is mostly its comments."""
Table = npt.NDArray[Any]
"""A structured array, one row for each thing and one column for each property."""

_END = re.compile(rb"^end_header\r?\n", re.MULTILINE)
_ORDERS = {"ascii": "=", "binary_little_endian": "<", "binary_big_endian": ">"}
_TYPES = {
    **{"char": "i1", "uchar": "u1", "short": "i2", "ushort": "u2", "int": "i4", "uint": "u4"},
    **{"int8": "i1", "uint8": "u1", "int16": "i2", "uint16": "u2", "int32": "i4", "uint32": "u4"},
    **{"float": "f4", "float32": "f4", "double": "f8", "float64": "f8"},
}


@dataclass
class _Element:
    """An element that a header declares."""

    name: str
    count: int
    columns: list[tuple[str, str]] = field(default_factory=list)
    """The name and type of each property. Lists are not among them."""
    lists: list[str] = field(default_factory=list)


def read_tables(content: bytes) -> dict[str, Table]:
    """Return the elements of a ``.ply`` file by name, in its order.

    Elements from the first one with a list on are left out, as nothing tells where they end.

    Raises:
        SceneError: there are no vertices, or they have lists or come after an element that has.
        ValueError: the file is not a ``.ply``, or is cut short.
    """
    end = _END.search(content, 0, MAX_HEADER)
    if not re.match(rb"ply\r?\n", content) or end is None:
        raise ValueError(
            "its header has no end in its first MiB" if content[:3] == b"ply" else "no ply header"
        )
    order, elements = _header(content[: end.start()].decode("ascii"))
    place, text = end.end(), None
    if order == "=":
        text = io.TextIOWrapper(io.BytesIO(content[place:]), encoding="ascii")
    names = [element.name for element in elements]
    if "vertex" not in names:
        found = one_line(", ".join(names)) or "nothing"
        raise SceneError(f"not a Gaussian splat: it has no element 'vertex', only {found}")
    tables: dict[str, Table] = {}
    for element in elements:
        dtype = np.dtype([(name, order + kind) for name, kind in element.columns])
        # In a text, a number takes at least a digit and a space or line end.
        least = dtype.itemsize if text is None else 2 * len(element.columns)
        least += len(element.lists)  # at least a byte each, for the length
        if element.count * least > len(content) - place + (text is not None):
            raise ValueError(f"it ends within its element {quoted(element.name)}")
        if element.lists and "vertex" in tables:
            break
        if element.lists:
            raise SceneError(
                f"not a Gaussian splat: its element {quoted(element.name)} has lists, such as "
                f"{quoted(element.lists[0])}"
            )
        if not least or not element.count:
            tables[element.name] = np.empty(element.count, dtype)
        elif text is None:
            tables[element.name] = np.frombuffer(content, dtype, element.count, place)
            place += element.count * least
        else:
            rows = np.loadtxt(text, dtype, comments=None, max_rows=element.count, ndmin=1)
            if len(rows) < element.count:
                raise ValueError(f"it ends within its element {quoted(element.name)}")
            tables[element.name] = rows
    return tables


def _header(text: str) -> tuple[str, list[_Element]]:
    """Return the byte order, which is ``=`` for text, and the elements."""
    order, elements = "", list[_Element]()
    for line in text.splitlines()[1:]:
        match line.split():
            case ["comment" | "obj_info", *_] | []:
                continue
            case ["format", kind, "1.0"] if not order and kind in _ORDERS:
                order = _ORDERS[kind]
            case ["element", name, count] if re.fullmatch(r"\d{1,18}", count):
                elements.append(_Element(name, int(count)))
            case ["property", kind, name] if elements and kind in _TYPES:
                elements[-1].columns.append((name, _TYPES[kind]))
            case ["property", "list", size, kind, name] if elements and {size, kind} <= {*_TYPES}:
                elements[-1].lists.append(name)
            case _:
                raise ValueError(f"its header has the line {one_line(line)!r}")
    names = [element.name for element in elements]
    if not order or len(set(names)) < len(names):
        raise ValueError("its header names no format" if not order else "an element is there twice")
    return order, elements
