"""``python -m fleetvisor.sim``: run one simulated world again, from its seed, and print its story.

Deliberately not a command of ``fleetvisor``: it is for whoever works on the server or the agent.
"""

import argparse
import sys

from fleetvisor.sim.board import MOMENTS
from fleetvisor.sim.checks import Violated
from fleetvisor.sim.rollout_world import Outcome, RolloutRecipe, run_rollouts
from fleetvisor.sim.world import Recipe, Result, run_cuts, run_world


def main() -> int:
    """Run what the arguments name; give 0 when every promise held, 1 otherwise."""
    parser = argparse.ArgumentParser(prog="python -m fleetvisor.sim", description="Run a simulated world again.")
    parser.add_argument("--seed", type=int, required=True, help="the world's seed")
    parser.add_argument("--rollouts", action="store_true", help="a world of rollouts, not one of boards")
    parser.add_argument("--boards", type=int, default=Recipe(0).boards, help="how many devices")
    parser.add_argument("--cut", type=int, help="cut the power at this operation on the flash; -1: at every one")
    parser.add_argument("--moment", choices=MOMENTS, default="torn", help="when, relative to that operation")
    arguments = parser.parse_args()
    try:
        if arguments.rollouts:
            return _tell(run_rollouts(RolloutRecipe(arguments.seed)))
        result = _run(arguments)
    except Violated as fault:
        sys.stderr.write("\n".join([*getattr(fault, "__notes__", []), f"VIOLATED: {fault}", ""]))
        return 1
    sys.stdout.write("\n".join([*result.story, f"{result.boots} boots, every promise held; trace {result.trace}", ""]))
    return 0


def _tell(outcome: Outcome) -> int:
    told = [
        f"{name}: {', '.join(f'{count} {what}' for what, count in counts.items())}"
        for name, counts in (
            ("rollouts", outcome.rollouts),
            ("their devices", outcome.devices),
            ("decisions", outcome.decisions),
        )
    ]
    last = f"nodes died {outcome.deaths} times, every promise held; trace {outcome.trace}"
    sys.stdout.write("\n".join([*outcome.story, *told, last, ""]))
    return 0


def _run(arguments: argparse.Namespace) -> Result:
    if arguments.cut is None:
        return run_world(Recipe(seed=arguments.seed, boards=arguments.boards))
    return run_cuts(arguments.seed, None if arguments.cut < 0 else (arguments.cut, arguments.moment))


if __name__ == "__main__":
    sys.exit(main())
