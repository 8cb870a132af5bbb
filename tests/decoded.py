"""Decode the digits once for all runs of a process; otherwise every stage of every run takes a second for it."""

import pytest

from semivit_jax.data import eval_pipeline, pipeline
from semivit_jax.data.rows import DecodedSet, decode_all

_kept: dict[tuple[str, ...], DecodedSet] = {}


def keep_decoded(patch: pytest.MonkeyPatch) -> None:
    """Lets both pipelines share what was decoded, by the names of its images: only for data sets as they come."""

    def decode_once(images, data):
        names = tuple(images.names)
        if names not in _kept:
            _kept[names] = decode_all(images, data)
        return _kept[names]

    for module in (pipeline, eval_pipeline):
        patch.setattr(module, "decode_all", decode_once)
