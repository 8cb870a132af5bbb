"""Account for a run's time since its first start: what went into steps that count, and where the rest went.

Pure functions on an `Account`, and the `Book` in which a run keeps its own. Parts follow each other without a gap, so
they add up to the time on the clock. What belongs to steps goes into every checkpoint, so a run that goes back to one
knows what it has lost; all of it is in a small file of the workdir, written every half minute by a thread, so that a
kill costs no more than that.
"""

import contextlib
import dataclasses
import logging
import threading
import time
from collections.abc import Callable, Iterator, Mapping

from semivit_jax.files import Path, read_json, write_json

Clock = Callable[[], float]  # seconds since 1970

FILE = "time.json"
WRITE_SECONDS = 30.0
PHASES = {  # what a process does at a moment: part of the account -> in words
    "starting": "setting up",
    "restoring": "restoring a checkpoint, or making the first state",
    "compiling": "compiling the step",
    "waiting": "waiting for a batch of images",
    "training": "waiting for the devices to finish an update",
    "evaluating": "evaluating",
    "saving": "waiting for a checkpoint to be saved",
    "agreeing": "waiting for the other hosts",
}
_OF_STEPS = ("waiting", "training", "evaluating", "agreeing")  # what is done again where steps are
_log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class Account:
    """Where the seconds of a run went, over all its starts.

    Attributes:
      spent: by stage ('' outside of all) and phase; of steps, those alone that count.
      lost: in steps that were done again, or skipped by a rollback.
      down: between the last sign of a start and the next one.
      starts: how often the run was started.
      until: seconds since 1970, up to which all this is.
    """

    spent: Mapping[str, Mapping[str, float]]
    lost: float
    down: float
    starts: int
    until: float


def opened(now: float) -> Account:
    """The account of a first start."""
    return Account(spent={}, lost=0.0, down=0.0, starts=1, until=now)


def started_again(before: Account, now: float) -> Account:
    """An earlier start's account at the next one; where clocks disagree, no time has passed between them."""
    return dataclasses.replace(
        before, down=before.down + max(0.0, now - before.until), starts=before.starts + 1, until=now
    )


def spend(account: Account, stage: str, phase: str, now: float) -> Account:
    """Books the time since the account's end to a phase of a stage."""
    of_stage = dict(account.spent.get(stage, {}))
    of_stage[phase] = of_stage.get(phase, 0.0) + now - account.until
    return dataclasses.replace(account, spent={**account.spent, stage: of_stage}, until=now)


def of_steps(account: Account, stage: str) -> dict[str, float]:
    """What the steps of a stage have taken; goes into its checkpoints."""
    return {phase: seconds for phase, seconds in account.spent.get(stage, {}).items() if phase in _OF_STEPS}


def go_back(account: Account, stage: str, kept: Mapping[str, float]) -> Account:
    """Books as lost what the steps of a stage took beyond `kept`, which is what a checkpoint says, {} at its start.

    A checkpoint may also know of more: what it was killed before it could write down, and was taken for down.
    """
    now = of_steps(account, stage)
    beyond = sum(now.values()) - sum(kept.values())
    of_stage = {k: v for k, v in account.spent.get(stage, {}).items() if k not in now} | dict(kept)
    return dataclasses.replace(
        account,
        spent={**account.spent, stage: of_stage},
        lost=account.lost + max(0.0, beyond),
        down=max(0.0, account.down + min(0.0, beyond)),
    )


def totals(account: Account) -> dict[str, float]:
    """Seconds of each part: the phases over all stages, what was lost, and what a run was down."""
    stages = account.spent.values()
    phases = {phase: sum(of_stage.get(phase, 0.0) for of_stage in stages) for phase in PHASES}
    return {**phases, "lost": account.lost, "down": account.down}


def share(account: Account) -> float:
    """Of the time since the first start, what went into updates that count, in 0..1; 0 where no time has passed."""
    seconds = totals(account)
    return seconds["training"] / (sum(seconds.values()) or 1.0)


def steady_clock() -> Clock:
    """Seconds since 1970 that never jump, as the clock of a machine does when it is set right."""
    began, since = time.time(), time.monotonic()
    return lambda: began + time.monotonic() - since


class Book:
    """A run's account as it goes on: one phase follows another.

    Attributes:
      account: up to the last change of phase.
      stage, step: where the run is; '' and 0 outside of a stage.
      phase: of PHASES, what it does.
      since: seconds since 1970, when it began that.
    """

    def __init__(self, clock: Clock):
        self._clock = clock
        self.account, self.stage, self.step, self.phase = opened(clock()), "", 0, "starting"
        self.since = self.account.until

    def go_on(self, before: Account) -> None:
        """Adds what earlier starts have spent; call it before any change of phase."""
        self.account = started_again(before, self.account.until)

    def begin(self, stage: str) -> None:
        """What follows belongs to a stage, or with '' to none."""
        self._turn(self.phase)
        self.stage, self.step = stage, 0

    @contextlib.contextmanager
    def during(self, phase: str) -> Iterator[None]:
        """The block is a phase; afterwards the one around it goes on."""
        around = self.phase
        self._turn(phase)
        try:
            yield
        finally:
            self._turn(around)

    def go_back(self, kept: Mapping[str, float]) -> None:
        """`go_back` of the present stage, whose steps go on from those of a checkpoint, or begin."""
        self.account = go_back(self.now(), self.stage, kept)

    def of_steps(self) -> dict[str, float]:
        """`of_steps` of the present stage, up to this moment."""
        return of_steps(self.now(), self.stage)

    def waited(self) -> float:
        """Seconds in the present phase."""
        return self._clock() - self.since

    def now(self) -> Account:
        """The account up to this moment; another thread may ask."""
        return spend(self.account, self.stage, self.phase, self._clock())

    def values(self) -> dict[str, float]:
        """Its numbers in a line of metrics."""
        account = self.now()
        seconds = {f"perf/seconds_{part}": value for part, value in totals(account).items()}
        return {"perf/goodput": share(account), **seconds}

    def _turn(self, phase: str) -> None:
        self.account = self.now()
        self.phase, self.since = phase, self.account.until


@contextlib.contextmanager
def kept(book: Book, folder: Path, *, first_host: bool) -> Iterator[None]:
    """Goes on with the account of earlier starts in a workdir, and keeps it there while the block runs.

    What cannot be read or written there is said, and costs the run nothing else.
    """
    if not first_host:
        yield
        return
    if before := _read(folder / FILE):
        book.go_on(before)
    ended = threading.Event()

    def write() -> None:
        while not ended.wait(WRITE_SECONDS):
            _write(book, folder / FILE)

    writing = threading.Thread(target=write, daemon=True)
    _write(book, folder / FILE)
    writing.start()
    try:
        yield
    finally:
        ended.set()
        writing.join()
        _write(book, folder / FILE)


def _read(file: Path) -> Account | None:
    if not file.exists():
        return None
    try:
        return Account(**read_json(file))
    except (ValueError, TypeError) as error:
        _log.warning("%s cannot be read (%s); the time of earlier starts is not counted", file, error)
        return None


def _write(book: Book, file: Path) -> None:
    try:
        write_json(file, dataclasses.asdict(book.now()))
    except OSError as error:
        _log.warning("%s cannot be written (%s); where the time of this start goes may not be counted", file, error)
