"""Say what the images of a run tell: labels that look wrong, near duplicates, the map, images unlike labeled ones."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from semivit_jax.report.look import Looked
from semivit_jax.report.sample import GRADED, LABELED, UNLABELED, Seen, joined
from semivit_jax.report.space import Layout
from semivit_jax.report.suspects import Judged

SHOWN = 24  # pictures of a kind
MOST_SUSPECTS = 200  # labels in the file
MOST_COLOURS = 20  # classes of a map; the others are grey
Report = dict[str, Any]


def labels(judged: Mapping[str, Judged], names: Sequence[str]) -> Report:
    """What each judge knows, and the labels that it suspects; of one that knows too little, none."""
    found = [(role, one, suspect) for role, one in judged.items() if not one.is_weak for suspect in one.suspects]
    found.sort(key=lambda row: row[2].own)
    listed = [
        {
            "name": one.seen.name(suspect.place), "role": role, "row": suspect.place,
            "label": names[one.seen.labels[suspect.place]], "better": names[suspect.better], "own": suspect.own,
            "other": suspect.other,
        }
        for role, one, suspect in found[:MOST_SUSPECTS]
    ]  # fmt: skip
    judges = [
        {
            "role": role, "checked": one.count, "right": one.right, "least_right": one.least_right,
            "is_weak": one.is_weak, "is_fitted": one.is_fitted, "num_suspects": len(one.suspects),
        }
        for role, one in judged.items()
    ]  # fmt: skip
    trusted = [one for one in judges if not one["is_weak"]]
    checked = sum(one["checked"] for one in trusted)
    return {
        "judges": judges,
        "checked": checked,
        "right": sum(one["right"] * one["checked"] for one in trusted) / checked if checked else None,
        "num_suspects": len(found),
        "suspects": listed,
    }


def numbers(looked: Looked) -> Report:
    """Near duplicates, the map's method, and the unlabeled images that are least like any labeled one."""
    found: Report = {}
    if looked.twins:
        listed = [_twin(looked, pair.first, pair.second, role, pair.correlation) for pair, role in looked.twins]
        found["twins"] = {"num_images": len({one["row"] for one in listed}), "pairs": listed[:MOST_SUSPECTS]}
    if looked.layout is not None:
        found["map"] = _map(looked, looked.layout)
    unlike = _unlike(looked.sample)
    return {**found, "unlike": unlike} if unlike else found


def _map(looked: Looked, layout: Layout) -> Report:
    """How the map came about, and which classes have a colour there: the most frequent ones, in the classes' order."""
    _, known, rows = joined(looked.sample, LABELED, GRADED, UNLABELED)
    known, names = known[layout.rows], () if looked.task is None else looked.task.class_names
    counts = np.bincount(known[known >= 0], minlength=1)
    frequent = np.argsort(-counts, kind="stable")[:MOST_COLOURS]
    frequent = np.sort(frequent[counts[frequent] > 0])
    return {
        "method": layout.method,
        "num_images": len(known),
        "num_labeled": sum(rows[row][0] == LABELED for row in layout.rows),
        "classes": [{"name": names[k], "number": int(k), "num_images": int(counts[k])} for k in frequent],
        "num_other_classes": int((counts > 0).sum()) - len(frequent),
        "num_of_other_classes": int(counts.sum() - counts[frequent].sum()),
        "num_unknown": int((known < 0).sum()),
    }


def _twin(looked: Looked, row: int, other: int, role: str, correlation: float) -> Report:
    graded, learned = looked.drawn[GRADED], looked.drawn[role]
    return {
        "row": row, "name": graded.name(row), "other_row": other, "other": learned.name(other), "role": role,
        "correlation": correlation,
    }  # fmt: skip


def _unlike(found: Mapping[str, Seen]) -> list[Report]:
    """Unlabeled images whose nearest labeled one is furthest, by the angle of their features."""
    if not {LABELED, UNLABELED} <= found.keys():
        return []
    known, free = found[LABELED], found[UNLABELED]
    nearest = (_directions(free.features) @ _directions(known.features).T).max(axis=1)
    return [
        {"row": int(row), "name": free.name(int(row)), "similarity": float(nearest[row])}
        for row in np.argsort(nearest, kind="stable")[:SHOWN]
    ]


def _directions(features: np.ndarray) -> np.ndarray:
    return features / np.maximum(np.linalg.norm(features, axis=1, keepdims=True), 1e-12)
