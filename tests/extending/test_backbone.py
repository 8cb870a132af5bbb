"""A backbone of one's own: what it computes, and that a line in `FAMILIES` and one in `EXCHANGES` are all it needs."""

import dataclasses
import json
import math
import shutil

import jax
import jax.export
import jax.numpy as jnp
import numpy as np
import pytest
import safetensors.numpy

from semivit_jax.export import export
from semivit_jax.inference.trained import load_trained
from semivit_jax.main import main
from semivit_jax.models import families
from semivit_jax.models.spec import PLAIN
from semivit_jax.ops.optim import by_path
from semivit_jax.training import summary
from semivit_jax.weights import layout
from semivit_jax.weights.exchanges import EXCHANGES
from semivit_jax.weights.folder import load_imported, save_imported
from semivit_jax.weights.importing import import_weights
from semivit_jax.weights.preprocessing import Preprocessing, normalise
from semivit_jax.weights.weights import Weights
from tests.compiled import quick_jit
from tests.e2e.runs import final_arrays, logged
from tests.extending import backbone
from tests.jaxprs import inner_jaxprs
from tests.models import spec_of

pytestmark = pytest.mark.filterwarnings(
    "ignore:the load_module:DeprecationWarning"
)  # how ml_collections reads a config

VARIANT = "mixer_digits"
VIEW = Preprocessing(8, 0.8, "bicubic", (0.5, 0.4, 0.3), (0.2, 0.25, 0.3))
NAMES_PER_BLOCK = [
    f"{layer}.{leaf}"
    for layer in ("norm1", "mlp_tokens.fc1", "mlp_tokens.fc2", "norm2", "mlp_channels.fc1", "mlp_channels.fc2")
    for leaf in ("weight", "bias")
]
TIMM_NAMES = [f"{layer}.{leaf}" for layer in ("stem.proj", "norm", "head") for leaf in ("weight", "bias")]
TIMM_NAMES += [f"blocks.{block}.{name}" for block in (0, 1) for name in NAMES_PER_BLOCK]


@pytest.fixture(scope="module", autouse=True)
def known(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        patch.setattr(summary, "baselines", lambda task, data: {})
        patch.setitem(families.FAMILIES, "mixer", backbone.FAMILY)
        patch.setitem(EXCHANGES, "mixer", backbone.EXCHANGE)
        jax.config.update("jax_disable_most_optimizations", True)  # compiling is what takes the time
        yield
        jax.config.update("jax_disable_most_optimizations", False)


def weights_of(**changes) -> Weights:
    """Drawn wide, so that logits differ from image to image."""
    spec, generator = spec_of(VARIANT, image_size=8, **changes), np.random.default_rng(0)
    flat = {
        path: ((path.endswith("scale")) + 0.3 * generator.standard_normal(shape)).astype(np.float32)
        for path, shape in families.shapes(spec).items()
    }
    return Weights(spec, layout.unflatten(flat), tuple("0123456789")[: spec.num_classes], VIEW)


def logits_of(weights: Weights, pixels: np.ndarray) -> np.ndarray:
    network = families.network(weights.spec, PLAIN, 0.0)
    images = normalise(jnp.asarray(pixels), weights.preprocessing)
    return np.asarray(quick_jit(lambda params: network.logits(params, images, None))(weights.params))


def some_pixels() -> np.ndarray:
    return np.random.default_rng(1).integers(0, 256, (3, 8, 8, 3), np.uint8)


def tensors_in(folder):
    return safetensors.numpy.load_file(folder / "model.safetensors")


def assert_same(found: Weights, wanted: Weights):
    jax.tree.map(np.testing.assert_array_equal, found.params, wanted.params)
    assert dataclasses.replace(found, params={}) == dataclasses.replace(wanted, params={})


# The model


def test_it_computes_what_the_paper_says_of_the_tensors_that_go_out(tmp_path):
    """Equation 1, from the tensors in timm's layout; linear layers are (out, in) there."""
    weights, pixels = weights_of(), some_pixels()
    export(tmp_path / "out", "timm", weights)
    t = tensors_in(tmp_path / "out")

    def linear(x, name):
        return x @ t[f"{name}.weight"].T + t[f"{name}.bias"]

    def norm(x, name):
        centred = x - x.mean(axis=-1, keepdims=True)
        scaled = centred / np.sqrt((centred**2).mean(axis=-1, keepdims=True) + 1e-6)
        return scaled * t[f"{name}.weight"] + t[f"{name}.bias"]

    def mlp(x, name):
        hidden = linear(x, f"{name}.fc1")
        gelu = hidden * 0.5 * (1 + np.vectorize(math.erf)(hidden / math.sqrt(2)))
        return linear(gelu, f"{name}.fc2")

    images = np.asarray(normalise(jnp.asarray(pixels), VIEW)).transpose(0, 3, 1, 2)
    patches = images.reshape(3, 3, 4, 2, 4, 2).transpose(0, 2, 4, 1, 3, 5).reshape(3, 16, 12)
    x = patches @ t["stem.proj.weight"].reshape(32, 12).T + t["stem.proj.bias"]
    for block in ("blocks.0", "blocks.1"):
        x = x + mlp(norm(x, f"{block}.norm1").swapaxes(1, 2), f"{block}.mlp_tokens").swapaxes(1, 2)
        x = x + mlp(norm(x, f"{block}.norm2"), f"{block}.mlp_channels")
    wanted = linear(norm(x, "norm").mean(axis=1), "head")
    np.testing.assert_allclose(logits_of(weights, pixels), wanted, atol=1e-4)


def test_its_tables_cover_every_parameter():
    network = families.network(weights_of().spec, PLAIN, 0.1)
    params = weights_of().params
    factors = layout.flatten(by_path(network.lr_scales(0.5, 3.0), params))
    decays = layout.flatten(by_path(network.weight_decays(0.05), params))
    assert factors["patch_embed/kernel"] == 0.125
    np.testing.assert_array_equal(factors["layers/norm1/scale"].ravel(), [0.25, 0.5])
    assert factors["head/bias"] == factors["norm/scale"] == 3.0
    assert {path for path, decay in decays.items() if decay} == {path for path in decays if path.endswith("kernel")}
    assert families.is_stacked("params/layers/tokens/fc1/kernel")


def test_a_dropped_branch_adds_nothing():
    weights, pixels = weights_of(), some_pixels()
    network, images = families.network(weights.spec, PLAIN, 0.1), normalise(jnp.asarray(pixels), VIEW)
    logits = quick_jit(lambda masks: network.logits(weights.params, images, masks))
    kept = np.ones((*network.drop_path_rates.shape, 3), np.float32)
    np.testing.assert_allclose(logits(kept), logits_of(weights, pixels), atol=1e-5)
    dropped = kept.copy()
    dropped[1, 0, 2] = 0  # of the last layer, over the tokens of the last image
    changed = np.abs(logits(dropped) - logits(kept)).max(axis=1)
    assert (changed[:2] < 1e-6).all()
    assert changed[2] > 1e-3


def test_its_cost_is_what_its_program_multiplies():
    spec = weights_of().spec
    network, params = families.network(spec, PLAIN, 0.0), weights_of().params
    program = jax.make_jaxpr(lambda images: network.logits(params, images, None))(np.zeros((1, 8, 8, 3), np.float32))
    cost = families.cost(spec)
    assert cost is not None
    assert products(program.jaxpr) == cost.flops.forward


def products(jaxpr) -> int:
    """FLOPs of all matrix products; what a scan repeats counts as often."""
    total = 0
    for equation in jaxpr.eqns:
        if equation.primitive.name == "dot_general":
            (contracted, _), _ = equation.params["dimension_numbers"]
            inner = math.prod(equation.invars[0].aval.shape[axis] for axis in contracted)
            total += 2 * math.prod(equation.outvars[0].aval.shape) * inner
        times = equation.params["length"] if equation.primitive.name == "scan" else 1
        total += times * sum(map(products, inner_jaxprs(equation)))
    return total


# A run


@pytest.fixture(scope="module")
def imported(tmp_path_factory):
    """A folder of `semivit import`, from weights in a layout that only the backbone's own file knows."""
    folder = tmp_path_factory.mktemp("published")
    tensors = layout.state_dict(layout.flatten(weights_of().params), backbone.PUBLISHED)
    contiguous = {name: np.ascontiguousarray(tensor) for name, tensor in tensors.items()}
    safetensors.numpy.save_file(contiguous, folder / "mixer.safetensors")
    argv = [folder / "mixer.safetensors", f"--model={VARIANT}", "--image_size=8", f"--out={folder / 'in'}"]
    assert main(["semivit", "import", *map(str, argv)]) == 0
    return folder / "in"


def train(folder, imported) -> int:
    values = {
        "model.variant": VARIANT, "model.posemb": "none", "init_from": imported, "stages": ("finetune",),
        "finetune.epochs": 6.0, "finetune.warmup_epochs": 1.0, "finetune.drop_path_rate": 0.1,
        "train.eval_every_epochs": 3.0, "checkpoint.save_every_steps": 3, "log.every_steps": 1,
        "log.tensorboard": False, "train.compilation_cache": False,
    }  # fmt: skip
    flags = [f"--config.{key}={value}" for key, value in values.items()]
    return main(["semivit", "train", "--config=configs/digits.py", f"--workdir={folder}", *flags])


@pytest.fixture(scope="module")
def finished(imported, tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "finished"
    assert train(folder, imported) == 0
    return folder


def test_an_import_holds_the_published_weights(imported):
    found, wanted = load_imported(imported), weights_of()
    assert found.report.kind == "MLP-Mixer"
    assert found.weights.spec == wanted.spec
    jax.tree.map(np.testing.assert_array_equal, found.weights.params, wanted.params)


def test_a_run_starts_from_the_import_and_changes_it(finished, imported):
    started = json.loads((finished / "finetune" / "started_from.json").read_text())
    arrays = load_imported(imported).weights.params
    names = {path.replace("/", "."): array for path, array in layout.flatten(arrays).items()}
    assert (set(started["loaded"]), started["reinitialised"], started["dropped"]) == (set(names), [], [])
    after = final_arrays(finished, "finetune")
    moved = {name: np.abs(after[f"params.{name}"] - array).max() for name, array in names.items()}
    assert all(0 < distance < 0.1 for distance in moved.values()), moved
    assert all(f"ema_params.{name}" in after for name in names)


def test_its_run_is_told_and_evaluated(finished, tmp_path):
    told = json.loads((finished / "summary.json").read_text())["stages"]["finetune"]
    assert main(["semivit", "eval", f"--workdir={finished}", f"--out={tmp_path / 'eval.json'}"]) == 0
    results = json.loads((tmp_path / "eval.json").read_text())["results"]
    assert results["params"]["acc1"] == pytest.approx(told["acc1"])
    assert results["ema_params"]["acc1"] == pytest.approx(told["ema_acc1"])


def test_a_run_that_stopped_half_way_goes_on_as_if_it_had_not(finished, imported, tmp_path):
    folder = tmp_path / "resumed"
    shutil.copytree(finished, folder)
    for path in ("DONE", "summary.json", "finetune/DONE", "finetune/report.json"):
        (folder / path).unlink()
    shutil.rmtree(folder / "finetune" / "checkpoints" / "6")
    assert train(folder, imported) == 0
    assert logged(folder) == logged(finished)
    found, wanted = final_arrays(folder, "finetune"), final_arrays(finished, "finetune")
    assert found.keys() == wanted.keys()
    assert not [name for name in wanted if found[name].tobytes() != wanted[name].tobytes()]


def test_a_run_is_planned(tmp_path):
    flags = ["--config=configs/digits.py", f"--config.model.variant={VARIANT}", "--config.model.posemb=none"]
    flags += ["--topology=gpu:8xH100", "--stage=semi", "--nocompile", f"--out={tmp_path / 'plan.json'}"]
    assert main(["semivit", "plan", *flags]) == 0
    (row,) = json.loads((tmp_path / "plan.json").read_text())["stages"]
    cost = families.cost(weights_of().spec)
    assert cost is not None
    labeled, unlabeled = row["batch_size"], row["batch_size"] * row["unlabeled_ratio"]
    assert row["model_flops"] == (labeled + unlabeled) * cost.flops.total + unlabeled * cost.flops.forward
    arrays = sum(math.prod(shape) for shape in families.shapes(weights_of().spec).values())
    assert row["memory"]["params"] == 4 * arrays
    assert row["fits"]


# Exports


def test_its_exported_program_gives_its_logits(finished, tmp_path):
    out, pixels = tmp_path / "out", some_pixels()
    assert main(["semivit", "export", f"--workdir={finished}", "--format=stablehlo", f"--out={out}"]) == 0
    program = jax.export.deserialize(bytearray((out / "model.stablehlo").read_bytes()))
    logits = program.call(safetensors.numpy.load_file(out / "params.safetensors"), pixels)
    trained = load_trained(finished, kept="latest", tree=None, stage=None).weights
    np.testing.assert_allclose(logits, logits_of(trained, pixels), atol=1e-5)


def test_timm_is_told_in_its_own_names(finished, tmp_path):
    out = tmp_path / "out"
    assert main(["semivit", "export", f"--workdir={finished}", "--format=timm", f"--out={out}"]) == 0
    tensors, config = tensors_in(out), json.loads((out / "config.json").read_text())
    assert sorted(tensors) == sorted(TIMM_NAMES)
    assert tensors["stem.proj.weight"].shape == (32, 3, 2, 2)
    assert tensors["blocks.1.mlp_tokens.fc1.weight"].shape == (16, 16)
    assert tensors["blocks.1.mlp_channels.fc1.weight"].shape == (64, 32)
    assert config["architecture"] == "mixer_b16_224"
    assert config["model_args"] == {
        "img_size": 8, "patch_size": 2, "embed_dim": 32, "num_blocks": 2, "mlp_ratio": [0.5, 2.0]
    }  # fmt: skip


@pytest.mark.parametrize("format", ["timm", "hugging_face"])
def test_what_goes_out_comes_back_bit_for_bit(tmp_path, format):
    weights = weights_of(num_classes=3)
    export(tmp_path / "out", format, weights)
    back = import_weights(str(tmp_path / "out"), variant=VARIANT, pool=None, image_size=None, decoder=False)
    assert_same(back.weights, weights)
    save_imported(tmp_path / "in", back)
    assert_same(load_imported(tmp_path / "in").weights, weights)


# Refusals


def test_another_family_is_refused_by_both_names(tmp_path):
    export(tmp_path / "out", "timm", weights_of())
    with pytest.raises(ValueError, match=r"the source is a mixer \(MLP-Mixer\), vit_test is a vit"):
        import_weights(str(tmp_path / "out"), variant="vit_test", pool=None, image_size=None, decoder=False)


def test_another_number_of_tokens_is_refused(tmp_path):
    export(tmp_path / "out", "timm", weights_of())
    with pytest.raises(ValueError, match=r"layers/tokens/fc1/kernel: the source has \(2, 16, 16\), the model \(2, 36"):
        import_weights(str(tmp_path / "out"), variant=VARIANT, pool=None, image_size=12, decoder=False)
    with pytest.raises(ValueError, match="image_size 9: must be a multiple of the patch size of mixer_digits, 2"):
        import_weights(str(tmp_path / "out"), variant=VARIANT, pool=None, image_size=9, decoder=False)


def test_an_unknown_layout_is_told_what_is_known(tmp_path):
    safetensors.numpy.save_file({"x": np.zeros(1, np.float32)}, tmp_path / "x.safetensors")
    with pytest.raises(ValueError, match=r"not a layout known here.*ConvNeXt, MLP-Mixer\)"):
        import_weights(str(tmp_path / "x.safetensors"), variant=VARIANT, pool=None, image_size=None, decoder=False)


def test_what_nobody_has_written_is_refused_in_a_line(finished, tmp_path, capsys):
    out = tmp_path / "out"
    assert main(["semivit", "export", f"--workdir={finished}", "--format=onnx", f"--out={out}"]) == 1
    assert "nobody has written the ONNX graph of a mixer; stablehlo takes any model" in capsys.readouterr().err
    assert not out.exists()
    with pytest.raises(ValueError, match=r"a mixer of timm computes with 1e-06; another one goes out as stablehlo$"):
        export(out, "timm", weights_of(layer_norm_eps=0.1))


def test_it_is_offered_to_whoever_imports(capsys):
    with pytest.raises(SystemExit):
        main(["semivit", "import", "--help"])
    assert VARIANT in capsys.readouterr().out
