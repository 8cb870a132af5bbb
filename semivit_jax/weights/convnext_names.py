"""Map the arrays of a ConvNeXt to their names elsewhere."""

from semivit_jax.weights.layout import Table, dense_rows, norm_rows

STAGES = range(4)


def _published_stage(stage: int) -> dict[str, str]:
    ours, block = f"stages_{stage}", f"stages.{stage}.{{block}}"
    # The stem is convolution, norm; the other three are norm, convolution.
    conv, norm = (0, 1) if stage == 0 else (1, 0)
    return {
        **dense_rows(f"downsample_{stage}/conv", f"downsample_layers.{stage}.{conv}"),
        **norm_rows(f"downsample_{stage}/norm", f"downsample_layers.{stage}.{norm}"),
        **dense_rows(f"{ours}/dwconv", f"{block}.dwconv"),
        **norm_rows(f"{ours}/norm", f"{block}.norm"),
        **dense_rows(f"{ours}/fc1", f"{block}.pwconv1"),
        **dense_rows(f"{ours}/fc2", f"{block}.pwconv2"),
        f"{ours}/gamma": f"{block}.gamma",
    }


def _timm_stage(stage: int) -> dict[str, str]:
    ours, block = f"stages_{stage}", f"stages.{stage}.blocks.{{block}}"
    conv, norm = ("stem.0", "stem.1") if stage == 0 else (f"stages.{stage}.downsample.{i}" for i in (1, 0))
    return {
        **dense_rows(f"downsample_{stage}/conv", conv),
        **norm_rows(f"downsample_{stage}/norm", norm),
        **dense_rows(f"{ours}/dwconv", f"{block}.conv_dw"),
        **norm_rows(f"{ours}/norm", f"{block}.norm"),
        **dense_rows(f"{ours}/fc1", f"{block}.mlp.fc1"),
        **dense_rows(f"{ours}/fc2", f"{block}.mlp.fc2"),
        f"{ours}/gamma": f"{block}.gamma",
    }


def _hugging_face_stage(stage: int) -> dict[str, str]:
    ours, theirs = f"stages_{stage}", f"encoder.stages.{stage}"
    block = f"{theirs}.layers.{{block}}"
    embeddings = ("embeddings.patch_embeddings", "embeddings.layernorm")
    conv, norm = embeddings if stage == 0 else (f"{theirs}.downsampling_layer.{i}" for i in (1, 0))
    return {
        **dense_rows(f"downsample_{stage}/conv", conv),
        **norm_rows(f"downsample_{stage}/norm", norm),
        **dense_rows(f"{ours}/dwconv", f"{block}.dwconv"),
        **norm_rows(f"{ours}/norm", f"{block}.layernorm"),
        **dense_rows(f"{ours}/fc1", f"{block}.pwconv1"),
        **dense_rows(f"{ours}/fc2", f"{block}.pwconv2"),
        f"{ours}/gamma": f"{block}.layer_scale_parameter",
    }


def _dinov3_stage(stage: int) -> dict[str, str]:
    ours, theirs = f"stages_{stage}", f"stages.{stage}"
    block = f"{theirs}.layers.{{block}}"
    conv, norm = (0, 1) if stage == 0 else (1, 0)
    return {
        **dense_rows(f"downsample_{stage}/conv", f"{theirs}.downsample_layers.{conv}"),
        **norm_rows(f"downsample_{stage}/norm", f"{theirs}.downsample_layers.{norm}"),
        **dense_rows(f"{ours}/dwconv", f"{block}.depthwise_conv"),
        **norm_rows(f"{ours}/norm", f"{block}.layer_norm"),
        **dense_rows(f"{ours}/fc1", f"{block}.pointwise_conv1"),
        **dense_rows(f"{ours}/fc2", f"{block}.pointwise_conv2"),
        f"{ours}/gamma": f"{block}.gamma",
    }


PUBLISHED: Table = {
    **{ours: theirs for stage in STAGES for ours, theirs in _published_stage(stage).items()},
    **norm_rows("norm", "norm"),
    **dense_rows("head", "head"),
}

TIMM: Table = {
    **{ours: theirs for stage in STAGES for ours, theirs in _timm_stage(stage).items()},
    **norm_rows("norm", "head.norm"),
    **dense_rows("head", "head.fc"),
}

HUGGING_FACE: Table = {
    **{ours: theirs for stage in STAGES for ours, theirs in _hugging_face_stage(stage).items()},
    **norm_rows("norm", "layernorm"),
    **dense_rows("head", "classifier"),
}
"""ConvNextModel and ConvNextForImageClassification, without their "convnext." prefix."""

HUGGING_FACE_DINOV3: Table = {
    **{ours: theirs for stage in STAGES for ours, theirs in _dinov3_stage(stage).items()},
    **norm_rows("norm", "layer_norm"),
}
"""DINOv3ConvNextModel, without the `model.` that some versions have before the names of its stages."""
