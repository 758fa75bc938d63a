"""What a step is allowed to cost, from ``table.yaml``."""

from collections import Counter
from pathlib import Path
from typing import Any

import yaml

from esd_splat.config import Config
from esd_splat.distill.predictions import LORA_INPUTS

TABLE: dict[str, Any] = yaml.safe_load(Path(__file__).with_suffix(".yaml").read_text())


def allowed(kind: str, config: Config, joint: bool = False) -> Counter[str]:
    """Return how many ``waits`` or ``uploads`` a step makes, by place.

    Args:
        kind: ``waits`` or ``uploads``.
        config: the config of the run.
        joint: whether the teacher sees all views together.
    """
    events = happens(config, joint)
    counts = {
        place: sum(number * events[event] for event, number in each.items())
        for place, each in TABLE[kind].items()
    }
    return Counter({place: count for place, count in counts.items() if count})


def happens(config: Config, joint: bool) -> dict[str, int]:
    """Return how often each of the events in ``table.yaml`` happens in a step."""
    lora, memory = config.lora, config.memory
    has_lora = not config.loss.needs.isdisjoint(LORA_INPUTS)
    recent = "pooled" in config.loss.needs or (has_lora and lora.uses_recent)
    parts = -(-config.batch // (memory.views_at_once or config.batch))
    inversion, trained = config.loss.inversion, lora.steps * has_lora
    path = 0 if inversion is None else inversion.steps
    apart = has_lora and lora.precision == "32"  # the LoRA's rows have a pass of their own
    return {
        "step": 1,
        # A pool must hold all views before the first of them is shown to the network.
        "drawing": parts * (2 if recent and parts > 1 else 1),
        "Perp-Neg": parts * config.teacher.views.perp_neg.enabled,
        "joint pass": joint * (1 + apart + path + trained * (2 if lora.base == "pool" else 1)),
    }


def check_memory(name: str, peak: int) -> None:
    """Check the ``peak`` of a run, in bytes, against its row of the table."""
    found, most = peak / 2**30, TABLE["peak"][name]
    assert found <= most, f"{name} takes {found:.4f} GB, and may take {most:.4f}"
    assert found > 0.97 * most, f"{name} takes only {found:.4f} GB now: correct the table"
