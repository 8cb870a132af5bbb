"""Reading recorded numbers: formula weights, recorded parameter names, and our parameter trees."""

import functools
import json
import re
import zlib
from pathlib import Path

import numpy as np

DATA = Path(__file__).parent / "data"


@functools.cache
def load(name):
    """Arrays of one fixture, read once and not to be written to; JSON strings are parsed."""
    with np.load(DATA / f"{name}.npz", allow_pickle=False) as arrays:
        return {k: _parsed(v) for k, v in arrays.items()}


@functools.cache
def load_json(name):
    """Contents of one JSON fixture, not to be written to."""
    return json.loads((DATA / f"{name}.json").read_text())


def _parsed(array):
    if array.dtype.kind == "U" and array.ndim == 0 and str(array).startswith(("[", "{")):
        return json.loads(str(array))
    return array


def formula_float64(name, shape):
    """A fixed normal draw per parameter name, times 0.02."""
    key = zlib.crc32(name.encode())
    return np.random.Generator(np.random.Philox(key=key)).standard_normal(shape) * 0.02


def formula(name, shape, one_plus):
    """The recorded runs' weights: the draw, plus 1 for norm gains, rounded to float32."""
    return (formula_float64(name, shape) + one_plus).astype(np.float32)


def named_formula(names, shapes, one_plus, dtype):
    shapes = [json.loads(s) if isinstance(s, str) else s for s in shapes]
    weights = zip(names, shapes, one_plus, strict=True)
    return {str(n): formula(str(n), tuple(s), bool(p)).astype(dtype) for n, s, p in weights}


def images(quantised, dtype):
    return (quantised.astype(np.float32) / 32).astype(dtype)


_LEAVES = (
    (r"^(encoder|decoder)?/?blocks/(norm1|norm2)/(scale|bias)$", r"blocks.{i}.\2.\3"),
    (r"^(encoder|decoder)?/?blocks/(attn|mlp)/(\w+)/(kernel|bias)$", r"blocks.{i}.\2.\3.\4"),
    (r"^(encoder/)?patch_embed/(kernel|bias)$", r"patch_embed.proj.\2"),
    (r"^(encoder/)?cls_token$", "cls_token"),
    (r"^posemb$", "pos_embed"),
    (r"^(encoder/)?(norm|fc_norm|head)/(\w+)$", r"\2.\3"),
    (r"^decoder/mask_token$", "mask_token"),
    (r"^decoder/(embed|norm|pred)/(\w+)$", r"decoder_\1.\2"),
)


def recorded_name(path):
    """Our path -> recorded name; '{i}' stands for the block's number."""
    for pattern, name in _LEAVES:
        if match := re.match(pattern, path):
            found = match.expand(name).replace("scale", "weight").replace("kernel", "weight")
            return "decoder_" + found if path.startswith("decoder/blocks") else found
    raise KeyError(path)


def to_ours(value):
    """(out, in) and (out, in, kh, kw) -> ours."""
    return {2: lambda v: v.T, 4: lambda v: v.transpose(2, 3, 1, 0)}.get(value.ndim, lambda v: v)(value)


def to_recorded(value):
    return {2: lambda v: v.T, 4: lambda v: v.transpose(3, 2, 0, 1)}.get(value.ndim, lambda v: v)(value)


def flat(tree, prefix=""):
    """Nested dict -> {'a/b': leaf}."""
    out = {}
    for key, value in tree.items():
        out |= flat(value, f"{prefix}{key}/") if isinstance(value, dict) else {prefix + key: value}
    return out


def nested(leaves):
    tree = {}
    for path, value in leaves.items():
        *parents, last = path.split("/")
        node = tree
        for parent in parents:
            node = node.setdefault(parent, {})
        node[last] = value
    return tree


def build(named, template):
    """Recorded weights {name: array} -> a tree like `template` (shapes are checked against it)."""
    leaves = {}
    for path, leaf in flat(template).items():
        name = recorded_name(path)
        if "{i}" in name:
            value = np.stack([to_ours(named[name.format(i=i)]) for i in range(leaf.shape[0])])
        else:
            value = to_ours(named[name])
        assert value.shape == leaf.shape, (path, value.shape, leaf.shape)
        leaves[path] = value
    return nested(leaves)


def unbuild(tree):
    """Our tree -> {recorded name: array}, blocks apart."""
    named = {}
    for path, leaf in flat(tree).items():
        name, value = recorded_name(path), np.asarray(leaf)
        if "{i}" in name:
            named |= {name.format(i=i): to_recorded(layer) for i, layer in enumerate(value)}
        elif name in ("cls_token", "pos_embed", "mask_token"):
            named[name] = value
        else:
            named[name] = to_recorded(value)
    return named


def box_center(box, half_height, half_width):
    """Centre (row, column) of a box of twice the half sides that was clipped to the image's border.

    A side that starts at 0 may have been cut there, so it is measured from its high end.
    """
    y_low, y_high, x_low, x_high = (int(v) for v in box)
    y = y_low + half_height if y_low else y_high - half_height
    x = x_low + half_width if x_low else x_high - half_width
    return [y, x]


def cut_half(mixup_lambda, side):
    """Half the side of the square box that a lambda asks for, in whole pixels."""
    return int(side * np.sqrt(1.0 - mixup_lambda)) // 2


def box_centers(boxes, mixup_lambdas, use_cutmix, side):
    """Centres (n, 2) of one box per image; 0 where an image has none."""
    halves = [cut_half(lam, side) for lam in np.asarray(mixup_lambdas, np.float64)]
    rows = zip(boxes, halves, use_cutmix, strict=True)
    return np.asarray([box_center(box, h, h) if cut else [0, 0] for box, h, cut in rows], np.int32)
