"""Write an ONNX graph node by node, its weights to a second file meanwhile."""

import pathlib
from collections.abc import Sequence
from typing import Any, BinaryIO

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

OPSET = 20  # the first with Gelu; LayerNormalization came with 17
IR_VERSION = 9  # belongs to opset 20
_ALIGNMENT = 4096  # bytes, so that readers can map every tensor into memory


class GraphWriter:
    """Collects nodes and streams weights.

    Every method that adds a node returns the name of its output. Weights are written to `weights_file`
    at once and only referred to, which keeps one copy in memory and passes the 2 GiB limit of protobuf.
    """

    def __init__(self, weights_file: BinaryIO, weights_name: str):
        self._file = weights_file
        self._file_name = weights_name
        self._nodes: list[Any] = []
        self._tensors: list[Any] = []
        self._constants: dict[tuple, str] = {}

    def node(self, operator: str, inputs: Sequence[str], **attributes: Any) -> str:
        """Adds a node with one output."""
        output = f"{operator.lower()}_{len(self._nodes)}"
        self._nodes.append(helper.make_node(operator, list(inputs), [output], name=output, **attributes))
        return output

    def to_float(self, x: str) -> str:
        """Converts to float32."""
        return self.node("Cast", [x], to=TensorProto.FLOAT)

    def weight(self, name: str, array: np.ndarray) -> str:
        """Stores an array as float32 in the weights file; returns its name."""
        array = np.ascontiguousarray(array, "<f4")
        self._file.write(b"\0" * (-self._file.tell() % _ALIGNMENT))
        tensor = TensorProto(name=name, data_type=TensorProto.FLOAT, dims=array.shape)
        tensor.data_location = TensorProto.EXTERNAL
        for key, value in (
            ("location", self._file_name),
            ("offset", self._file.tell()),
            ("length", array.nbytes),
        ):
            tensor.external_data.add(key=key, value=str(value))
        self._file.write(array.data)
        self._tensors.append(tensor)
        return name

    def constant(self, values: Sequence[int] | Sequence[float]) -> str:
        """A small vector inside the graph: int64 for integers, float32 otherwise. Equal ones are shared."""
        key = (type(values[0]), *values)
        if key not in self._constants:
            dtype = np.int64 if isinstance(values[0], int) else np.float32
            self._constants[key] = f"constant_{len(self._constants)}"
            self._tensors.append(numpy_helper.from_array(np.asarray(values, dtype), self._constants[key]))
        return self._constants[key]

    def dense(self, x: str, name: str, kernel: np.ndarray, bias: np.ndarray) -> str:
        """x @ kernel + bias over the last axis; kernel (in, out)."""
        product = self.node("MatMul", [x, self.weight(f"{name}.kernel", kernel)])
        return self.node("Add", [product, self.weight(f"{name}.bias", bias)])

    def layer_norm(self, x: str, name: str, scale: np.ndarray, bias: np.ndarray, *, eps: float) -> str:
        """LayerNorm over the last axis."""
        inputs = [x, self.weight(f"{name}.scale", scale), self.weight(f"{name}.bias", bias)]
        return self.node("LayerNormalization", inputs, axis=-1, epsilon=eps)

    def conv(self, x: str, name: str, kernel: np.ndarray, bias: np.ndarray, **attributes: Any) -> str:
        """Convolution of (batch, channels, height, width); kernel in our layout (h, w, in, out)."""
        weight = self.weight(f"{name}.kernel", kernel.transpose(3, 2, 0, 1))
        return self.node("Conv", [x, weight, self.weight(f"{name}.bias", bias)], **attributes)

    def save(
        self,
        path: pathlib.Path,
        *,
        name: str,
        pixels: str,
        image_size: int,
        logits: str,
        num_classes: int,
        metadata: dict[str, str],
    ) -> None:
        """Writes the model: uint8 `pixels` (batch, image_size, image_size, 3) to `logits`.

        Args:
          path: the .onnx file, beside the weights file.
          name: of the graph.
          pixels: name of the input.
          image_size: pixels.
          logits: node output that is the result; it gets the name "logits".
          num_classes: K.
          metadata: key -> text, stored in the file.
        """
        nodes = [*self._nodes, helper.make_node("Identity", [logits], ["logits"], name="logits")]
        shape_in, shape_out = ["batch", image_size, image_size, 3], ["batch", num_classes]
        graph = helper.make_graph(
            nodes,
            name,
            [helper.make_tensor_value_info(pixels, TensorProto.UINT8, shape_in)],
            [helper.make_tensor_value_info("logits", TensorProto.FLOAT, shape_out)],
            initializer=self._tensors,
        )
        model = helper.make_model(
            graph,
            producer_name="semivit_jax",
            opset_imports=[helper.make_opsetid("", OPSET)],
            ir_version=IR_VERSION,
        )
        helper.set_model_props(model, metadata)
        path.write_bytes(model.SerializeToString())
        onnx.checker.check_model(str(path))
