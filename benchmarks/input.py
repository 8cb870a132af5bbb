"""The whole input: views beside a plain Pillow composition of the same views, pipeline, and cores that feed a step.

  python benchmarks/input.py DIR_OR_ZIP --images-per-second=2000

DIR_OR_ZIP holds JPEG files. The views: one core, processor time, median of interleaved runs. Both sides replay the
same random draws for the same images: ours ends at uint8 (the device does the rest), the baseline goes on
to normalised and erased float32, as a loader without a device stage must. The pipeline: `input_pipeline.py`. The last
line is JSON.
"""

import argparse
import collections
import contextlib
import io
import json
import math
import os
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import numpy as np
from PIL import Image, ImageEnhance, ImageOps

from semivit_jax.config import RandAugmentConfig
from semivit_jax.data.images.color_jitter import apply_color_jitter
from semivit_jax.data.images.crop_resize import crop_and_resize
from semivit_jax.data.images.decode import decode
from semivit_jax.data.images.randaugment import AppliedOperator, apply_randaugment
from semivit_jax.data.images.views import (
    EvalView,
    PhotoView,
    ViewDraw,
    eval_view,
    random_views,
    sample_view,
)

if not __package__:  # started by its path: Python then looks beside this file, not in the folder above
    sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks import input_cores, input_pipeline
from benchmarks.photos import load_jpegs

IMAGE_SIZE = 224
MAX_PIXELS = 64_000_000
MEAN = np.array([0.485, 0.456, 0.406], np.float32)
STD = np.array([0.229, 0.224, 0.225], np.float32)
FILL_RGB = (124, 116, 104)
ERASE_PROB = 0.25
RUNS = 5
IMAGES_PER_TURN = 50
SEED = 0
TYPICAL_NEEDS = (500, 1000, 2000, 5000)  # unlabeled images per second

Measured = Callable[[bytes, np.random.Generator], None]
"""One view, or the views of one pair, from the bytes of a JPEG file and a generator."""

EVAL = EvalView(image_size=IMAGE_SIZE, crop_fraction=224 / 256, interpolation="bicubic", max_pixels=MAX_PIXELS)
RANDAUGMENT = RandAugmentConfig(num_ops=2, magnitude=9.0, magnitude_std=0.5, apply_prob=0.5)


def photo_view(
    *, crop_scale: tuple[float, float], color_jitter: float, randaugment: RandAugmentConfig | None
) -> PhotoView:
    """A published training view on the fast path."""
    return PhotoView(
        image_size=IMAGE_SIZE,
        crop_scale=crop_scale,
        flip_prob=0.5,
        color_jitter=color_jitter,
        randaugment=randaugment,
        fill_rgb=FILL_RGB,
        interpolation="bicubic",
        path="fast",
    )


MAE = photo_view(crop_scale=(0.2, 1.0), color_jitter=0.0, randaugment=None)
WEAK = photo_view(crop_scale=(0.08, 1.0), color_jitter=0.4, randaugment=None)
STRONG = photo_view(crop_scale=(0.08, 1.0), color_jitter=0.0, randaugment=RANDAUGMENT)


# --- what is measured


def decode_fast(jpeg: bytes) -> np.ndarray:
    return decode(jpeg, path="fast", exif_rotation=False, max_pixels=MAX_PIXELS)


def our_pair(jpeg: bytes, generator: np.random.Generator) -> None:
    random_views(decode_fast(jpeg), generator, [WEAK, STRONG])


def our_labeled(jpeg: bytes, generator: np.random.Generator) -> None:
    random_views(decode_fast(jpeg), generator, [STRONG])  # the labeled view is composed like the strong one


def our_mae(jpeg: bytes, generator: np.random.Generator) -> None:
    random_views(decode_fast(jpeg), generator, [MAE])


def our_eval(jpeg: bytes, generator: np.random.Generator) -> None:
    del generator  # nothing random
    eval_view(decode(jpeg, path="pillow", exif_rotation=False, max_pixels=MAX_PIXELS), view=EVAL)


# --- the baseline: the same views by Pillow and numpy alone, as one would write them down first


def baseline_pair(jpeg: bytes, generator: np.random.Generator) -> None:
    picture = Image.open(io.BytesIO(jpeg)).convert("RGB")
    for view in (WEAK, STRONG):
        draw = sample_view(generator, image_height=picture.height, image_width=picture.width, view=view)
        erase_prob = ERASE_PROB if view is STRONG else 0.0
        plain_normalise_and_erase(plain_view(picture, draw), generator, erase_prob=erase_prob)


def baseline_eval(jpeg: bytes, generator: np.random.Generator) -> None:
    picture = Image.open(io.BytesIO(jpeg)).convert("RGB")
    scale = 256 / min(picture.size)
    picture = picture.resize((int(picture.width * scale), int(picture.height * scale)), Image.Resampling.BICUBIC)
    left, top = round((picture.width - IMAGE_SIZE) / 2), round((picture.height - IMAGE_SIZE) / 2)
    picture = picture.crop((left, top, left + IMAGE_SIZE, top + IMAGE_SIZE))
    plain_normalise_and_erase(picture, generator, erase_prob=0.0)


def plain_view(picture: Image.Image, draw: ViewDraw) -> Image.Image:
    top, left, height, width = draw.box
    view = picture.crop((left, top, left + width, top + height))
    view = view.resize((IMAGE_SIZE, IMAGE_SIZE), Image.Resampling.BICUBIC)
    if draw.flip:
        view = view.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    enhancers = {
        "brightness": ImageEnhance.Brightness,
        "contrast": ImageEnhance.Contrast,
        "saturation": ImageEnhance.Color,
    }
    for kind, factor in draw.jitter:
        view = enhancers[kind](view).enhance(factor)
    for operator in draw.operators:
        view = plain_operator(view, operator)
    return view


def plain_operator(view: Image.Image, operator: AppliedOperator) -> Image.Image:
    name, argument = operator.name, operator.argument or 0.0
    moved = {"resample": Image.Resampling.BICUBIC, "fillcolor": FILL_RGB}
    affine = Image.Transform.AFFINE
    match name:
        case "AutoContrast":
            return ImageOps.autocontrast(view)
        case "Equalize":
            return ImageOps.equalize(view)
        case "Invert":
            return ImageOps.invert(view)
        case "PosterizeIncreasing":
            return ImageOps.posterize(view, int(argument)) if argument else Image.new("RGB", view.size)
        case "SolarizeIncreasing":
            return ImageOps.solarize(view, int(argument))
        case "SolarizeAdd":
            return view.point([min(255, v + int(argument)) if v < 128 else v for v in range(256)] * 3)
        case "ColorIncreasing" | "ContrastIncreasing" | "BrightnessIncreasing" | "SharpnessIncreasing":
            return getattr(ImageEnhance, name.removesuffix("Increasing"))(view).enhance(argument)
        case "Rotate":
            return view.rotate(argument, **moved)
        case "ShearX":
            return view.transform(view.size, affine, (1, argument, 0, 0, 1, 0), **moved)
        case "ShearY":
            return view.transform(view.size, affine, (1, 0, 0, argument, 1, 0), **moved)
        case "TranslateXRel":
            return view.transform(view.size, affine, (1, 0, argument * view.width, 0, 1, 0), **moved)
        case "TranslateYRel":
            return view.transform(view.size, affine, (1, 0, 0, 0, 1, argument * view.height), **moved)
    raise ValueError(f"unknown operator {name!r}")


def plain_normalise_and_erase(view: Image.Image, generator: np.random.Generator, *, erase_prob: float) -> np.ndarray:
    pixels = (np.asarray(view, np.float32) / 255 - MEAN) / STD
    if generator.random() < erase_prob:
        for _ in range(10):
            area = generator.uniform(0.02, 1 / 3) * IMAGE_SIZE**2
            aspect = math.exp(generator.uniform(math.log(0.3), -math.log(0.3)))
            height, width = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
            if height < IMAGE_SIZE and width < IMAGE_SIZE:
                top = generator.integers(IMAGE_SIZE - height, endpoint=True)
                left = generator.integers(IMAGE_SIZE - width, endpoint=True)
                noise = generator.standard_normal((height, width, 3), np.float32)
                pixels[top : top + height, left : left + width] = noise
                break
    return pixels


# --- measuring


def interleaved_run(functions: dict[str, Measured], jpegs: list[bytes]) -> dict[str, np.ndarray]:
    """Processor seconds of every function for every image.

    The functions take turns every few images, so that a change in the machine's pace falls on all of them.
    The draws of an image are the same in every run.
    """
    seconds = {name: np.zeros(len(jpegs)) for name in functions}
    for first in range(0, len(jpegs), IMAGES_PER_TURN):
        for name, function in functions.items():
            for index in range(first, min(first + IMAGES_PER_TURN, len(jpegs))):
                generator = np.random.default_rng((SEED, index))
                start = time.process_time()
                function(jpegs[index], generator)
                seconds[name][index] = time.process_time() - start
    return seconds


def seconds_per_part_of_a_pair(jpegs: list[bytes]) -> dict[str, float]:
    """Where the time of `our_pair` goes: processor seconds per pair and part."""
    seconds: dict[str, float] = collections.defaultdict(float)

    def timed(part: str, function: Callable, *args, **kwargs):
        start = time.process_time()
        result = function(*args, **kwargs)
        seconds[part] += time.process_time() - start
        return result

    for index, jpeg in enumerate(jpegs):
        generator = np.random.default_rng((SEED, index))
        image = timed("decode", decode_fast, jpeg)
        size = {"image_height": image.shape[0], "image_width": image.shape[1]}
        options = {"interpolation": "bicubic", "path": "fast"}
        for view in (WEAK, STRONG):
            draw = timed("draw", sample_view, generator, view=view, **size)
            pixels = timed("crop and resize", crop_and_resize, image, draw.box, image_size=IMAGE_SIZE, **options)
            if draw.flip:
                pixels = timed("flip", cv2.flip, pixels, 1)
            if view is WEAK:
                timed("colour jitter", apply_color_jitter, pixels, draw.jitter, path="fast")
            else:
                timed("randaugment", apply_randaugment, pixels, draw.operators, fill_rgb=FILL_RGB, **options)
    return {part: total / len(jpegs) for part, total in seconds.items()}


def measure_views(jpegs: list[bytes]) -> dict[str, float]:
    """Measures every view, prints the table and returns the numbers of the last line."""
    functions = {
        "pairs": our_pair,
        "baseline_pairs": baseline_pair,
        "labeled": our_labeled,
        "mae": our_mae,
        "eval": our_eval,
        "baseline_eval": baseline_eval,
    }
    interleaved_run(functions, jpegs[:IMAGES_PER_TURN])  # caches and lazy imports
    runs = [interleaved_run(functions, jpegs) for _ in range(RUNS)]
    # The median of each image over the runs, then the mean over the images.
    seconds = {name: float(np.median([run[name] for run in runs], axis=0).mean()) for name in functions}
    rates = {name: 1 / per_image for name, per_image in seconds.items()}
    ratio = seconds["baseline_pairs"] / seconds["pairs"]
    print(f"{len(jpegs)} images, one core, processor time, median of {RUNS} interleaved runs")
    for name, rate in rates.items():
        print(f"  {name:<16} {rate:7.1f} /s  {1000 / rate:6.2f} ms")
    print(f"  pairs over baseline: {ratio:.2f}")

    parts = seconds_per_part_of_a_pair(jpegs)
    print("share of a pair's time:")
    for part, per_pair in parts.items():
        print(f"  {part:<16} {per_pair / sum(parts.values()):6.1%}  {1000 * per_pair:6.2f} ms")
    return {f"{name}_per_s_core": round(rate, 1) for name, rate in rates.items()} | {"pairs_ratio": round(ratio, 3)}


@contextlib.contextmanager
def on_one_core() -> Iterator[None]:
    """Keeps this process on one core where the system can."""
    if not hasattr(os, "sched_setaffinity"):
        yield
        return
    allowed = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(allowed)})
    try:
        yield
    finally:
        os.sched_setaffinity(0, allowed)


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("path", type=Path, metavar="DIR_OR_ZIP")
    parser.add_argument("--images-per-second", type=float, help="unlabeled images that your training step takes")
    parser.add_argument("--batches", type=int, default=10, help="batches of 64 images per run of the pipeline")
    options = parser.parse_args(arguments)
    jpegs = load_jpegs(options.path)
    with on_one_core():
        views = measure_views(jpegs)
    pipeline = input_pipeline.measure(jpegs, num_batches=options.batches)
    input_pipeline.print_rows(pipeline)
    asked: list[float] = [options.images_per_second] if options.images_per_second else []
    needs = sorted({*TYPICAL_NEEDS, *asked})
    cores = input_cores.table(needs, pairs_per_s_core=views["pairs_per_s_core"], pipeline=pipeline)
    input_cores.print_table(cores)
    print(json.dumps({**views, "pipeline": pipeline, "cores": cores}))


if __name__ == "__main__":
    main()
