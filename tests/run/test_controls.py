"""What the buttons and Ctrl-C ask for is what a run does between two steps."""

import threading
import time

from esd_splat.run.controls import Controls


def test_a_run_that_nobody_paused_attends_once_and_goes_on() -> None:
    controls, calls = Controls(), []
    controls.rest(lambda: calls.append(1))
    assert calls == [1]
    assert controls.rested == 0


def test_a_paused_run_attends_until_it_is_resumed() -> None:
    controls, calls = Controls(), []

    def attend() -> None:
        calls.append(controls.rested)
        if len(calls) == 4:
            controls.resume()

    controls.pause()
    controls.rest(attend)
    assert len(calls) == 4
    assert calls == sorted(set(calls)), "a clock without pauses must not run on in one"
    controls.rest(attend)
    assert len(calls) == 5


def test_a_stop_ends_a_pause() -> None:
    controls = Controls()
    controls.pause()
    threading.Timer(0.1, controls.stop).start()
    start = time.monotonic()
    controls.rest(lambda: None)
    assert 0 < controls.rested <= time.monotonic() - start
    assert controls.paused, "who resumes it later is told so"
