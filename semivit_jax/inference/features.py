"""Compute logits and features of images with given weights, for grading and probes."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from semivit_jax import console
from semivit_jax.config import Config, DataConfig
from semivit_jax.data.sources.image_set import ImageSet
from semivit_jax.inference.trained import CLASS, Trained, backbone
from semivit_jax.models import families
from semivit_jax.models.families import Network
from semivit_jax.models.spec import PLAIN
from semivit_jax.stages.stage import DeviceView, ImageDraws, see
from semivit_jax.training import sharding
from semivit_jax.training.evaluate import batches_of, eval_rows

Extract = Callable[[ImageSet], tuple[np.ndarray, np.ndarray]]


def extractor(trained: Trained, config: Config, *, most: int | None = None) -> Extract:
    """images -> (float32 features [n, width], labels [n]), without images that cannot be read.

    Args:
      trained: the weights.
      config: names the size of a batch and the mesh.
      most: images of a batch of every set, which one program then does for; None takes no more than a set has.
    """
    trained = backbone(trained)
    features, view = network(trained).features, device_view(config.data)
    mesh = sharding.make_mesh(config.mesh.fsdp)
    params, place = spread(trained.weights.params, mesh), sharding.eval_batch(mesh)
    rows = None if most is None else eval_rows(config, most, mesh.size)
    compiled = jax.jit(lambda p, images: features(p, see(images, ImageDraws(), view)).astype(jnp.float32))

    def extract(images: ImageSet) -> tuple[np.ndarray, np.ndarray]:
        found, labels = [], []
        batches = batches_of(images, config, label=CLASS, num_devices=mesh.size, rows=rows)
        for batch in console.track(batches, "features, batches", total=len(batches)):
            real = batch["mask"] > 0
            found.append(np.asarray(compiled(params, sharding.put(batch["image"], place)))[real])
            labels.append(batch["label"][real])
        return np.concatenate(found), np.concatenate(labels)

    return extract


def network(trained: Trained) -> Network:
    """What the weights compute: those of a run as it trained, imported ones in float32."""
    spec, config = trained.weights.spec, trained.config
    how = PLAIN if config is None else families.compute(config.model, spec, backend=jax.default_backend())
    return families.network(spec, how, 0.0)


def spread(params: Any, mesh: jax.sharding.Mesh) -> Any:
    """The arrays on the devices of the mesh, sharded as in training."""
    # By way of the host: an array on one device cannot be spread over those of other processes.
    return jax.device_put(jax.device_get(params), sharding.state_shardings(mesh, params))


def device_view(data: DataConfig) -> DeviceView:
    """What is done on the device to an image as evaluation has it: it is normalised."""
    return DeviceView(data.mean, data.std, data.image_size, None, 0.0, None)
