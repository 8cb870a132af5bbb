"""Image towers of CLIP and SigLIP as transformers stores them, with drawn weights and without transformers."""

import json
from pathlib import Path

import numpy as np
import safetensors.numpy

from semivit_jax.models import families
from semivit_jax.models.clip import CLIP_SIZES
from semivit_jax.models.siglip import SIGLIP_SIZES
from semivit_jax.models.spec import ModelSpec
from semivit_jax.models.vit import ViTSize
from semivit_jax.weights import layout
from semivit_jax.weights.vit_tower_names import CLIP_HUGGING_FACE, JOINED, SIGLIP_HUGGING_FACE

VARIANT = "tower_test"
SIZES = {
    "clip": (CLIP_SIZES, ViTSize(8, 48, 2, 3, 96, mlp="quick_gelu"), "cls"),
    "siglip": (SIGLIP_SIZES, ViTSize(8, 48, 2, 3, 96, mlp="gelu_tanh"), "map"),
}
"""family: (its table of sizes, a small one, what a head reads)."""


def arrays(spec: ModelSpec, *, std: float = 1.0) -> dict[str, np.ndarray]:
    """Every parameter of a model by path, drawn."""
    generator = np.random.default_rng(0)
    return {
        path: (std * generator.standard_normal(shape)).astype(np.float32)
        for path, shape in families.shapes(spec).items()
    }


def write_hugging_face(folder: Path, spec: ModelSpec, ours: dict[str, np.ndarray], **more: np.ndarray) -> None:
    """Writes model.safetensors and config.json of a tower; `more` are tensors beside it.

    The config leaves out what is usual, such as the activation. transformers has the query, the key and the value of
    SigLIP's pooling in one tensor, and no batch axis before class tokens and position embeddings.
    """
    table = CLIP_HUGGING_FACE if spec.family == "clip" else SIGLIP_HUGGING_FACE
    tensors = layout.state_dict(ours, table)
    if spec.pool == "map":
        for leaf in ("weight", "bias"):
            parts = [tensors.pop(f"{JOINED}({part}).{leaf}") for part in ("query", "key, value")]
            tensors[f"{JOINED}_{leaf}"] = np.concatenate(parts)
    for path in ("cls_token", "posemb"):
        name = str(table.get(path))
        if name in tensors:
            tensors[name] = tensors[name].reshape((-1, spec.size.width) if path == "posemb" else (spec.size.width,))
    tensors = {f"vision_model.{name}": tensor for name, tensor in tensors.items()} | more
    folder.mkdir(exist_ok=True)
    safetensors.numpy.save_file(
        {name: np.ascontiguousarray(tensor, np.float32) for name, tensor in tensors.items()},
        folder / "model.safetensors",
    )
    vision = {"num_attention_heads": spec.size.num_heads, "image_size": spec.image_size}
    (folder / "config.json").write_text(json.dumps({"model_type": spec.family, "vision_config": vision}))
