"""The page in the browser: a scene to turn, and a panel. This is the only module that uses viser.

Viser's own thread sends the updates and keeps only the latest state of each element. A slow or dead
browser therefore costs a run neither time nor memory.
"""

import math
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import rich
import viser
from typing_extensions import override
from viser import uplot

from esd_splat.config import Config
from esd_splat.errors import ViewError
from esd_splat.run.controls import Controls
from esd_splat.scene.cameras import BALL_RADIUS
from esd_splat.scene.gaussians import SH_C0, Gaussians
from esd_splat.show.contact_sheet import contact_sheet
from esd_splat.show.images import to_bytes
from esd_splat.types import Images

HOST = "127.0.0.1"
"""Only users of this machine can see the page and press its buttons."""
LINES = ("#1c7ed6", "#e8590c")
"""Colours of the lines in the chart. They can be told apart on white and on black."""
AWAY = 1.25
"""Distance of the first view from the scene, relative to the distance of the run's cameras."""
SAVE_HINT = "Write a checkpoint and the current scene to the run's folder"
STOP_HINT = "Save and stop, like Ctrl-C. To continue, run again with resume=true, not overwrite"


class Page:
    """The page and all its elements. No method waits for a browser.

    Raises:
        ViewError: If the port is not available.
    """

    def __init__(self, config: Config, controls: Controls) -> None:
        self.config, self.controls = config, controls
        _check_port(config.view_port)
        with _silence():
            self._server = _Server(host=HOST, port=config.view_port, verbose=False)
        self.port = self._server.get_port()
        if config.view_port not in (0, self.port):
            self.close()
            raise _port_error(config.view_port, "was taken just now")
        self._set_stage()
        self._add_panel()

    @property
    def url(self) -> str:
        """The address of the page."""
        return f"http://{HOST}:{self.port}"

    @property
    def watched(self) -> bool:
        """Whether any browser has the page open."""
        return bool(self._server.get_clients())

    def close(self) -> None:
        """Stop the server. A browser keeps showing the last state."""
        with _silence():
            self._server.stop()

    def show_scene(self, scene: Gaussians) -> None:
        """Replace the splats. Their colours are those of spherical harmonics of degree 0, which
        do not depend on the view."""
        scene = scene.map(lambda value: value.cpu())
        splats = (
            scene.means.numpy(),
            scene.covariances.numpy(),
            (0.5 + SH_C0 * scene.sh0[:, 0]).clamp(0, 1).numpy(),
            scene.opacities[:, None].numpy(),
        )
        if self._splats is None:
            self._splats = self._server.scene.add_gaussian_splats("/scene", *splats)
        else:
            self._splats.set_gaussians(*splats)

    def show_numbers(
        self, step: int, rate: float | None, logged: dict[str, float], saved_at: int | None
    ) -> None:
        """Replace the numbers.

        Args:
            step: Number of steps done.
            rate: Steps per second, or ``None`` if unknown.
            logged: The values that the step logged.
            saved_at: Step of the latest checkpoint, or ``None`` if there is none yet.
        """
        rows = {"step": f"{step} of {self.config.steps}", "state": self._state(step)}
        if rate is not None:
            rows["steps/s"] = f"{rate:.2f}"
        rows |= {name: f"{value:.4g}" for name, value in logged.items()}
        rows["saved"] = "not yet" if saved_at is None else f"at step {saved_at}"
        lines = [f"| {name} | {value} |" for name, value in rows.items()]
        self._numbers.content = "\n".join([lines[0], "|:--|:--|", *lines[1:]])
        self._progress.value = 100 * step / self.config.steps

    def show_pictures(self, rows: dict[str, Images], note: str) -> None:
        """Replace the pictures: one row of views for each name, and a note about all of them."""
        self._pictures_note.content = note
        for name, images in rows.items():
            row = to_bytes(contact_sheet([images])[None])[0]
            if name in self._pictures:
                self._pictures[name].image = row
            else:
                with self._pictures_folder:
                    picture = self._server.gui.add_image(row, label=name, jpeg_quality=90)
                self._pictures[name] = picture

    def show_entropies(self, step: int, values: dict[str, float], note: str) -> None:
        """Add a point to each line of the chart, and replace the note that explains them."""
        self._entropies_note.content = note
        self._points.append((step, *values.values()))
        data = tuple(
            np.array(column, dtype=np.float64) for column in zip(*self._points, strict=True)
        )
        if self._chart is None:
            lines = zip(values, LINES, strict=False)
            series = [uplot.Series(label=name, stroke=colour, width=2) for name, colour in lines]
            top = 1.15 * math.log(self.config.measure.views)
            with self._chart_folder:
                self._chart = self._server.gui.add_uplot(
                    data,
                    (uplot.Series(label="step"), *series),
                    scales={"x": uplot.Scale(time=False), "y": uplot.Scale(range=(0.0, top))},
                    aspect=1.6,
                )
        else:
            self._chart.data = data

    def _state(self, step: int) -> str:
        if step == self.config.steps:
            return "done"
        if self.controls.stopped:
            return "stopped"
        return "paused" if self.controls.paused else "running"

    def _set_stage(self) -> None:
        """Show the scene upright and from the front."""
        cameras = self.config.cameras
        self._eye = AWAY * cameras.turntable(1).eyes[0].double().numpy()
        self._server.scene.set_up_direction("+y")
        camera = self._server.initial_camera
        camera.position = tuple(self._eye)
        camera.look_at = (0.0, 0.0, 0.0)
        camera.fov = math.radians(sum(cameras.fov) / 2)
        self._server.on_client_connect(self._clear_the_panel)
        self._splats: viser.GaussianSplatHandle | None = None

    def _clear_the_panel(self, client: viser.ClientHandle) -> None:
        """On a phone, where the panel covers the lower 60 %, show the unit ball above it."""
        camera = client.camera
        if camera.aspect < 1:
            height = 2 * BALL_RADIUS / 0.4  # height of the visible area at the ball's distance
            away = height / 2 / math.tan(self._server.initial_camera.fov / 2)
            lower = np.array([0.0, 0.3 * height, 0.0])
            # Do not start from the client's own position: the client may not know yet which way
            # is up.
            camera.position = away * self._eye / np.linalg.norm(self._eye) - lower
            camera.look_at = -lower
            camera.up_direction = (0.0, 1.0, 0.0)

    def _add_panel(self) -> None:
        gui, controls = self._server.gui, self.controls
        gui.configure_theme(show_logo=False, show_share_button=False)
        gui.set_panel_label(self.config.prompt)
        gui.main_panel.dock_right()
        self._progress = gui.add_progress_bar(0.0)
        self._numbers = gui.add_markdown("The teacher is being loaded.")
        self._pause = gui.add_button("Pause", icon=viser.Icon.PLAYER_PAUSE)
        self._pause.on_click(lambda _: self._press_pause())
        save = gui.add_button("Save now", icon=viser.Icon.DEVICE_FLOPPY, hint=SAVE_HINT)
        save.on_click(lambda _: controls.save())
        stop = gui.add_button("Stop", icon=viser.Icon.PLAYER_STOP, hint=STOP_HINT, color="red")
        stop.on_click(lambda _: controls.stop())
        self._chart_folder = gui.add_folder("Entropy of the views")
        with self._chart_folder:
            self._entropies_note = gui.add_markdown("Not measured yet.")
        self._chart: viser.GuiUplotHandle | None = None
        self._points: list[tuple[float, ...]] = []
        self._pictures_folder = gui.add_folder("Predictions")
        with self._pictures_folder:
            self._pictures_note = gui.add_markdown("None yet.")
        self._pictures: dict[str, viser.GuiImageHandle] = {}

    def _press_pause(self) -> None:
        if self.controls.paused:
            self.controls.resume()
        else:
            self.controls.pause()
        paused = self.controls.paused
        self._pause.label = "Resume" if paused else "Pause"
        self._pause.icon = viser.Icon.PLAYER_PLAY if paused else viser.Icon.PLAYER_PAUSE


class _Server(viser.ViserServer):
    """A server that stays on this machine. Viser would let any browser request a public address."""

    @override
    def request_share_url(self, verbose: bool = True) -> str | None:
        return None


def _check_port(port: int) -> None:
    """Raise if ``port`` is not available, because viser would silently take the next one."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        if os.name == "posix":  # like asyncio, or a port that was just released counts as in use
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError as error:
            raise _port_error(port, f"cannot be had ({error.strerror})") from error


def _port_error(port: int, what: str) -> ViewError:
    return ViewError(
        f"view_port: {port} {what}; choose another port, 0 for any that is free, or view=false"
    )


@contextmanager
def _silence() -> Iterator[None]:
    """Suppress the boxes that viser prints. The run prints the address itself."""
    console = rich.get_console()
    before, console.quiet = console.quiet, True
    try:
        yield
    finally:
        console.quiet = before
