"""Define Parting: how the parameters of a model part into those that are trained and those that stay as they are."""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
from flax.traverse_util import flatten_dict, unflatten_dict

Params = Any


class Parts(NamedTuple):
    """A model in two trees of parameters, as networks of which a part is trained take it."""

    trained: Params
    frozen: Params


@dataclasses.dataclass(frozen=True)
class Parting:
    """Which parameters of a model are trained.

    Attributes:
      split: (parameters of the whole model, key of the stage, for what is added) -> trained ones, and frozen ones; None
        where nothing is frozen.
      whole: the two -> parameters of the whole model, as everything else knows them: what was added is merged.
    """

    split: Callable[[Params, jax.Array], tuple[Params, Params | None]]
    whole: Callable[[Params, Params | None], Params]


WHOLE = Parting(split=lambda params, key: (params, None), whole=lambda trained, frozen: trained)


def flatten(params: Params) -> dict[str, Any]:
    """Arrays by "/"-joined path."""
    return flatten_dict(params, sep="/")


def unflatten(flat: dict[str, Any]) -> Params:
    """The nested dicts of `flatten`."""
    return unflatten_dict(flat, sep="/")


def apart(params: Params, chosen: Callable[[str], bool]) -> Parts:
    """Parameters whose "/"-joined path is chosen as the trained ones, all others as the frozen ones."""
    flat = flatten(params)
    trained = {path: leaf for path, leaf in flat.items() if chosen(path)}
    return Parts(unflatten(trained), unflatten({path: leaf for path, leaf in flat.items() if path not in trained}))


def together(trained: Params, frozen: Params) -> Params:
    """One tree of two; where both have a path, the trained array."""
    return unflatten(flatten(frozen) | flatten(trained))
