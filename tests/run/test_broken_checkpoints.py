"""A damaged checkpoint is refused in one line, even where its digest was made to fit."""

import hashlib
from pathlib import Path

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given

from esd_splat.errors import CheckpointError
from esd_splat.run.checkpoint import load_checkpoint, save_checkpoint
from tests.damage import check_message, damaged


def _signed(body: bytes) -> bytes:
    digest = hashlib.sha256(body).hexdigest().encode()
    return b"esd_splat checkpoint 1\n" + digest + b"\n" + body


@given(data=st.data())
def test_a_damaged_checkpoint(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    path = tmp_path_factory.mktemp("state") / "a.ckpt"
    save_checkpoint(path, {"step": 3, "means": torch.ones(5, 3), "names": ["a"]})
    content = path.read_bytes()
    if data.draw(st.booleans()):
        path.write_bytes(data.draw(damaged(content)))
    else:
        path.write_bytes(_signed(data.draw(damaged(content.split(b"\n", 2)[2]))))
    try:
        assert isinstance(load_checkpoint(path), dict)
    except CheckpointError as error:
        check_message(error)


@pytest.mark.parametrize("state", [3, "abc", torch.ones(3), [1, 2]])
def test_a_checkpoint_that_holds_no_state_is_refused(tmp_path: Path, state: object) -> None:
    torch.save(state, tmp_path / "body")
    (tmp_path / "a.ckpt").write_bytes(_signed((tmp_path / "body").read_bytes()))
    with pytest.raises(CheckpointError, match="cannot read it"):
        load_checkpoint(tmp_path / "a.ckpt", required=["step"])


def test_a_version_of_many_digits_is_none(tmp_path: Path) -> None:
    (tmp_path / "a.ckpt").write_bytes(b"esd_splat checkpoint " + b"9" * 5000 + b"\n")
    with pytest.raises(CheckpointError, match="not a checkpoint of esd_splat"):
        load_checkpoint(tmp_path / "a.ckpt")
