"""Show people what a stage makes of images, drawn and mixed by the code that trains: the table PICTURES.

A stage without a row shows nothing.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from semivit_jax.config import Config
from semivit_jax.models import families
from semivit_jax.models.patches import patchify, unpatchify
from semivit_jax.ops import mixup
from semivit_jax.ops.losses import promote, smoothed_target
from semivit_jax.plan import Plan
from semivit_jax.stages import finetune, mae, semi, supervised
from semivit_jax.stages.pseudo_label import Evidence
from semivit_jax.stages.pseudo_mixup import mix_pseudo
from semivit_jax.stages.stage import PyTree, see, see_view

HIDDEN = 0.85  # grey of a patch that the model does not see, in 0..1


class Panel(NamedTuple):
    """The same images at one point of their way through a stage.

    Attributes:
      title: what it shows.
      images: uint8 [n, size, size, 3].
      targets: float [n, K], shares of the classes that go with them; None where no class does.
      weights: float [n], with which they count in the loss; None where all count alike.
    """

    title: str
    images: np.ndarray
    targets: np.ndarray | None = None
    weights: np.ndarray | None = None

    def first(self, count: int) -> "Panel":
        """Of the first images alone."""
        targets, weights = (None if of is None else of[:count] for of in (self.targets, self.weights))
        return Panel(self.title, self.images[:count], targets, weights)


Compile = Callable[[Callable[..., Any]], Callable[..., Any]]
"""What makes a program of a pure function; decided above the stages."""

Draw = Callable[[Config, Plan, PyTree, PyTree, jax.Array, Compile], tuple[Panel, ...]]
"""(config, plan of one micro-step, weights of the whole model, batch, key of the stage, compile) -> its panels."""


def hidden_and_guessed(
    config: Config, plan: Plan, params: PyTree, batch: PyTree, key: jax.Array, compiled: Compile
) -> tuple[Panel, ...]:
    """Images, what is left of them, and what the autoencoder makes of that.

    A model that predicts patches normalised by their mean and deviation says nothing of these two, so they are lent by
    the image itself.
    """
    section = config.stage(plan.stage)
    assert isinstance(section, mae.MaeConfig)
    autoencoder, _, _ = mae.make_update(config, plan, backend=jax.default_backend())
    grey = (HIDDEN - np.asarray(config.data.mean)) / np.asarray(config.data.std)

    def drawn(params: PyTree, batch: PyTree, key: jax.Array) -> tuple[jax.Array, ...]:
        draws = _first(mae.sample_draws(config, plan, autoencoder, key, jnp.zeros((), jnp.int32)))
        seen = see(_first(batch)["image"], draws.image, mae.view_spec(config))
        output = autoencoder.apply(params, seen, draws.noise)
        patches, side = patchify(seen, autoencoder.patch_size), seen.shape[1] // autoencoder.patch_size
        removed, guess = output.patch_mask[..., None] > 0, promote(output.pred)
        if section.norm_pix_loss:
            deviation = jnp.sqrt(patches.var(-1, keepdims=True, ddof=1) + 1e-6)
            guess = guess * deviation + patches.mean(-1, keepdims=True)
        hidden = jnp.where(removed, jnp.tile(jnp.asarray(grey, seen.dtype), autoencoder.patch_size**2), patches)
        return seen, unpatchify(hidden, side), unpatchify(jnp.where(removed, guess, patches), side)

    titles = ("the image", "what the model sees", "what it makes of it")
    found = compiled(drawn)(params, batch, key)
    return tuple(Panel(title, _pixels(images, config)) for title, images in zip(titles, found, strict=True))


def labeled(
    config: Config, plan: Plan, params: PyTree, batch: PyTree, key: jax.Array, compiled: Compile
) -> tuple[Panel, ...]:
    """Views of labeled images, and what they are after mixing."""
    del params
    section = config.stage(plan.stage)
    assert isinstance(section, supervised.SupervisedConfig)
    network = supervised.build_network(config, section, plan, backend=jax.default_backend())
    spec = supervised.view_of(config, section, "labeled", network.drop_path_rates)

    def drawn(batch: PyTree, key: jax.Array) -> tuple[jax.Array, ...]:
        draws, rows = _first(finetune.sample_draws(config, plan, network, key, jnp.zeros((), jnp.int32))), _first(batch)
        seen = see(rows["image"], draws.image, spec)
        targets = smoothed_target(rows["label"], plan.num_classes, section.label_smoothing, seen.dtype)
        return seen, *mixup.mix_labeled(seen, targets, draws.mix, plan.group_size)

    seen, mixed, targets = compiled(drawn)(batch, key)
    given = (np.asarray(batch["label"][0])[:, None] == np.arange(plan.num_classes)).astype(np.float32)
    shown = Panel("labeled view", _pixels(seen, config), given)
    if not section.labeled_mixup:
        return (shown,)
    return shown, Panel("mixed: what is learned from", _pixels(mixed, config), np.asarray(targets))


def pseudo_labeled(
    config: Config, plan: Plan, params: PyTree, batch: PyTree, key: jax.Array, compiled: Compile
) -> tuple[Panel, ...]:
    """Unlabeled images: the weak view with what the teacher says of it, the strong view, and both after mixing.

    A rule that remembers is taken as it is when the stage begins.
    """
    section, backend = config.stage(plan.stage), jax.default_backend()
    assert isinstance(section, semi.SemiConfig)
    network = supervised.build_network(config, section, plan, backend=backend)
    spec = supervised.model(config, plan.num_classes)
    teacher = families.network(spec, families.compute(config.model, spec, backend=backend), 0.0)
    gentle = supervised.view_of(config, section, "weak", None)
    strict = supervised.view_of(config, section, "strong", network.drop_path_rates)
    rule = semi.make_rule(section, plan)

    def drawn(params: PyTree, batch: PyTree, key: jax.Array) -> tuple[Any, ...]:
        draws, rows = _first(semi.sample_draws(config, plan, network, key, jnp.zeros((), jnp.int32))), _first(batch)
        unlabeled, known = rows["unlabeled"], rows["labeled"]
        weak = see_view("weak", unlabeled, draws.weak, gentle)
        strong = see_view("strong", unlabeled, draws.strong, strict)
        logits = promote(teacher.logits(params, weak, None))
        known_logits = promote(teacher.logits(params, see_view("weak", known, draws.labeled_weak, gentle), None))
        evidence = Evidence(logits, unlabeled.get("image_id"), known_logits, known["label"])
        _, pseudo = rule.assign(rule.init(), evidence)
        mixed = mix_pseudo(
            strong,
            pseudo._replace(thresholds=None),
            draws.pseudo_mix,
            kind=section.pseudo_mixup,
            label_smoothing=section.label_smoothing,
            group_size=plan.group_size * plan.unlabeled_ratio,
        )
        return weak, jax.nn.softmax(logits), strong, mixed

    weak, probs, strong, mixed = compiled(drawn)(params, batch, key)
    learned, targets, weights = mixed
    return (
        Panel("weak view: the teacher answers", _pixels(weak, config), np.asarray(probs)),
        Panel("strong view", _pixels(strong, config)),
        Panel(
            "mixed: what the student learns from",
            _pixels(learned, config),
            np.asarray(targets),
            np.asarray(weights),
        ),
    )


PICTURES: dict[str, Draw] = {"mae": hidden_and_guessed, "finetune": labeled, "semi": pseudo_labeled}


def _first(leaves: PyTree) -> PyTree:
    """Leaves of the first micro-step."""
    return jax.tree.map(lambda x: x[0], leaves)


def _pixels(images: jax.Array, config: Config) -> np.ndarray:
    """Normalised floats as uint8."""
    shown = np.asarray(images, np.float32) * np.asarray(config.data.std) + np.asarray(config.data.mean)
    return np.clip(np.round(255 * shown), 0, 255).astype(np.uint8)
