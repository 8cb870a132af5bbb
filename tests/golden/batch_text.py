"""The training batches of every stage, as checksums: which images stand where, how they are seen, what is known."""

import dataclasses
import io
import zlib
from typing import Any

import numpy as np
from PIL import Image

from semivit_jax.config import DataConfig, PhotoViewsConfig, RandAugmentConfig
from semivit_jax.data.dataset import TaskData
from semivit_jax.data.pipeline import train_batches
from semivit_jax.data.sources.image_set import ImageSet
from semivit_jax.data.splits import split_from_roles
from tests.configs import small_config, small_plan

NUM_IMAGES = 40
STARTS = (  # micro-steps, this host and all of them
    (1, 0, 1),
    (2, 0, 1),
    (2, 1, 2),
)


def batch_text() -> str:
    """One line per leaf: shape, dtype and CRC-32 of its bytes."""
    lines = ["# Batches 0 and 7 of drawings, seen on the device, and of photographs, seen by Pillow on the host."]
    for name, task, data in (("drawings", _task(8, 8), _drawings()), ("photographs", _task(20, 30), _photographs())):
        for stage in ("mae", "finetune", "semi"):
            for accum, host, hosts in STARTS:
                plan = small_plan(stage, batch_size=8, accum=accum, unlabeled_ratio=3 if stage == "semi" else 0)
                for position in (0, 7):
                    batches = train_batches(
                        task, data, plan, seed=0, position=position, process_index=host, process_count=hosts
                    )
                    lines.append(f"\n[{name}] {stage}, {accum} micro-steps, host {host} of {hosts}, batch {position}")
                    lines += _leaves(next(batches), "")
                    batches.close()
    return "\n".join(lines) + "\n"


def _leaves(batch: dict[str, Any], prefix: str) -> list[str]:
    lines = []
    for name, leaf in batch.items():
        if isinstance(leaf, dict):
            lines += _leaves(leaf, f"{prefix}{name}/")
        else:
            lines.append(f"{prefix}{name} {leaf.dtype}{list(leaf.shape)} {zlib.crc32(leaf.tobytes()):08x}")
    return lines


def _task(height: int, width: int) -> TaskData:
    """Smooth pictures, every one different, a quarter of them labeled and two kept back."""
    rows, columns = np.mgrid[:height, :width]
    encoded = []
    for number in range(NUM_IMAGES):
        channels = [number * 6 + rows * 3, 255 - rows * columns // 3, columns * (number % 7)]
        file = io.BytesIO()
        Image.fromarray(np.stack(channels, axis=-1).astype(np.uint8)).save(file, format="PNG")
        encoded.append(file.getvalue())
    labels = np.arange(NUM_IMAGES, dtype=np.int32) % 5
    images = ImageSet(encoded, [str(number) for number in range(NUM_IMAGES)], labels)
    split = split_from_roles(NUM_IMAGES, labeled=np.arange(2, 12), validation=np.arange(2))
    return TaskData(images, images.subset(split.validation), tuple("abcde"), split, "listing", "split")


def _drawings() -> DataConfig:
    return small_config().data


def _photographs() -> DataConfig:
    """The published views at a size of 16 pixels, on the path that is exact on every machine."""
    views = PhotoViewsConfig(
        crop_scale=(0.08, 1.0),
        mae_crop_scale=(0.2, 1.0),
        flip_prob=0.5,
        color_jitter=0.4,
        randaugment=RandAugmentConfig(num_ops=2, magnitude=9.0, magnitude_std=0.5, apply_prob=0.5),
        path="pillow",
    )
    return dataclasses.replace(small_config().data, photo_views=views, affine_views=None, image_size=16, threads=1)
