"""Tell which of our models a source is, by the shapes of its tensors and by what its config says."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from semivit_jax.models.families import FAMILIES
from semivit_jax.weights.exchanges import EXCHANGES
from semivit_jax.weights.fill import shapes_in
from semivit_jax.weights.layout import BLOCK
from semivit_jax.weights.preprocessors import get, is_section
from semivit_jax.weights.sources import Configs, Source, model_type

FOLDED = ["layer_scale"]  # into other arrays, where no model has it
_SAID = {"num_hidden_layers": "depth", "hidden_size": "width", "patch_size": "patch_size"}  # config key -> field


def variant_of(source: Source) -> str:
    """The variant whose sizes a source has.

    Raises:
      ValueError: none has them, or several that differ in what the source does not tell; both are named.
    """
    sizes, known = FAMILIES[source.family].sizes, _known(source)
    fitting = {name: size for name, size in sizes.items() if _differences(size, known) == []}
    fitting = fitting or {name: size for name, size in sizes.items() if _differences(size, known) == FOLDED}
    if len(fitting) == 1:
        return next(iter(fitting))
    plain = {f.name: f.default for f in dataclasses.fields(FAMILIES[source.family].size)}
    told = ", ".join(f"{name} {_plain(value)}" for name, value in known.items() if value != plain[name])
    if fitting:
        unlike = [field for field in plain if len({getattr(size, field) for size in fitting.values()}) > 1]
        candidates = ", ".join(
            f"{name} ({', '.join(f'{field} {_plain(getattr(size, field))}' for field in unlike)})"
            for name, size in fitting.items()
        )
        raise ValueError(f"{source.kind} with {told} can be {candidates}: --model says which")
    near = [name for name, size in sizes.items() if _differences(size, known) == ["patch_size"]]
    advice = f"; --model {near[0]} resizes its patches" if near else ""
    raise ValueError(f"no model here has the sizes of this {source.kind}, {told}{advice}")


def check_said(source: Source, configs: Configs) -> None:
    """Raises ValueError where Hugging Face's config beside a source is of a model of other sizes.

    transformers would refuse other widths and patches, and leave out blocks that the config does not count.
    """
    if not model_type(configs):
        return
    config, known = configs["config.json"], _known(source)
    said = get(config, "vision_config", is_section, "an object", config)
    for key, field in _SAID.items():
        if key in said and field in known and said[key] not in (known[field], [known[field]] * 2):  # a patch has two
            raise ValueError(
                f"config.json says {key} {said[key]}, and the tensors have {known[field]}: one of the two is another's"
            )


def _known(source: Source) -> Mapping[str, Any]:
    shapes = shapes_in(source.tensors, source.table)
    try:
        measured = EXCHANGES[source.family].measured(shapes)
    except KeyError as error:
        path = str(error.args[0])
        names = source.table.get(path, path)
        lacking = (names if isinstance(names, str) else ", ".join(names)).replace(BLOCK, "*")
        raise ValueError(f"the source lacks {lacking}, without which nobody can tell which model it is") from error
    return {**measured, **source.size}


def _differences(size: Any, known: Mapping[str, Any]) -> list[str]:
    return [field for field, value in known.items() if getattr(size, field) != value]


def _plain(value: Any) -> str:
    return "-".join(map(str, value)) if isinstance(value, tuple) else str(value)
