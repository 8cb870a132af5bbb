"""Cut off what wrappers put in front of the names of a state dict."""

import re

from semivit_jax.weights.tensors import Tensors

PAIR = ("teacher.", "student.")  # of self-distillation; where one state dict holds both, the teacher is taken
WRAPPERS = (
    "module.",  # parallel training
    "_orig_mod.",  # torch.compile
    "model.",  # Lightning
    "backbone.",  # beside the heads of self-supervised training
    "encoder.",
    "timm_model.",  # timm's models inside Hugging Face's
    "params/",  # flax
    *PAIR,
)
COUNTERS = r"(.*[./])?(n_averaged|num_batches_tracked)$"  # no weights: of averaging, and of batch norms
_BESIDE = re.compile(rf"({COUNTERS}|([a-z]+_)*(head|heads|classifier|fc|projector|predictor)[./])")
TEACHER_NOTE = "the file holds a teacher and its student: the teacher's weights are taken"


def teacher_alone(tensors: Tensors) -> Tensors | None:
    """The teacher's tensors under their own names, where a state dict holds a teacher and a student; None elsewhere."""
    tensors = without_wrappers(tensors)
    teacher, student = ([name for name in tensors.shapes if name.startswith(prefix)] for prefix in PAIR)
    if not teacher or not student:
        return None
    return Tensors({name: tensors.shapes[name] for name in teacher}, tensors.read).without_prefix(PAIR[0])


def without_wrappers(tensors: Tensors) -> Tensors:
    """Cuts off prefixes that all names have, but for those of heads and counters, as often as there are any.

    Raises:
      ValueError: two tensors would have the same name, as a head inside the wrapper and one beside it.
    """
    inside = [name for name in tensors.shapes if not _BESIDE.match(name)]
    for prefix in WRAPPERS:
        if inside and all(name.startswith(prefix) for name in inside):
            return without_wrappers(tensors.without_prefix(prefix))
    return tensors
