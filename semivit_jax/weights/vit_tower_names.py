"""Map the arrays of CLIP's and SigLIP's image towers to their names elsewhere."""

from semivit_jax.weights import vit_names
from semivit_jax.weights.layout import BLOCK, Table, dense_rows, norm_rows

CLIP_TIMM: Table = {**vit_names.TIMM, **norm_rows("norm_pre", "norm_pre")}


def _blocks(block: str, norms: tuple[str, str], mlp: tuple[str, str]) -> dict[str, str | tuple[str, ...]]:
    """Rows that layouts have under their own words in a block."""
    table: dict[str, str | tuple[str, ...]] = {}
    for number in (0, 1):
        table |= norm_rows(f"blocks/norm{number + 1}", f"{block}.{norms[number]}")
        table |= dense_rows(f"blocks/mlp/fc{number + 1}", f"{block}.mlp.{mlp[number]}")
    return table


def _hugging_face_blocks() -> dict[str, str | tuple[str, ...]]:
    block = f"encoder.layers.{BLOCK}"
    attention = {
        f"blocks/attn/qkv/{ours}": tuple(f"{block}.self_attn.{part}_proj.{theirs}" for part in "qkv")
        for ours, theirs in (("kernel", "weight"), ("bias", "bias"))
    }
    return {
        **attention,
        **dense_rows("blocks/attn/proj", f"{block}.self_attn.out_proj"),
        **_blocks(block, ("layer_norm1", "layer_norm2"), ("fc1", "fc2")),
    }


def _openai() -> Table:
    block = f"visual.transformer.resblocks.{BLOCK}"
    return {
        "patch_embed/kernel": "visual.conv1.weight",
        "cls_token": "visual.class_embedding",
        "posemb": "visual.positional_embedding",
        **norm_rows("norm_pre", "visual.ln_pre"),
        "blocks/attn/qkv/kernel": f"{block}.attn.in_proj_weight",
        "blocks/attn/qkv/bias": f"{block}.attn.in_proj_bias",
        **dense_rows("blocks/attn/proj", f"{block}.attn.out_proj"),
        **_blocks(block, ("ln_1", "ln_2"), ("c_fc", "c_proj")),
        **norm_rows("norm", "visual.ln_post"),
    }


CLIP_HUGGING_FACE: Table = {
    "patch_embed/kernel": "embeddings.patch_embedding.weight",
    "cls_token": "embeddings.class_embedding",
    "posemb": "embeddings.position_embedding.weight",
    **norm_rows("norm_pre", "pre_layrnorm"),
    **_hugging_face_blocks(),
    **norm_rows("norm", "post_layernorm"),
}
"""CLIPVisionModel, without `vision_model.` before its names where others have it."""

CLIP_OPENAI = _openai()
"""OpenAI's, which OpenCLIP shares."""


def _pool_rows(probe: str, query: str, key_value: str, proj: str, norm: str, mlp: str) -> dict[str, str]:
    rows = {"attn_pool/probe": probe, **norm_rows("attn_pool/norm", norm)}
    layers = {"query": query, "key_value": key_value, "proj": proj, "mlp/fc1": f"{mlp}.fc1", "mlp/fc2": f"{mlp}.fc2"}
    for ours, theirs in layers.items():
        rows |= dense_rows(f"attn_pool/{ours}", theirs)
    return rows


SIGLIP_TIMM: Table = {
    **{path: name for path, name in vit_names.TIMM.items() if not path.startswith(("cls_token", "fc_norm"))},
    **_pool_rows(
        "attn_pool.latent", "attn_pool.q", "attn_pool.kv", "attn_pool.proj", "attn_pool.norm", "attn_pool.mlp"
    ),
}
JOINED = "head.attention.in_proj"  # query, key and value in one tensor, which `vit_siglip` takes apart
SIGLIP_HUGGING_FACE: Table = {
    **dense_rows("patch_embed", "embeddings.patch_embedding"),
    "posemb": "embeddings.position_embedding.weight",
    **_hugging_face_blocks(),
    **norm_rows("norm", "post_layernorm"),
    **_pool_rows(
        "head.probe",
        f"{JOINED}(query)",
        f"{JOINED}(key, value)",
        "head.attention.out_proj",
        "head.layernorm",
        "head.mlp",
    ),
    **dense_rows("head", "classifier"),
}
"""SiglipVisionModel and SiglipForImageClassification, without `vision_model.` before them."""
