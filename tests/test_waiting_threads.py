"""How long threads of libgomp spin, by what libgomp itself says when it is loaded."""

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

GIVEN = "import ctypes, sys; {first}; ctypes.CDLL(sys.argv[1])"


def spins(first: str, library: str, **variables: str) -> str:
    """Return the number of spins of a process that does ``first`` and then loads libgomp."""
    variables |= {"OMP_DISPLAY_ENV": "verbose"}
    plain = {k: v for k, v in os.environ.items() if k not in ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")}
    call = [sys.executable, "-c", GIVEN.format(first=first), library]
    said = subprocess.run(call, env=plain | variables, check=True, capture_output=True, text=True)
    line = next(line for line in said.stderr.splitlines() if "GOMP_SPINCOUNT" in line)
    return line.split("'")[1]


def test_threads_sleep_soon_unless_the_user_chose() -> None:
    spec = find_spec("torch")
    assert spec is not None
    found = [str(file) for file in Path(spec.origin or "").parent.rglob("libgomp*.so*")]
    if not found:
        pytest.skip("this build of torch brings no libgomp")
    assert spins("pass", found[0]) not in ("10000", "5", "0")
    for first in ("import esd_splat", "import esd_splat.fit", "from esd_splat import __main__"):
        assert spins(first, found[0]) == "10000"
    assert spins("import esd_splat", found[0], GOMP_SPINCOUNT="5") == "5"
    assert spins("import esd_splat", found[0], OMP_WAIT_POLICY="passive") == "0"
