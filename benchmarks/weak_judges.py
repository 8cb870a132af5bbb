"""Find how much the judge of labels must know, so that at least half of the labels that it suspects are wrong.

python -m benchmarks.weak_judges

A tenth of the labels is flipped, and the features get more and more noise: pixels of the digits, and Gaussian clouds of
2, 30 and 100 classes. Prints the share of the labels that the judge of `semivit report` guesses as they are, how far
that is from chance to all (its skill), the share that it suspects, and precision and recall of that; means of three
draws.
"""

from collections.abc import Iterator

import numpy as np
from sklearn.datasets import load_digits

from benchmarks.flipped_labels import SEEDS, flipped
from semivit_jax.report import suspects

DIGITS = (100, 400, 1797)  # images
DIGITS_NOISE = (0, 2, 3, 4, 5, 6, 8, 11, 15, 22)  # standard deviation; a pixel goes from 0 to 16
CLOUDS = ((2, 100), (30, 15), (100, 8))  # classes, images of each
CLOUDS_NOISE = (1.2, 1.4, 1.6, 1.8, 2.0, 2.5, 3.0, 4.0)  # standard deviation; a mean's coordinates have 1
WIDTH = 64


def sets(seed: int) -> Iterator[tuple[str, float, np.ndarray, np.ndarray]]:
    """(what, noise, features, labels) of one draw."""
    (images, targets), generator = load_digits(return_X_y=True), np.random.default_rng(seed)
    for count in DIGITS:
        chosen = generator.permutation(len(targets))[:count]
        for noise in DIGITS_NOISE:
            pixels = images[chosen]
            yield (
                f"{count:,} digits",
                noise,
                pixels + noise * generator.normal(size=pixels.shape),
                targets[chosen],
            )
    for classes, each in CLOUDS:
        means, labels = generator.normal(size=(classes, WIDTH)), np.repeat(np.arange(classes), each)
        for noise in CLOUDS_NOISE:
            features = means[labels] + noise * generator.normal(size=(len(labels), WIDTH))
            yield f"clouds, {classes} x {each}", noise, features, labels


def judged(features: np.ndarray, labels: np.ndarray, seed: int) -> tuple[float, ...]:
    """(guessed as they are, skill, suspected, precision, recall)."""
    changed, is_wrong = flipped(labels, seed)
    found = suspects.find(features, changed, seed=seed)
    called = np.array([one.place for one in found.suspects], int)
    chance = np.bincount(changed[found.places]).max() / len(found.places)
    right, hits = found.agrees.mean(), is_wrong[called].sum()
    skill = (right - chance) / (1 - chance)
    wrong = is_wrong[found.places].sum()
    return right, skill, len(called) / len(found.places), hits / max(len(called), 1), hits / max(wrong, 1)


def main() -> None:
    """Prints a row for each set and noise, then the smallest skill from which on no precision is below a half."""
    found: dict[tuple[str, float], list[tuple[float, ...]]] = {}
    for seed in SEEDS:
        for what, noise, features, labels in sets(seed):
            found.setdefault((what, noise), []).append(judged(features, labels, seed))
    print("| features | noise | guesses | skill | suspects | precision | recall |\n|---|---|---|---|---|---|---|")
    rows = {of: np.mean(draws, axis=0) for of, draws in found.items()}
    for (what, noise), numbers in rows.items():
        print(f"| {what} | {noise:g} | " + " | ".join(f"{number:.2f}" for number in numbers) + " |")
    print(f"below a half up to a skill of {max(row[1] for row in rows.values() if row[3] < 0.5):.3f}")


if __name__ == "__main__":
    main()
