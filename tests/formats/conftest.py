"""Programs of others that tests of files use, where they are installed."""

import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

VIEWERS = Path(__file__).parent.parent / "viewers"


@pytest.fixture(scope="session")
def splat_transform() -> Callable[..., None]:
    """PlayCanvas's converter: called with its arguments, and what it complains of fails the test.

    Taken from ``$ESD_SPLAT_NODE_MODULES``, else from ``tests/viewers/node_modules``.
    """
    modules = Path(os.environ.get("ESD_SPLAT_NODE_MODULES", VIEWERS / "node_modules"))
    program = modules / "@playcanvas" / "splat-transform" / "bin" / "cli.mjs"
    node = shutil.which("node")
    if node is None:
        pytest.skip("needs node")
    if not program.exists():
        pytest.skip(f"needs @playcanvas/splat-transform in {modules}: make viewers")

    def run(*arguments: object) -> None:
        # On the CPU: without a GPU it fails to cluster otherwise.
        options = ["--quiet", "--overwrite", "--gpu", "cpu", "--max-workers", "0"]
        command = [node, str(program), *options, *map(str, arguments)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
        assert (done.returncode, done.stderr) == (0, ""), done.stdout + done.stderr

    return run
