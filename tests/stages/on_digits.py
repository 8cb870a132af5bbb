"""Stages 2 and 3 on the digits in memory, without files: seconds a run, to show what rules do to pictures."""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from PIL import Image, ImageDraw, ImageFont
from sklearn.datasets import load_digits

from semivit_jax.data.sources.digits import from_raw_pixels, test_indices
from semivit_jax.plan import ImageCounts
from tests.compiled import quick_jit
from tests.configs import small_config, small_plan
from tests.stages.small import MAKE_STAGE, MAKE_UPDATE

LABELED, RATIO, EMA = 20, 5, 0.98  # images of an update, and the teacher's memory
FINETUNE_UPDATES, SEMI_UPDATES = 400, 250
LETTERS = "AEFHKMNRWX"
VALUES = {
    "model.variant": "vit_test2", "finetune.batch_size": LABELED, "finetune.labeled_mixup": False,
    "finetune.ema_decay": EMA, "semi.batch_size": LABELED, "semi.unlabeled_ratio": RATIO,
    "semi.labeled_mixup": False, "semi.ema_decay": EMA, "semi.pseudo_mixup": "none",
    "semi.confidence_threshold": 0.7,
}  # fmt: skip


class Pictures(NamedTuple):
    """uint8 (n, 8, 8, 3), and their classes; -1 of an image that is of none."""

    images: np.ndarray
    labels: np.ndarray


class Task(NamedTuple):
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


def task(seed: int, per_class: list[int], *, outsiders: np.ndarray | None = None) -> Task:
    """So many labeled images of each class; all others are unlabeled, with outsiders among them."""
    training, test = digits()
    order = np.random.default_rng(seed).permutation(len(training.labels))
    chosen = np.concatenate([order[training.labels[order] == k][:n] for k, n in enumerate(per_class)])
    rest = np.setdiff1d(order, chosen)
    unlabeled = Pictures(training.images[rest], training.labels[rest])
    if outsiders is not None:
        labels = np.append(unlabeled.labels, np.full(len(outsiders), -1))
        unlabeled = Pictures(np.concatenate([unlabeled.images, outsiders]), labels)
    return Task(Pictures(training.images[chosen], training.labels[chosen]), unlabeled, test)


def letters(number: int, seed: int) -> np.ndarray:
    """Capital letters of Pillow's own font, each drawn a little differently, uint8 (number, 8, 8, 3)."""
    generator = np.random.default_rng(seed)
    return np.stack([_letter(LETTERS[n % len(LETTERS)], generator) for n in range(number)])


def _letter(letter: str, generator: np.random.Generator) -> np.ndarray:
    drawn = Image.new("L", (64, 64))
    ImageDraw.Draw(drawn).text((16, 12), letter, fill=255, font=ImageFont.load_default(size=32))
    drawn = drawn.rotate(generator.uniform(-12, 12), Image.Resampling.BILINEAR)
    width, height = generator.integers(5, 8), 8
    small = drawn.crop(drawn.getbbox()).resize((width, height), Image.Resampling.BOX)
    image = np.zeros((8, 8), np.uint8)
    left = generator.integers(0, 9 - width)
    image[:, left : left + width] = np.asarray(small)
    return np.repeat(image[..., None], 3, axis=-1)


def plan_of(stage: str, given: Task, updates: int) -> Any:
    per_class = tuple(np.bincount(given.labeled.labels, minlength=10).tolist())
    counts = ImageCounts(
        len(given.labeled.labels) + len(given.unlabeled.labels), len(given.labeled.labels), len(given.unlabeled.labels),
        per_class,
    )  # fmt: skip
    peak = 3e-3
    ratio = {"unlabeled_ratio": RATIO if stage == "semi" else 0}
    return small_plan(
        stage, batch_size=LABELED, group_size=10, steps_per_epoch=10, micro_per_epoch=10, total_steps=updates,
        peak_lr=peak, counts=counts, **ratio,
    )  # fmt: skip


def config_of(updates: int, changes: tuple[tuple[str, Any], ...]):
    epochs = {f"{stage}.{key}": value for stage in ("finetune", "semi")
              for key, value in (("epochs", updates / 10), ("warmup_epochs", updates / 100))}  # fmt: skip
    return small_config(**VALUES, **epochs, **dict(changes))


def batches(pictures: Pictures, rows: int, updates: int, generator: np.random.Generator):
    """Positions of so many updates, pass after pass, no image twice in an update."""
    per_pass = max(1, len(pictures.labels) // rows)
    for update in range(updates):
        if update % per_pass == 0:
            order = generator.permutation(len(pictures.labels))
        at = np.resize(order, max(rows, len(order)))[update % per_pass * rows :][:rows]
        yield at


def train(stage: str, given: Task, seed: int, updates: int, *, start=None, balanced=False, look=None, **changes):
    """The state after so many updates, from a state of an earlier stage, and the metrics of the last one.

    Args:
      stage: 'finetune' or 'semi'.
      given: images.
      seed: of weights, order and draws.
      updates: how many.
      start: state of the stage before.
      balanced: as many labeled images of each class in an update.
      look: called with (update, state, metrics) after each update.
      changes: keys of the stage.
    """
    keys = tuple((f"{stage}.{name}", value) for name, value in changes.items())
    config, plan = config_of(updates, keys), plan_of(stage, given, updates)
    made = MAKE_STAGE[stage](config, plan, "cpu")
    key = jax.random.key(seed)
    state = quick_jit(made.init)(key)
    if start is not None:
        copied = {name: jax.tree.map(jnp.copy, start.ema_params) for name in ("params", "ema_params")}
        state = state.replace(**copied)
    step, generator = quick_jit(made.train_step, donate_argnums=0), np.random.default_rng((seed, 1))
    of_labeled = batches(given.labeled, LABELED, updates, generator)
    of_unlabeled = batches(given.unlabeled, LABELED * RATIO, updates, generator)
    found = {}
    for update, (own, other) in enumerate(zip(of_labeled, of_unlabeled, strict=True)):
        if balanced:
            own = np.concatenate([generator.choice(np.flatnonzero(given.labeled.labels == k), LABELED // 10)
                                  for k in range(10)])  # fmt: skip
        labeled = {"image": given.labeled.images[own][None], "label": given.labeled.labels[own][None]}
        unlabeled = {"image": given.unlabeled.images[other][None], "label": given.unlabeled.labels[other][None],
                     "image_id": other.astype(np.int32)[None]}  # fmt: skip
        batch = labeled if stage == "finetune" else {"labeled": labeled, "unlabeled": unlabeled}
        state, found = step(state, batch, key)
        if look is not None:
            look(update, state, found)
    return state, found


@functools.cache
def _network():
    given = task(0, [4] * 10)
    return MAKE_UPDATE["semi"](config_of(10, ()), plan_of("semi", given, 10), backend="cpu")[0]


@functools.cache
def _logits():
    mean, std = (jnp.asarray(small_config().data.mean), jnp.asarray(small_config().data.std))
    return quick_jit(lambda params, images: _network().logits(params, (images / 255.0 - mean) / std, None))


def logits_of(params, images: np.ndarray) -> np.ndarray:
    return np.asarray(_logits()(params, images))


def class_accuracy(params, test: Pictures) -> np.ndarray:
    """Share right of each class."""
    right = logits_of(params, test.images).argmax(axis=1) == test.labels
    return np.asarray([right[test.labels == k].mean() for k in range(10)])
