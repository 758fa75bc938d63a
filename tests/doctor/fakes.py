"""A check that fails, for machines that lack something."""

from collections.abc import Callable

from esd_splat.doctor.finding import Finding


def failing(error: Exception) -> Callable[..., Finding]:
    """A function that raises ``error``, whatever it is given."""

    def check(*_: object) -> Finding:
        raise error

    return check
