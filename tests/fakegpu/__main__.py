"""Every case, and every family at real size, for a night: ``python -m tests.fakegpu``.

The cases are all products of family, loss, precision and memory options. What else a step depends
on takes turns. Each is checked as in the tests, and failures are printed as they come.
"""

import argparse
import math
import sys
from collections.abc import Callable
from functools import partial
from itertools import product
from typing import Any

from tests.fakegpu.cases import CHOICES, Case, Result, clash, step
from tests.fakegpu.sizes import PIXELS, step_at_size
from tests.fakegpu.table import TABLE
from tests.fakegpu.test_sizes import check_size
from tests.fakegpu.test_steps import check

WHOLE = ("family", "loss", "precision", "views at once", "checkpointing", "slicing", "offload")
"""The factors whose product is taken."""


def cases() -> list[Case]:
    """Return the product, without what is refused."""
    others = [factor for factor in CHOICES if factor not in WHOLE]
    found = []
    for number, values in enumerate(product(*(CHOICES[factor] for factor in WHOLE))):
        case = dict(zip(WHOLE, values, strict=True))
        if any(clash(one, other) for one in case.items() for other in case.items()):
            continue
        for factor in others:
            number, turn = divmod(number, len(CHOICES[factor]))
            choice = factor, CHOICES[factor][turn]
            if any(clash(made, choice) for made in case.items()):
                choice = factor, CHOICES[factor][0]
            case |= dict([choice])
        found.append(case)
    return found


def _check(make: Callable[..., Result], *choices: Any) -> None:
    check(make(*choices))


def main() -> int:
    """Run the cases and return 1 if any failed, else 0."""
    parser = argparse.ArgumentParser(prog="python -m tests.fakegpu", description=__doc__)
    parser.add_argument("--part", type=int, default=0, help="which part to run, from 0")
    parser.add_argument("--parts", type=int, default=1, help="number of parts, one per process")
    args = parser.parse_args()
    work = [(str(case), partial(_check, step, case)) for case in cases()]
    precisions = [f"precision={name}" for name in CHOICES["precision"]]
    options = [f"memory.checkpointing={on}" for on in ("false", "true")]
    for row in product(PIXELS, precisions, options):
        work.append((" ".join(row), partial(_check, step_at_size, *row)))
    work += [(f"memory of {name}", partial(check_size, name)) for name in TABLE["peak"]]
    mine, failed = work[args.part :: args.parts], 0
    for number, (name, run) in enumerate(mine):
        try:
            run()
        except Exception as error:  # whatever it is, the other cases go on
            failed += 1
            print(f"FAILED {name}: {type(error).__name__}: {error}", flush=True)
        if number % math.ceil(len(mine) / 100) == 0:
            print(f"{number + 1} of {len(mine)}, {failed} failed", flush=True)
    print(f"{len(mine)} cases, {failed} failed")
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
