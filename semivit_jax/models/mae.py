"""Build the masked autoencoder (He et al. 2022, section 3)."""

import dataclasses
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from semivit_jax.models import cost as cost_lib
from semivit_jax.models import posemb as posemb_lib
from semivit_jax.models.cost import Cost
from semivit_jax.models.layers import Dense, fan_in_uniform, layer_norm, normal_init, stacked_blocks, xavier_init
from semivit_jax.models.patches import CHANNELS, PatchEmbed, patchify
from semivit_jax.models.spec import Compute, Decoder, ModelSpec
from semivit_jax.ops.optim import PathTable


class Masking(NamedTuple):
    """Which patches of each image are kept.

    Attributes:
      keep_ids: int (batch, kept), patch indices in the order of the noise.
      restore_ids: int (batch, patches), position of each patch in [kept, removed].
      patch_mask: (batch, patches), 1 where removed.
    """

    keep_ids: jax.Array
    restore_ids: jax.Array
    patch_mask: jax.Array


class MaeOutput(NamedTuple):
    """latent (batch, 1 + kept, width), pred (batch, patches, 3 p p), patch_mask (batch, patches)."""

    latent: jax.Array
    pred: jax.Array
    patch_mask: jax.Array


def random_masking(noise: jax.Array, mask_ratio: float) -> Masking:
    """Keeps the int(L (1 - mask_ratio)) patches with the smallest noise; noise (batch, L)."""
    num_kept = _num_kept(noise.shape[1], mask_ratio)
    order = jnp.argsort(noise, axis=1)
    restore_ids = jnp.argsort(order, axis=1)
    return Masking(order[:, :num_kept], restore_ids, (restore_ids >= num_kept).astype(noise.dtype))


def _num_kept(num_patches: int, mask_ratio: float) -> int:
    return int(num_patches * (1 - mask_ratio))


@jax.custom_vjp
def _unshuffle(x: jax.Array, restore_ids: jax.Array) -> jax.Array:
    """Row restore_ids[i] of x, (batch, patches, width), for every patch i.

    Its own gradient, because the derived one scatters: the gradient of a permutation is a gather by its inverse.
    """
    return jnp.take_along_axis(x, restore_ids[:, :, None], axis=1)


def _unshuffle_forward(x: jax.Array, restore_ids: jax.Array):
    return _unshuffle(x, restore_ids), restore_ids


def _unshuffle_backward(restore_ids: jax.Array, cotangent: jax.Array):
    return jnp.take_along_axis(cotangent, jnp.argsort(restore_ids, axis=1)[:, :, None], axis=1), None


_unshuffle.defvjp(_unshuffle_forward, _unshuffle_backward)


class _Encoder(nn.Module):
    spec: ModelSpec
    compute: Compute

    @nn.compact
    def __call__(self, images: jax.Array, keep_ids: jax.Array) -> jax.Array:
        spec, size, dtype = self.spec, self.spec.size, self.compute.dtype
        p = size.patch_size
        # Kept patches are gathered before they are embedded: a quarter of the work, and no scatter in the
        # backward pass, since pixels need no gradient.
        kept = jnp.take_along_axis(patchify(images, p), keep_ids[:, :, None], axis=1)
        bias_init = fan_in_uniform(CHANNELS * p * p)
        x = PatchEmbed(size.width, p, _flat_xavier, bias_init, dtype, name="patch_embed")(kept)
        position = jnp.asarray(posemb_lib.sincos(size.width, spec.image_size // p), x.dtype)
        x = x + position[1:][keep_ids]
        cls_token = self.param("cls_token", normal_init, (1, 1, size.width)).astype(x.dtype) + position[:1]
        x = jnp.concatenate([jnp.broadcast_to(cls_token, (x.shape[0], 1, size.width)), x], axis=1)
        eps = spec.layer_norm_eps
        blocks = stacked_blocks(size, self.compute, kernel_init=xavier_init, layer_norm_eps=eps, name="blocks")
        x, _ = blocks(x, None)  # pyright: ignore[reportCallIssue]
        return layer_norm(eps, dtype, "norm")(x)


class _Decoder(nn.Module):
    spec: ModelSpec
    compute: Compute

    @nn.compact
    def __call__(self, latent: jax.Array, restore_ids: jax.Array) -> jax.Array:
        spec, size, dtype = self.spec, self.spec.decoder, self.compute.dtype
        assert size is not None
        p = spec.size.patch_size
        x = Dense(size.width, kernel_init=xavier_init, dtype=dtype, name="embed")(latent)
        mask_token = self.param("mask_token", normal_init, (1, 1, size.width)).astype(x.dtype)
        batch, num_patches = restore_ids.shape
        removed = jnp.broadcast_to(mask_token, (batch, num_patches + 1 - x.shape[1], size.width))
        patches = jnp.concatenate([x[:, 1:], removed], axis=1)
        patches = _unshuffle(patches, restore_ids)
        x = jnp.concatenate([x[:, :1], patches], axis=1)
        x = x + jnp.asarray(posemb_lib.sincos(size.width, spec.image_size // p), x.dtype)
        eps = spec.layer_norm_eps
        blocks = stacked_blocks(size, self.compute, kernel_init=xavier_init, layer_norm_eps=eps, name="blocks")
        x, _ = blocks(x, None)  # pyright: ignore[reportCallIssue]
        x = layer_norm(eps, dtype, "norm")(x)
        pred = Dense(CHANNELS * p * p, kernel_init=xavier_init, dtype=dtype, name="pred")(x)
        return pred[:, 1:]


class Mae(nn.Module):
    """Encodes the kept patches, decodes all of them. Both position embeddings are frozen sin-cos tables."""

    spec: ModelSpec
    compute: Compute
    mask_ratio: float

    @nn.compact
    def __call__(self, images: jax.Array, noise: jax.Array) -> MaeOutput:
        """images (batch, h, w, 3), normalised; noise (batch, patches) decides which patches are removed."""
        masking = random_masking(noise, self.mask_ratio)
        latent = _Encoder(self.spec, self.compute, name="encoder")(images, masking.keep_ids)
        pred = _Decoder(self.spec, self.compute, name="decoder")(latent, masking.restore_ids)
        return MaeOutput(latent, pred, masking.patch_mask)


def with_decoder(encoder: ModelSpec, decoder: Decoder) -> ModelSpec:
    """The masked autoencoder around an encoder: frozen sin-cos tables, no head, features from the class token."""
    return dataclasses.replace(encoder, pool="cls", posemb="sincos", num_classes=0, decoder=decoder)


def _flat_xavier(key: jax.Array, shape: tuple[int, ...], dtype=jnp.float32) -> jax.Array:
    """Xavier-uniform on the patch kernel seen as a (3 p p, width) matrix."""
    p, _, channels, width = shape
    return xavier_init(key, (p * p * channels, width), dtype).reshape(shape)


def weight_decays(weight_decay: float) -> PathTable:
    """Weight decay as (path pattern, value): class and mask token are decayed here, unlike in fine-tuning."""
    return (
        (r"/(bias|scale)$", 0.0),
        (r"(/kernel|/cls_token|/mask_token)$", weight_decay),
    )


def cost(spec: ModelSpec, mask_ratio: float) -> Cost:
    """One image through the autoencoder: encoder on the kept patches only, decoder on all of them."""
    assert spec.decoder is not None
    size, decoder, patches = spec.size, spec.decoder, (spec.image_size // spec.size.patch_size) ** 2
    kept, values = _num_kept(patches, mask_ratio), CHANNELS * size.patch_size**2
    passed = cost_lib.stack(size, kept + 1), cost_lib.stack(decoder, patches + 1)  # each has a class token
    flops = (
        cost_lib.embedding(kept, values, size.width)
        + cost_lib.blocks(passed[0])
        + cost_lib.matmul(kept + 1, size.width, decoder.width)
        + cost_lib.blocks(passed[1])
        + cost_lib.matmul(patches + 1, decoder.width, values)
    )
    return Cost(flops, passed)
