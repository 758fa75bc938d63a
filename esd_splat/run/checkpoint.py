"""Saving the whole state of a run to one file, and loading it.

A file consists of two lines of text, ``esd_splat checkpoint <version>`` and the SHA-256 of the
rest, followed by a ``torch.save`` archive. The archive holds only tensors and plain Python values,
so that loading it cannot run any code.
"""

import hashlib
import io
import re
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from esd_splat.errors import CheckpointError, NewerCheckpointError, reading
from esd_splat.files import atomic_path

MAGIC = b"esd_splat checkpoint "
VERSION = 1
"""The version of the format. It grows when older programs could misread a newer file."""


def save_checkpoint(path: Path | str, state: Mapping[str, Any]) -> None:
    """Write ``state`` to ``path``, replacing the old file only once the new one is complete.

    Args:
        state: nested dicts, lists and tuples of tensors, text, numbers, booleans and ``None``.
            Tensors are detached and copied to the CPU.

    Raises:
        OutputError: the file cannot be written. The old one is unchanged.
        TypeError: ``state`` holds something that ``load_checkpoint`` would refuse.
    """
    # In memory first, because torch.save reports a full disk as an unclear RuntimeError.
    archive = io.BytesIO()
    torch.save(_plain(state, "state"), archive)
    body = archive.getbuffer()
    with atomic_path(path) as temporary, temporary.open("wb") as file:
        file.write(b"%s%d\n%s\n" % (MAGIC, VERSION, _digest(body)))
        file.write(body)


def load_checkpoint(path: Path | str, required: Collection[str] = ()) -> dict[str, Any]:
    """Return the state that was saved to ``path``, with its tensors on the CPU.

    Args:
        required: keys that the state must have.

    Raises:
        CheckpointError: the file does not exist, is cut short or damaged, belongs to another
            program, or lacks a required key.
        NewerCheckpointError: the file has a newer version.
    """
    with reading(path, CheckpointError, "cannot be read"):
        try:
            content = Path(path).read_bytes()
        except FileNotFoundError as error:
            raise CheckpointError(f"{path}: no such checkpoint") from error
    head, _, rest = content.partition(b"\n")
    version = head.removeprefix(MAGIC)
    if not head.startswith(MAGIC) or not re.fullmatch(rb"\d{1,9}", version):
        raise CheckpointError(f"{path}: not a checkpoint of esd_splat")
    if int(version) > VERSION:
        raise NewerCheckpointError(
            f"{path}: has version {int(version)} and this program reads up to {VERSION}; update "
            "esd_splat, or delete the file to start from step 0"
        )
    digest, _, body = rest.partition(b"\n")
    # torch.load does not verify the checksums of the archive, so it would load a flipped bit.
    if digest != _digest(body):
        raise CheckpointError(f"{path}: cut short or damaged")
    damaged = f"torch {torch.__version__} cannot read it"
    with reading(path, CheckpointError, damaged, "; use the version that wrote it"):
        state = dict(torch.load(io.BytesIO(body), map_location="cpu", weights_only=True))
    if missing := sorted(set(required) - set(state)):
        raise CheckpointError(f"{path}: lacks {', '.join(missing)}")
    return state


def _plain(value: Any, path: str) -> Any:
    """Return a copy of ``value`` with new containers and copied tensors, as a snapshot."""
    if isinstance(value, Tensor):
        # A copy, because a view would save all of the storage that it shares.
        return value.detach().to("cpu", copy=True).contiguous()
    if isinstance(value, Mapping):
        return {_plain(key, path): _plain(item, f"{path}.{key}") for key, item in value.items()}
    if isinstance(value, list | tuple):
        items = [_plain(item, f"{path}[{index}]") for index, item in enumerate(value)]
        return items if isinstance(value, list) else tuple(items)
    if value is None or type(value) in (str, int, float, bool):
        return value
    raise TypeError(f"{path}: a checkpoint cannot hold a {type(value).__name__}")


def _digest(body: bytes | memoryview) -> bytes:
    return hashlib.sha256(body).hexdigest().encode()
