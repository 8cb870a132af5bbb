"""Order the images of a stream: endless passes, the rows of one host, one generator per row.

A stream is a set of images read in passes, each pass in a new order, one pass directly after the other. The
image at a position and its random numbers are pure functions of (seed, stage, stream, position), so hosts,
threads, workers and restarts change nothing. Orders are whole numpy permutations, one per pass: looking up
many positions is then one array operation, which small data sets need, and costs 10 MB per pass at ImageNet's
size.
"""

import dataclasses
import functools
import zlib

import numpy as np

_PASS, _ROW = 0, 1  # separate the random numbers of orders from those of augmentations


@dataclasses.dataclass(frozen=True)
class StreamOrder:
    """Endless passes over `indices`, each pass a fresh permutation.

    With `classes` given, the images of each class are passed by themselves, and every K positions, of K classes that
    occur, hold one image of each, in a fresh order: small classes begin their next pass sooner.
    """

    indices: np.ndarray  # int64 [n], positions in the image set
    seed: int
    name: str  # 'semi/unlabeled': stage and stream
    classes: np.ndarray | None = None  # int [n], where they shall come equally often

    def place_at(self, positions: np.ndarray) -> np.ndarray:
        """Places in `indices` of stream positions (int64, any shape)."""
        if self.classes is not None:
            return self._balanced_place_at(positions)
        passes, within = np.divmod(positions, len(self.indices))
        found = np.empty_like(within)
        for pass_number in np.unique(passes):
            here = passes == pass_number
            order = _pass_order(self.seed, self.name, int(pass_number), len(self.indices))
            found[here] = order[within[here]]
        return found

    def _balanced_place_at(self, positions: np.ndarray) -> np.ndarray:
        members = self._members
        found = np.empty_like(positions)
        for index, position in np.ndenumerate(positions):
            turn, within = divmod(int(position), len(members))
            number = int(_pass_order(self.seed, f"{self.name}/classes", turn, len(members))[within])
            pass_number, place = divmod(turn, len(members[number]))
            order = _pass_order(self.seed, f"{self.name}/{number}", pass_number, len(members[number]))
            found[index] = members[number][order[place]]
        return found

    @functools.cached_property
    def _members(self) -> list[np.ndarray]:
        """Places of the images of each class that occurs."""
        assert self.classes is not None
        return [np.flatnonzero(self.classes == label) for label in np.unique(self.classes)]

    def generator_at(self, position: int) -> np.random.Generator:
        """Random numbers for the views of the image at one stream position."""
        return np.random.default_rng((self.seed, _name_key(self.name), _ROW, position))


@dataclasses.dataclass(frozen=True)
class HostRows:
    """The rows of each global micro-batch that one host reads: host p reads rows p*b to (p+1)*b of all B."""

    global_rows: int  # B
    process_index: int  # p
    process_count: int

    def __post_init__(self):
        if self.global_rows % self.process_count:
            raise ValueError(
                f"a micro-batch of {self.global_rows} images cannot be shared evenly by {self.process_count} "
                f"processes; it must be a multiple of {self.process_count}"
            )

    @property
    def local_rows(self) -> int:
        """b, rows of one micro-batch on this host."""
        return self.global_rows // self.process_count

    def stream_positions(self, start: int, count: int) -> np.ndarray:
        """Stream positions of this host's rows start, ..., start + count - 1, counted from the beginning."""
        micro_step, row = np.divmod(np.arange(start, start + count), self.local_rows)
        return micro_step * self.global_rows + self.process_index * self.local_rows + row


@functools.lru_cache(maxsize=4)  # two streams, each at the seam of two passes
def _pass_order(seed: int, name: str, pass_number: int, size: int) -> np.ndarray:
    return np.random.default_rng((seed, _name_key(name), _PASS, pass_number)).permutation(size)


def _name_key(name: str) -> int:
    return zlib.crc32(name.encode())  # Python's own hash of a string differs from process to process
