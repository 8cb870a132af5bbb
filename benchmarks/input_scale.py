"""How fast data sets of ImageNet's size start: 1.28 million tiny images, as files and as a TFDS dataset.

  python benchmarks/input_scale.py --dir=SCRATCH --images=1281167 --kinds=folder,tfds

Builds each data set in SCRATCH (kept, and used again by the next run), then starts in a fresh process twice:
the first start makes the listing index, the second finds it. A start is importing, opening the data set, drawing
a split of 10 labels per class and making the first batch. Prints one JSON line per start, with seconds and peak
memory of that process.
"""

import argparse
import dataclasses
import io
import json
import os
import resource
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

if not __package__:  # started by its path: Python then looks beside this file, not in the folder above
    sys.path.insert(0, str(Path(__file__).parents[1]))

NUM_CLASSES = 1000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dir", type=Path, required=True, help="scratch folder")
    parser.add_argument("--images", type=int, default=1_281_167)
    parser.add_argument("--kinds", default="folder,tfds")
    parser.add_argument("--start", help=argparse.SUPPRESS)  # measure one start in this process
    arguments = parser.parse_args()
    if arguments.start:
        print(json.dumps(_start(arguments.start, arguments.dir)))
        return
    for kind in arguments.kinds.split(","):
        build = {"folder": _build_folder, "tfds": _build_tfds}[kind]
        seconds = build(arguments.dir / kind, arguments.images)
        print(
            json.dumps({"kind": kind, "images": arguments.images, "build_seconds": round(seconds, 1)}),
            flush=True,
        )
        shutil.rmtree(arguments.dir / "cache", ignore_errors=True)  # of an earlier run
        for listing in (arguments.dir / kind).rglob(".semivit_listing_*.npz"):
            listing.unlink()
        for index in ("made", "found"):
            command = [sys.executable, __file__, f"--dir={arguments.dir}", f"--start={kind}"]
            environment = os.environ | {"XDG_CACHE_HOME": str(arguments.dir / "cache")}
            printed = subprocess.run(command, env=environment, check=True, stdout=subprocess.PIPE).stdout
            measured = json.loads(printed.splitlines()[-1])  # lines of progress come before
            print(json.dumps({"kind": kind, "images": arguments.images, "index": index, **measured}), flush=True)


def _build_folder(root: Path, num_images: int) -> float:
    """`root/class/number.png`, every file a link to one image per class, so that it fits any disk."""
    start = time.perf_counter()
    if not root.exists():
        building = root.with_name(f".{root.name}")
        for class_id in range(NUM_CLASSES):
            folder = building / f"n{class_id:08d}"
            folder.mkdir(parents=True)
            (folder / "0.png").write_bytes(_png(class_id))
            for number in range(1, len(range(class_id, num_images, NUM_CLASSES))):
                os.link(folder / "0.png", folder / f"n{class_id:08d}_{number}.png")
        building.rename(root)
    return time.perf_counter() - start


def _build_tfds(data_dir: Path, num_images: int) -> float:
    import tensorflow_datasets as tfds

    class Scale(tfds.core.GeneratorBasedBuilder):
        """Synthetic records."""

        VERSION = tfds.core.Version("1.0.0")

        def _info(self) -> tfds.core.DatasetInfo:
            features = tfds.features.FeaturesDict(
                {
                    "image": tfds.features.Image(shape=(8, 8, 3), encoding_format="png"),
                    "label": tfds.features.ClassLabel(num_classes=NUM_CLASSES),
                    "file_name": tfds.features.Text(),
                }
            )
            return tfds.core.DatasetInfo(builder=self, features=features)

        def _split_generators(self, dl_manager: Any) -> dict[str, Any]:
            return {"train": self._generate_examples()}

        def _generate_examples(self) -> Iterator[tuple[int, dict[str, Any]]]:
            images = [_png(class_id) for class_id in range(NUM_CLASSES)]
            for number in range(num_images):
                label = number % NUM_CLASSES
                name = f"n{label:08d}_{number}.png"
                yield number, {"image": io.BytesIO(images[label]), "label": label, "file_name": name}

    start = time.perf_counter()
    Scale(data_dir=data_dir, file_format="array_record").download_and_prepare()
    return time.perf_counter() - start


def _png(class_id: int) -> bytes:
    from PIL import Image

    encoded = io.BytesIO()
    Image.new("RGB", (8, 8), (class_id % 256, class_id // 256, 0)).save(encoded, format="PNG")
    return encoded.getvalue()


def _start(kind: str, directory: Path) -> dict[str, float]:
    start = time.perf_counter()
    from benchmarks.input_pipeline import semi_plan
    from configs import digits
    from semivit_jax.data.dataset import open_task
    from semivit_jax.data.pipeline import train_batches
    from semivit_jax.recipes.check import check
    from semivit_jax.stages import label_free

    imported = time.perf_counter()
    config = check(digits.get_config().to_dict())
    place: dict[str, Any] = {
        "folder": {"dataset": "own_folder", "root": str(directory / "folder"), "train_split": ""},
        "tfds": {"dataset": "scale", "data_dir": str(directory / "tfds")},
    }[kind]
    data = dataclasses.replace(config.data, **place, eval_split="", labels_per_class=10, validation_share=0.01)
    task = open_task(dataclasses.replace(config, data=data), workdir=None, label_free=label_free())
    opened = time.perf_counter()
    plan = semi_plan(task, batch_size=128, ratio=5)
    batches = train_batches(task, data, plan, seed=0, position=10_000, process_index=0, process_count=1)
    next(batches)
    batches.close()
    return {
        "import_seconds": round(imported - start, 2),
        "open_seconds": round(opened - imported, 2),
        "first_batch_seconds": round(time.perf_counter() - opened, 2),
        "start_seconds": round(time.perf_counter() - start, 2),
        "peak_memory_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
    }


if __name__ == "__main__":
    main()
