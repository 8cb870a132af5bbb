"""A family of models that this package does not know goes out and comes in once it stands in the two tables."""

import dataclasses
import json

import flax.linen as nn
import jax
import jax.export
import numpy as np
import pytest
import safetensors.numpy

from semivit_jax.export import export
from semivit_jax.models import families
from semivit_jax.models.spec import PLAIN, Family, ModelSpec
from semivit_jax.weights import layout
from semivit_jax.weights.exchange import HEAD, Exchange, Timm
from semivit_jax.weights.exchanges import EXCHANGES
from semivit_jax.weights.fill import Target
from semivit_jax.weights.folder import load_imported, save_imported
from semivit_jax.weights.importing import import_weights
from semivit_jax.weights.layout import dense_rows
from semivit_jax.weights.preprocessing import Preprocessing
from semivit_jax.weights.sources import Source, beside_timm
from semivit_jax.weights.weights import Weights

VIEW = Preprocessing(8, 0.8, "bicubic", (0.5, 0.4, 0.3), (0.2, 0.25, 0.3))
NAMES = {**dense_rows("embed", "stem.fc"), **dense_rows("head", "fc")}


@dataclasses.dataclass(frozen=True)
class ToySize:
    width: int


class Toy(nn.Module):
    """The mean colour, a linear layer and a head."""

    spec: ModelSpec

    def setup(self):
        self.embed = nn.Dense(self.spec.size.width)
        if self.spec.num_classes:
            self.head = nn.Dense(self.spec.num_classes)

    def features(self, images, drop_path_masks=None):
        return nn.relu(self.embed(images.mean(axis=(1, 2))))

    def __call__(self, images, drop_path_masks=None):
        return self.head(self.features(images))


FAMILY = Family(
    name="toy", size=ToySize, sizes={"toy_s": ToySize(4)},
    legal={"pool": ("mean",), "posemb": ("none",), "attention": ("auto", "xla")},
    stride=lambda size: 1, stride_name="stride", head_dims=lambda spec: (), module=lambda spec, compute: Toy(spec),
    drop_path_rates=lambda size, rate: np.zeros(1), lr_scales=lambda size, layer_decay, head_lr_scale: (("", 1.0),),
    weight_decays=lambda weight_decay: (("", 0.0),), stacked=r"^never/", autoencoder=None, cost=None,
    told=lambda spec: (),
)  # fmt: skip


def recognise(tensors, configs):
    if "stem.fc.weight" not in tensors.shapes:
        return None
    return Source("Toy", "toy", tensors, (), NAMES, None, None, "mean", {}, beside_timm(configs))


def spec(source, wanted):
    eps, size = source.beside.layer_norm_eps, FAMILY.sizes[wanted.variant]
    return ModelSpec("toy", wanted.variant, size, wanted.image_size, eps, "mean", "none", source.num_classes, None)


def target(source, spec):
    return Target(families.shapes(spec), source.table, {}, {}, () if spec.num_classes else HEAD, ())


EXCHANGE = Exchange(
    known=("Toy",), model_types=(), recognise=recognise, spec=spec, target=target, names=NAMES, decoder_names=None,
    constants=lambda spec: {}, hugging_face=lambda spec: None,
    timm=lambda spec: Timm("toy", {"width": spec.size.width}, spec.size.width, "avg", False, None, "stem", "fc"),
    onnx=lambda writer, x, params, spec: writer.node("ReduceMean", [x]),
)  # fmt: skip


@pytest.fixture
def weights(monkeypatch) -> Weights:
    monkeypatch.setitem(families.FAMILIES, "toy", FAMILY)
    monkeypatch.setitem(EXCHANGES, "toy", EXCHANGE)
    model, generator = ModelSpec("toy", "toy_s", ToySize(4), 8, 1e-6, "mean", "none", 3, None), np.random.default_rng(0)
    flat = {path: generator.standard_normal(s).astype(np.float32) for path, s in families.shapes(model).items()}
    return Weights(model, layout.unflatten(flat), ("cat", "dog", "owl"), VIEW)


def assert_same(actual, expected):
    jax.tree.map(np.testing.assert_array_equal, actual.params, expected.params)
    assert dataclasses.replace(actual, params={}) == dataclasses.replace(expected, params={})


def test_it_comes_back_from_the_folders_of_other_libraries(weights, tmp_path):
    for format in ("timm", "hugging_face"):
        export(tmp_path / format, format, weights)
        back = import_weights(str(tmp_path / format), variant="toy_s", pool=None, image_size=None, decoder=False)
        assert_same(back.weights, weights)
        save_imported(tmp_path / f"{format}_in", back)
        assert_same(load_imported(tmp_path / f"{format}_in").weights, weights)
    config = json.loads((tmp_path / "timm" / "config.json").read_text())
    assert (config["architecture"], config["model_args"]) == ("toy", {"width": 4})


def test_its_program_gives_its_logits(weights, tmp_path):
    export(tmp_path / "out", "stablehlo", weights)
    program = jax.export.deserialize(bytearray((tmp_path / "out" / "model.stablehlo").read_bytes()))
    pixels = np.random.default_rng(1).integers(0, 256, (2, 8, 8, 3), np.uint8)
    images = ((pixels / 255 - np.array(VIEW.mean)) / np.array(VIEW.std)).astype(np.float32)
    logits = program.call(safetensors.numpy.load_file(tmp_path / "out" / "params.safetensors"), pixels)
    expected = families.network(weights.spec, PLAIN, 0.0).logits(weights.params, images, None)
    np.testing.assert_allclose(logits, expected, atol=1e-5)


def test_another_family_is_refused_by_both_names(weights, tmp_path):
    export(tmp_path / "out", "timm", weights)
    with pytest.raises(ValueError, match=r"the source is a toy \(Toy\), vit_test is a vit"):
        import_weights(str(tmp_path / "out"), variant="vit_test", pool=None, image_size=None, decoder=False)


def test_an_unknown_layout_is_told_what_is_known(weights, tmp_path):
    safetensors.numpy.save_file({"x": np.zeros(1, np.float32)}, tmp_path / "x.safetensors")
    with pytest.raises(ValueError, match=r"not a layout known here.*ConvNeXt, Toy\)"):
        import_weights(str(tmp_path / "x.safetensors"), variant="toy_s", pool=None, image_size=None, decoder=False)
