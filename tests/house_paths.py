"""Follow one thing through the code: the files that a call stack, an image or a config value passes."""

import sys
import threading
import traceback
from pathlib import Path

import numpy as np

import semivit_jax

PACKAGE = Path(semivit_jax.__file__).parent


def file_of(code_path):
    """'stages/semi' of a code object's path; None where it is not of the package."""
    path = Path(code_path)
    if not path.is_relative_to(PACKAGE):
        return None
    name = path.relative_to(PACKAGE).with_suffix("").as_posix()
    return None if name.startswith("configs/") else name


def stack():
    """Files of the package on the present call stack."""
    return {name for frame in traceback.extract_stack() if (name := file_of(frame.filename))}


class Passed:
    """Files with a call that receives a value for which `wanted` is true, in every thread, while this is entered."""

    def __init__(self, wanted):
        self.wanted, self.files = wanted, set()

    def _call(self, frame, event, arg):
        if event != "call" or (name := file_of(frame.f_code.co_filename)) is None or name in self.files:
            return
        code = frame.f_code
        names = code.co_varnames[: code.co_argcount + code.co_kwonlyargcount]
        if any(self.wanted(frame.f_locals.get(n)) for n in names):
            self.files.add(name)

    def __enter__(self):
        threading.setprofile(self._call)
        sys.setprofile(self._call)
        return self

    def __exit__(self, *_):
        sys.setprofile(None)
        threading.setprofile(None)


def is_image(value):
    """Encoded bytes, or an array whose last axis is 3 (pixels, on the host or traced on the device)."""
    shape = getattr(value, "shape", None)
    if isinstance(value, np.ndarray | np.generic) or hasattr(value, "aval"):
        return bool(shape) and len(shape) >= 3 and shape[-1] == 3
    return isinstance(value, bytes)
