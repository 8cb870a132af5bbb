"""Read the names of MIM-Refiner's files (Alkin et al. 2024), as its published model code gives them."""

from semivit_jax.weights.tensors import Tensors

_TOKEN, _POSEMB = "cls_tokens.tokens", "pos_embed.embed"


def is_refined(tensors: Tensors) -> bool:
    """Whether names are those of MIM-Refiner's ViTs, of either order of norms."""
    return {_TOKEN, _POSEMB} <= tensors.shapes.keys()


def as_timm_names_them(tensors: Tensors) -> Tensors:
    """The same under timm's names; the position embedding (1, rows, columns, width) has its patches on one axis."""
    stored, shape = tensors.read, tensors.shapes[_POSEMB]
    if len(shape) == 4:
        flat = (1, shape[1] * shape[2], shape[3])
        tensors = tensors.replaced(_POSEMB, flat, lambda: stored(_POSEMB).reshape(flat))
    names = {_TOKEN: "cls_token", _POSEMB: "pos_embed"}
    return tensors.renamed(lambda name: names.get(name, name.replace("embed_norm.", "norm_pre.")))
