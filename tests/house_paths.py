"""Follow one thing through the code: the files that a call stack passes, and those that receive an image."""

import functools
import sys
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np

import semivit_jax

PACKAGE = Path(semivit_jax.__file__).parent


def file_of(frame: FrameType) -> str | None:
    """'stages/semi' of a frame; None where it is not of the package."""
    return _file_of(frame.f_code.co_filename)


@functools.cache  # asked at every call that Python makes
def _file_of(filename: str) -> str | None:
    path = Path(filename)
    if not path.is_relative_to(PACKAGE):
        return None
    name = path.relative_to(PACKAGE).with_suffix("").as_posix()
    return None if name.startswith("configs/") else name


def stack(frame: FrameType | None) -> set[str]:
    """Files of the package on a call stack."""
    files = set()
    while frame is not None:
        files.add(file_of(frame))
        frame = frame.f_back
    return {name for name in files if name is not None}


def functions(frame: FrameType | None) -> set[str]:
    """Names of the functions on a call stack."""
    names = set()
    while frame is not None:
        names.add(frame.f_code.co_name)
        frame = frame.f_back
    return names


def is_image(value: Any) -> bool:
    """Encoded bytes, or an array of at least three axes whose last one is 3: pixels, on the host or traced."""
    if isinstance(value, bytes):
        return True
    shape = getattr(value, "shape", ())
    return (isinstance(value, np.ndarray) or hasattr(value, "aval")) and len(shape) >= 3 and shape[-1] == 3


class Followed:
    """While this is entered, in every thread: files whose calls receive an image, and stacks at given calls.

    Attributes:
      image_files: files with a call that receives an image, or some in a list or dict.
      stacks: files on the stack at the first call for which the condition of that name held.
    """

    def __init__(self, conditions: Mapping[str, Callable[[str, FrameType], bool]]):
        self._conditions = dict(conditions)
        self.image_files: set[str] = set()
        self.stacks: dict[str, set[str]] = {}

    def _called(self, frame: FrameType, event: str, arg: Any) -> None:
        name = _file_of(frame.f_code.co_filename)  # at once, since most calls end here
        if name is None or event != "call":
            return
        for key, holds in self._conditions.items():
            if key not in self.stacks and holds(name, frame):
                self.stacks[key] = stack(frame)
        if name not in self.image_files:
            code = frame.f_code
            arguments = [frame.f_locals.get(n) for n in code.co_varnames[: code.co_argcount + code.co_kwonlyargcount]]
            if any(is_image(value) for value in arguments):
                self.image_files.add(name)

    def __enter__(self) -> "Followed":
        # Of the two hooks this one is not told of C functions and returns, which are most of what happens.
        threading.settrace(self._called)
        sys.settrace(self._called)
        return self

    def __exit__(self, *_: object) -> None:
        sys.settrace(None)
        threading.settrace(None)
