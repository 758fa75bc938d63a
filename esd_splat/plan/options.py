"""Which settings make a run fit on a GPU, the cheapest first."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from esd_splat.config import Config


def candidates(config: Config, *, joint: bool = False) -> Iterator[tuple[str, Config]]:
    """Return variants of ``config`` that take less memory, and the keys that make each of them.

    The order is that of what they cost: text encoders on the CPU cost nothing after the start of a
    run; fewer views at once cost passes and, where views are pooled, a forward pass of the encoder;
    checkpointing costs a forward pass of the encoder and of the network; precision costs digits.

    Args:
        config: the settings to start from.
        joint: whether the teacher must see all views at once.
    """
    typed: dict[str, Any] = {}

    def variant(**more: Any) -> tuple[str, Config]:
        keys = typed | more
        memory = {key: value for key, value in keys.items() if key != "precision"}
        precision = keys.get("precision", config.precision)
        changed = replace(config, memory=replace(config.memory, **memory), precision=precision)
        return " ".join(map(_as_typed, keys.items())), changed

    if not config.memory.offload:
        typed["offload"] = True
        yield variant()
    views = [] if joint else list(_halves(config.memory.views_at_once or config.batch))
    yield from (variant(views_at_once=count) for count in views)
    if not config.memory.checkpointing:
        typed["checkpointing"] = True
        yield variant()
        yield from (variant(views_at_once=count) for count in views)
    if config.precision == "32":
        typed["precision"] = "bf16-mixed"
        yield variant(views_at_once=views[-1]) if views else variant()


def _halves(count: int) -> Iterator[int]:
    while count > 1:
        count //= 2
        yield count


def _as_typed(item: tuple[str, Any]) -> str:
    key, value = item
    section = "" if key == "precision" else "memory."
    return f"{section}{key}={str(value).lower()}"
