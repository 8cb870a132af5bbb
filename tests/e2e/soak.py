"""`make soak`: kills runs at random moments, over and over, and compares each with one that nobody touched.

python -m tests.e2e.soak [--kills=24] [--seed=0] prints a line per kill and ends with 0 only if every run that was
killed, in one process and in two, ended bit-identical to its untouched twin.
"""

import argparse
import random
import tempfile
import time
from pathlib import Path

from semivit_jax import console
from tests.e2e.killing import kill_once
from tests.e2e.runs import Machine, assert_same_run


def soak(folder: Path, *, kills: int, processes: int, chance: random.Random) -> None:
    """Kills runs so many times altogether; a run that gets done is compared and the next one begun."""
    machine = Machine(folder / "cache")
    untouched = folder / f"untouched_{processes}"
    machine.finish(untouched, processes=processes)
    done, round_number = 0, 0
    while done < kills:
        round_number += 1
        workdir, ended = folder / f"killed_{processes}_{round_number}", False
        while not ended and done < kills:
            started = time.monotonic()
            while_saving = chance.random() < 0.4
            ended = not kill_once(machine, workdir, chance, while_saving=while_saving, processes=processes)
            if not ended:
                done += 1
                moment = "while saving" if while_saving else "at any moment"
                seconds = time.monotonic() - started
                console.say(f"{processes} processes: kill {done} of {kills}, {moment}, after {seconds:.1f} s")
        if not ended:
            machine.finish(workdir, processes=processes)
        assert_same_run(workdir, untouched)
        console.say(f"{processes} processes: run {round_number} is bit-identical to the untouched one")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=24, help="of runs in one process; a third as many in two")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    chance = random.Random(options.seed)
    with tempfile.TemporaryDirectory() as folder:
        soak(Path(folder), kills=options.kills, processes=1, chance=chance)
        soak(Path(folder), kills=options.kills // 3, processes=2, chance=chance)


if __name__ == "__main__":
    main()
