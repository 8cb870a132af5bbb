"""Records that cannot be decoded are counted and named once; too many of them stop the run."""

import collections
import dataclasses
import logging
from collections.abc import Sequence

from semivit_jax.words import counted

_log = logging.getLogger(__name__)
WINDOW = 10_000  # training records of one host over which the share of bad ones is taken


class TooManyBadRecords(RuntimeError):
    """More bad records than `config.data.max_bad_share` allows."""


@dataclasses.dataclass(frozen=True)
class BadRecord:
    """One record that was passed over."""

    index: int  # position in the image set
    reason: str


class BadRecordCount:
    """Counts the bad records of one host and stops the run when there are too many."""

    def __init__(
        self, names: Sequence[str], *, max_bad_share: float, window: int = WINDOW, logged: set[int] | None = None
    ):
        """Args: logged, the records that have been named; counts that share it name each record once among them."""
        self.total = 0
        self._names = names
        self._max_bad_share = max_bad_share
        self._window = window
        self._recent: collections.deque[tuple[int, int]] = collections.deque()  # (records, bad ones) per reading
        self._recent_records = 0
        self._recent_bad = 0
        self._logged = set() if logged is None else logged

    def add(self, num_records: int, bad: Sequence[BadRecord]) -> None:
        """Takes note of `num_records` delivered records, on the way to which `bad` ones were passed over.

        Raises:
          TooManyBadRecords: if more than `max_bad_share` of the last `window` records were bad.
        """
        self.total += len(bad)
        self._recent.append((num_records, len(bad)))
        self._recent_records += num_records
        self._recent_bad += len(bad)
        while self._recent and self._recent_records - self._recent[0][0] >= self._window:
            records, old_bad = self._recent.popleft()
            self._recent_records -= records
            self._recent_bad -= old_bad
        for record in bad:
            if record.index not in self._logged:
                self._logged.add(record.index)
                _log.warning("passing over %r: %s", self._names[record.index], record.reason)
        if bad and self._recent_bad > self._max_bad_share * self._window:
            raise TooManyBadRecords(
                f"{self._recent_bad} bad among this host's last {counted(self._recent_records, 'record')}, the latest "
                f"{self._names[bad[-1].index]!r} ({bad[-1].reason}). That is above "
                f"config.data.max_bad_share = {self._max_bad_share} of {self._window:,} records; repair or "
                "remove these files, or raise it"
            )
