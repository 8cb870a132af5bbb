"""Stages 2 and 3 on the digits in memory, without files: seconds a run, to show what rules do to pictures."""

import functools
from collections.abc import Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from PIL import Image, ImageDraw, ImageFont
from sklearn.datasets import load_digits

from semivit_jax.config import Config
from semivit_jax.data.sources.digits import from_raw_pixels, test_indices
from semivit_jax.plan import ImageCounts, Plan
from semivit_jax.stages.state import PyTree, TrainState
from tests.compiled import quick_jit
from tests.configs import small_config, small_plan
from tests.stages.small import MAKE_STAGE, MAKE_UPDATE

LABELED, RATIO, EMA, THRESHOLD = 20, 5, 0.98, 0.7  # images of an update, the teacher's memory, and tau
UPDATES = {"finetune": 400, "semi": 250}
SEED = 0
LETTERS = "AEFHKMNRWX"
VALUES = {
    "model.variant": "vit_test2", "finetune.batch_size": LABELED, "finetune.labeled_mixup": False,
    "finetune.ema_decay": EMA, "semi.batch_size": LABELED, "semi.unlabeled_ratio": RATIO,
    "semi.labeled_mixup": False, "semi.ema_decay": EMA, "semi.pseudo_mixup": "none",
    "semi.confidence_threshold": THRESHOLD,
}  # fmt: skip


class Pictures(NamedTuple):
    """uint8 (n, 8, 8, 3), and their classes; -1 of an image that is of none."""

    images: np.ndarray
    labels: np.ndarray


class Task(NamedTuple):
    """What a run is given, and what it is graded by."""

    labeled: Pictures
    unlabeled: Pictures
    test: Pictures


def digits() -> tuple[Pictures, Pictures]:
    """Training and test images."""
    raw, labels = load_digits(return_X_y=True)
    images = np.repeat(from_raw_pixels(raw.reshape(-1, 8, 8))[..., None], 3, axis=-1)
    test = np.zeros(len(labels), bool)
    test[test_indices(labels)] = True
    return Pictures(images[~test], labels[~test]), Pictures(images[test], labels[test])


def task(per_class: list[int], *, outsiders: np.ndarray | None = None) -> Task:
    """So many labeled images of each class; all others are unlabeled, with outsiders among them."""
    training, test = digits()
    order = np.random.default_rng(SEED).permutation(len(training.labels))
    chosen = np.concatenate([order[training.labels[order] == k][:n] for k, n in enumerate(per_class)])
    rest = np.setdiff1d(order, chosen)
    unlabeled = Pictures(training.images[rest], training.labels[rest])
    if outsiders is not None:
        labels = np.append(unlabeled.labels, np.full(len(outsiders), -1))
        unlabeled = Pictures(np.concatenate([unlabeled.images, outsiders]), labels)
    return Task(Pictures(training.images[chosen], training.labels[chosen]), unlabeled, test)


def evened(given: Task) -> Task:
    """With the labeled images of rare classes repeated until all classes have equally many: `balanced_order`."""
    images, labels = given.labeled
    most = np.bincount(labels).max()
    rows = np.concatenate([np.resize(np.flatnonzero(labels == k), most) for k in range(10)])
    return given._replace(labeled=Pictures(images[rows], labels[rows]))


def letters(number: int) -> np.ndarray:
    """Capital letters of Pillow's own font, each drawn a little differently, uint8 (number, 8, 8, 3)."""
    generator = np.random.default_rng(SEED)
    return np.stack([_letter(LETTERS[n % len(LETTERS)], generator) for n in range(number)])


def _letter(letter: str, generator: np.random.Generator) -> np.ndarray:
    drawn = Image.new("L", (64, 64))
    ImageDraw.Draw(drawn).text((16, 12), letter, fill=255, font=ImageFont.load_default(size=32))
    drawn = drawn.rotate(generator.uniform(-12, 12), Image.Resampling.BILINEAR)
    width, height = int(generator.integers(5, 8)), 8
    small = drawn.crop(drawn.getbbox()).resize((width, height), Image.Resampling.BOX)
    image = np.zeros((8, 8), np.uint8)
    left = generator.integers(0, 9 - width)
    image[:, left : left + width] = np.asarray(small)
    return np.repeat(image[..., None], 3, axis=-1)


def plan_of(stage: str, given: Task, updates: int) -> Plan:
    per_class = tuple(np.bincount(given.labeled.labels, minlength=10).tolist())
    counts = ImageCounts(
        len(given.labeled.labels) + len(given.unlabeled.labels), len(given.labeled.labels), len(given.unlabeled.labels),
        per_class,
    )  # fmt: skip
    ratio = {"unlabeled_ratio": RATIO if stage == "semi" else 0}
    return small_plan(
        stage, batch_size=LABELED, group_size=10, steps_per_epoch=10, micro_per_epoch=10, total_steps=updates,
        peak_lr=3e-3, counts=counts, **ratio,
    )  # fmt: skip


def config_of(updates: int, changes: tuple[tuple[str, Any], ...]) -> Config:
    epochs = {f"{stage}.{key}": value for stage in ("finetune", "semi")
              for key, value in (("epochs", updates / 10), ("warmup_epochs", updates / 100))}  # fmt: skip
    return small_config(**VALUES, **epochs, **dict(changes))


def batches(pictures: Pictures, rows: int, updates: int, generator: np.random.Generator) -> Iterator[np.ndarray]:
    """Positions of so many updates, pass after pass, no image twice in an update."""
    per_pass = max(1, len(pictures.labels) // rows)
    for update in range(updates):
        if update % per_pass == 0:
            order = generator.permutation(len(pictures.labels))
        at = np.resize(order, max(rows, len(order)))[update % per_pass * rows :][:rows]
        yield at


def train(stage: str, given: Task, *, start: TrainState | None = None, **changes) -> TrainState:
    """The state after the stage, which begins with the average that `start` has.

    Args:
      stage: 'finetune' or 'semi'.
      given: images.
      start: state of the stage before.
      changes: keys of the stage's section.
    """
    updates = UPDATES[stage]
    keys = tuple((f"{stage}.{name}", value) for name, value in changes.items())
    config, plan = config_of(updates, keys), plan_of(stage, given, updates)
    made = MAKE_STAGE[stage](config, plan, "cpu")
    key = jax.random.key(SEED)
    state = quick_jit(made.init)(key)
    if start is not None:
        copied = {name: jax.tree.map(jnp.copy, start.ema_params) for name in ("params", "ema_params")}
        state = state.replace(**copied)
    step, generator = quick_jit(made.train_step, donate_argnums=0), np.random.default_rng(SEED)
    of_labeled = batches(given.labeled, LABELED, updates, generator)
    of_unlabeled = batches(given.unlabeled, LABELED * RATIO, updates, generator)
    for own, other in zip(of_labeled, of_unlabeled, strict=True):
        labeled = {"image": given.labeled.images[own][None], "label": given.labeled.labels[own][None]}
        unlabeled = {"image": given.unlabeled.images[other][None], "label": given.unlabeled.labels[other][None],
                     "image_id": other.astype(np.int32)[None]}  # fmt: skip
        batch = labeled if stage == "finetune" else {"labeled": labeled, "unlabeled": unlabeled}
        state, _ = step(state, batch, key)
    return state


@functools.cache
def _network():
    given = task([4] * 10)
    return MAKE_UPDATE["semi"](config_of(10, ()), plan_of("semi", given, 10), backend="cpu")[0]


def _normalised(images: jax.Array) -> jax.Array:
    return (images / 255.0 - jnp.asarray(small_config().data.mean)) / jnp.asarray(small_config().data.std)


@functools.cache
def _logits():
    return quick_jit(lambda params, images: _network().logits(params, _normalised(images), None))


@functools.cache
def _features():
    return quick_jit(lambda params, images: _network().features(params, _normalised(images)))


def logits_of(params: PyTree, images: np.ndarray) -> np.ndarray:
    """(n, 10) of uint8 images."""
    return np.asarray(_logits()(params, images))


def features_of(params: PyTree, images: np.ndarray) -> np.ndarray:
    """(n, width) that the head reads, of uint8 images."""
    return np.asarray(_features()(params, images))


def class_accuracy(params: PyTree, test: Pictures) -> np.ndarray:
    """Share right of each class."""
    right = logits_of(params, test.images).argmax(axis=1) == test.labels
    return np.asarray([right[test.labels == k].mean() for k in range(10)])
