"""Export to ONNX, straight from the parameters."""

import importlib.util
import json
import pathlib

from semivit_jax.export.record import write_record
from semivit_jax.weights.exchanges import EXCHANGES, arrays_of
from semivit_jax.weights.graph import PIXELS, Writer
from semivit_jax.weights.preprocessing import Preprocessing
from semivit_jax.weights.weights import Weights

MODEL_FILE = "model.onnx"
WEIGHTS_FILE = "model.onnx.data"


def export_onnx(folder: pathlib.Path, weights: Weights) -> None:
    """Writes model.onnx with its weights beside it, and preprocessing.json.

    The input is the uint8 view (batch, size, size, 3), any batch; the graph normalises it itself.

    Raises:
      ValueError: nobody has written the graph of the model's family.
      ImportError: the onnx package is not installed.
    """
    spec = weights.spec
    add_features = EXCHANGES[spec.family].onnx
    if add_features is None:
        raise ValueError(
            f"{spec.variant}: nobody has written the ONNX graph of a {spec.family}; stablehlo takes any model"
        )
    if importlib.util.find_spec("onnx") is None:
        raise ImportError("writing ONNX needs onnx: pip install -c requirements/constraints.txt -e '.[onnx]'")
    from semivit_jax.export.onnx_graph import GraphWriter  # needs onnx, the other formats do not

    params = arrays_of(weights)
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / WEIGHTS_FILE).open("wb") as weights_file:
        writer = GraphWriter(weights_file, WEIGHTS_FILE)
        pixels = _normalised(writer, writer.to_float(PIXELS), weights.preprocessing)
        features = add_features(writer, pixels, params, spec)
        if spec.head == "mlp":
            hidden = writer.dense(features, "head_hidden", params["head_hidden/kernel"], params["head_hidden/bias"])
            features = writer.node("Gelu", [hidden], approximate="none")
        logits = writer.dense(features, "head", params["head/kernel"], params["head/bias"])
    writer.save(
        folder / MODEL_FILE,
        name=spec.variant,
        pixels=PIXELS,
        image_size=spec.image_size,
        logits=logits,
        num_classes=spec.num_classes,
        metadata={
            "preprocessing": json.dumps(weights.preprocessing.to_json()),
            "class_names": json.dumps(weights.output_names),
        },
    )
    write_record(folder, weights)


def _normalised(writer: Writer, x: str, view: Preprocessing) -> str:
    """float32 pixels (batch, h, w, 3) to (batch, 3, h, w), normalised."""
    x = writer.node("Div", [x, writer.constant([255.0])])
    x = writer.node("Sub", [x, writer.constant(list(view.mean))])
    x = writer.node("Div", [x, writer.constant(list(view.std))])
    return writer.node("Transpose", [x], perm=[0, 3, 1, 2])
