"""One run, from a config to a finished folder. Lightning runs the loop."""

import logging
import warnings
from collections.abc import Callable, Sequence
from contextlib import ExitStack, contextmanager, suppress
from typing import Any

import torch
from torch.utils.data import DataLoader

from esd_splat.command import say as print_line
from esd_splat.config import Config
from esd_splat.distill.distillation import Distillation
from esd_splat.distill.step_config import StepConfig
from esd_splat.errors import OutputError, RunError
from esd_splat.run.checkpoint import save_checkpoint
from esd_splat.run.controls import Controls
from esd_splat.run.device import settle
from esd_splat.run.folder import (
    CHECKPOINT,
    REPORT,
    check_folder,
    check_writable,
    claimed,
    tidy,
    written,
)
from esd_splat.run.interrupts import interrupts
from esd_splat.run.measure import in_words
from esd_splat.run.observer import Observer
from esd_splat.run.out_of_memory import short_of_memory
from esd_splat.run.progress import progress, speed
from esd_splat.run.record import Record
from esd_splat.run.resume import absent_files, earlier_part, finished
from esd_splat.scene.denormals import denormals_flushed
from esd_splat.settings import to_yaml
from esd_splat.teacher.view_prompts import VIEWS

DTYPES = {"32": torch.float32, "16-mixed": torch.float16, "bf16-mixed": torch.bfloat16}


@denormals_flushed()
def run(
    config: Config,
    observers: Sequence[Observer] = (),
    *,
    quiet: bool = False,
    until: int | None = None,
) -> dict[str, Any]:
    """Fit a scene to ``config`` and write its folder: the scene, tables of numbers and a summary.

    Args:
        config: the settings, as ``load_config`` returns them.
        observers: they draw images, write the report and show the run in a browser.
            ``esd_splat.fit`` has the usual ones.
        quiet: print nothing but errors.
        until: stop after this many steps and write a checkpoint and the scene, as after Ctrl-C.

    Returns:
        The content of ``summary.json``, or an empty dictionary if the run stopped at ``until``.

    Raises:
        EsdSplatError: the run cannot start or continue. The message is one line and says what to
            do.
        KeyboardInterrupt: the user pressed Ctrl-C, or the process got a SIGTERM. The checkpoint
            and the scene are written.
    """
    say = print_line if not quiet else lambda line: None
    config.teacher.check(_texts(config))
    with claimed(config.folder) as check_claim:
        check_folder(config)
        tidy(config.folder)
        if (summary := finished(config)) is not None:
            absent = absent_files(config, observers)
            if absent in ([], [REPORT]):
                if absent:  # the run was killed before it wrote its last file
                    for observer in observers:
                        observer.after_summary()
                rest = f"wrote its {REPORT}" if absent else "nothing left to do"
                say(f"{config.folder} holds a finished run: {rest}")
                return summary
        check_writable(config.folder)
        before, saved = earlier_part(config, say)
        config = settle(config, before, say, resumed=saved is not None)
        for observer in observers:
            observer.check()
        if saved is None:
            config.init.check()
        controls = Controls()
        with ExitStack() as around:
            for observer in observers:
                around.enter_context(observer.during(controls, say))
            return _fit(config, saved, observers, check_claim, controls, say, quiet, until)


def _fit(
    config: Config,
    saved: dict[str, Any] | None,
    observers: Sequence[Observer],
    check_claim: Callable[[], None],
    controls: Controls,
    say: Callable[[str], None],
    quiet: bool,
    until: int | None,
) -> dict[str, Any]:
    """Run ``config``, in which device and backend are settled, and write the results."""
    device, backend = torch.device(config.device), config.backend
    with short_of_memory(config):
        teacher = config.teacher.load(device, DTYPES[config.precision], config.memory)
        for note in teacher.notes:
            say(note)
        distillation = Distillation(StepConfig.of(config), teacher, backend, saved and saved["run"])
    record = Record(config, observers, check_claim)
    if saved is not None:
        record.restore(saved["record"])
        record.saved_at = distillation.done
    say(
        f'"{config.prompt}" with loss {type(config.loss).__name__.lower()}: {config.steps} steps '
        f"on {device}, rendered by {backend}, into {config.folder}"
    )
    if config.teacher.views.language_model is not None:
        say("the teacher is told: " + "; ".join(distillation.predictor.guidance.texts))
    with interrupts(controls.stop):
        try:
            with short_of_memory(config, joint=teacher.joint):
                _loop(config, distillation, record, controls, quiet, until)
        except RunError as error:
            if record.begun:
                record.write_rows()
            at = record.saved_at
            kept = "no checkpoint was due yet" if at is None else f"{CHECKPOINT} holds step {at}"
            raise RunError(f"{error}; {kept}") from error
        finally:
            record.close()
        _save(config, distillation, record)
        if controls.stopped or distillation.done < config.steps:
            record.write_scene(distillation)
    if controls.stopped:
        raise KeyboardInterrupt
    if distillation.done < config.steps:
        return {}
    try:
        with short_of_memory(config, joint=teacher.joint):
            summary = record.finish(distillation)
    except (OutputError, RunError) as error:
        rest = f"{CHECKPOINT} holds all {config.steps} steps; resume=true writes the rest"
        raise type(error)(f"{error}; {rest}") from error
    for observer in observers:
        observer.after_summary()
    _report(summary, config, say)
    return summary


def _loop(
    config: Config,
    distillation: Distillation,
    record: Record,
    controls: Controls,
    quiet: bool,
    until: int | None,
) -> None:
    """Run the remaining steps, or those up to ``until`` or to a request to stop."""
    import lightning
    from lightning.pytorch.plugins.environments import LightningEnvironment
    from lightning.pytorch.utilities.exceptions import SIGTERMException

    class Loop(lightning.LightningModule):
        """Calls our step in Lightning's loop."""

        def __init__(self) -> None:
            super().__init__()
            self.automatic_optimization = False

        def training_step(self, batch: Any, batch_idx: int) -> None:
            logged = distillation.step()
            record.after_step(distillation, logged)
            show(distillation.done, logged)
            every, done = config.checkpoint_every, distillation.done
            if every and done % every == 0 and done < config.steps:
                _save(config, distillation, record)
            controls.rest(lambda: attend(logged))
            if controls.stopped or done == until:
                self.trainer.should_stop = True

        def configure_optimizers(self) -> None:
            """Return no optimizer, because densification changes the parameters of ours."""

    def attend(logged: dict[str, float]) -> None:
        """Handle requests that were made since the last step or while the run is paused."""
        record.rested = controls.rested
        if controls.saving:
            _save(config, distillation, record)
            record.write_scene(distillation)
            controls.saving = False
        for observer in record.observers:
            observer.between_steps(distillation, logged, record.saved_at)

    left = config.steps - distillation.done
    if until is not None and distillation.done >= until:
        return
    cuda = distillation.device.type == "cuda"
    watched = progress(distillation.done, config.steps, quiet=quiet)
    # Lightning calls our handler of SIGTERM, and then raises its exception after the step.
    with _quiet_lightning(), watched as show, suppress(SIGTERMException):
        lightning.Trainer(
            accelerator="gpu" if cuda else "cpu",
            devices=[distillation.device.index or 0] if cuda else 1,
            # In a job of SLURM, it would otherwise start its own processes and handle signals.
            plugins=LightningEnvironment(),
            max_epochs=1,
            logger=False,
            enable_checkpointing=False,
            enable_model_summary=False,
            enable_progress_bar=False,
            inference_mode=False,
        ).fit(Loop(), DataLoader(range(left), batch_size=None))  # pyright: ignore[reportArgumentType]


def _save(config: Config, distillation: Distillation, record: Record) -> None:
    record.begin()
    state = {
        "config": to_yaml(config),
        "run": distillation.state(),
        "record": record.state(),
    }
    save_checkpoint(config.folder / CHECKPOINT, state)
    record.saved_at = distillation.done
    record.write_rows()


def _report(summary: dict[str, Any], config: Config, say: Callable[[str], None]) -> None:
    say(
        f"{summary['steps']} steps in {summary['seconds']:.0f} s "
        f"({speed(summary['steps_per_second'])}), {summary['gaussians']} Gaussians, "
        f"at most {summary['peak_memory_mb']} MB of memory"
    )
    say(in_words(summary["measures"], config.measure.views, summary["judged"]))
    say(f"wrote {config.folder}: " + ", ".join(written(config.folder)))


def _texts(config: Config) -> dict[str, str]:
    """Return all texts for the teacher, by the key to change if it does not know a word of one."""
    views = config.teacher.views
    said = views.texts(config.prompt, highest=config.cameras.elevation[1])
    return {"prompt": config.prompt, "negative_prompt": config.negative_prompt} | {
        f"teacher.views ({view} view)": text for view, text in zip(VIEWS, said, strict=True)
    }


@contextmanager
def _quiet_lightning():
    """Hide advertisements, device tables and hints about data loader workers."""
    logger = logging.getLogger("lightning.pytorch")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
