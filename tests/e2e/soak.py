"""`make soak`: kills runs at random moments, over and over, and compares each with one that nobody touched.

python -m tests.e2e.soak [--kills=24] [--bucket-kills=20] [--seed=0] prints a line per kill and ends with 0 only if
every run that was killed, in one process, in two and in a bucket, ended bit-identical to its untouched twin on a disk.
"""

import argparse
import os
import random
import tempfile
import time
from pathlib import Path

from semivit_jax import console, files
from tests.bucket import emulator
from tests.e2e.killing import kill_once
from tests.e2e.runs import Machine, assert_same_run


def soak(machine: Machine, place: Path, untouched: Path, *, kills: int, processes: int, chance: random.Random) -> None:
    """Kills runs so many times altogether; a run that gets done is compared and the next one begun.

    Args:
      machine: starts the runs.
      place: folder of the workdirs, on a disk or in a bucket.
      untouched: workdir of a run that nobody killed.
      kills: how many.
      processes: of each run.
      chance: when, and which process.
    """
    what, done, round_number = f"{place.name}, {processes} processes", 0, 0
    while done < kills:
        round_number += 1
        workdir, ended = place / f"killed_{round_number}", False
        while not ended and done < kills:
            started = time.monotonic()
            while_saving = chance.random() < 0.4
            ended = not kill_once(machine, workdir, chance, while_saving=while_saving, processes=processes)
            if not ended:
                done += 1
                moment = "while saving" if while_saving else "at any moment"
                seconds = time.monotonic() - started
                console.say(f"{what}: kill {done} of {kills}, {moment}, after {seconds:.1f} s")
        if not ended:
            machine.finish(workdir, processes=processes)
        assert_same_run(workdir, untouched)
        console.say(f"{what}: run {round_number} is bit-identical to the untouched one")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=24, help="of runs in one process; a third as many in two")
    parser.add_argument("--bucket-kills", type=int, default=20, help="of runs in a bucket, in one process")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    if options.bucket_kills and (why := emulator.why_not()):
        parser.error(f"{why}; --bucket-kills=0 does without a bucket")
    chance = random.Random(options.seed)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        machine = Machine(folder / "cache")
        for processes, kills in ((1, options.kills), (2, options.kills // 3)):
            machine.finish(folder / f"untouched_{processes}", processes=processes)
            place = folder / f"disk_{processes}"
            soak(machine, place, folder / f"untouched_{processes}", kills=kills, processes=processes, chance=chance)
        if options.bucket_kills:
            with emulator.running() as url:
                emulator.point_to(url, os.environ.__setitem__)
                place = files.path(emulator.address("bucket"))
                soak(
                    machine,
                    place,
                    folder / "untouched_1",
                    kills=options.bucket_kills,
                    processes=1,
                    chance=chance,
                )


if __name__ == "__main__":
    main()
