"""Find labels that were flipped on purpose, by the report's rule and by cleanlab, where that is installed.

python -m benchmarks.flipped_labels --workdir=runs/digits     # a finished run of the demo

Prints precision, recall and F1 of what each calls wrong, on features of each stage's newest weights, over three draws.
cleanlab 2.8 or newer is Apache-2.0: pip install 'cleanlab>=2.8'; it gets the same held-out probabilities.
"""

import argparse
import importlib.util
import itertools
from collections.abc import Callable, Mapping

import numpy as np

from semivit_jax import files
from semivit_jax.data.dataset import open_as_begun
from semivit_jax.inference.trained import load_trained
from semivit_jax.report import facts, sample, suspects
from semivit_jax.stages import label_free

FLIPPED = 0.1  # share of the labels
COUNTS = (400, 1797)  # images that are judged
SEEDS = (0, 1, 2)
Rule = Callable[[np.ndarray, np.ndarray], np.ndarray]
"""(held-out probabilities [n, K], labels [n]) -> places of the labels that it calls wrong."""


def rules() -> Mapping[str, Rule]:
    """Ours, and cleanlab's where it can be imported."""
    found: dict[str, Rule] = {"report": lambda probs, labels: suspects.suspected(probs, labels)[0]}
    if importlib.util.find_spec("cleanlab") is not None:
        from cleanlab.filter import find_label_issues

        for name in ("prune_by_noise_rate", "confident_learning", "both", "low_normalized_margin"):
            found[f"cleanlab, {name}"] = lambda probs, labels, name=name: np.flatnonzero(
                find_label_issues(labels, probs, filter_by=name, n_jobs=1)
            )
    return found


def features_of(workdir: files.Path) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Stage -> (features, labels) of all images with a known label, seen by its newest weights."""
    run = facts.read(workdir)
    task = open_as_begun(run.config, workdir=workdir, label_free=label_free())
    drawn = sample.draw(task, most=max(COUNTS), seed=0)
    found = {}
    for stage in run.config.stages:
        trained = load_trained(workdir, kept="latest", tree=None, stage=stage)
        features, labels, _ = sample.joined(sample.with_features(drawn, trained, run.config), *drawn)
        found[stage] = features[labels >= 0], labels[labels >= 0]
    return found


def flipped(labels: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """The labels with a share of them changed to another class, and which they are, bool [n]."""
    generator, num_classes = np.random.default_rng(seed), labels.max() + 1
    wrong = generator.permutation(len(labels))[: round(FLIPPED * len(labels))]
    changed, is_wrong = labels.copy(), np.zeros(len(labels), bool)
    changed[wrong] = (labels[wrong] + generator.integers(1, num_classes, len(wrong))) % num_classes
    is_wrong[wrong] = True
    return changed, is_wrong


def measured(features: np.ndarray, labels: np.ndarray, count: int) -> dict[str, np.ndarray]:
    """Rule -> (precision, recall) of each draw."""
    found: dict[str, list] = {name: [] for name in rules()}
    for seed in SEEDS:
        chosen = np.random.default_rng(seed).permutation(len(labels))[:count]
        changed, is_wrong = flipped(labels[chosen], seed)
        probs = suspects.held_out_probs(features[chosen], changed, seed=seed)
        for name, rule in rules().items():
            called = rule(probs, changed)
            hits = is_wrong[called].sum()
            found[name].append((hits / max(len(called), 1), hits / is_wrong.sum()))
    return {name: np.array(rows) for name, rows in found.items()}


def main() -> None:
    """Prints a row for each stage, number of images and rule."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workdir", required=True, type=files.path)
    sets = features_of(parser.parse_args().workdir)
    print("| features of | images | rule | precision | recall | F1 |\n|---|---|---|---|---|---|")
    for (stage, (features, labels)), count in itertools.product(sets.items(), COUNTS):
        for name, rows in measured(features, labels, count).items():
            precision, recall = rows.mean(axis=0)
            score = 2 * precision * recall / (precision + recall)
            print(f"| {stage} | {count} | {name} | {precision:.2f} | {recall:.2f} | {score:.2f} |")


if __name__ == "__main__":
    main()
