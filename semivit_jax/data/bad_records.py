"""Count and name records that cannot be decoded, and stop the run at too many."""

import collections
import dataclasses
import logging
from collections.abc import Sequence

from semivit_jax.words import counted

_log = logging.getLogger(__name__)
WINDOW = 10_000  # records of one host, the last ones read, over which the share of bad ones is taken
_FEW = 10  # bad training records that chance may bring together, whatever the share


class TooManyBadRecords(RuntimeError):
    """More bad records than `config.data.max_bad_share` allows."""


@dataclasses.dataclass(frozen=True)
class BadRecord:
    """One record that was skipped."""

    index: int  # position in the image set
    reason: str


class BadRecordCount:
    """Counts the bad records of one host and stops the run when there are too many.

    The share is that of the bad ones among the last `WINDOW` records read, or among all of them while they are
    fewer. Since a few come together by chance, it is taken of 10 / `max_bad_share` records at least (100 for 0.1,
    `WINDOW` at most), or of `num_records` where these are known. Above `max_bad_share` there are too many, unless
    all are one and the same image. A share of 0 allows for none at all. A restart begins to count anew.
    """

    def __init__(
        self,
        names: Sequence[str],
        *,
        max_bad_share: float,
        num_records: int | None = None,
        logged: set[int] | None = None,
    ):
        """Prepares to count.

        Args:
          names: of the images.
          max_bad_share: of the config.
          num_records: how many this host will read in all, which the share is taken of from the first one on;
            None where there is no end, as in training.
          logged: the records that have been named; counts that share it name each record once among them.
        """
        self.total = 0
        self._names = names
        self._max_bad_share = max_bad_share
        least = num_records if num_records is not None else _FEW / max_bad_share if max_bad_share else 0
        self._least_records = min(WINDOW, least)
        self._recent: collections.deque[tuple[int, tuple[int, ...]]] = collections.deque()  # (records, bad ones)
        self._recent_records = 0
        self._recent_bad = 0
        self._logged = set() if logged is None else logged

    def add(self, num_good: int, bad: Sequence[BadRecord]) -> None:
        """Takes note of `num_good` records, and of `bad` ones that were skipped.

        Raises:
          TooManyBadRecords: if there are too many now.
        """
        self.total += len(bad)
        self._remember(num_good, bad)
        for record in bad:
            if record.index not in self._logged:
                self._logged.add(record.index)
                _log.warning("passing over %r: %s", self._names[record.index], record.reason)
        if bad and self._too_many():
            raise TooManyBadRecords(
                f"{self._recent_bad} bad among this host's last {counted(self._recent_records, 'record')}, the latest "
                f"{self._names[bad[-1].index]!r} ({bad[-1].reason}). That is above "
                f"config.data.max_bad_share = {self._max_bad_share}; repair or remove these files, or raise it"
            )

    def _remember(self, num_good: int, bad: Sequence[BadRecord]) -> None:
        """Adds one reading to the window, and drops those that it no longer holds."""
        self._recent.append((num_good + len(bad), tuple(record.index for record in bad)))
        self._recent_records += num_good + len(bad)
        self._recent_bad += len(bad)
        while self._recent_records - self._recent[0][0] >= WINDOW:
            records, left = self._recent.popleft()
            self._recent_records -= records
            self._recent_bad -= len(left)

    def _too_many(self) -> bool:
        if not self._max_bad_share:
            return True
        if self._recent_bad <= self._max_bad_share * max(self._recent_records, self._least_records):
            return False
        return len({index for _, bad in self._recent for index in bad}) > 1
