"""The fake GPU needs a process of its own: autograd looks for devices at its first use only."""

from pathlib import Path

import pytest

HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Leave these tests out if others run in the same process."""
    mine = [item for item in items if HERE in item.path.parents]
    if len(mine) < len(items):
        for item in mine:
            item.add_marker(
                pytest.mark.skip(reason="in a process of its own: pytest tests/fakegpu")
            )
