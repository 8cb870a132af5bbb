"""What weights see in images: their logits, and the features that their head reads or a probe is fitted on."""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from semivit_jax.config import Config, DataConfig
from semivit_jax.data.eval_pipeline import EvalBatches, eval_batches
from semivit_jax.data.sources.image_set import ImageSet
from semivit_jax.inference.trained import Trained, backbone
from semivit_jax.models import families
from semivit_jax.stages.stage import ImageDraws, ViewSpec, see
from semivit_jax.training import sharding
from semivit_jax.weights.facts import MaeFacts, VitFacts

Apply = Callable[[Any, jax.Array], jax.Array]
Extract = Callable[[ImageSet], tuple[np.ndarray, np.ndarray]]


class Functions(NamedTuple):
    """(params, normalised images) -> logits, or what the head reads."""

    logits: Apply
    features: Apply


def extractor(trained: Trained, config: Config) -> Extract:
    """images -> (float32 features [n, width], labels [n]), without images that cannot be read."""
    trained = backbone(trained)
    features, view = functions(trained).features, device_view(config.data)
    mesh = sharding.make_mesh(config.mesh.fsdp)
    params, rows = spread(trained.params, mesh), sharding.eval_batch(mesh)
    compiled = jax.jit(lambda p, images: features(p, see(images, ImageDraws(), view)).astype(jnp.float32))

    def extract(images: ImageSet) -> tuple[np.ndarray, np.ndarray]:
        found, labels = [], []
        for batch in batches(images, config, mesh.size):
            real = batch["mask"] > 0
            found.append(np.asarray(compiled(params, sharding.put(batch["image"], rows)))[real])
            labels.append(batch["label"][real])
        return np.concatenate(found), np.concatenate(labels)

    return extract


def functions(trained: Trained) -> Functions:
    """What a model with a backbone computes: a run as it trained, an import in float32."""
    model, config = trained.model, trained.config
    assert not isinstance(model, MaeFacts)
    if config is None:
        module = model.module()
        return Functions(
            lambda params, images: module.apply({"params": params}, images),  # pyright: ignore
            lambda params, images: module.apply({"params": params}, images, method="features"),  # pyright: ignore
        )
    section = config.model
    if isinstance(model, VitFacts):  # an MAE's encoder is read otherwise than the later stages' models
        section = dataclasses.replace(section, pool=model.pool, posemb=model.posemb)
    built = families.classifier(
        section,
        image_size=model.image_size,
        num_classes=model.num_classes,
        drop_path_rate=0.0,
        backend=jax.default_backend(),
    )
    return Functions(lambda params, images: built.logits(params, images, None), built.features)


def batches(images: ImageSet, config: Config, num_devices: int) -> EvalBatches:
    """This host's rows of the images; the batch is rounded up to fill every device."""
    size = -(-config.train.eval_batch_size // num_devices) * num_devices
    return eval_batches(
        images,
        config.data,
        batch_size=size,
        process_index=jax.process_index(),
        process_count=jax.process_count(),
    )


def spread(params: Any, mesh: jax.sharding.Mesh) -> Any:
    """The arrays on the devices of the mesh, sharded as in training."""
    # By way of the host: an array on one device cannot be spread over those of other processes.
    return jax.device_put(jax.device_get(params), sharding.state_shardings(mesh, params))


def device_view(data: DataConfig) -> ViewSpec:
    """What is done on the device to an image as evaluation has it: it is normalised."""
    return ViewSpec(data.mean, data.std, data.image_size, None, 0.0, None)
