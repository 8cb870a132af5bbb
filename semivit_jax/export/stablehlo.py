"""Export a StableHLO program for jax without this package: CPU, CUDA, TPU, any batch size.

exported = jax.export.deserialize(bytearray(pathlib.Path("model.stablehlo").read_bytes()))
params = safetensors.numpy.load_file("params.safetensors")
logits = exported.call(params, images)  # images: uint8 (batch, size, size, 3), see preprocessing.json
"""

import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import safetensors.numpy
from jax import export as jax_export

from semivit_jax.export.record import write_record
from semivit_jax.models import families
from semivit_jax.models.spec import PLAIN
from semivit_jax.weights import layout
from semivit_jax.weights.preprocessing import normalise
from semivit_jax.weights.weights import Weights

PLATFORMS = ("cpu", "cuda", "tpu")


def export_stablehlo(folder: pathlib.Path, weights: Weights) -> None:
    """Writes model.stablehlo, params.safetensors ("/"-joined paths) and preprocessing.json.

    The weights are an argument of the program, not constants in it, so that it stays small.
    """
    flat = {path: np.ascontiguousarray(array) for path, array in sorted(layout.flatten(weights.params).items())}
    folder.mkdir(parents=True, exist_ok=True)
    safetensors.numpy.save_file(flat, folder / "params.safetensors")
    (folder / "model.stablehlo").write_bytes(_program(weights, flat))
    write_record(folder, weights)


def _program(weights: Weights, flat: dict[str, np.ndarray]) -> bytearray:
    network = families.network(weights.spec, PLAIN, 0.0)

    def logits(flat_params: dict[str, jax.Array], pixels: jax.Array) -> jax.Array:
        images = normalise(pixels, weights.preprocessing)
        return network.logits(layout.unflatten(flat_params), images, None)

    size = weights.spec.image_size
    (batch,) = jax_export.symbolic_shape("batch")
    arguments = (
        {path: jax.ShapeDtypeStruct(array.shape, array.dtype) for path, array in flat.items()},
        jax.ShapeDtypeStruct((batch, size, size, 3), jnp.uint8),
    )
    return jax_export.export(jax.jit(logits), platforms=PLATFORMS)(*arguments).serialize()
