"""Short runs of a small teacher, in which every part of the state changes."""

from pathlib import Path

import pytest

from esd_splat.fit import fit
from tests.run.small import small_config


@pytest.fixture(scope="session")
def whole(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run without a cut."""
    out = tmp_path_factory.mktemp("whole") / "run"
    fit(small_config(model, out), quiet=True)
    return out
