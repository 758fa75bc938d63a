"""Other programs that the tests of file formats use if they are installed."""

import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

VIEWERS = Path(__file__).parent.parent / "viewers"


@pytest.fixture(scope="session")
def splat_transform() -> Callable[..., None]:
    """PlayCanvas's converter as a function of its arguments, which fails the test on any complaint.

    It is taken from ``$ESD_SPLAT_NODE_MODULES``, or else from ``tests/viewers/node_modules``.
    """
    modules = Path(os.environ.get("ESD_SPLAT_NODE_MODULES", VIEWERS / "node_modules"))
    program = modules / "@playcanvas" / "splat-transform" / "bin" / "cli.mjs"
    node = shutil.which("node")
    if node is None:
        pytest.skip("needs node")
    if not program.exists():
        pytest.skip(f"needs @playcanvas/splat-transform in {modules}: make viewers")

    def run(*arguments: object) -> None:
        # Without a GPU, clustering fails unless the CPU is asked for.
        options = ["--quiet", "--overwrite", "--gpu", "cpu", "--max-workers", "0"]
        command = [node, str(program), *options, *map(str, arguments)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
        assert (done.returncode, done.stderr) == (0, ""), done.stdout + done.stderr

    return run
