"""The page: who can have it, who can see it, and that nobody who looks can hold it up."""

import socket
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from esd_splat.config import Config, load_config
from esd_splat.errors import ViewError
from esd_splat.run.controls import Controls
from esd_splat.scene.gaussians import Gaussians
from esd_splat.show.live import View
from esd_splat.show.live.page import Page
from tests.show.live import worlds


def _config(port: int = 0) -> Config:
    return load_config(None, ["prompt=a red owl", "view=true", f"view_port={port}"])


def _cloud(count: int, seed: int = 0) -> Gaussians:
    shapes = [3], [4], [3], [], [1, 3], [0, 3]
    generator = torch.Generator().manual_seed(seed)
    return Gaussians(*(torch.randn(count, *shape, generator=generator) for shape in shapes))


@pytest.fixture
def page() -> Iterator[Page]:
    page = Page(_config(), Controls())
    yield page
    page.close()


def test_it_is_to_be_had_on_this_machine_only(page: Page) -> None:
    assert page.url == f"http://127.0.0.1:{page.port}"
    elsewhere = [
        info[4][0]
        for info in socket.getaddrinfo(socket.gethostname(), None, socket.AF_INET)
        if not str(info[4][0]).startswith("127.")
    ]
    for address in ("127.0.0.2", *elsewhere):
        with socket.socket() as probe:
            probe.settimeout(5)
            assert probe.connect_ex((str(address), page.port)) != 0


@pytest.mark.parametrize("port", [0, 65535])
def test_a_port_in_use_is_one_clear_line(port: int) -> None:
    """Of the last port there is no next one, which viser would try."""
    with socket.socket() as taken:
        try:
            taken.bind(("127.0.0.1", port))
        except OSError:
            pytest.skip("somebody has that port")
        taken.listen()
        port = taken.getsockname()[1]
        match = rf"view_port: {port} cannot be had \(.*in use\); choose another port, 0 for any"
        with pytest.raises(ViewError, match=match), View(_config(port)).during(Controls(), print):
            pass
    with View(_config(port)).during(Controls(), print):
        pass


def test_a_port_that_is_taken_between_the_check_and_the_start(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("esd_splat.show.live.page._check_port", lambda port: None)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(ViewError, match="was taken just now"):
            Page(_config(taken.getsockname()[1]), Controls())


def test_without_viser_one_line_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "viser", None)
    monkeypatch.delitem(sys.modules, "esd_splat.show.live.page")
    way_out = r'view: needs viser \(.*\); python -m pip install "viser>=1.1,<2", or view=false'
    with pytest.raises(ViewError, match=way_out), View(_config()).during(Controls(), print):
        pass


def test_the_way_out_installs_what_the_package_asks_for() -> None:
    toml = (Path(__file__).parents[3] / "pyproject.toml").read_text(encoding="utf-8")
    assert '"viser>=1.1,<2"' in toml


def test_where_it_is_is_said_once_and_nothing_else_is(capsys: pytest.CaptureFixture[str]) -> None:
    said: list[str] = []
    with View(_config()).during(Controls(), said.append):
        pass
    (line,) = said
    assert "http://127.0.0.1:" in line
    assert "ssh -L" in line
    assert capsys.readouterr() == ("", "")


def test_it_is_watched_while_somebody_is_there(page: Page) -> None:
    assert not page.watched
    with worlds.client(page.port) as first, worlds.client(page.port):
        worlds.eventually(lambda: page.watched)
        first.socket.shutdown(socket.SHUT_RDWR)  # killed, without a word
        assert page.watched, "by the other"
    worlds.eventually(lambda: not page.watched)


def test_who_does_not_read_holds_up_neither_the_page_nor_others(page: Page) -> None:
    """A hundred and more megabytes: no buffer on the way holds them."""
    with worlds.client(page.port):
        worlds.eventually(lambda: page.watched)
        for seed in range(40):
            page.show_scene(_cloud(100_000, seed))
        with worlds.client(page.port) as reads:
            received = 0
            while received < 2 * 100_000 * 32:  # the first splats, and the latest
                received += len(reads.recv(timeout=60))
            assert received < 3 * 100_000 * 32, "and the first"


def test_no_tunnel_leads_to_it(page: Page) -> None:
    assert page._server.request_share_url() is None


def test_a_scene_may_gain_and_lose_gaussians(page: Page) -> None:
    for count in (3, 30, 2):
        page.show_scene(_cloud(count))
        assert page._splats is not None
        assert page._splats.buffer.shape == (count, 8)


def test_pausing_by_the_button(page: Page) -> None:
    page._press_pause()
    assert page.controls.paused
    assert page._pause.label == "Resume"
    page._press_pause()
    assert not page.controls.paused
    assert page._pause.label == "Pause"


def test_what_the_numbers_say(page: Page) -> None:
    page.show_numbers(5, 2.5, {"direction": 0.125, "gaussians": 30.0}, 4)
    for row in ("| step | 5 of 600 |", "| steps/s | 2.50 |", "| direction | 0.125 |"):
        assert row in page._numbers.content
    assert "| state | running |" in page._numbers.content
    assert "| saved | at step 4 |" in page._numbers.content
    page.controls.pause()
    page.show_numbers(5, None, {}, None)
    assert "| state | paused |" in page._numbers.content
    assert "| saved | not yet |" in page._numbers.content
    assert "steps/s" not in page._numbers.content
    page.controls.stop()
    page.show_numbers(5, None, {}, None)
    assert "| state | stopped |" in page._numbers.content
    page.show_numbers(600, None, {}, None)
    assert "| state | done |" in page._numbers.content


def test_every_entropy_is_a_point_of_its_line(page: Page) -> None:
    page.show_entropies(10, {"IV": 1.0, "IQ": 0.5}, "of poses")
    page.show_entropies(20, {"IV": 2.0, "IQ": 0.25}, "of poses")
    assert page._chart is not None
    assert [list(column) for column in page._chart.data] == [[10, 20], [1, 2], [0.5, 0.25]]
    assert page._entropies_note.content == "of poses"
