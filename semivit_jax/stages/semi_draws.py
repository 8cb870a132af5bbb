"""Draw what an update of stage 3 needs: views, erasing, drop path and mixing."""

from typing import NamedTuple

import jax

from semivit_jax.config import Config
from semivit_jax.models.families import Network
from semivit_jax.ops import mixup
from semivit_jax.plan import Plan
from semivit_jax.stages import stage as stage_lib
from semivit_jax.stages import supervised
from semivit_jax.stages.pseudo_mixup import sample_pseudo_mix
from semivit_jax.stages.stage import DeviceView, ImageDraws, PyTree
from semivit_jax.stages.supervised import SupervisedConfig


class SemiDraws(NamedTuple):
    """Draws of an update, leaves [accum, rows, ...], for mixing [accum, groups, ...]."""

    labeled: ImageDraws
    weak: ImageDraws
    strong: ImageDraws
    labeled_mix: mixup.GroupDraw | None
    pseudo_mix: PyTree  # as its row of PSEUDO_MIXUPS draws; None without pseudo mixup
    labeled_weak: ImageDraws = ImageDraws()  # where the rule needs 'labeled'


class Specs(NamedTuple):
    """How each stream is seen on the device."""

    labeled: DeviceView
    weak: DeviceView
    strong: DeviceView


def specs(config: Config, section: SupervisedConfig, network: Network, *, student_teaches: bool) -> Specs:
    """Views of the streams; only a student that labels the weak view passes it with drop path."""
    rates = network.drop_path_rates
    passed = {"labeled": rates, "weak": rates if student_teaches else None, "strong": rates}
    return Specs(**{row: supervised.view_of(config, section, row, of_row) for row, of_row in passed.items()})


def sample(
    key: jax.Array,
    position: jax.Array,
    section: SupervisedConfig,
    plan: Plan,
    views: Specs,
    *,
    image_size: int,
    pseudo_mixup: str,
    labeled_weak: bool,
) -> SemiDraws:
    """All draws of one update.

    Args:
      key: of the run.
      position: batches consumed since the stage began.
      section: its keys.
      plan: of the stage.
      views: as `specs` says.
      image_size: pixels.
      pseudo_mixup: row of PSEUDO_MIXUPS.
      labeled_weak: whether labeled images are seen weakly too.
    """

    def images(name: str, images_per_labeled: int, spec: DeviceView) -> ImageDraws:
        return stage_lib.stream_draws(key, name, position=position, plan=plan, ratio=images_per_labeled, spec=spec)

    ratio = plan.unlabeled_ratio
    return SemiDraws(
        labeled=images("labeled", 1, views.labeled),
        weak=images("weak", ratio, views.weak),
        strong=images("strong", ratio, views.strong),
        labeled_mix=supervised.sample_labeled_mix(key, position, section, plan, image_size),
        pseudo_mix=sample_pseudo_mix(
            key, position, plan, kind=pseudo_mixup, image_size=image_size, chances=supervised.chances(section)
        ),
        labeled_weak=images("labeled_weak", 1, views.weak) if labeled_weak else ImageDraws(),
    )
