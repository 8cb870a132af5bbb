"""A backbone of one's own in a whole run of the digits: imported, trained, resumed, evaluated, planned and exported."""

import json
import math
import shutil

import jax
import jax.export
import numpy as np
import pytest
import safetensors.numpy

from semivit_jax.inference.trained import load_trained
from semivit_jax.main import main
from semivit_jax.models import families
from semivit_jax.weights import layout
from semivit_jax.weights.folder import load_imported
from tests.e2e.runs import final_arrays, logged
from tests.extending import backbone
from tests.extending.test_backbone import VARIANT, logits_of, some_pixels, tensors_in, weights_of

pytestmark = [
    pytest.mark.usefixtures("mixer"),
    pytest.mark.xdist_group("mixer"),
    pytest.mark.filterwarnings("ignore:the load_module:DeprecationWarning"),  # how ml_collections reads a config
]

NAMES_PER_BLOCK = [
    f"{layer}.{leaf}"
    for layer in ("norm1", "mlp_tokens.fc1", "mlp_tokens.fc2", "norm2", "mlp_channels.fc1", "mlp_channels.fc2")
    for leaf in ("weight", "bias")
]
TIMM_NAMES = [f"{layer}.{leaf}" for layer in ("stem.proj", "norm", "head") for leaf in ("weight", "bias")]
TIMM_NAMES += [f"blocks.{block}.{name}" for block in (0, 1) for name in NAMES_PER_BLOCK]


@pytest.fixture(scope="module")
def imported(mixer, tmp_path_factory):
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
        "log.tensorboard": False, "log.report": False, "train.compilation_cache": False,
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


def test_its_exported_program_gives_its_logits(finished, tmp_path):
    out, pixels = tmp_path / "out", some_pixels()
    assert (
        main(["semivit", "export", f"--workdir={finished}", "--format=stablehlo", "--weights=latest", f"--out={out}"])
        == 0
    )
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
