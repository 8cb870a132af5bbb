"""Which of our arrays is called what elsewhere: one table per layout, read by `layout.slots`.

Left: our path. Right: the name in the state dict, "{block}" for the block number; three names where query,
key and value are stored apart.
"""

from collections.abc import Mapping

Table = Mapping[str, str | tuple[str, ...]]

_WEIGHT_AND_BIAS = {"kernel": "weight", "scale": "weight", "bias": "bias"}


def _affine(ours: str, theirs: str, leaves: str) -> dict[str, str]:
    return {f"{ours}/{leaf}": f"{theirs}.{_WEIGHT_AND_BIAS[leaf]}" for leaf in leaves.split()}


def _dense(ours: str, theirs: str) -> dict[str, str]:
    return _affine(ours, theirs, "kernel bias")


def _norm(ours: str, theirs: str) -> dict[str, str]:
    return _affine(ours, theirs, "scale bias")


def _timm_blocks(ours: str, theirs: str) -> dict[str, str]:
    return {
        **_norm(f"{ours}/norm1", f"{theirs}.{{block}}.norm1"),
        **_dense(f"{ours}/attn/qkv", f"{theirs}.{{block}}.attn.qkv"),
        **_dense(f"{ours}/attn/proj", f"{theirs}.{{block}}.attn.proj"),
        **_norm(f"{ours}/norm2", f"{theirs}.{{block}}.norm2"),
        **_dense(f"{ours}/mlp/fc1", f"{theirs}.{{block}}.mlp.fc1"),
        **_dense(f"{ours}/mlp/fc2", f"{theirs}.{{block}}.mlp.fc2"),
    }


def _hugging_face_attention(ours: str, theirs: str) -> dict[str, str | tuple[str, ...]]:
    def parts(leaf: str) -> tuple[str, ...]:
        return tuple(f"{theirs}.attention.attention.{part}.{leaf}" for part in ("query", "key", "value"))

    return {
        f"{ours}/attn/qkv/kernel": parts("weight"),
        f"{ours}/attn/qkv/bias": parts("bias"),
        **_dense(f"{ours}/attn/proj", f"{theirs}.attention.output.dense"),
    }


def _hugging_face_blocks(ours: str, theirs: str) -> dict[str, str | tuple[str, ...]]:
    block = f"{theirs}.{{block}}"
    return {
        **_norm(f"{ours}/norm1", f"{block}.layernorm_before"),
        **_hugging_face_attention(ours, block),
        **_norm(f"{ours}/norm2", f"{block}.layernorm_after"),
        **_dense(f"{ours}/mlp/fc1", f"{block}.intermediate.dense"),
        **_dense(f"{ours}/mlp/fc2", f"{block}.output.dense"),
    }


def _hugging_face_dinov2_blocks(ours: str, theirs: str) -> dict[str, str | tuple[str, ...]]:
    block = f"{theirs}.{{block}}"
    return {
        **_norm(f"{ours}/norm1", f"{block}.norm1"),
        **_hugging_face_attention(ours, block),
        **_norm(f"{ours}/norm2", f"{block}.norm2"),
        **_dense(f"{ours}/mlp/fc1", f"{block}.mlp.fc1"),
        **_dense(f"{ours}/mlp/fc2", f"{block}.mlp.fc2"),
    }


_HUGGING_FACE_EMBEDDINGS = {
    **_dense("patch_embed", "embeddings.patch_embeddings.projection"),
    "cls_token": "embeddings.cls_token",
    "posemb": "embeddings.position_embeddings",
}

TIMM_VIT: Table = {
    **_dense("patch_embed", "patch_embed.proj"),
    "cls_token": "cls_token",
    "posemb": "pos_embed",
    **_timm_blocks("blocks", "blocks"),
    **_norm("norm", "norm"),
    **_norm("fc_norm", "fc_norm"),
    **_dense("head", "head"),
}
"""timm, MAE, DINO, DINOv2 as published, and the published Semi-ViT checkpoints."""

TIMM_LAYER_SCALE = {
    "blocks.{block}.attn.proj": "blocks.{block}.ls1.gamma",
    "blocks.{block}.mlp.fc2": "blocks.{block}.ls2.gamma",
}
"""Last linear layer of each branch -> factor per channel of the branch (DINOv2); folded on import."""

MAE_DECODER: Table = {
    **_dense("embed", "decoder_embed"),
    "mask_token": "mask_token",
    **_timm_blocks("blocks", "decoder_blocks"),
    **_norm("norm", "decoder_norm"),
    **_dense("pred", "decoder_pred"),
}

HUGGING_FACE_VIT: Table = {
    **_HUGGING_FACE_EMBEDDINGS,
    **_hugging_face_blocks("blocks", "encoder.layer"),
    **_norm("norm", "layernorm"),
    **_dense("head", "classifier"),
}
"""ViTModel, ViTForImageClassification and the encoder of ViTMAE, without their "vit." prefix."""

HUGGING_FACE_DINOV2: Table = {
    **_HUGGING_FACE_EMBEDDINGS,
    **_hugging_face_dinov2_blocks("blocks", "encoder.layer"),
    **_norm("norm", "layernorm"),
}

HUGGING_FACE_LAYER_SCALE = {
    "encoder.layer.{block}.attention.output.dense": "encoder.layer.{block}.layer_scale1.lambda1",
    "encoder.layer.{block}.mlp.fc2": "encoder.layer.{block}.layer_scale2.lambda1",
}

HUGGING_FACE_MAE_DECODER: Table = {
    **_dense("embed", "decoder.decoder_embed"),
    "mask_token": "decoder.mask_token",
    **_hugging_face_blocks("blocks", "decoder.decoder_encoder.layer"),
    **_norm("norm", "decoder.decoder_norm"),
    **_dense("pred", "decoder.decoder_pred"),
}


def _published_convnext_stage(stage: int) -> dict[str, str]:
    ours, block = f"stages_{stage}", f"stages.{stage}.{{block}}"
    # The stem is convolution, norm; the other three are norm, convolution.
    conv, norm = (0, 1) if stage == 0 else (1, 0)
    return {
        **_dense(f"downsample_{stage}/conv", f"downsample_layers.{stage}.{conv}"),
        **_norm(f"downsample_{stage}/norm", f"downsample_layers.{stage}.{norm}"),
        **_dense(f"{ours}/dwconv", f"{block}.dwconv"),
        **_norm(f"{ours}/norm", f"{block}.norm"),
        **_dense(f"{ours}/fc1", f"{block}.pwconv1"),
        **_dense(f"{ours}/fc2", f"{block}.pwconv2"),
        f"{ours}/gamma": f"{block}.gamma",
    }


def _timm_convnext_stage(stage: int) -> dict[str, str]:
    ours, block = f"stages_{stage}", f"stages.{stage}.blocks.{{block}}"
    conv, norm = ("stem.0", "stem.1") if stage == 0 else (f"stages.{stage}.downsample.{i}" for i in (1, 0))
    return {
        **_dense(f"downsample_{stage}/conv", conv),
        **_norm(f"downsample_{stage}/norm", norm),
        **_dense(f"{ours}/dwconv", f"{block}.conv_dw"),
        **_norm(f"{ours}/norm", f"{block}.norm"),
        **_dense(f"{ours}/fc1", f"{block}.mlp.fc1"),
        **_dense(f"{ours}/fc2", f"{block}.mlp.fc2"),
        f"{ours}/gamma": f"{block}.gamma",
    }


def _hugging_face_convnext_stage(stage: int) -> dict[str, str]:
    ours, theirs = f"stages_{stage}", f"encoder.stages.{stage}"
    block = f"{theirs}.layers.{{block}}"
    embeddings = ("embeddings.patch_embeddings", "embeddings.layernorm")
    conv, norm = embeddings if stage == 0 else (f"{theirs}.downsampling_layer.{i}" for i in (1, 0))
    return {
        **_dense(f"downsample_{stage}/conv", conv),
        **_norm(f"downsample_{stage}/norm", norm),
        **_dense(f"{ours}/dwconv", f"{block}.dwconv"),
        **_norm(f"{ours}/norm", f"{block}.layernorm"),
        **_dense(f"{ours}/fc1", f"{block}.pwconv1"),
        **_dense(f"{ours}/fc2", f"{block}.pwconv2"),
        f"{ours}/gamma": f"{block}.layer_scale_parameter",
    }


_STAGES = range(4)

PUBLISHED_CONVNEXT: Table = {
    **{ours: theirs for stage in _STAGES for ours, theirs in _published_convnext_stage(stage).items()},
    **_norm("norm", "norm"),
    **_dense("head", "head"),
}

TIMM_CONVNEXT: Table = {
    **{ours: theirs for stage in _STAGES for ours, theirs in _timm_convnext_stage(stage).items()},
    **_norm("norm", "head.norm"),
    **_dense("head", "head.fc"),
}

HUGGING_FACE_CONVNEXT: Table = {
    **{ours: theirs for stage in _STAGES for ours, theirs in _hugging_face_convnext_stage(stage).items()},
    **_norm("norm", "layernorm"),
    **_dense("head", "classifier"),
}
"""ConvNextModel and ConvNextForImageClassification, without their "convnext." prefix."""
