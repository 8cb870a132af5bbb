"""docs/recipes.md, made from the configs so that it cannot go stale."""

from semivit_jax.config import Config
from semivit_jax.recipes.planning import make_plan
from tests.golden.recipes import RECIPES, counts, load

# What a run on one host of this many devices looks like is part of the table.
NUM_DEVICES = 8

HEAD = """\
# Recipes

Made by `make golden` from `configs/`; do not edit. A row is run with

    semivit train --config=configs/FILE.py:ARGUMENTS --workdir=runs/NAME

FILE is the first word of a heading, ARGUMENTS the first column. What a file needs stands at its top, and every value of
every recipe in `tests/golden/configs/`. Any key can be changed: `--config.semi.teacher=student`.

- *Top-1*: published accuracy in percent, printed beside the measured one at the end of a run.
- *Batch*: images per update; in the semi-supervised stage labeled + unlabeled ones. Kept on any number of devices.
- *Images*: millions that the student sees in training, the cost of a row.
- *GPUs*: how many the published command used.
- *On 8 devices*: what differs there. Where the images do not fit (`train.max_images_per_device`), micro-steps are
  accumulated, with the same updates and learning rate. `tests/golden/plans.txt` has 1, 8 and 64 devices.

A recipe marked *ours* has no published command. Where it names an accuracy, that is the published one it should reach.
The files `own_folder` and `digits` have no rows: their tops say what they do. `dataset=own_folder` is counted for
20,000 images of 10 classes. What was compared of the learning rate, views and drop path of `own_folder` and `transfer`,
and what was not, stands in [which weights](weights.md#chosen-for-few-labels).
"""

DEVIATIONS = """\
## What differs from the published code in every ImageNet recipe

- Activations are bfloat16, not float16 with loss scaling. An update with a non-finite value is dropped whole; the
  published code skipped the optimizer but still moved the average.
- Passes over the images follow each other without a gap. The published code dropped the last partial batch of an epoch
  and restarted the labeled images with each pass over the unlabeled ones.
- Training views take the fast path, whose resizing differs from Pillow's by 0.2 of 255 on average;
  `--config.data.photo_views.path=pillow` is exact. Evaluation is always exact, and counts every image once.
- The 1 % and 10 % are SimCLR's lists; the links to the published index files are dead.
- The same distributions, but other random numbers.
"""

SECTIONS = {
    "imagenet_mae": "MAE pre-training",
    "imagenet_finetune": "Supervised fine-tuning, and training from scratch",
    "imagenet_semi": "Semi-ViT: fine-tuning, then labeled and unlabeled images (the table shows the second stage)",
    "transfer": "Another dataset (not measured)",
    "cifar10": "CIFAR-10 from nothing on one GPU (not measured)",
}
COLUMNS = ("arguments", "origin", "top-1", "batch", "epochs", "peak lr", "updates", "images", "GPUs", "on 8 devices")


def recipes_page() -> str:
    """The whole page."""
    parts = [HEAD]
    for file, title in SECTIONS.items():
        rows = [_row(arguments, load(file, arguments)) for arguments in RECIPES[file]]
        parts.append(f"## {file}: {title}\n\n{_table(rows)}")
    return "\n".join([*parts, DEVIATIONS])


def _row(arguments: str, config: Config) -> tuple[str, ...]:
    stage = config.stages[-1]
    section = config.stage(stage)
    plan = make_plan(config, stage, counts(config), num_devices=NUM_DEVICES, stored_group_size=None)
    published = getattr(section, "published_acc1", 0.0)
    batch = f"{plan.batch_size}"
    if plan.unlabeled_ratio:
        batch += f" + {plan.batch_size * plan.unlabeled_ratio}"
    images = plan.total_steps * plan.batch_size * (1 + plan.unlabeled_ratio) / 1e6
    return (
        f"`{arguments}`",
        config.log.origin,
        f"{published}" if published else "",
        batch,
        f"{section.epochs:g}",
        f"{plan.peak_lr:.4g}",
        f"{plan.total_steps:,}",
        f"{images:.3g}" if images < 1000 else f"{images:,.0f}",
        _published_devices(config, stage),
        "; ".join(plan.deviations) or "nothing",
    )


def _published_devices(config: Config, stage: str) -> str:
    """Batch over the group, which is the published batch per GPU; MAE's is its limit of images per device."""
    if config.log.origin != "published":
        return ""
    section = config.stage(stage)
    group = getattr(section, "mixup_group_size", config.train.max_images_per_device)
    return str(section.batch_size // section.accum // group)


def _table(rows: list[tuple[str, ...]]) -> str:
    lines = [COLUMNS, tuple("---" for _ in COLUMNS), *rows]
    return "".join("| " + " | ".join(line) + " |\n" for line in lines)
