"""LayerNorm's epsilon reaches every norm, and imported weights bring theirs into a run."""

import dataclasses
import importlib

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from semivit_jax.cli.overrides import adopt_preprocessing
from semivit_jax.config import ConfigError
from semivit_jax.models import families
from semivit_jax.models.convnext import CONVNEXT_SIZES
from semivit_jax.models.spec import PLAIN
from semivit_jax.recipes.check import check
from semivit_jax.stages import STAGES
from semivit_jax.weights import layout
from semivit_jax.weights.account import ImportReport
from semivit_jax.weights.folder import save_imported
from semivit_jax.weights.importing import Imported
from semivit_jax.weights.preprocessing import IMAGENET_224
from semivit_jax.weights.weights import Weights
from tests.compiled import quick_jit
from tests.configs import raw_config, small_config
from tests.models import autoencoder_of, network_of, spec_of

EPS = 1e-3
SMALL = {"model.variant": "vit_test2", "data.image_size": 16}


def norms_of(describe) -> list[float]:
    """Epsilon of every LayerNorm a model calls."""
    found = []

    def note(next_function, args, kwargs, context):
        if isinstance(context.module, nn.LayerNorm):
            found.append(context.module.epsilon)
        return next_function(*args, **kwargs)

    with nn.intercept_methods(note):
        jax.eval_shape(describe, jax.random.key(0))
    return found


def config_with_eps(**changes):
    return small_config(**{**SMALL, "model.layer_norm_eps": EPS, **changes})


@pytest.mark.parametrize("pool", ["mean", "cls"])
def test_every_norm_of_a_classifier_has_it(pool):
    config = config_with_eps(**{"model.pool": pool})
    model = network_of(config, image_size=16, num_classes=3)
    assert set(norms_of(model.init)) == {EPS}


def test_every_norm_of_an_autoencoder_has_it():
    config = config_with_eps()
    model = autoencoder_of(config)
    assert set(norms_of(model.init)) == {EPS}


def test_of_a_convnext_the_final_norm_alone_has_it():
    changes = {"model.variant": "convnext_test", "model.posemb": "none", "data.image_size": 32}
    config = config_with_eps(**changes)
    model = network_of(config, image_size=32, num_classes=3)
    *others, final = norms_of(model.init)
    assert (set(others), final) == ({1e-6}, EPS)
    spec = STAGES["finetune"].model(config, 3)  # what predict, eval and export build
    assert norms_of(families.network(spec, PLAIN, 0.0).init)[-1] == EPS


@pytest.mark.parametrize("recipe", ["digits", "cifar10", "own_folder:init_from=x", "transfer", "imagenet_mae"])
def test_recipes_spell_out_that_of_the_papers(recipe):
    file, _, arguments = recipe.partition(":")
    raw = importlib.import_module(f"configs.{file}").get_config(arguments)
    assert check(raw).model.layer_norm_eps == 1e-6


def test_a_config_without_it_is_refused():
    raw = raw_config(**SMALL)
    with raw.unlocked():
        del raw.model.layer_norm_eps
    with pytest.raises(ConfigError, match=r"config\.model lacks the keys layer_norm_eps"):
        check(raw)


def test_zero_is_refused():
    with pytest.raises(ConfigError, match=r"config\.model\.layer_norm_eps is 0\.0; it must be above 0"):
        small_config(**SMALL, **{"model.layer_norm_eps": 0.0})


def save(folder, spec):
    params = layout.unflatten({path: np.zeros(shape, np.float32) for path, shape in families.shapes(spec).items()})
    view = dataclasses.replace(IMAGENET_224, image_size=spec.image_size)
    save_imported(folder, Imported(Weights(spec, params, None, view), None, None, ImportReport("x", "x", (), None, ())))


def vit_with(eps):
    return spec_of("vit_test2", image_size=16, pool="cls", num_classes=0, layer_norm_eps=eps)


def convnext_with(eps):
    return spec_of("convnext_test", num_classes=0, layer_norm_eps=eps)


@pytest.mark.parametrize("spec", [vit_with(1e-12), vit_with(1e-6), convnext_with(1e-12)], ids=repr)
def test_a_run_computes_as_its_imported_weights_do(tmp_path, spec):
    save(tmp_path / "in", spec)
    raw = raw_config(**SMALL, init_from=str(tmp_path / "in"))
    adopt_preprocessing(raw, (), None)
    assert raw.model.layer_norm_eps == spec.layer_norm_eps


@pytest.mark.parametrize("record", ['{"facts": ', "{}"], ids=["cut off", "empty"])
def test_a_damaged_import_is_named(tmp_path, record):
    save(tmp_path / "in", vit_with(1e-12))
    (tmp_path / "in" / "import.json").write_text(record)
    raw = raw_config(**SMALL, init_from=str(tmp_path / "in"))
    with pytest.raises(ConfigError, match=r"config\.init_from .*: its import\.json cannot be read"):
        adopt_preprocessing(raw, (), None)


def test_the_command_line_has_the_last_word(tmp_path):
    save(tmp_path / "in", vit_with(1e-12))
    raw = raw_config(**SMALL, **{"init_from": str(tmp_path / "in"), "model.layer_norm_eps": EPS})
    adopt_preprocessing(raw, ("model.layer_norm_eps",), None)
    assert raw.model.layer_norm_eps == EPS


def test_a_convnext_head_starts_as_wide_as_configured():
    changes = {"model.variant": "convnext_test", "model.posemb": "none", "model.head_init_std": 0.5}
    config = small_config(**changes)
    model = network_of(config, image_size=32, num_classes=200)
    kernel = quick_jit(lambda key: model.init(key)["head"]["kernel"])(jax.random.key(0))
    assert kernel.shape == (CONVNEXT_SIZES["convnext_test"].widths[-1], 200)
    assert float(jnp.std(kernel)) == pytest.approx(0.5, rel=0.05)
