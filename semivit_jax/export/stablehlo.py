"""A program for jax without this package: StableHLO for CPU, CUDA and TPU, with a free batch size.

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

from semivit_jax.export.bundle import Bundle, normalise, write_record
from semivit_jax.models import families
from semivit_jax.models.spec import PLAIN
from semivit_jax.weights import layout

PLATFORMS = ("cpu", "cuda", "tpu")


def export_stablehlo(folder: pathlib.Path, bundle: Bundle) -> None:
    """Writes model.stablehlo, params.safetensors ("/"-joined paths) and preprocessing.json.

    The weights are an argument of the program, not constants in it, so that it stays small.
    """
    flat = {path: np.ascontiguousarray(array) for path, array in sorted(layout.flatten(bundle.params).items())}
    safetensors.numpy.save_file(flat, folder / "params.safetensors")
    (folder / "model.stablehlo").write_bytes(_program(bundle, flat))
    write_record(folder, bundle)


def _program(bundle: Bundle, flat: dict[str, np.ndarray]) -> bytearray:
    network = families.network(bundle.spec, PLAIN, 0.0)

    def logits(flat_params: dict[str, jax.Array], pixels: jax.Array) -> jax.Array:
        images = normalise(pixels, bundle.preprocessing)
        return network.logits(layout.unflatten(flat_params), images, None)

    size = bundle.spec.image_size
    (batch,) = jax_export.symbolic_shape("batch")
    arguments = (
        {path: jax.ShapeDtypeStruct(array.shape, array.dtype) for path, array in flat.items()},
        jax.ShapeDtypeStruct((batch, size, size, 3), jnp.uint8),
    )
    return jax_export.export(jax.jit(logits), platforms=PLATFORMS)(*arguments).serialize()
