"""How long `semivit import` takes, and how much memory, of a model of any size.

  python -m benchmarks.import_size --dir=SCRATCH --model=dinov2_g14

Writes weights of arbitrary numbers in timm's layout into SCRATCH, in parts as large models are published, and imports
them in a fresh process. Prints one JSON line: bytes of the parameters in float32, seconds on the clock and of the
processor, the largest resident memory of that process (the pages of the source that it has read count), and its ratio
to the parameters.
"""

import argparse
import json
import resource
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import safetensors.numpy

from semivit_jax.models import families
from semivit_jax.models.spec import ModelSpec
from semivit_jax.weights import layout
from semivit_jax.weights.exchanges import EXCHANGES
from semivit_jax.weights.locate import INDEXES

PART_BYTES = 2**30


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dir", type=Path, required=True, help="scratch folder; what it writes there is removed")
    parser.add_argument("--model", default="dinov2_g14")
    arguments = parser.parse_args()
    source, out = arguments.dir / "source", arguments.dir / "out"
    num_bytes = _write(source, _spec(arguments.model))
    command = [sys.executable, "-m", "semivit_jax.main", "import", str(source), f"--model={arguments.model}"]
    began = time.perf_counter()
    try:
        subprocess.run([*command, f"--out={out}"], check=True, stdout=subprocess.DEVNULL)
        seconds = time.perf_counter() - began
    finally:
        shutil.rmtree(source)
        shutil.rmtree(out, ignore_errors=True)
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    found = {
        "model": arguments.model,
        "bytes": num_bytes,
        "seconds": round(seconds, 1),
        "cpu_seconds": round(used.ru_utime + used.ru_stime, 1),
        "peak_bytes": used.ru_maxrss * 1024,
        "ratio": round(used.ru_maxrss * 1024 / num_bytes, 2),
    }
    print(json.dumps(found))


def _spec(variant: str) -> ModelSpec:
    family = families.of(variant)
    size = family.sizes[variant]
    return ModelSpec(
        family=family.name,
        variant=variant,
        size=size,
        image_size=224,
        layer_norm_eps=1e-6,
        pool=family.legal["pool"][-1],
        posemb=family.legal["posemb"][0],
        num_classes=0,
        decoder=None,
    )


def _write(folder: Path, spec: ModelSpec) -> int:
    """Weights in parts of about PART_BYTES, with their index; returns the bytes of all."""
    folder.mkdir(parents=True)
    part, held, index, total = {}, 0, {}, 0
    for name, tensor in _tensors(spec):
        part[name], held, total = tensor, held + tensor.nbytes, total + tensor.nbytes
        if held > PART_BYTES:
            index |= _save(folder, part, len(set(index.values())))
            part, held = {}, 0
    index |= _save(folder, part, len(set(index.values())))
    (folder / INDEXES[0]).write_text(json.dumps({"weight_map": index}))
    return total


def _save(folder: Path, part: dict[str, np.ndarray], number: int) -> dict[str, str]:
    file = f"model-{number:05d}.safetensors"
    safetensors.numpy.save_file(part, folder / file)
    return dict.fromkeys(part, file)


def _tensors(spec: ModelSpec) -> Iterator[tuple[str, np.ndarray]]:
    generator = np.random.default_rng(0)
    shapes = families.shapes(spec)
    rows = {path: theirs for path, theirs in EXCHANGES[spec.family].names(spec).items() if path in shapes}
    for slot in layout.slots(rows, depth=lambda path: shapes[path][0]):
        shape = shapes[slot.path]
        for names in slot.names:
            array = generator.standard_normal(shape[1:] if slot.stacked else shape, np.float32)
            one = layout.Slot(slot.path, (names,), stacked=False)
            for name, tensor in layout.split(one, array).items():
                yield name, np.ascontiguousarray(tensor)


if __name__ == "__main__":
    main()
