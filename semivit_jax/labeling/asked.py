"""Read what a page asks for, which is checked before anything is done."""

import dataclasses
import re
from collections.abc import Mapping
from typing import Any

from semivit_jax.data.sources import class_names
from semivit_jax.data.sources.class_names import NONE_LABEL
from semivit_jax.labeling.history import Label

_DOES = ("label", "add", "rename", "undo", "redo")
_LONGEST = 200  # signs of a class name


class Refused(ValueError):
    """What a page asks for and cannot have; the message is for the person before it."""


@dataclasses.dataclass(frozen=True)
class Asked:
    """One thing that a page asks for.

    Attributes:
      id: made up by the page: what is asked for again, since no answer came, is done once.
      do: one of 'label', 'add', 'rename', 'undo', 'redo'.
      images: places of the images to label.
      seen: the label of each that the page showed: another one has been given meanwhile where it differs.
      label: to give; '' takes a label away, None skips.
      name: of the class to add or rename.
      new: name of the class that it becomes, or is merged into.
      of: the entry to undo or to do again, which the page takes for the latest one.
    """

    id: str
    do: str
    images: tuple[int, ...]
    seen: tuple[Label, ...]
    label: Label
    name: str
    new: str
    of: str


def read(raw: Any, *, num_images: int) -> Asked:
    """What the JSON of a page says.

    Raises:
      Refused: it is none, or names what is not there or not legal.
    """
    if not isinstance(raw, Mapping) or raw.get("do") not in _DOES:
        raise Refused(f"an action has one of these as 'do': {', '.join(_DOES)}")
    asked = Asked(
        id=_text(raw, "id"),
        do=raw["do"],
        images=_places(raw.get("images", []), num_images),
        seen=tuple(_label(label) for label in _list(raw.get("seen", []))),
        label=_label(raw.get("label", "")),
        name=_text(raw, "name"),
        new=_text(raw, "new"),
        of=_text(raw, "of"),
    )
    if not re.fullmatch(r"[\w-]{8,64}", asked.id, re.ASCII):
        raise Refused("an action has an id of 8 to 64 letters and digits")
    if len(asked.seen) != len(asked.images):
        raise Refused("an action says of each image which label was seen")
    return asked


def class_name(written: str) -> str:
    """A name for a class, without blanks around it.

    Raises:
      Refused: it would be none to `semivit train`.
    """
    name = " ".join(written.split())
    if not name:
        raise Refused("a class needs a name")
    if name == NONE_LABEL:
        raise Refused(f"{NONE_LABEL} is what stands for no class; give the class another name")
    if class_names.is_null(name):
        raise Refused(f"{name!r} is what programs write for no value; give the class another name")
    if not name.isprintable():
        raise Refused(f"{name!r} holds signs that cannot be printed; give the class another name")
    if len(name) > _LONGEST:
        raise Refused(f"the name of a class has at most {_LONGEST} signs")
    return name


def _text(raw: Mapping[str, Any], key: str) -> str:
    value = raw.get(key, "")
    if not isinstance(value, str):
        raise Refused(f"{key!r} is a text")
    return value


def _label(value: Any) -> Label:
    if value is not None and not isinstance(value, str):
        raise Refused("a label is a text, or null")
    return value


def _list(value: Any) -> list:
    if not isinstance(value, list):
        raise Refused("images and what was seen of them are lists")
    return value


def _places(value: Any, num_images: int) -> tuple[int, ...]:
    places = _list(value)
    if not all(type(place) is int and 0 <= place < num_images for place in places):
        raise Refused("an image is named by its place in the list")
    if len(set(places)) != len(places):
        raise Refused("an image is named once")
    return tuple(places)
