"""Models for tests: specs by variant, and what a config builds on a CPU."""

from semivit_jax.models import families
from semivit_jax.models.families import Autoencoder, Network
from semivit_jax.models.layers import LAYER_NORM_EPS
from semivit_jax.models.spec import ModelSpec
from semivit_jax.stages import mae


def spec_of(variant, **changes) -> ModelSpec:
    """Of a classifier of a known size; `changes` are fields of ModelSpec."""
    family = families.of(variant)
    fields = {
        "family": family.name, "variant": variant, "size": family.sizes[variant], "image_size": 32,
        "layer_norm_eps": LAYER_NORM_EPS, "pool": "mean", "posemb": family.legal["posemb"][0], "num_classes": 10,
        "decoder": None,
    }  # fmt: skip
    return ModelSpec(**{**fields, **changes})


def network_of(config, *, image_size, num_classes) -> Network:
    """The classifier that a config describes, without stochastic depth."""
    spec = families.describe(config.model, image_size=image_size, num_classes=num_classes)
    return families.network(spec, families.compute(config.model, spec, backend="cpu"), 0.0)


def autoencoder_of(config) -> Autoencoder:
    """The masked autoencoder that a config describes."""
    spec = mae.model(config, 0)
    return families.autoencoder(
        spec, families.compute(config.model, spec, backend="cpu"), config.stage("mae").mask_ratio
    )
