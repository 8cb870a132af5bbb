"""Store a ModelSpec in import.json as a flat dict whose keys and order never change."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from semivit_jax.models.families import FAMILIES
from semivit_jax.models.layers import LAYER_NORM_EPS
from semivit_jax.models.mae import with_decoder
from semivit_jax.models.spec import Decoder, ModelSpec

_WITH_DECODER = {"vit": "mae"}  # family -> what it is called with a decoder


def to_record(spec: ModelSpec) -> dict[str, Any]:
    """Plain flat dict, read back by `from_record`; what a family leaves no choice of is not told."""
    if spec.decoder is not None:
        family = _WITH_DECODER[spec.family]
        rest = {f"decoder_{name}": value for name, value in dataclasses.asdict(spec.decoder).items()}
    else:
        family, legal = spec.family, FAMILIES[spec.family].legal
        chosen = {key: getattr(spec, key) for key in ("pool", "posemb") if len(legal[key]) > 1}
        rest = {**chosen, "num_classes": spec.num_classes}
    return {
        "family": family,
        "variant": spec.variant,
        **_told(spec.size),
        "image_size": spec.image_size,
        **rest,
        "layer_norm_eps": spec.layer_norm_eps,
    }


def _told(size: Any) -> dict[str, Any]:
    """Its fields; what a family got later is told where it is not as it was before."""
    values = dataclasses.asdict(size)
    return {f.name: values[f.name] for f in dataclasses.fields(size) if values[f.name] != f.default}


def from_record(record: Mapping[str, Any]) -> ModelSpec:
    """Inverse of `to_record`.

    Raises:
      ValueError: an unknown family.
    """
    plain = {called: family for family, called in _WITH_DECODER.items()}
    name = plain.get(record["family"], record["family"])
    if name not in FAMILIES:
        known = ", ".join((*FAMILIES, *plain))
        raise ValueError(f"model family {record['family']!r}: must be one of {known}")
    family = FAMILIES[name]
    spec = ModelSpec(
        family=name,
        variant=record["variant"],
        size=_read(family.size, record),
        image_size=record["image_size"],
        layer_norm_eps=record.get("layer_norm_eps", LAYER_NORM_EPS),  # the first imports did not tell it
        pool=record.get("pool", family.legal["pool"][0]),
        posemb=record.get("posemb", family.legal["posemb"][0]),
        num_classes=record.get("num_classes", 0),
        decoder=None,
    )
    return with_decoder(spec, _read(Decoder, record, "decoder_")) if record["family"] in plain else spec


def _read(kind: type, record: Mapping[str, Any], prefix: str = "") -> Any:
    """A dataclass from the entries named like its fields; JSON has lists where it has tuples.

    Raises:
      KeyError: an entry is lacking that every record has.
    """
    required = [f.name for f in dataclasses.fields(kind) if f.default is dataclasses.MISSING]
    later = [f.name for f in dataclasses.fields(kind) if prefix + f.name in record and f.name not in required]
    values = {name: record[prefix + name] for name in (*required, *later)}
    return kind(**{name: tuple(value) if isinstance(value, list) else value for name, value in values.items()})
