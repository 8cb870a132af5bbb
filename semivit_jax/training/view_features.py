"""Compute what a frozen backbone makes of views of images, unless it is kept already: `config.data.cache_features`.

So many views are drawn of every image. The draws of a view come from the seed, what the view is, the image's own bytes
and the view's number, and from nothing else: neither the image's name, label or place decides them, nor the stage or
the batch. So another run on some of the same images, with more labels, or the next stage, finds them.
"""

import dataclasses
import hashlib
import zlib
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import jax
import numpy as np

from semivit_jax import console
from semivit_jax.checkpoints import reading
from semivit_jax.config import Config
from semivit_jax.data import kept_features
from semivit_jax.data.bad_records import BadRecord
from semivit_jax.data.feature_rows import FeatureTable
from semivit_jax.data.images.decode import BadImage
from semivit_jax.data.images.types import ImagePath
from semivit_jax.data.images.views import VIEWS, eval_view_of, path_of, views_of
from semivit_jax.data.rows import read_image
from semivit_jax.data.sources.image_set import ImageSet
from semivit_jax.ops import rng
from semivit_jax.stages import supervised
from semivit_jax.stages.stage import DeviceView
from semivit_jax.stages.state import TrainState
from semivit_jax.stages.supervised import SupervisedConfig
from semivit_jax.training import sharding
from semivit_jax.training.compiled import Compiled, compile_views, feature_width
from semivit_jax.training.setup import Run
from semivit_jax.words import counted

PyTree = Any
EVALUATION = "evaluation"  # beside the rows of VIEWS: as evaluation sees an image, which is one view
PART = 1024  # images whose features are on the disk before the next ones are computed
_FORMAT = "features of views 1"


class Look(NamedTuple):
    """A way to see images.

    Attributes:
      host: (decoded image, generator) -> uint8 [size, size, 3].
      path: how an image is decoded for it.
      device: what is done to that before a network reads it.
      views: that are drawn of an image.
      told: all that decides a view beside image and number.
    """

    host: Callable[[np.ndarray, np.random.Generator], np.ndarray]
    path: ImagePath
    device: DeviceView
    views: int
    told: str


@dataclasses.dataclass(frozen=True)
class Backbone:
    """The frozen weights of a stage, as a whole model on the devices, with their hash and what its head reads."""

    run: Run
    compiled: Compiled
    params: PyTree
    hash: str
    width: int


def backbone_of(run: Run, compiled: Compiled, state: TrainState) -> Backbone:
    """The weights that features are made with; the head that is among them is not read."""
    digest = hashlib.sha256()
    for name, leaf in sorted(reading.flat(jax.device_get(state.frozen)).items()):
        digest.update(f"{name} {leaf.dtype} {leaf.shape}".encode())
        digest.update(np.ascontiguousarray(leaf).data)
    params = compiled.whole(state.params, state.frozen)
    width = feature_width(run.config, compiled.plan, run.mesh, params)
    return Backbone(run, compiled, params, digest.hexdigest(), width)


def look(config: Config, section: SupervisedConfig, row: str) -> Look:
    """How a stage sees images in a row of `data.images.views.VIEWS`, or in EVALUATION."""
    data = config.data
    if row == EVALUATION:
        seen, device = eval_view_of(data), DeviceView(data.mean, data.std, data.image_size, None, 0.0, None)
        told = f"{EVALUATION} {data.eval_crop_fraction} {data.interpolation} {data.exif_rotation} {device}"
        return Look(lambda image, generator: seen(image), "pillow", device, 1, told)
    views, device = views_of(data, (("image", row),)), supervised.view_of(config, section, row, None)
    photo = None if data.photo_views is None else VIEWS[row](data, data.photo_views)
    told = f"{photo} {data.exif_rotation} {device} {data.cache_features} views of seed {config.seed}"
    return Look(lambda image, own: views(image, own)["image"], path_of(data), device, data.cache_features, told)


def table(backbone: Backbone, row: str, images: ImageSet, indices: np.ndarray) -> FeatureTable:
    """Features of some images of a set, seen in a row of VIEWS or in EVALUATION; those that are not kept are computed.

    Args:
      backbone: of a stage.
      row: how the images are seen.
      images: the set.
      indices: int64 [n], which of them.
    """
    config, stage = backbone.run.config, backbone.compiled.plan.stage
    section = config.stage(stage)
    assert isinstance(section, SupervisedConfig), stage
    seen = look(config, section, row)
    made_from = _made_from(backbone, seen)
    ids, bad = kept_features.ids_of(images, indices)
    found = kept_features.recall(made_from, views=seen.views, width=backbone.width)
    missing = {image: index for index, image in ids.items() if image not in found}
    if missing:
        with console.counting(f"{stage}: {row} features, images", total=len(missing)) as count:
            for part, unread in _compute(backbone, seen, images, missing, count):
                if part:
                    kept_features.keep(made_from, part)
                found |= part
                bad |= unread
        console.say(
            f"{stage}: computed features of {counted(len(missing), 'image')} ({row}, {counted(seen.views, 'view')} "
            f"each) and kept them in {kept_features.folder_of(made_from)}"
        )
    good = [index for index, image in ids.items() if image in found]
    for index in ids.keys() - set(good):  # told of one image alone where several have the same bytes
        bad[index] = dataclasses.replace(bad[missing[ids[index]]], index=index)
    row_of = np.full(len(images), -1, np.int64)
    row_of[good] = np.arange(len(good))
    features = np.zeros((len(good), seen.views, backbone.width), np.float32)
    for row_number, index in enumerate(good):
        features[row_number] = found[ids[index]]
    return FeatureTable(features, row_of, bad)


def everything(images: ImageSet) -> np.ndarray:
    """Positions of all images of a set."""
    return np.arange(len(images))


def _made_from(backbone: Backbone, seen: Look) -> str:
    """Hash of what decides features beside the images."""
    config, mesh = backbone.run.config, backbone.run.mesh
    how = (config.model.variant, config.model.pool, config.model.posemb, config.model.layer_norm_eps)
    where = (config.model.dtype, mesh.devices.flat[0].platform)
    return hashlib.sha256("\n".join(map(str, (_FORMAT, backbone.hash, how, where, seen.told))).encode()).hexdigest()


Part = dict[bytes, np.ndarray]  # hash of an image -> float32 [views, width]


def _compute(
    backbone: Backbone, seen: Look, images: ImageSet, missing: Mapping[bytes, int], count: Callable[[int], None]
) -> Iterator[tuple[Part, dict[int, BadRecord]]]:
    """Parts of PART images, and which of theirs cannot be read."""
    config, mesh, wanted = backbone.run.config, backbone.run.mesh, list(missing.items())
    per_batch = max(1, min(config.train.eval_batch_size // seen.views, len(wanted)))
    rows = -(-per_batch * seen.views // mesh.size) * mesh.size
    spread, salt = sharding.eval_batch(mesh), zlib.crc32(seen.told.encode())
    key = rng.stream(jax.random.key(config.seed), seen.told)
    step = compile_views(config, backbone.compiled, mesh, backbone.params, seen.device, key)

    def views(image: bytes, index: int) -> np.ndarray | BadRecord:
        return _drawn(seen, read_image(images, index, config.data, path=seen.path), (config.seed, salt, image), index)

    with ThreadPoolExecutor() as threads:
        for first in range(0, len(wanted), PART):
            part, unread = {}, {}
            for start in range(first, min(first + PART, len(wanted)), per_batch):
                these = wanted[start : min(start + per_batch, first + PART)]
                found = dict(zip(these, threads.map(views, *zip(*these, strict=True)), strict=True))
                unread |= {index: bad for (_, index), bad in found.items() if isinstance(bad, BadRecord)}
                good = {image: v for (image, _), v in found.items() if not isinstance(v, BadRecord)}
                if good:
                    ids = np.repeat([int.from_bytes(image[:4]) for image in good], seen.views).astype(np.uint32)
                    turns = np.tile(np.arange(seen.views, dtype=np.uint32), len(good))
                    batch = [_padded(array, rows) for array in (np.concatenate(list(good.values())), ids, turns)]
                    features = np.asarray(step(backbone.params, *sharding.put(batch, spread)))[: len(ids)]
                    part |= dict(zip(good, features.reshape(len(good), seen.views, -1), strict=True))
                count(start + len(these))
            yield part, unread


def _drawn(
    seen: Look, decoded: np.ndarray | BadRecord, drawn_by: tuple[int, int, bytes], index: int
) -> np.ndarray | BadRecord:
    """All views of an image, uint8 [views, size, size, 3], whose numbers hang on seed, view and bytes of the image."""
    if isinstance(decoded, BadRecord):
        return decoded
    seed, salt, image = drawn_by
    generators = [np.random.default_rng((seed, salt, int.from_bytes(image), turn)) for turn in range(seen.views)]
    try:
        return np.stack([seen.host(decoded, generator) for generator in generators])
    except BadImage as error:
        return BadRecord(index, str(error))


def _padded(array: np.ndarray, rows: int) -> np.ndarray:
    """Zeros behind the last row, so that every batch has one shape."""
    return np.concatenate([array, np.zeros((rows - len(array), *array.shape[1:]), array.dtype)])
