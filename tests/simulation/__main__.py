"""The command: many schedules, one again, or how many find each fault of the past."""

from __future__ import annotations

import argparse
import sys
import time

from tests.simulation.mutations import MUTATIONS, schedules_until_found
from tests.simulation.schedule import simulate


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument("--schedules", type=int, default=3000, help="how many (default: 3000)")
    parser.add_argument("--first", type=int, default=0, help="the first seed (default: 0)")
    parser.add_argument("--seed", type=int, help="replay this one, and tell what happens")
    parser.add_argument(
        "--mutations", action="store_true", help="how many schedules find each fault of the past"
    )
    arguments = parser.parse_args()
    if arguments.mutations:
        for number, mutation in MUTATIONS.items():
            found = schedules_until_found(mutation, arguments.schedules)
            print(f"{number:3} {mutation.fault}: {found or 'not found'}", flush=True)
        return
    if arguments.seed is not None:
        result = simulate(arguments.seed, log=True)
        print("\n".join(result.log))
        sys.exit(str(result) if result.faults else 0)
    began, broken = time.process_time(), 0
    for seed in range(arguments.first, arguments.first + arguments.schedules):
        result = simulate(seed)
        if result.faults:
            broken += 1
            print(result, flush=True)
    seconds = time.process_time() - began
    print(
        f"{arguments.schedules} schedules in {seconds:.0f} s of one core, {broken} broke a promise"
    )
    sys.exit(bool(broken))


if __name__ == "__main__":
    main()
