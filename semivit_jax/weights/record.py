"""How import.json tells a `ModelSpec`: one flat dict, whose keys and their order do not change."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from semivit_jax.models.convnext import ConvNeXtSize
from semivit_jax.models.layers import LAYER_NORM_EPS
from semivit_jax.models.mae import with_decoder
from semivit_jax.models.spec import Decoder, ModelSpec
from semivit_jax.models.vit import ViTSize

MAE = "mae"  # a vit with a decoder
_SIZES: dict[str, type] = {"vit": ViTSize, "convnext": ConvNeXtSize}
_NO_CHOICE = {"convnext": {"pool": "mean", "posemb": "none"}}  # what a family always has is not told


def to_record(spec: ModelSpec) -> dict[str, Any]:
    """Plain flat dict, read back by `from_record`."""
    if spec.decoder is not None:
        rest = {f"decoder_{name}": value for name, value in dataclasses.asdict(spec.decoder).items()}
    else:
        chosen = {} if spec.family in _NO_CHOICE else {"pool": spec.pool, "posemb": spec.posemb}
        rest = {**chosen, "num_classes": spec.num_classes}
    return {
        "family": spec.family if spec.decoder is None else MAE,
        "variant": spec.variant,
        **dataclasses.asdict(spec.size),
        "image_size": spec.image_size,
        **rest,
        "layer_norm_eps": spec.layer_norm_eps,
    }


def from_record(record: Mapping[str, Any]) -> ModelSpec:
    """Inverse of `to_record`.

    Raises:
      ValueError: an unknown family.
    """
    known = ("vit", MAE, "convnext")
    if record["family"] not in known:
        raise ValueError(f"model family {record['family']!r}: must be one of {', '.join(known)}")
    is_mae = record["family"] == MAE
    family = "vit" if is_mae else record["family"]
    spec = ModelSpec(
        family=family,
        variant=record["variant"],
        size=_read(_SIZES[family], record),
        image_size=record["image_size"],
        layer_norm_eps=record.get("layer_norm_eps", LAYER_NORM_EPS),  # the first imports did not tell it
        pool=record.get("pool", "mean"),
        posemb=record.get("posemb", "none"),
        num_classes=record.get("num_classes", 0),
        decoder=None,
    )
    return with_decoder(spec, _read(Decoder, record, "decoder_")) if is_mae else spec


def _read(kind: type, record: Mapping[str, Any], prefix: str = "") -> Any:
    """A dataclass from the entries named like its fields; JSON has lists where it has tuples."""
    values = (record[prefix + field.name] for field in dataclasses.fields(kind))
    return kind(*(tuple(value) if isinstance(value, list) else value for value in values))
