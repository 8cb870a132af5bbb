"""Look up each family's Exchange (the table EXCHANGES), and recognise whose weights a file holds."""

import numpy as np

from semivit_jax.models.spec import ModelSpec
from semivit_jax.weights import convnext, layout, vit, vit_clip, vit_data2vec, vit_dinov3, vit_siglip
from semivit_jax.weights.exchange import Exchange
from semivit_jax.weights.layout import Table
from semivit_jax.weights.sources import Configs, Source, model_type
from semivit_jax.weights.tensors import Tensors
from semivit_jax.weights.weights import Weights

# ViTs with other parts have the sign of a ViT, so they are asked first.
EXCHANGES: dict[str, Exchange] = {
    "dinov3": vit_dinov3.EXCHANGE,
    "clip": vit_clip.EXCHANGE,
    "siglip": vit_siglip.EXCHANGE,
    "data2vec": vit_data2vec.EXCHANGE,
    "vit": vit.EXCHANGE,
    "convnext": convnext.EXCHANGE,
}
"""Family -> its exchange."""


_HUGGING_FACE_SIGNS = ("patch_embeddings", "patch_embedding.weight", ".depthwise_conv.")


def recognise(tensors: Tensors, configs: Configs) -> Source:
    """Recognises whose weights a state dict holds: by the config beside it, else by the names of its tensors.

    Args:
      tensors: the state dict without prefixes of wrappers.
      configs: parsed config.json and preprocessor_config.json, where they lie beside it.

    Raises:
      ValueError: a layout that is not known, or a variant the models here cannot represent, by name.
    """
    for exchange in EXCHANGES.values():
        source = exchange.recognise(tensors, configs)
        if source is not None:
            return source
    raise ValueError(_unknown(tensors, configs))


def _unknown(tensors: Tensors, configs: Configs) -> str:
    if model_type(configs):
        *others, last = [kind for exchange in EXCHANGES.values() for kind in exchange.model_types]
        return f"model_type {model_type(configs)!r}: only {', '.join(others)} and {last} are supported"
    if any(sign in name for name in tensors.shapes for sign in _HUGGING_FACE_SIGNS):
        return (
            "Hugging Face weights without their config.json: give the folder or the hub name, because "
            "the number of heads and the LayerNorm eps stand there alone"
        )
    known = ", ".join(layout for exchange in EXCHANGES.values() for layout in exchange.known)
    names = ", ".join(list(tensors.shapes)[:5])
    return f"not a layout known here; its tensors are {names}, ... (known: {known})"


def names_of(spec: ModelSpec) -> Table:
    """What timm and the published MAE call a model's arrays."""
    exchange = EXCHANGES[spec.family]
    if spec.decoder is None:
        return exchange.names(spec)
    return layout.autoencoder_table(exchange.names(spec), exchange.decoder_names or {})


def arrays_of(weights: Weights) -> dict[str, np.ndarray]:
    """Arrays by "/"-joined path; what is a constant of the model here and a tensor elsewhere is among them."""
    flat = {path: np.asarray(leaf) for path, leaf in layout.flatten(weights.params).items()}
    return flat | EXCHANGES[weights.spec.family].constants(weights.spec)
