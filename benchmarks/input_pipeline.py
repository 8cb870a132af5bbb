"""The whole input pipeline beside its bare functions: images per second by threads and worker processes.

  python -m benchmarks.input_pipeline DIR_OR_ZIP

DIR_OR_ZIP holds JPEG files. A batch is 8 labeled images with their view and 56 unlabeled ones with their weak and
strong view. The bare functions make the same views in one thread, without order, batches or read-ahead.
`efficiency` is the pipeline's rate over (threads, at most the cores) x (the bare rate just before and after it).
`cpu_efficiency` compares images per second of processor time, which other programs on the machine disturb less; it is
not known with workers. The last line is JSON.
"""

import argparse
import dataclasses
import json
import os
import statistics
import time
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.photos import load_jpegs
from configs import digits
from semivit_jax.config import DataConfig, PhotoViewsConfig, RandAugmentConfig
from semivit_jax.data.dataset import TaskData
from semivit_jax.data.images.decode import decode
from semivit_jax.data.images.views import path_of, views_of
from semivit_jax.data.order import StreamOrder
from semivit_jax.data.pipeline import train_batches
from semivit_jax.data.sources.image_set import ImageSet
from semivit_jax.data.splits import split_from_roles
from semivit_jax.plan import ImageCounts, Plan
from semivit_jax.recipes.check import check
from semivit_jax.recipes.planning import make_plan
from semivit_jax.stages.semi import SemiConfig

SETTINGS = ((1, 0), (2, 0), (4, 0), (2, 2))  # threads, workers
LABELED, RATIO = 8, 7
RUNS = 5


def measure(photos: list[bytes], *, num_batches: int) -> list[dict[str, Any]]:
    """Rates of every setting, medians of `RUNS` runs interleaved with the bare functions."""
    data = photo_data()
    task = task_of(photos)
    runs: dict[tuple[int, int], list[dict[str, float]]] = {setting: [] for setting in SETTINGS}
    before = bare(task, data, num_batches)
    for _ in range(RUNS):
        for threads, workers in SETTINGS:
            wall, cpu = pipeline(task, dataclasses.replace(data, threads=threads, workers=workers), num_batches)
            after = bare(task, data, num_batches)
            bare_wall, bare_cpu = ((a + b) / 2 for a, b in zip(before, after, strict=True))
            used_cores = min(threads, os.cpu_count() or 1)
            rates = {"images_per_s": wall, "bare_per_s": bare_wall, "efficiency": wall / (used_cores * bare_wall)}
            runs[threads, workers].append(rates | ({"cpu_efficiency": cpu / bare_cpu} if cpu else {}))
            before = after
    return [
        {"threads": threads, "workers": workers}
        | {key: round(statistics.median(run[key] for run in rates), 3) for key in rates[0]}
        for (threads, workers), rates in runs.items()
    ]


def bare(task: TaskData, data: DataConfig, num_batches: int) -> tuple[float, float]:
    """Images per second of wall time and of processor time: the functions of the same rows, one after the other."""
    path = path_of(data)
    streams = []
    for stream in semi_plan(task, batch_size=LABELED, ratio=RATIO).streams:
        order = StreamOrder(getattr(task.split, stream.images), 0, f"semi/{stream.name}")
        streams.append((views_of(data, stream.views), order, LABELED * stream.per_row))
    wall, cpu = time.perf_counter(), time.process_time()
    for batch in range(num_batches):
        for views, order, count in streams:
            for position in range(batch * count, (batch + 1) * count):
                encoded = task.train.records[int(order.indices[position % len(order.indices)])]
                image = decode(encoded, path=path, exif_rotation=data.exif_rotation, max_pixels=data.max_pixels)
                views(image, order.generator_at(position))
    images = num_batches * LABELED * (1 + RATIO)
    return images / (time.perf_counter() - wall), images / (time.process_time() - cpu)


def pipeline(task: TaskData, data: DataConfig, num_batches: int) -> tuple[float, float | None]:
    """The same of whole batches; starting up is not counted, nor is the processor time of worker processes."""
    plan = semi_plan(task, batch_size=LABELED, ratio=RATIO)
    batches = train_batches(task, data, plan, seed=0, position=0, process_index=0, process_count=1)
    for _ in range(2 * data.prefetch_batches):
        next(batches)
    wall, cpu = time.perf_counter(), time.process_time()
    for _ in range(num_batches):
        next(batches)
    images = num_batches * LABELED * (1 + RATIO)
    rates = images / (time.perf_counter() - wall), images / (time.process_time() - cpu)
    batches.close()
    return rates[0], None if data.workers else rates[1]


def semi_plan(task: TaskData, *, batch_size: int, ratio: int) -> Plan:
    """The semi stage's plan for one device and one micro-step; classes are of no consequence."""
    config = check(digits.get_config().to_dict())
    section = config.stage("semi")
    assert isinstance(section, SemiConfig)
    section = dataclasses.replace(section, batch_size=batch_size, unlabeled_ratio=ratio, accum=1)
    split = task.split
    counts = ImageCounts(len(split.training), len(split.labeled), len(split.unlabeled), ())
    config = config.with_stage("semi", section)
    return make_plan(config, "semi", counts, num_devices=1, stored_group_size=None)


def photo_data() -> DataConfig:
    """The published views of 224 pixels on the fast path."""
    views = PhotoViewsConfig(
        crop_scale=(0.08, 1.0),
        mae_crop_scale=(0.2, 1.0),
        flip_prob=0.5,
        color_jitter=0.4,
        randaugment=RandAugmentConfig(num_ops=2, magnitude=9.0, magnitude_std=0.5, apply_prob=0.5),
        path="fast",
    )
    return dataclasses.replace(
        check(digits.get_config().to_dict()).data,
        photo_views=views,
        affine_views=None,
        image_size=224,
        max_pixels=64_000_000,
        mean=(0.485, 0.456, 0.406),
    )


def task_of(photos: list[bytes]) -> TaskData:
    """The photos as a data set: a tenth labeled, the others not."""
    labels = np.full(len(photos), -1, np.int32)
    images = ImageSet(photos, [str(number) for number in range(len(photos))], labels)
    split = split_from_roles(len(photos), labeled=np.arange(len(photos) // 10), validation=np.empty(0, np.int64))
    return TaskData(images, images, (), split, "listing", "split")


def print_rows(rows: list[dict[str, Any]]) -> None:
    for row in rows:
        print("  ".join(f"{key} {value}" for key, value in row.items()))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photos", type=Path, metavar="DIR_OR_ZIP")
    parser.add_argument("--batches", type=int, default=10, help="batches of 64 images per run")
    arguments = parser.parse_args()
    rows = measure(load_jpegs(arguments.photos), num_batches=arguments.batches)
    print_rows(rows)
    print(json.dumps({"cores": os.cpu_count(), "pipeline": rows}))


if __name__ == "__main__":
    main()
