"""How long weights take in and out, and how much memory: seconds, and peak memory over the weights' size.

    python -m benchmarks.weights --variant vit_h14 --folder /tmp/weights_benchmark

Random weights of the variant go out in every format, come in from timm's and Hugging Face's layout, and from
a .pth file where torch is installed. Every row is a process of its own, so that its peak is its own. The
mark for ViT-H is under 60 seconds and at most 3 times the size; the process without any weights is counted in.
"""

import argparse
import dataclasses
import importlib.util
import multiprocessing
import pathlib
import resource
import shutil
import time
from collections.abc import Callable

import numpy as np
import rich.console
import rich.table

from semivit_jax.export import FORMATS, export
from semivit_jax.models import families
from semivit_jax.models.layers import LAYER_NORM_EPS
from semivit_jax.models.spec import ModelSpec
from semivit_jax.models.vit import VIT_SIZES
from semivit_jax.weights import layout
from semivit_jax.weights.account import ImportReport
from semivit_jax.weights.folder import load_imported, save_imported
from semivit_jax.weights.importing import Imported, import_weights
from semivit_jax.weights.preprocessing import IMAGENET_224
from semivit_jax.weights.weights import Weights

SECONDS_MARK, MEMORY_MARK = 60.0, 3.0
NUM_CLASSES = 1000


@dataclasses.dataclass(frozen=True)
class Result:
    name: str
    seconds: float
    peak_bytes: int


def write_random_weights(folder: pathlib.Path, variant: str) -> None:
    """An imported folder, from which every export starts."""
    spec = ModelSpec(
        family="vit",
        variant=variant,
        size=VIT_SIZES[variant],
        image_size=224,
        layer_norm_eps=LAYER_NORM_EPS,
        pool="cls",
        posemb="learned",
        num_classes=NUM_CLASSES,
        decoder=None,
    )
    generator = np.random.default_rng(0)
    flat = {path: generator.random(shape, np.float32) - 0.5 for path, shape in families.shapes(spec).items()}
    report = ImportReport(source="random", kind="random", params=(), ema_params=None, notes=())
    class_names = tuple(f"class {label}" for label in range(NUM_CLASSES))
    weights = Weights(spec, layout.unflatten(flat), class_names, IMAGENET_224)
    save_imported(folder, Imported(weights, None, None, report))


def run_export(source: pathlib.Path, out: pathlib.Path, format: str) -> None:
    imported = load_imported(source)
    export(out, format, imported.weights)


def run_import(source: pathlib.Path, out: pathlib.Path, variant: str) -> None:
    imported = import_weights(str(source), variant=variant, pool=None, image_size=None, decoder=False)
    save_imported(out, imported)


def write_pth(source: pathlib.Path, out: pathlib.Path) -> None:
    """The timm export as the checkpoint PyTorch code writes."""
    import safetensors.torch
    import torch

    torch.save({"model": safetensors.torch.load_file(source / "model.safetensors")}, out)


def measure(name: str, function: Callable[..., None], *arguments) -> Result:
    """Runs the function in a fresh process and reads that process's peak memory."""
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_measured, args=(sender, function, arguments))
    process.start()
    sender.close()
    seconds, peak_bytes = receiver.recv()
    process.join()
    return Result(name, seconds, peak_bytes)


def _measured(sender, function: Callable[..., None], arguments: tuple) -> None:
    start = time.perf_counter()
    function(*arguments)
    seconds = time.perf_counter() - start
    sender.send((seconds, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024))


def run(folder: pathlib.Path, variant: str) -> tuple[list[Result], int]:
    """Measures every way out and in; returns the results and the size of the weights in bytes."""
    start = folder / "start"
    measure("write", write_random_weights, start, variant)
    size = (start / "params.safetensors").stat().st_size
    results = []
    for format in FORMATS:
        results.append(measure(f"export {format}", run_export, start, folder / format, format))
    sources = {"timm": folder / "timm", "hugging_face": folder / "hugging_face"}
    if importlib.util.find_spec("torch") is not None:
        sources[".pth"] = folder / "checkpoint.pth"
        measure("write", write_pth, folder / "timm", sources[".pth"])
    for name, source in sources.items():
        results.append(measure(f"import {name}", run_import, source, folder / f"from_{name}", variant))
    return results, size


def main() -> None:
    parser = argparse.ArgumentParser(description="Time and memory of weights in and out.")
    parser.add_argument("--variant", default="vit_h14", choices=list(VIT_SIZES))
    parser.add_argument("--folder", required=True, type=pathlib.Path, help="scratch, emptied afterwards")
    arguments = parser.parse_args()
    arguments.folder.mkdir(parents=True)  # an existing folder is not ours to empty
    try:
        results, size = run(arguments.folder, arguments.variant)
    finally:
        shutil.rmtree(arguments.folder)
    table = rich.table.Table("", "seconds", "peak / size", "mark", title=f"{arguments.variant}, {size / 1e9:.2f} GB")
    for result in results:
        ratio = result.peak_bytes / size
        within = result.seconds < SECONDS_MARK and ratio <= MEMORY_MARK
        table.add_row(result.name, f"{result.seconds:.1f}", f"{ratio:.2f}", "met" if within else "missed")
    rich.console.Console().print(table)


if __name__ == "__main__":
    main()
