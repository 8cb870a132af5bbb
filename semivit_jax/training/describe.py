"""Describe the batches that a stage's steps take: shapes, dtypes and places, without any data."""

from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import AbstractMesh, Mesh

from semivit_jax.config import Config
from semivit_jax.data import bank
from semivit_jax.data.images.views import leaves_of
from semivit_jax.data.rows import LABELS
from semivit_jax.plan import Plan, Stream, as_batch
from semivit_jax.training import sharding

PyTree = Any


def describe_batch(config: Config, plan: Plan, mesh: Mesh | AbstractMesh) -> PyTree:
    """A batch as the input pipeline makes it (`data.pipeline.TrainBatches`), with shapes and dtypes alone."""
    size = config.data.image_size
    spread = sharding.train_batch(mesh)  # pyright: ignore[reportArgumentType]

    def leaves(stream: Stream) -> dict[str, jax.ShapeDtypeStruct]:
        def leaf(shape: tuple[int, ...], dtype: Any) -> jax.ShapeDtypeStruct:
            rows = plan.micro_batch * stream.per_row
            return jax.ShapeDtypeStruct((plan.accum, rows, *shape), dtype, sharding=spread)

        found = {name: leaf((size, size, 3), jnp.uint8) for name in leaves_of(config.data, stream.views)}
        if stream.label:
            found["label"] = leaf(LABELS[stream.label].shape(plan.num_classes), jnp.int32)
        if stream.image_id:
            found["image_id"] = leaf((), jnp.int32)
        if stream.bank:
            classes = (bank.width(plan.num_classes),)
            found |= {"bank_class": leaf(classes, jnp.int32), "bank_prob": leaf(classes, jnp.float32)}
        return found

    return as_batch({stream.name: leaves(stream) for stream in plan.streams})


def describe_key(mesh: Mesh) -> jax.ShapeDtypeStruct:
    """The stage's key, on every device."""
    key = jax.eval_shape(lambda: jax.random.key(0))
    return jax.ShapeDtypeStruct(key.shape, key.dtype, sharding=sharding.replicated(mesh))
