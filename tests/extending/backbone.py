"""A backbone of one's own: MLP-Mixer (Tolstikhin et al. 2021), which is trained, imported and exported.

Two lines make it known: FAMILIES["mixer"] = FAMILY makes its sizes legal names of config.model.variant, and
EXCHANGES["mixer"] = EXCHANGE says what it is called elsewhere: in timm, and in weights that somebody published.

Parameters: patch_embed/{kernel (p,p,3,W), bias}, norm/{scale, bias}, head/{kernel (W,K), bias}; and with a leading
axis for the depth layers/{norm1, norm2}/{scale, bias}, layers/{tokens, channels}/{fc1, fc2}/{kernel, bias}.
"""

import dataclasses
from collections.abc import Mapping

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from semivit_jax.models import cost as cost_lib
from semivit_jax.models import families
from semivit_jax.models.cost import Cost, Flops, Stack
from semivit_jax.models.layers import (
    LAYER_NORM_EPS,
    Dense,
    Mlp,
    fan_in_uniform,
    layer_norm,
    masked,
    normal_init,
    scanned,
)
from semivit_jax.models.patches import CHANNELS, PatchEmbed, patchify
from semivit_jax.models.spec import Compute, Family, ModelSpec
from semivit_jax.ops.optim import PathTable
from semivit_jax.weights.exchange import HEAD, Exchange, Timm, Wanted, as_they_are
from semivit_jax.weights.fill import Target
from semivit_jax.weights.layout import BLOCK, Table, dense_rows, norm_rows
from semivit_jax.weights.sources import Configs, Source, beside_timm, model_type
from semivit_jax.weights.tensors import Tensors


@dataclasses.dataclass(frozen=True)
class MixerSize:
    """Patches of so many pixels, and blocks with two MLPs: over the tokens, and over the channels of a token."""

    patch_size: int
    width: int
    depth: int
    token_dim: int
    channel_dim: int


SIZES = {
    "mixer_s16": MixerSize(16, 512, 8, 256, 2048),  # the paper's table 1
    "mixer_b16": MixerSize(16, 768, 12, 384, 3072),
    "mixer_digits": MixerSize(2, 32, 2, 16, 64),  # 8 x 8 images
}


class Block(nn.Module):
    """One layer (Tolstikhin et al. 2021, eq. 1) with stochastic depth; the body of a scan."""

    size: MixerSize
    layer_norm_eps: float
    dtype: jnp.dtype | None

    @nn.compact
    def __call__(self, x: jax.Array, drop_path_mask: jax.Array | None) -> tuple[jax.Array, None]:
        """x (batch, tokens, width); drop_path_mask (2, batch), one row per branch, or None."""
        tokens = Mlp(self.size.token_dim, normal_init, self.dtype, name="tokens")
        channels = Mlp(self.size.channel_dim, normal_init, self.dtype, name="channels")
        seen = layer_norm(self.layer_norm_eps, self.dtype, "norm1")(x)
        x = x + masked(tokens(seen.swapaxes(1, 2)).swapaxes(1, 2), drop_path_mask, 0)
        seen = layer_norm(self.layer_norm_eps, self.dtype, "norm2")(x)
        return x + masked(channels(seen), drop_path_mask, 1), None


class Mixer(nn.Module):
    """Images (batch, image_size, image_size, 3), normalised -> logits (batch, num_classes)."""

    spec: ModelSpec
    compute: Compute

    def setup(self):
        spec, size, dtype = self.spec, self.spec.size, self.compute.dtype
        patch_init = fan_in_uniform(CHANNELS * size.patch_size**2)
        self.patch_embed = PatchEmbed(size.width, size.patch_size, patch_init, patch_init, dtype)
        self.layers = scanned(Block, size.depth, self.compute)(size, spec.layer_norm_eps, dtype)
        self.norm = layer_norm(spec.layer_norm_eps, dtype)
        if spec.num_classes:
            self.head = Dense(spec.num_classes, kernel_init=nn.initializers.normal(self.compute.head_init_std))

    def features(self, images: jax.Array, drop_path_masks: jax.Array | None = None) -> jax.Array:
        """The mean token, (batch, width); drop_path_masks (depth, 2, batch) or None (evaluation)."""
        x = self.patch_embed(patchify(images, self.spec.size.patch_size))
        x, _ = self.layers(x, drop_path_masks)
        return self.norm(x).mean(axis=1)

    def __call__(self, images: jax.Array, drop_path_masks: jax.Array | None = None) -> jax.Array:
        return self.classify(self.features(images, drop_path_masks))

    def classify(self, features: jax.Array) -> jax.Array:
        """Logits (batch, num_classes) of what the head reads."""
        return self.head(features.astype(jnp.promote_types(features.dtype, jnp.float32)))


def drop_path_rates(size: MixerSize, rate: float) -> np.ndarray:
    """Linear from 0 to `rate` over the layers, float64 (depth, 2)."""
    return np.repeat(np.linspace(0.0, rate, size.depth)[:, None], 2, axis=1)


def lr_scales(size: MixerSize, layer_decay: float, head_lr_scale: float) -> PathTable:
    """layer_decay to the power of the layers above; a list has one factor per layer, along the leading axis."""
    return (
        (r"^patch_embed/", layer_decay ** (size.depth + 1)),
        (r"^layers/", [layer_decay ** (size.depth - layer) for layer in range(size.depth)]),
        (r"^(norm|head)/", head_lr_scale),
    )


def weight_decays(weight_decay: float) -> PathTable:
    """None for biases and norms."""
    return ((r"/(bias|scale)$", 0.0), (r"/kernel$", weight_decay))


def cost(spec: ModelSpec, mask_ratio: float) -> Cost:
    """One image: its matrix products, and the layers as a stack of blocks without attention."""
    size, tokens = spec.size, (spec.image_size // spec.size.patch_size) ** 2
    flops = (
        cost_lib.embedding(tokens, CHANNELS * size.patch_size**2, size.width)
        + mlp(size.width, tokens, size.token_dim).times(size.depth)
        + mlp(tokens, size.width, size.channel_dim).times(size.depth)
        + cost_lib.matmul(1, size.width, spec.num_classes)
    )
    hidden = size.channel_dim + size.width * size.token_dim // tokens  # of both MLPs, per token
    return Cost(flops, (Stack(tokens, size.width, hidden, num_heads=0, depth=size.depth),))


def mlp(rows: int, width: int, hidden: int) -> Flops:
    """Two layers over the last of (rows, width)."""
    return cost_lib.matmul(rows, width, hidden) + cost_lib.matmul(rows, hidden, width)


FAMILY = Family(
    name="mixer",
    size=MixerSize,
    sizes=SIZES,
    legal={"pool": ("mean",), "posemb": ("none",), "attention": ("auto", "xla"), "head": ("linear",)},
    stride=lambda size: size.patch_size,
    stride_name="patch size",
    head_dims=lambda spec: (),
    module=Mixer,
    drop_path_rates=drop_path_rates,
    lr_scales=lr_scales,
    weight_decays=weight_decays,
    stacked=r"(^|/)layers/",
    autoencoder=None,
    cost=cost,
    told=lambda spec: (f"patches of {spec.size.patch_size}",),
)


def table(patches: str, layer: str, tokens: str, channels: str) -> Table:
    """Our paths -> their names; `layer` is what the names of a layer begin with."""
    return {
        **dense_rows("patch_embed", patches),
        **norm_rows("layers/norm1", f"{layer}.norm1"),
        **dense_rows("layers/tokens/fc1", f"{layer}.{tokens}.fc1"),
        **dense_rows("layers/tokens/fc2", f"{layer}.{tokens}.fc2"),
        **norm_rows("layers/norm2", f"{layer}.norm2"),
        **dense_rows("layers/channels/fc1", f"{layer}.{channels}.fc1"),
        **dense_rows("layers/channels/fc2", f"{layer}.{channels}.fc2"),
        **norm_rows("norm", "norm"),
        **dense_rows("head", "head"),
    }


TIMM = table("stem.proj", f"blocks.{BLOCK}", "mlp_tokens", "mlp_channels")
PUBLISHED = table("patches", f"mixers.{BLOCK}", "across", "within")
# Name of a tensor that tells a layout apart -> the layout.
LAYOUTS = {"blocks.0.mlp_tokens.fc1.weight": TIMM, "mixers.0.across.fc1.weight": PUBLISHED}


def recognise(tensors: Tensors, configs: Configs) -> Source | None:
    """timm's names, and those of the published weights."""
    names = next((names for sign, names in LAYOUTS.items() if sign in tensors.shapes), None)
    if names is None or model_type(configs):
        return None
    return Source(
        kind="MLP-Mixer",
        family="mixer",
        tensors=tensors,
        table=names,
        decoder=None,
        decoder_num_heads=None,
        pool="mean",
        size={},
        image_size=None,
        beside=beside_timm(configs),
    )


def measured(shapes: Mapping[str, tuple[int, ...]]) -> dict[str, int]:
    """What the shapes of our arrays tell of the size."""
    depth, token_dim = shapes["layers/tokens/fc1/bias"]
    return {"patch_size": shapes["patch_embed/kernel"][0], "width": shapes["patch_embed/bias"][0], "depth": depth,
            "token_dim": token_dim, "channel_dim": shapes["layers/channels/fc1/bias"][1]}  # fmt: skip


def spec(source: Source, wanted: Wanted) -> ModelSpec:
    """The model of the wanted variant with the source's head.

    Raises:
      ValueError: another pool than 'mean', or a decoder.
    """
    if wanted.pool not in (None, "mean") or wanted.decoder:
        raise ValueError(f"{wanted.variant}: has pool 'mean' and no decoder")
    return ModelSpec(
        family="mixer",
        variant=wanted.variant,
        size=SIZES[wanted.variant],
        image_size=wanted.image_size,
        layer_norm_eps=source.beside.layer_norm_eps,
        pool="mean",
        posemb="none",
        num_classes=source.num_classes,
        decoder=None,
    )


def target(source: Source, spec: ModelSpec) -> Target:
    """Everything must fit, the number of tokens too; a head that the source lacks is drawn."""
    return Target(
        shapes=families.shapes(spec),
        table=source.table,
        resizers={},
        fresh={},
        drawn=() if spec.num_classes else HEAD,
        expendable=(),
    )


def timm(spec: ModelSpec) -> Timm:
    """MlpMixer of timm."""
    size = spec.size
    return Timm(
        architecture="mixer_b16_224",
        model_args={
            "img_size": spec.image_size,
            "patch_size": size.patch_size,
            "embed_dim": size.width,
            "num_blocks": size.depth,
            "mlp_ratio": [size.token_dim / size.width, size.channel_dim / size.width],
        },
        num_features=size.width,
        global_pool="avg",
        fixed_input_size=True,
        pool_size=None,
        first_conv="stem.proj",
        classifier="head",
        layer_norm_eps=LAYER_NORM_EPS,
        arrays=as_they_are,
    )


EXCHANGE = Exchange(
    known=("MLP-Mixer",),
    public={},
    model_types=(),
    recognise=recognise,
    measured=measured,
    adapted=lambda source, spec: (source.tensors, ()),
    spec=spec,
    target=target,
    names=lambda spec: TIMM,
    decoder_names=None,
    constants=lambda spec: {},
    timm=timm,
    hugging_face=lambda spec: None,
    onnx=None,
)
