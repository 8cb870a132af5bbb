"""How every recipe is spread over 1, 8 and 64 devices, as text: what `train` prints before it starts."""

from semivit_jax.config import Config, ConfigError
from semivit_jax.recipes.planning import make_plan
from tests.golden.recipes import RECIPES, counts, load

NUM_DEVICES = (1, 8, 64)


def plan_text() -> str:
    """One paragraph per recipe and stage: the update, then one line per number of devices."""
    paragraphs = ["# Plans of all recipes on 1, 8 and 64 devices, with the recipes' max_images_per_device."]
    for file, rows in RECIPES.items():
        for arguments in rows:
            config = load(file, arguments)
            paragraphs += [_paragraph(f"{file}:{arguments}", config, stage) for stage in config.stages]
    return "\n\n".join(paragraphs) + "\n"


def _paragraph(name: str, config: Config, stage: str) -> str:
    lines = [f"[{name}] {stage}, batch {config.stage(stage).batch_size}"]
    for num_devices in NUM_DEVICES:
        try:
            plan = make_plan(config, stage, counts(config), num_devices=num_devices, stored_group_size=None)
        except ConfigError as error:
            lines.append(f"{num_devices:>2} devices: refused: {error}")
            continue
        adapted = "; ".join(plan.deviations) or "as the recipe says"
        numbers = f"{plan.total_steps} updates, peak lr {plan.peak_lr:.6g}"
        lines.append(f"{num_devices:>2} devices: {numbers}, {plan.accum} x {plan.micro_batch} images: {adapted}")
    return "\n".join(lines)
