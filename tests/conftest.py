"""What tests share: threads, random examples, devices, a browser, a teacher, GPUs left out."""

import os

import esd_splat  # noqa: F401  before torch, which reads how its threads wait only once

# Before torch: two cores are shared with whatever else runs here.
os.environ.setdefault("OMP_NUM_THREADS", "2")

from collections.abc import Generator
from pathlib import Path

import hypothesis
import pytest
import torch

from tests.browser import browser as browser  # the fixture
from tests.tiny import save_tiny

# Examples come from the test's own source, so a failure on one machine is a failure on all.
# Fewer where each takes long: under a GPU's sanitizer.
examples = int(os.environ.get("ESD_SPLAT_EXAMPLES", "50"))
hypothesis.settings.register_profile("here", deadline=None, derandomize=True, max_examples=examples)
hypothesis.settings.load_profile("here")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """Hide GPUs from a test that is not marked for them, and from its fixtures and programs."""
    with pytest.MonkeyPatch.context() as patch:
        if not item.get_closest_marker("gpu"):
            patch.setattr(torch.cuda, "is_available", lambda: False)
            patch.setattr(torch.cuda, "device_count", lambda: 0)
            patch.setenv("CUDA_VISIBLE_DEVICES", "")
        return (yield)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if torch.cuda.is_available():
        return
    for item in items:
        if item.get_closest_marker("gpu"):
            item.add_marker(pytest.mark.skip(reason="needs a CUDA device"))


@pytest.fixture(params=["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
def device(request: pytest.FixtureRequest) -> str:
    """Each device in turn: a test that takes it holds on all of them."""
    return request.param


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a small teacher; a test that changes it takes a copy."""
    return save_tiny(tmp_path_factory.mktemp("tiny") / "model")
