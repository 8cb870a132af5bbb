"""Map the arrays of CLIP's image tower to their names elsewhere."""

from semivit_jax.weights import vit_names
from semivit_jax.weights.layout import BLOCK, Table, dense_rows, norm_rows

TIMM: Table = {**vit_names.TIMM, **norm_rows("norm_pre", "norm_pre")}


def _blocks(block: str, norms: tuple[str, str], mlp: tuple[str, str]) -> dict[str, str | tuple[str, ...]]:
    """Rows that layouts have under their own words in a block."""
    table: dict[str, str | tuple[str, ...]] = {}
    for number in (0, 1):
        table |= norm_rows(f"blocks/norm{number + 1}", f"{block}.{norms[number]}")
        table |= dense_rows(f"blocks/mlp/fc{number + 1}", f"{block}.mlp.{mlp[number]}")
    return table


def _hugging_face() -> Table:
    block = f"encoder.layers.{BLOCK}"
    attention = {
        f"blocks/attn/qkv/{ours}": tuple(f"{block}.self_attn.{part}_proj.{theirs}" for part in "qkv")
        for ours, theirs in (("kernel", "weight"), ("bias", "bias"))
    }
    return {
        "patch_embed/kernel": "embeddings.patch_embedding.weight",
        "cls_token": "embeddings.class_embedding",
        "posemb": "embeddings.position_embedding.weight",
        **norm_rows("norm_pre", "pre_layrnorm"),
        **attention,
        **dense_rows("blocks/attn/proj", f"{block}.self_attn.out_proj"),
        **_blocks(block, ("layer_norm1", "layer_norm2"), ("fc1", "fc2")),
        **norm_rows("norm", "post_layernorm"),
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


HUGGING_FACE, OPENAI = _hugging_face(), _openai()
