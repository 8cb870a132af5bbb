"""Arguments of a config file, as in `--config=configs/digits.py:labels_per_class=1,seed=3`."""

from types import SimpleNamespace
from typing import Any


def parse(text: str, **known: Any) -> SimpleNamespace:
    """Parses `key=value,key=value` over the given values, which also fix the types.

    Raises:
      ValueError: for an unknown key or a value of another type, naming what is legal.
    """
    values = dict(known)
    for part in filter(None, text.split(",")):
        key, _, value = part.partition("=")
        if key not in known or not value:
            legal = ", ".join(f"{k}={v}" for k, v in known.items())
            raise ValueError(f"config argument {part!r} is not known; arguments and their usual values: {legal}")
        kind = type(known[key])
        try:
            values[key] = kind(value)
        except ValueError as error:
            raise ValueError(f"config argument {key}={value!r} must be of type {kind.__name__}") from error
    return SimpleNamespace(**values)
