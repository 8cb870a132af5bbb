"""Compute the features of many images into an embedding, a part at a time, each kept until all are there."""

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from semivit_jax import console, files
from semivit_jax.data.images.decode import BadImage
from semivit_jax.data.sources.errors import DatasetError
from semivit_jax.files import Path
from semivit_jax.inference import embedding
from semivit_jax.inference.any_image import AnyImage, padded, view_or_reason
from semivit_jax.inference.features import network, spread
from semivit_jax.inference.trained import Trained, backbone
from semivit_jax.training import sharding
from semivit_jax.weights import layout
from semivit_jax.weights.preprocessing import normalise
from semivit_jax.words import counted, shortened

PART = 4096  # images; their features are on the disk before the next ones are computed
UNREAD = "unread.txt"
_BEGUN = "begun.json"
_DECIDES = {  # key of `embedding.json`, all of which must be the same to go on: what it says
    "weights_hash": "set of weights",
    "images_hash": "set of images",
    "preprocessing": "preprocessing",
    "dtype": "type of number",
    "format": "format",
}


class Images(NamedTuple):
    """Images to embed.

    Attributes:
      what: they are, for people.
      names: in order.
      read: place -> an image; called in several threads.
      fingerprint: another one where names, sizes or times of the images differ.
      problems: lines on files that take no part, whose content was not looked at.
    """

    what: str
    names: Sequence[str]
    read: Callable[[int], AnyImage]
    fingerprint: str
    problems: Sequence[str]


def embed(trained: Trained, images: Images, out: Path, *, kind: str, dtype: str, batch_size: int) -> None:
    """Writes the features of all images that can be read.

    What an earlier call with the same weights and images has computed is kept and not computed again.

    Args:
      trained: weights; a head, if there is one, is left alone.
      images: to embed.
      out: folder, new or of an earlier call.
      kind: of the file, a row of `embedding.WRITERS`.
      dtype: of the features, one of `embedding.DTYPES`.
      batch_size: images of a forward pass over all devices; rounded up to a multiple of them.

    Raises:
      DatasetError: not one image can be read. FileExistsError: the folder holds another embedding.
      EmbeddingError: see `embedding.check_names`; before anything is computed.
    """
    about = {
        "weights": trained.source,
        "weights_hash": weights_hash(trained),
        "images": images.what,
        "images_hash": images.fingerprint,
        "preprocessing": trained.weights.preprocessing.to_json(),
        "dtype": dtype,
        "format": kind,
    }
    embedding.check_names(kind, images.names)
    parts = _begin(out, about)
    if parts is None:
        console.say(f"{out} holds these features already")
        return
    _compute(trained, images, parts, dtype=dtype, batch_size=batch_size)
    _finish(images, parts, out, about)


def weights_hash(trained: Trained) -> str:
    """Hash of the arrays of a backbone and of its spec."""
    weights = backbone(trained).weights
    digest = hashlib.sha256(repr(weights.spec).encode())
    for path, leaf in sorted(layout.flatten(weights.params).items()):
        digest.update(path.encode())
        digest.update(np.ascontiguousarray(leaf).data)
    return digest.hexdigest()


def _begin(out: Path, about: dict) -> Path | None:
    """The folder of the parts; None where all has been done.

    Raises:
      FileExistsError: the folder holds something else.
    """
    parts = out / "parts"
    for file in (out / embedding.ABOUT, parts / _BEGUN):
        if file.is_file():
            theirs, ours = files.read_json(file), json.loads(json.dumps(about))
            other = [said for key, said in _DECIDES.items() if theirs.get(key) != ours[key]]
            if other:
                raise FileExistsError(f"{out} holds features of another {' and '.join(other)}; give another --out")
            if file.name == embedding.ABOUT:
                if parts.is_dir():  # which a kill has left behind
                    files.remove(parts)
                return None
            return parts
    parts.mkdir(parents=True, exist_ok=True)
    files.write_json(parts / _BEGUN, about)
    return parts


Start = Callable[[Sequence[np.ndarray | BadImage]], jax.Array]
"""Views of a batch, or fewer -> its features, which need not be there yet."""


def _compute(trained: Trained, images: Images, parts: Path, *, dtype: str, batch_size: int) -> None:
    """Computes the parts that are not there yet."""
    start_batch, batch_size = _on_all_devices(trained, dtype, batch_size)
    starts = range(0, len(images.names), PART)
    before = sum(_file(parts, start).is_file() for start in starts) * PART

    def viewed(index: int) -> np.ndarray | BadImage:
        try:
            return view_or_reason(images.read(index), trained.view, name=images.names[index])
        except OSError as error:
            return BadImage(f"cannot be read: {error.strerror or error}")

    with (
        ThreadPoolExecutor() as threads,
        console.counting("features", total=len(images.names), before=min(before, len(images.names))) as count,
    ):
        for start in starts:
            if _file(parts, start).is_file():
                continue
            found: list[np.ndarray] = []
            bad: dict[int, str] = {}
            batches = _chunks(range(start, min(start + PART, len(images.names))), batch_size)
            views = ((batch, list(threads.map(viewed, batch))) for batch in batches)
            for batch, seen, features in _one_ahead(views, start_batch):
                good = np.array([not isinstance(view, BadImage) for view in seen])
                found.append(np.asarray(features)[: len(seen)][good])
                bad |= {i - start: str(view) for i, view in zip(batch, seen, strict=True) if isinstance(view, BadImage)}
                count(batch[-1] + 1)
            with files.writing(_file(parts, start)) as opened:
                reasons = np.array(list(bad.values()), np.str_)
                np.savez(opened, features=np.concatenate(found), bad=np.array(list(bad), np.int64), reasons=reasons)


def _on_all_devices(trained: Trained, dtype: str, batch_size: int) -> tuple[Start, int]:
    """What computes a batch, and its size, a multiple of the devices."""
    trained, mesh = backbone(trained), sharding.make_mesh(1)
    weights, batch_size = trained.weights, -(-batch_size // mesh.size) * mesh.size
    model, params = network(trained).features, spread(weights.params, mesh)
    compiled = jax.jit(lambda p, pixels: model(p, normalise(pixels, weights.preprocessing)).astype(jnp.dtype(dtype)))
    rows, size = sharding.eval_batch(mesh), weights.preprocessing.image_size

    def start_batch(views: Sequence[np.ndarray | BadImage]) -> jax.Array:
        return compiled(params, sharding.put(padded(views, batch_size, size), rows))

    return start_batch, batch_size


def _chunks(places: range, size: int) -> Iterator[range]:
    return (places[at : at + size] for at in range(0, len(places), size))


def _one_ahead(views: Iterable[tuple[range, list]], start_batch: Start) -> Iterator[tuple[range, list, jax.Array]]:
    """(places, views, features) of each batch; the device works on one while the next is decoded."""
    pending = None
    for batch, seen in views:
        started = start_batch(seen)
        if pending is not None:
            yield pending
        pending = batch, seen, started
    if pending is not None:
        yield pending


def _finish(images: Images, parts: Path, out: Path, about: dict) -> None:
    """Joins the parts to one file, tells what could not be read, and removes the parts."""
    starts = range(0, len(images.names), PART)
    names, unread, width = [], list(images.problems), 0
    for start in starts:
        with _file(parts, start).open("rb") as opened, np.load(opened, allow_pickle=False) as part:
            bad = dict(zip(part["bad"].tolist(), part["reasons"].tolist(), strict=True))
            width = max(width, part["features"].shape[1])
        these = range(start, min(start + PART, len(images.names)))
        names += [images.names[place] for place in these if place - start not in bad]
        unread += [f"{images.names[start + place]!r}: {reason}" for place, reason in bad.items()]
    if not names:
        raise DatasetError("\n".join([f"no image of {images.what} can be read:", *shortened(unread)]))

    def features() -> Iterator[np.ndarray]:
        for start in starts:
            with _file(parts, start).open("rb") as opened, np.load(opened, allow_pickle=False) as part:
                yield part["features"]

    file = f"features.{about['format']}"
    embedding.WRITERS[about["format"]](out / file, names, features(), width=width, dtype=about["dtype"])
    if unread:
        with files.writing(out / UNREAD) as opened:
            opened.write("".join(f"{line}\n" for line in unread).encode(errors="surrogateescape"))
    told = {"file": file, "num_images": len(names), "width": width, "unread": len(unread)}
    files.write_json(out / embedding.ABOUT, about | told)
    files.remove(parts)
    if unread:
        console.say(f"{counted(len(unread), 'file')} without features, all of them in {out / UNREAD}:")
        for line in shortened(unread):
            console.say(f"  {line}")
    console.say(f"wrote {out / file}: {counted(len(names), 'image')}, {width} numbers each, with {about['weights']}")


def _file(parts: Path, start: int) -> Path:
    return parts / f"{start:09d}.npz"
