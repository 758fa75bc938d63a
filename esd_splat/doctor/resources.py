"""What a run uses of the machine: threads, downloads, the disk."""

import os
import shutil
import tempfile
from pathlib import Path
from urllib.parse import urlsplit

from esd_splat.doctor.finding import Finding, short

LEAST_FREE_GB = 1.0
"""Less free space than this is pointed out."""


def hub() -> Finding:
    """Where models are downloaded from. Of a token it says only whether there is one."""
    from huggingface_hub import constants

    offline = "offline by HF_HUB_OFFLINE" if constants.HF_HUB_OFFLINE else "online"
    token = "with HF_TOKEN" if os.environ.get("HF_TOKEN") else "without HF_TOKEN"
    return Finding(f"{urlsplit(constants.ENDPOINT).hostname}, {offline}, {token}")


def cache() -> Finding:
    """Where downloaded models are kept, and how much space they take."""
    from huggingface_hub import constants

    folder = Path(constants.HF_HUB_CACHE)
    files = (p for p in folder.rglob("*") if p.is_file() and not p.is_symlink())
    size = sum(file.stat().st_size for file in files)
    return Finding(f"{short(folder)}, {size / 1e9:.1f} GB; HF_HOME moves it")


def threads() -> Finding:
    """Torch's threads, the cores that they share, and how they wait for one another."""
    import torch

    affinity = getattr(os, "sched_getaffinity", None)  # macOS has none
    cores = len(affinity(0)) if affinity else os.cpu_count() or 1
    count, asked = torch.get_num_threads(), os.environ.get("OMP_NUM_THREADS", "not set")
    way_out = f"OMP_NUM_THREADS={cores}: more threads than cores make small tensors slower"
    waits = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT")  # the package itself sets one
    waiting = next(f"{name} {os.environ[name]}" for name in waits if name in os.environ)
    found = f"{count} on {cores} cores, OMP_NUM_THREADS {asked}, {waiting}"
    return Finding(found, way_out if count > cores else "")


def disk() -> Finding:
    """Whether a run that starts in this folder can write its outputs, and the space for them."""
    outputs = Path("outputs").absolute()
    there = next(p for p in (outputs, *outputs.parents) if os.path.lexists(p))
    try:
        with tempfile.TemporaryFile(dir=there):  # root passes every check of permissions
            pass
    except OSError as error:
        found = f"{short(there)} cannot be written to ({error.strerror})"
        return Finding(found, "go to another folder, or choose one with out=", stops=True)
    free = shutil.disk_usage(there).free / 1e9
    way_out = "free some space, or choose another folder with out=" if free < LEAST_FREE_GB else ""
    return Finding(f"{free:.1f} GB free for {short(outputs)}", way_out)
