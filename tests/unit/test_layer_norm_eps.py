"""LayerNorm's epsilon reaches every norm, and imported weights bring theirs into a run."""

import dataclasses

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from semivit_jax.commands import with_preprocessing
from semivit_jax.config_check import check
from semivit_jax.models.convnext import CONVNEXT_SIZES
from semivit_jax.models.variants import VIT_SIZES, autoencoder, classifier
from semivit_jax.weights import Imported, layout, save_imported
from semivit_jax.weights.facts import VitFacts, param_shapes
from semivit_jax.weights.preprocessing import IMAGENET_224
from semivit_jax.weights.report import ImportReport
from tests.compiled import quick_jit
from tests.configs import raw_config, small_config

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
    raw = raw_config(**SMALL, **changes)
    with raw.unlocked():
        raw.model.layer_norm_eps = EPS
    return check(raw)


@pytest.mark.parametrize("pool", ["mean", "cls"])
def test_every_norm_of_a_classifier_has_it(pool):
    config = config_with_eps(**{"model.pool": pool})
    model = classifier(config.model, image_size=16, num_classes=3, drop_path_rate=0.0, backend="cpu")
    assert set(norms_of(model.init)) == {EPS}


def test_every_norm_of_an_autoencoder_has_it():
    config = config_with_eps()
    model = autoencoder(config.model, config.mae, image_size=16, backend="cpu")
    assert set(norms_of(model.init)) == {EPS}


def test_without_a_value_it_is_that_of_the_papers():
    config = small_config(**SMALL)
    assert config.model.layer_norm_eps is None
    model = classifier(config.model, image_size=16, num_classes=3, drop_path_rate=0.0, backend="cpu")
    assert set(norms_of(model.init)) == {1e-6}


def save(folder, eps):
    sizes = dataclasses.asdict(VIT_SIZES["vit_test2"])
    facts = VitFacts(
        "vit_test2", **sizes, image_size=16, pool="cls", posemb="learned", num_classes=0, layer_norm_eps=eps
    )
    params = layout.unflatten({path: np.zeros(shape, np.float32) for path, shape in param_shapes(facts).items()})
    view = dataclasses.replace(IMAGENET_224, image_size=16)
    save_imported(folder, Imported(facts, params, None, view, None, ImportReport("x", "x", (), None)))


@pytest.mark.parametrize(("eps", "expected"), [(1e-12, 1e-12), (1e-6, None)])
def test_a_run_computes_as_its_imported_weights_do(tmp_path, eps, expected):
    save(tmp_path / "in", eps)
    raw = raw_config(**SMALL, init_from=str(tmp_path / "in"))
    assert check(with_preprocessing(raw, ())).model.layer_norm_eps == expected


def test_a_convnext_head_starts_as_wide_as_configured():
    changes = {"model.variant": "convnext_test", "model.posemb": "none", "model.head_init_std": 0.5}
    config = small_config(**changes)
    model = classifier(config.model, image_size=32, num_classes=200, drop_path_rate=0.0, backend="cpu")
    kernel = quick_jit(lambda key: model.init(key)["head"]["kernel"])(jax.random.key(0))
    assert kernel.shape == (CONVNEXT_SIZES["convnext_test"].widths[-1], 200)
    assert float(jnp.std(kernel)) == pytest.approx(0.5, rel=0.05)
