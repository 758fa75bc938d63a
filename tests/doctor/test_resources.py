"""What is said of the hub, its cache, threads and the disk."""

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from esd_splat.doctor import resources
from esd_splat.doctor.finding import Finding


def test_a_token_is_never_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "secret")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "https://me:secret@mirror.org/x")
    assert resources.hub() == Finding("mirror.org, offline by HF_HUB_OFFLINE, with HF_TOKEN")


def test_downloads_are_counted_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    assert " 0.0 GB" in resources.cache().found
    (tmp_path / "hub" / "blobs").mkdir(parents=True)
    blob = tmp_path / "hub" / "blobs" / "weights"
    with blob.open("wb") as file:
        file.truncate(1_500_000_000)  # it takes no space on the disk
    (tmp_path / "hub" / "link").symlink_to(blob)
    assert f"{tmp_path}/hub, 1.5 GB" in resources.cache().found


def test_more_threads_than_cores_are_advised_against(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "get_num_threads", lambda: 1)
    assert not resources.threads().way_out
    monkeypatch.setattr(torch, "get_num_threads", lambda: 10**6)
    assert resources.threads().way_out.startswith("OMP_NUM_THREADS=")
    monkeypatch.delenv("OMP_WAIT_POLICY", raising=False)
    monkeypatch.setenv("GOMP_SPINCOUNT", "10000")
    assert resources.threads().found.endswith(", GOMP_SPINCOUNT 10000")


def test_a_folder_that_outputs_cannot_go_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("shutil.disk_usage", lambda path: SimpleNamespace(free=5e9))
    assert resources.disk() == Finding(f"5.0 GB free for {tmp_path}/outputs")
    monkeypatch.setattr("shutil.disk_usage", lambda path: SimpleNamespace(free=1e8))
    assert "out=" in resources.disk().way_out
    assert not resources.disk().stops
    (tmp_path / "outputs").touch()
    assert resources.disk().stops
