"""Tell what is odd about photos that are read all the same, by their names."""

import logging

_log = logging.getLogger(__name__)


class Remarks:
    """Tells each remark on a photo once, and names few photos: those of a set often have one fault in common."""

    MOST_PHOTOS = 20  # of one process

    def __init__(self) -> None:
        self._told: set[tuple[str, str]] = set()

    def __call__(self, name: str, remark: str) -> None:
        """Takes note of a remark on the photo `name`."""
        if (name, remark) in self._told or len(self._told) > self.MOST_PHOTOS:
            return
        self._told.add((name, remark))
        if len(self._told) > self.MOST_PHOTOS:
            _log.warning("more photos with such faults are not named")
        else:
            _log.warning("%r: %s", name, remark)


remark_on = Remarks()  # of this process
