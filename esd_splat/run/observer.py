"""What may accompany a run, such as pictures or a live view. The run does not know which do."""

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from esd_splat.distill.distillation import Distillation
from esd_splat.run.controls import Controls


class Observer:
    """Accompanies one run. Each method is called at one point of it, and does nothing by default.

    A run with several observers calls them in the order in which it was given them. An observer may
    write files of its own into the run's folder, but must leave the run's state alone: the scene is
    the same whoever observes it.
    """

    def check(self) -> None:
        """Called first, before any weight is loaded or file written.

        Raises:
            EsdSplatError: this observer will not be able to do its work. The run does not start.
        """

    def during(
        self, controls: Controls, say: Callable[[str], None]
    ) -> AbstractContextManager[object]:
        """Return a context that is entered before the teacher is loaded.

        It is left when the run ends: after ``after_summary``, or by the exception that ended it.

        Args:
            controls: pause, save and stop the run; from any thread.
            say: prints one line for the user, or nothing if the run is quiet.
        """
        return nullcontext()

    def restore(self, state: Mapping[str, Any]) -> None:
        """Called before the first step of a run that goes on from a checkpoint.

        Args:
            state: what was kept in the checkpoint by all observers, and by the run itself. A
                checkpoint of a run without this observer lacks the keys of its ``state``.
        """

    def leaves(self) -> list[str]:
        """The names of the files that a finished run has because of this observer."""
        return []

    def after_step(self, run: Distillation) -> None:
        """Called once after each step, before a checkpoint is written of it."""

    def state(self) -> dict[str, Any]:
        """What a checkpoint must hold so that ``restore`` can go on from it.

        Called at each checkpoint. Keys share one namespace with those of the other observers and
        of the run's record, ``rows``, ``diagnoses`` and ``seconds``.
        """
        return {}

    def between_steps(
        self, run: Distillation, logged: dict[str, float], saved_at: int | None
    ) -> None:
        """Called between steps: once after each, and over and over while the run is paused.

        Args:
            run: nothing of it changes during the call.
            logged: what the latest step logged.
            saved_at: the step of the latest checkpoint, or ``None`` before the first.
        """

    def before_summary(self, run: Distillation) -> None:
        """Called once all steps are done, with the scene written, before ``summary.json`` is.

        Raises:
            OutputError: something could not be written. As there is no summary yet, the run counts
                as unfinished, and ``resume=true`` comes here again.
        """

    def after_summary(self) -> None:
        """Called last, when the folder holds a finished run."""
