"""Run the members of a sweep in processes of their own, some at a time, and end them in order."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import IO

from absl import flags

from semivit_jax import console
from semivit_jax.cli.grid import Member
from semivit_jax.hosts.accelerators import Machine
from semivit_jax.hosts.stopping import INTERRUPTED, PREEMPTED, StopRequest

ERROR = 1
_LOOK_SECONDS = 0.1
_TRAIN = (sys.executable, "-m", "semivit_jax.main", "train")

Start = Callable[[Member, int], subprocess.Popen[str]]  # (member, its place among those that run) -> its process


def run(members: Sequence[Member], start: Start, *, jobs: int, stop: StopRequest) -> dict[int, int]:
    """Runs members in order, so many at a time, until all have ended or the process is told to stop.

    Those that run then are told too: they save, and are waited for.

    Returns:
      Exit codes by number of those that were started.
    """
    left, codes, told = list(members), {}, False
    running: dict[int, tuple[Member, subprocess.Popen[str]]] = {}  # by place
    try:
        while running or (left and not stop.exit_code):
            while left and len(running) < jobs and not stop.exit_code:
                place = next(i for i in range(jobs) if i not in running)
                running[place] = (left[0], start(left[0], place))
                del left[0]
            if stop.exit_code and not told:
                told = True
                for _, process in running.values():
                    process.send_signal(signal.SIGINT if stop.exit_code == INTERRUPTED else signal.SIGTERM)
            for place, (member, process) in list(running.items()):
                if (code := process.poll()) is not None:
                    del running[place]
                    codes[member.number] = code
                    _tell_end(member, code, stopping=bool(stop.exit_code))
            time.sleep(_LOOK_SECONDS)
    finally:  # a second Ctrl-C
        for _, process in running.values():
            process.kill()
    return codes


def exit_code(codes: Mapping[int, int]) -> int:
    """Of a sweep with members that ended so: 0, 75 where all that did not finish were preempted, else 1."""
    failed = {code for code in codes.values() if code}
    return 0 if not failed else PREEMPTED if failed == {PREEMPTED} else ERROR


def starting(root: os.PathLike[str], places: Sequence[Mapping[str, str]]) -> Start:
    """Starts `semivit train` for members of a sweep in `root`.

    Args:
      root: folder of the sweep.
      places: environment of each place for one that runs. With several, lines are printed behind a member's number.
    """
    quiet = ["--quiet"] if console.is_hushed() else []
    output = (subprocess.PIPE, subprocess.STDOUT) if len(places) > 1 else (None, None)

    def start(member: Member, place: int) -> subprocess.Popen[str]:
        _say(f"member {member.number}: {member.name}")
        process = subprocess.Popen(
            [*_TRAIN, *member.arguments, f"--workdir={os.fspath(root)}/{member.name}", *quiet],
            env=os.environ | places[place],
            stdout=output[0],
            stderr=output[1],
            text=True,
            start_new_session=True,  # Ctrl-C comes to all of a terminal; this process tells them, once
        )
        if process.stdout is not None:
            threading.Thread(target=_print_lines, args=(member.number, process.stdout), daemon=True).start()
        return process

    return start


def places(jobs: int, environ: Mapping[str, str], find: Callable[[], Machine]) -> list[dict[str, str]]:
    """What each of the members that run at a time has in its environment: its share of a machine's GPUs.

    Args:
      jobs: how many run at a time.
      environ: environment variables.
      find: looks for accelerators.

    Raises:
      flags.Error: they cannot be shared so.
    """
    if jobs == 1 or environ.get("JAX_PLATFORMS") == "cpu":
        return [{} for _ in range(jobs)]
    machine = find()
    if machine.tpu:
        raise flags.Error(f"--jobs={jobs}: a TPU is used by one process at a time; legal is 1")
    count = len(machine.nvidia.names) if machine.nvidia else 0
    given = environ.get("CUDA_VISIBLE_DEVICES")
    gpus = given.split(",") if given else [str(i) for i in range(count)] if given is None else []
    if len(gpus) % jobs:
        legal = ", ".join(str(n) for n in range(1, len(gpus) + 1) if len(gpus) % n == 0)
        raise flags.Error(f"--jobs={jobs}: {len(gpus)} GPUs cannot be shared evenly; legal are {legal}")
    each = len(gpus) // jobs
    return [{"CUDA_VISIBLE_DEVICES": ",".join(gpus[i * each : (i + 1) * each])} if each else {} for i in range(jobs)]


def _print_lines(number: int, lines: IO[str]) -> None:
    with lines:
        for line in lines:
            print(f"[{number}] {line}", end="", flush=True)


def _tell_end(member: Member, code: int, *, stopping: bool) -> None:
    if code and not stopping:
        how = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
        _say(f"member {member.number}: {member.name} {how}; the others go on")


def _say(line: str) -> None:
    """Not as a run does: to learn which host it is on, jax would take the devices that the members need."""
    print(line, flush=True)
