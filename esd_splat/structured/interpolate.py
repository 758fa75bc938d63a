"""``${other.key}`` in a value that is not text stands for what was given to that key."""

from typing import Any

from esd_splat.structured.convert import WrongTypeError
from esd_splat.structured.source import Given, Tree, plain


def refers(node: Given | Tree) -> bool:
    """Whether ``node`` holds a reference to another key."""
    return isinstance(node, Given) and isinstance(node.value, str) and "${" in node.text


def interpolated(node: Given, path: str, root: Tree) -> Given:
    """``node``, which stands at ``path`` of ``root``, with its references resolved.

    Raises:
        WrongTypeError: it refers to a key that was not given, or to itself, or is malformed.
    """
    from omegaconf import OmegaConf  # 0.2 seconds that most configs do not need
    from omegaconf.errors import OmegaConfBaseException

    if _parseable(node.text) is None:
        raise WrongTypeError(f"{node.text} is no reference to another key, as ${{steps}} is")
    try:
        config = OmegaConf.create(_parseable(plain(root)))
        value = OmegaConf.select(config, path, throw_on_missing=True)
    except OmegaConfBaseException as error:
        reason = str(error).splitlines()[0]
        raise WrongTypeError(f"{node.text} cannot be resolved: {reason}") from error
    if OmegaConf.is_config(value):
        value = OmegaConf.to_container(value)
    return _as_given(value, node.typed)


def _parseable(value: Any) -> Any:
    """``value`` less the texts that only look like references, as a prompt may: "a ${ sign"."""
    if isinstance(value, dict):
        return {key: _parseable(below) for key, below in value.items()}
    if isinstance(value, list):
        return [_parseable(item) for item in value]
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    try:
        OmegaConf.create({"value": value})
    except OmegaConfBaseException:
        return None
    return value


def _as_given(value: Any, typed: bool) -> Given:
    if isinstance(value, list):
        return Given(str(value), [_as_given(item, typed) for item in value], typed)
    return Given(str(value), value, typed)
