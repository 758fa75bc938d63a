"""Where a model's files are, and the manners of the libraries that read them."""

import logging
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

HUB_TIMEOUT = 10.0
"""Seconds to wait for the hub's first answer."""


def local_folder(name: str) -> Path | None:
    """The folder that ``name`` stands for, there or not; ``None`` for a hub id (owner/name)."""
    path = Path(name).expanduser()
    looks_local = path.exists() or not re.fullmatch(r"\w[\w.-]*/[\w.-]+", name)
    return path if looks_local else None


def reach_hub(name: str, last_file: str) -> None:
    """Ask the hub for a model once, as loading would ask, wait and ask again for each of its files.

    Args:
        name: a hub id (owner/name).
        last_file: that loading fetches: with it in the cache all are, and no one is asked.
    """
    from huggingface_hub import HfApi, try_to_load_from_cache

    if not isinstance(try_to_load_from_cache(name, last_file), str):
        HfApi().model_info(name, timeout=HUB_TIMEOUT)


def reason(error: Exception) -> str:
    """What a library complains about, in part of a line."""
    return str(error).strip().split("\n")[0][:200].rstrip(". ") or type(error).__name__


@contextmanager
def quiet() -> Iterator[None]:
    """Keeps diffusers' and transformers' advice about things we do not use off the screen."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        logging.getLogger("transformers").setLevel(logging.ERROR)  # speaks while it is imported
        import diffusers
        import transformers

        libraries = (diffusers.utils.logging, transformers.utils.logging)
        levels = [library.get_verbosity() for library in libraries]
        for library in libraries:
            library.set_verbosity(logging.CRITICAL)  # what fails, we say
        transformers.utils.logging.disable_progress_bar()
        try:
            yield
        finally:
            for library, level in zip(libraries, levels, strict=True):
                library.set_verbosity(level)
