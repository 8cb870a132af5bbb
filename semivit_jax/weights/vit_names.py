"""Map the arrays of a ViT, and of an MAE decoder, to their names elsewhere."""

from semivit_jax.weights.layout import Table, dense_rows, norm_rows


def _timm_blocks(ours: str, theirs: str) -> dict[str, str]:
    return {
        f"{ours}/ls1/gamma": f"{theirs}.{{block}}.ls1.gamma",
        f"{ours}/ls2/gamma": f"{theirs}.{{block}}.ls2.gamma",
        **norm_rows(f"{ours}/norm1", f"{theirs}.{{block}}.norm1"),
        **dense_rows(f"{ours}/attn/qkv", f"{theirs}.{{block}}.attn.qkv"),
        **dense_rows(f"{ours}/attn/proj", f"{theirs}.{{block}}.attn.proj"),
        **norm_rows(f"{ours}/norm2", f"{theirs}.{{block}}.norm2"),
        **dense_rows(f"{ours}/mlp/fc1", f"{theirs}.{{block}}.mlp.fc1"),
        **dense_rows(f"{ours}/mlp/fc2", f"{theirs}.{{block}}.mlp.fc2"),
    }


def _hugging_face_attention(ours: str, theirs: str) -> dict[str, str | tuple[str, ...]]:
    def parts(leaf: str) -> tuple[str, ...]:
        return tuple(f"{theirs}.attention.attention.{part}.{leaf}" for part in ("query", "key", "value"))

    return {
        f"{ours}/attn/qkv/kernel": parts("weight"),
        f"{ours}/attn/qkv/bias": parts("bias"),
        **dense_rows(f"{ours}/attn/proj", f"{theirs}.attention.output.dense"),
    }


def _hugging_face_blocks(ours: str, theirs: str) -> dict[str, str | tuple[str, ...]]:
    block = f"{theirs}.{{block}}"
    return {
        **norm_rows(f"{ours}/norm1", f"{block}.layernorm_before"),
        **_hugging_face_attention(ours, block),
        **norm_rows(f"{ours}/norm2", f"{block}.layernorm_after"),
        **dense_rows(f"{ours}/mlp/fc1", f"{block}.intermediate.dense"),
        **dense_rows(f"{ours}/mlp/fc2", f"{block}.output.dense"),
    }


def _hugging_face_dinov2_blocks(ours: str, theirs: str) -> dict[str, str | tuple[str, ...]]:
    block = f"{theirs}.{{block}}"
    return {
        f"{ours}/ls1/gamma": f"{block}.layer_scale1.lambda1",
        f"{ours}/ls2/gamma": f"{block}.layer_scale2.lambda1",
        **norm_rows(f"{ours}/norm1", f"{block}.norm1"),
        **_hugging_face_attention(ours, block),
        **norm_rows(f"{ours}/norm2", f"{block}.norm2"),
        **dense_rows(f"{ours}/mlp/fc1", f"{block}.mlp.fc1"),
        **dense_rows(f"{ours}/mlp/fc2", f"{block}.mlp.fc2"),
    }


_HUGGING_FACE_EMBEDDINGS = {
    **dense_rows("patch_embed", "embeddings.patch_embeddings.projection"),
    "cls_token": "embeddings.cls_token",
    "posemb": "embeddings.position_embeddings",
}

TIMM: Table = {
    **dense_rows("patch_embed", "patch_embed.proj"),
    "cls_token": "cls_token",
    "register_tokens": "reg_token",
    "posemb": "pos_embed",
    **_timm_blocks("blocks", "blocks"),
    **norm_rows("norm", "norm"),
    **norm_rows("fc_norm", "fc_norm"),
    **dense_rows("head", "head"),
}
"""timm, MAE, DINO, DINOv2 as published, and the published Semi-ViT checkpoints."""

LAYER_SCALE = {"attn/proj": "ls1/gamma", "mlp/fc2": "ls2/gamma"}
"""Last linear layer of each branch of a block -> factor per channel of the branch."""

TIMM_DECODER: Table = {
    "posemb": "decoder_pos_embed",
    **dense_rows("embed", "decoder_embed"),
    "mask_token": "mask_token",
    **_timm_blocks("blocks", "decoder_blocks"),
    **norm_rows("norm", "decoder_norm"),
    **dense_rows("pred", "decoder_pred"),
}

HUGGING_FACE: Table = {
    **_HUGGING_FACE_EMBEDDINGS,
    **_hugging_face_blocks("blocks", "encoder.layer"),
    **norm_rows("norm", "layernorm"),
    **dense_rows("head", "classifier"),
}
"""ViTModel, ViTForImageClassification and the encoder of ViTMAE, without their "vit." prefix."""

HUGGING_FACE_DINOV2: Table = {
    **_HUGGING_FACE_EMBEDDINGS,
    "register_tokens": "embeddings.register_tokens",
    **_hugging_face_dinov2_blocks("blocks", "encoder.layer"),
    **norm_rows("norm", "layernorm"),
}

HUGGING_FACE_DINOV2_CLASSIFIER: Table = {**HUGGING_FACE_DINOV2, **dense_rows("head", "classifier")}

HUGGING_FACE_DINOV2_GATED: Table = {
    **HUGGING_FACE_DINOV2_CLASSIFIER,
    **dense_rows("blocks/mlp/fc1", "encoder.layer.{block}.mlp.weights_in"),
    **dense_rows("blocks/mlp/fc2", "encoder.layer.{block}.mlp.weights_out"),
}

HUGGING_FACE_DECODER: Table = {
    "posemb": "decoder.decoder_pos_embed",
    **dense_rows("embed", "decoder.decoder_embed"),
    "mask_token": "decoder.mask_token",
    **_hugging_face_blocks("blocks", "decoder.decoder_encoder.layer"),
    **norm_rows("norm", "decoder.decoder_norm"),
    **dense_rows("pred", "decoder.decoder_pred"),
}
