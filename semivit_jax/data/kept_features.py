"""Keep features of images in the user's cache folder, a part at a time, each image told by a hash of its bytes.

There is a folder for everything that decides features beside the image: weights, view and seed. The hash of these is
its name, and stands in each file; a file with another one is passed over.
"""

import hashlib
import weakref
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from semivit_jax.data.bad_records import BadRecord
from semivit_jax.data.sources import kept
from semivit_jax.data.sources.image_set import ImageSet

ID_BYTES = 16
_ARRAYS = {"ids": "uint8", "features": "float32"}
_known: weakref.WeakKeyDictionary[ImageSet, dict[int, bytes]] = weakref.WeakKeyDictionary()


def folder_of(made_from: str) -> Path:
    """Where features are kept that were made from that; it need not be there."""
    return kept.cache_dir() / "features" / made_from[:16]


def ids_of(images: ImageSet, indices: Iterable[int]) -> tuple[dict[int, bytes], dict[int, BadRecord]]:
    """Hashes of the bytes of some images of a set by their positions, and those that cannot be read.

    An image is read once for all that asks in this process.
    """
    known, bad = _known.setdefault(images, {}), {}

    def read(index: int) -> bytes | BadRecord:
        try:
            return hashlib.blake2b(images.records[index], digest_size=ID_BYTES).digest()
        except OSError as error:  # whose text would name the file a second time
            return BadRecord(index, f"cannot be read: {error.strerror or error}")

    wanted = [int(index) for index in indices]
    with ThreadPoolExecutor() as threads:
        new = [index for index in wanted if index not in known]
        for index, found in zip(new, threads.map(read, new), strict=True):
            if isinstance(found, BadRecord):
                bad[index] = found
            else:
                known[index] = found
    return {index: known[index] for index in wanted if index not in bad}, bad


def recall(made_from: str, *, views: int, width: int) -> dict[bytes, np.ndarray]:
    """Features that are kept by the hash of their image, float32 [views, width] each."""
    found = {}
    for file in sorted(folder_of(made_from).glob("*.npz")):
        arrays = kept.recall(file, _ARRAYS, fingerprint=made_from)
        if arrays is None:
            continue
        ids, features = arrays["ids"].tobytes(), arrays["features"]
        count = len(ids) // ID_BYTES
        if len(ids) % ID_BYTES or features.size != count * views * width:
            kept.damaged(file, f"{len(ids)} bytes of hashes, {features.size} numbers")
            continue
        each = features.reshape(count, views, width)
        found |= {ids[ID_BYTES * n : ID_BYTES * (n + 1)]: each[n] for n in range(count)}
    return found


def keep(made_from: str, features: Mapping[bytes, np.ndarray]) -> None:
    """Adds a part; warns where the folder cannot be written to."""
    ids = b"".join(features)
    file = folder_of(made_from) / f"{hashlib.sha256(ids).hexdigest()[:16]}.npz"
    arrays = {"ids": np.frombuffer(ids, np.uint8), "features": np.stack(list(features.values())).ravel()}
    kept.keep(file, arrays, fingerprint=made_from)
