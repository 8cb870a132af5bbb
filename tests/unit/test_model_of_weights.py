"""The weights to start from bring their model into the run, unless the command line says otherwise."""

import dataclasses

import numpy as np
import pytest
import safetensors.numpy

from configs import own_folder
from semivit_jax import files
from semivit_jax.cli.flags import read_config
from semivit_jax.cli.overrides import adopt_preprocessing
from semivit_jax.config import ConfigError
from semivit_jax.models import families, posemb
from semivit_jax.recipes import find
from semivit_jax.weights import vit_names
from semivit_jax.weights.account import ImportReport
from semivit_jax.weights.folder import save_imported
from semivit_jax.weights.importing import Imported, import_weights
from semivit_jax.weights.preprocessing import IMAGENET_224
from semivit_jax.weights.weights import Weights
from tests.models import spec_of
from tests.serve.runs import write_run
from tests.state_dicts import PIXELS, SIZE, state_dict

pytestmark = pytest.mark.filterwarnings(
    "ignore:the load_module:DeprecationWarning"
)  # how ml_collections reads a config

VIEW = dataclasses.replace(IMAGENET_224, image_size=98, mean=(0.5, 0.5, 0.5), interpolation="bilinear")


def stored(folder, variant="vit_s14", *, told="cls", **changes) -> str:
    """An import of a model, and of nothing but its name and its view; `told` is the pool that its source tells."""
    spec = spec_of(variant, image_size=98, num_classes=0, **changes)
    report = ImportReport("x", "x", (), None, ())
    save_imported(folder, Imported(Weights(spec, {"cls_token": np.zeros(1)}, None, VIEW), None, told, report))
    return str(folder)


def command_line(*arguments, folder=None):
    return read_config("split", find.with_paths(arguments), folder)


@pytest.mark.parametrize("recipe", ["own_folder", "transfer"])
def test_a_recipe_takes_the_model_of_its_weights(tmp_path, recipe):
    weights = stored(tmp_path / "in", layer_norm_eps=1e-5)
    config, notes = command_line(f"--config={recipe}:init_from={weights}")
    model, data = config.model, config.data
    assert (model.variant, model.pool, model.layer_norm_eps) == ("vit_s14", "cls", 1e-5)
    assert (data.image_size, data.interpolation, data.mean) == (98, "bilinear", (0.5, 0.5, 0.5))
    assert "model=vit_s14" in config.log.recipe
    assert "variant vit_s14, pool cls, posemb learned, layer_norm_eps 1e-05, image_size 98" in " ".join(notes)
    families.describe(model, image_size=data.image_size, num_classes=3)  # patches of 14 divide 98 pixels


def test_every_recipe_takes_it_and_says_so_in_its_label(tmp_path):
    weights = stored(tmp_path / "in")
    config, _ = command_line("--config=imagenet_finetune", f"--config.init_from={weights}")
    assert (config.model.variant, config.model.pool) == ("vit_s14", "cls")
    assert config.log.recipe.endswith(" with model.variant='vit_s14'")
    assert config.log.origin == "ours"


def test_what_the_weights_do_not_tell_is_the_recipes(tmp_path):
    weights = stored(tmp_path / "in", told=None, pool="cls")
    config, _ = command_line(f"--config=own_folder:init_from={weights}")
    assert (config.model.variant, config.model.pool) == ("vit_s14", "mean")


def test_the_command_line_may_ask_for_another_pool(tmp_path):
    config, _ = command_line(f"--config=own_folder:init_from={stored(tmp_path / 'in')}", "--config.model.pool=mean")
    assert config.model.pool == "mean"


@pytest.mark.parametrize(
    "arguments",
    [("own_folder:model=vit_b16,init_from={}",), ("own_folder:init_from={}", "--config.model.variant=vit_b16")],
)
def test_a_command_line_that_contradicts_is_refused(tmp_path, arguments):
    weights = stored(tmp_path / "in")
    first, *rest = (argument.format(weights) for argument in arguments)
    with pytest.raises(ConfigError, match=r"in holds a vit_s14, and the command line asks for vit_b16: leave"):
        command_line(f"--config={first}", *rest)
    assert command_line(f"--config={first.replace('vit_b16', 'vit_s14')}")[0].model.variant == "vit_s14"


def test_a_run_that_goes_on_keeps_its_model_when_the_weights_are_gone(tmp_path):
    write_run(tmp_path / "run", **{"model.pool": "cls"})
    raw = own_folder.get_config(f"init_from={tmp_path / 'gone'}")
    raw.stages = ("finetune",)
    adopt_preprocessing(raw, (), files.path(tmp_path / "run"))
    assert (raw.model.variant, raw.model.pool) == ("vit_test2", "cls")


@pytest.mark.parametrize(("stage", "pool"), [("finetune", "cls"), ("mae", "mean")])
def test_pre_training_does_not_tell_what_a_head_reads(tmp_path, stage, pool):
    write_run(tmp_path / "run", stage=stage, keep_ema=False, **{"model.pool": "cls"})
    config, _ = command_line(f"--config=cifar10:init_from={tmp_path / 'run'}")
    assert (config.model.variant, config.model.pool) == ("vit_test2", pool)


@pytest.mark.parametrize(
    ("table", "told"), [("sincos", None), ("learned", "cls")], ids=["masked autoencoder", "DINO and the like"]
)
def test_an_encoder_without_head_tells_its_pool_unless_masking_alone_trained_it(tmp_path, table, told):
    tensors = {name: t for name, t in state_dict(vit_names.TIMM).items() if not name.startswith("head.")}
    if table == "sincos":
        tensors["pos_embed"] = posemb.sincos(SIZE.width, PIXELS // SIZE.patch_size)[None].astype(np.float16)
    safetensors.numpy.save_file(tensors, tmp_path / "model.safetensors")
    for image_size in (PIXELS, 64):  # a resized table is no longer that of its size
        result = import_weights(
            str(tmp_path / "model.safetensors"), variant=None, pool=None, image_size=image_size, decoder=False
        )
        assert (result.pool, result.weights.spec.pool) == (told, "cls")
