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


def apart(params: Params, chosen: Callable[[str], bool]) -> Parts:
    """Parameters whose "/"-joined path is chosen as the trained ones, all others as the frozen ones."""
    flat = flatten_dict(params, sep="/")
    trained = {path: leaf for path, leaf in flat.items() if chosen(path)}
    frozen = {path: leaf for path, leaf in flat.items() if path not in trained}
    return Parts(unflatten_dict(trained, sep="/"), unflatten_dict(frozen, sep="/"))


def together(trained: Params, frozen: Params) -> Params:
    """One tree of two that share no path."""
    return unflatten_dict(flatten_dict(frozen, sep="/") | flatten_dict(trained, sep="/"), sep="/")
