"""Time of one training step: one JSON line.

    python -m benchmarks.step --model=vit_b16 --stage=semi --batch=8

`--batch` counts labeled images in the semi stage; five unlabeled ones per labeled image come on top.
"""

import argparse
import dataclasses
import json
import platform
import sys
from collections.abc import Sequence

import flax
import jax
import optax

from benchmarks import cases, ideas
from benchmarks.measure import measure
from semivit_jax.config import ConfigError
from semivit_jax.main import BAD_USAGE
from semivit_jax.stages import STAGES


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="benchmarks.step", description="Time one training step.")
    parser.add_argument("--model", default="vit_b16")
    parser.add_argument("--stage", default="semi", choices=tuple(STAGES))
    parser.add_argument("--batch", type=_count, default=8, help="images per update (semi: labeled ones)")
    parser.add_argument("--steps", type=_count, default=30, help="steps timed after warm-up")
    parser.add_argument("--image-size", type=_count, help="side in pixels; default: what the model is for")
    parser.add_argument("--num-classes", type=_count, default=1000)
    parser.add_argument("--dtype", default="bfloat16", choices=("float32", "bfloat16"), help="of activations")
    parser.add_argument("--attention", default="auto", choices=("auto", "xla", "cudnn"))
    parser.add_argument("--remat", default="none", choices=("none", "dots", "full"))
    parser.add_argument("--unroll", type=_count, default=1, help="blocks per iteration of the scan over depth")
    parser.add_argument("--idea", default="", choices=("", *ideas.IDEAS), help="see benchmarks/ideas.py")
    args = parser.parse_args(arguments)
    args.image_size = args.image_size or cases.image_size(args.model)
    return args


def _count(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{number}; at least 1")
    return number


def main(arguments: Sequence[str] | None = None) -> None:
    args = vars(parse(arguments))
    steps, idea = args.pop("steps"), args.pop("idea")
    try:
        with ideas.applied(idea):
            measured = measure(cases.Case(**args), steps=steps)
    except ConfigError as error:  # a model, batch or size that no run could have
        print(f"benchmarks.step: {error}", file=sys.stderr)
        sys.exit(BAD_USAGE)
    print(json.dumps({**dataclasses.asdict(measured), "idea": idea, **machine()}))


def machine() -> dict[str, object]:
    """Where a number was measured, and with what."""
    device = jax.devices()[0]
    return {
        "device": device.device_kind,
        "num_devices": jax.device_count(),
        "backend": jax.default_backend(),
        "python": platform.python_version(),
        "jax": jax.__version__,
        "flax": flax.__version__,
        "optax": optax.__version__,
    }


if __name__ == "__main__":
    main()
