"""What a run may add to a backbone, bottlenecks beside its MLPs and an mlp head: computed, trained, kept, refused."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special

from semivit_jax.checkpoints.reading import CheckpointError
from semivit_jax.config import ConfigError
from semivit_jax.export import FORMATS, export
from semivit_jax.inference.import_own import import_own
from semivit_jax.inference.trained import load_trained
from semivit_jax.models import bottleneck, families, tuning
from semivit_jax.models.families import FAMILIES
from semivit_jax.models.layers import Block, normal_init
from semivit_jax.models.parting import Parts
from semivit_jax.models.spec import PLAIN, Bottleneck
from semivit_jax.models.vit import ViTSize
from tests.compiled import quick_jit
from tests.configs import small_config
from tests.models import spec_of
from tests.stages import small
from tests.tune import test_runs, tuned
from tests.tune.tuned import flat

KEY = jax.random.key(3)
BOTTLENECK = {
    "model.tune": "lora",
    "model.lora_kind": "bottleneck",
    "model.lora_rank": 5,
    "model.bottleneck_scale": 0.7,
}
MLP = {"model.head": "mlp"}
WAYS = {"bottleneck": BOTTLENECK, "mlp": MLP, "mlp_head": {**MLP, "model.tune": "head"}}


@pytest.mark.parametrize(
    ("family", "mlp", "remat", "dtype"),
    [
        ("vit", "gelu", "none", None),
        ("dinov3", "swiglu", "full", jnp.bfloat16),
        ("clip", "quick_gelu", "none", jnp.bfloat16),
        ("siglip", "gelu", "full", None),
    ],
)
def test_a_fresh_bottleneck_is_the_frozen_model_bit_for_bit(family, mlp, remat, dtype):
    size = ViTSize(8, 48, 3, 3, 96, mlp=mlp, layer_scale=family == "dinov3", registers=2 * (family == "dinov3"))
    legal, compute = FAMILIES[family].legal, dataclasses.replace(PLAIN, dtype=dtype, remat=remat)
    spec = dataclasses.replace(
        spec_of("vit_test"), family=family, size=size, posemb=legal["posemb"][0], pool=legal["pool"][0]
    )
    plain = families.network(spec, compute, 0.0)
    params = tuned.scattered(jax.eval_shape(plain.init, KEY), 1)
    added = bottleneck.inserted(params, Bottleneck(5, 0.7), "blocks/mlp", KEY)
    assert flat(added).keys() - flat(params).keys() == {"blocks/mlp/bottleneck_down", "blocks/mlp/bottleneck_up"}
    network = families.network(dataclasses.replace(spec, bottleneck=Bottleneck(5, 0.7)), compute, 0.0)
    images = jnp.asarray(np.random.default_rng(0).normal(size=(2, 32, 32, 3)), jnp.float32)
    expected, logits = quick_jit(plain.logits)(params, images, None), quick_jit(network.logits)
    np.testing.assert_array_equal(logits(added, images, None), expected)
    added["blocks"]["mlp"]["bottleneck_up"] += 1.0
    assert (logits(added, images, None) != expected).any()


@pytest.mark.usefixtures("float64")
def test_a_block_with_a_bottleneck_is_the_papers_equation():
    """x' + MLP(LN(x')) + s ReLU(LN(x') W_down) W_up (Chen et al. 2022, equations 2 and 3), in NumPy."""
    block = Block(3, 96, normal_init, None, "xla")
    x = jnp.asarray(np.random.default_rng(0).normal(size=(2, 5, 48)))
    params = tuned.scattered(jax.eval_shape(lambda: block.init(KEY, x, None)["params"]), 1)
    params = tuned.widened(params)
    down, up = np.random.default_rng(2).normal(size=(48, 5)), np.random.default_rng(3).normal(size=(5, 48))

    @quick_jit
    def run(params):
        with bottleneck.computing(Bottleneck(5, 0.7)):
            return block.apply({"params": params}, x, None)[0]

    without = np.asarray(run(params))
    silent = {**params["mlp"], "fc2": jax.tree.map(np.zeros_like, params["mlp"]["fc2"])}
    attended = np.asarray(run({**params, "mlp": silent}))
    centred = attended - attended.mean(-1, keepdims=True)
    normed = centred / np.sqrt((centred**2).mean(-1, keepdims=True) + 1e-6)
    normed = normed * params["norm2"]["scale"] + params["norm2"]["bias"]
    expected = without + 0.7 * np.maximum(normed @ down, 0) @ up
    found = run({**params, "mlp": {**params["mlp"], "bottleneck_down": down, "bottleneck_up": up}})
    np.testing.assert_allclose(found, expected, rtol=1e-9)


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize(
    ("variant", "tune"),
    [
        ("vit_test2", "head"),
        ("vit_test2", "lora"),
        ("convnext_test", "head"),
        *(pytest.param("vit_test2", tune, marks=pytest.mark.slow) for tune in ("last_1", "all")),
    ],
)
def test_an_mlp_head_is_two_layers_with_a_gelu(variant, tune):
    """Of the same features, in NumPy; the hidden layer is trained wherever the head is."""
    spec = dataclasses.replace(spec_of(variant), head="mlp")
    config = small_config(**{"model.tune": tune, "model.lora_matrices": "mlp", "model.variant": "vit_test2"})
    network, plain = tuning.network(config.model, spec, PLAIN, 0.0), families.network(spec, PLAIN, 0.0)
    params = tuned.widened(tuned.scattered(jax.eval_shape(plain.init, KEY), 1))
    split = quick_jit(network.parting.split)(params, KEY)
    trained = set(flat(split[0]))
    assert {"head/kernel", "head/bias", "head_hidden/kernel", "head_hidden/bias"} <= trained
    assert tune != "head" or len(trained) == 4
    images = jnp.asarray(np.random.default_rng(0).normal(size=(2, 32, 32, 3)))
    features = np.asarray(quick_jit(plain.features)(params, images))
    hidden = features @ params["head_hidden"]["kernel"] + params["head_hidden"]["bias"]
    hidden = hidden * scipy.special.ndtr(hidden)
    expected = hidden @ params["head"]["kernel"] + params["head"]["bias"]
    parts = params if tune == "all" else Parts(*split)
    small.assert_close(quick_jit(network.logits)(parts, images, None), expected, rtol=1e-9)


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("way", ["bottleneck", "mlp_head"])
def test_an_update_moves_what_is_added_and_nothing_frozen(way):
    keys = {k: v for k, v in WAYS[way].items() if k != "model.tune"}
    tune = WAYS[way]["model.tune"]
    step, before = tuned.compiled_step("finetune", tune, **keys), tuned.state_of("finetune", tune, **keys)
    state, _ = step(before, tuned.batch_of("finetune"), small.key())
    state, _ = step(
        state, tuned.batch_of("finetune"), small.key()
    )  # a zero W_up leaves W_down without a gradient at first
    small.assert_equal(state.frozen, before.frozen)
    moved = tuned.moved(before, state)
    added = "blocks/mlp/bottleneck_" if way == "bottleneck" else "head_hidden/"
    assert moved == set(flat(before.params))
    assert {path for path in moved if not path.startswith("head/")} == {
        path for path in moved if path.startswith(added)
    }


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """{way: (workdir, compiled stage, state of arbitrary numbers that is its checkpoint)}."""
    test_runs.WAYS.update(WAYS)
    yield {way: test_runs.write(tmp_path_factory.mktemp("runs") / way, way) for way in ("all", *WAYS)}
    for way in WAYS:
        del test_runs.WAYS[way]


@pytest.mark.parametrize("way", WAYS)
def test_predictions_are_those_of_the_model_that_was_trained(made, way):
    workdir, _, state = made[way]
    trained = load_trained(workdir, kept="latest", tree="params", stage=None)
    spec = trained.weights.spec
    images = jnp.asarray(np.random.default_rng(0).normal(size=(2, spec.image_size, spec.image_size, 3)), jnp.float32)
    network = families.network(spec, PLAIN, 0.0)
    found = quick_jit(network.logits)(trained.weights.params, images, None)
    config = compiled_config(way)
    whole = tuning.network(config.model, spec, PLAIN, 0.0)
    parts = state.params if state.frozen is None else Parts(state.params, state.frozen)
    small.assert_close(found, quick_jit(whole.logits)(jax.device_get(parts), images, None), rtol=1e-5)


def compiled_config(way):
    return small_config(**test_runs.TINY, **WAYS[way], stages=("finetune",))


@pytest.mark.parametrize(
    ("way", "theirs"),
    [("mlp", "mlp"), ("mlp", "all"), ("all", "mlp"), ("bottleneck", "bottleneck"), ("bottleneck", "all")],
)
def test_a_run_goes_on_from_another(made, tmp_path, way, theirs):
    """Of a head of another kind nothing is taken over; a bottleneck that is new starts at zero."""
    compiled, state = test_runs.started(made, tmp_path, way, theirs)
    found, source = test_runs.whole(compiled, state), test_runs.whole(made[theirs][1], made[theirs][2])
    for name, leaf in found.items():
        if name.startswith("head") and way != theirs and "mlp" in (way, theirs):
            assert name not in source or (leaf != source[name]).any(), name
        elif name == "blocks/mlp/bottleneck_up" and theirs == "all":
            assert not leaf.any()
        elif name != "blocks/mlp/bottleneck_down" or theirs == way:
            np.testing.assert_array_equal(leaf, source[name], err_msg=name)


def test_bottlenecks_are_never_left_behind_in_silence(made, tmp_path):
    with pytest.raises(
        (CheckpointError, ConfigError), match=r"blocks\.mlp\.bottleneck_\w+ .* has no place in the model"
    ):
        test_runs.started(made, tmp_path, "all", "bottleneck")
    with pytest.raises(ValueError, match="has bottlenecks beside its MLPs"):
        import_own(str(made["bottleneck"][0]), variant=None, pool=None, image_size=None, decoder=False)


def test_an_import_of_a_run_leaves_its_mlp_head_out_aloud(made):
    imported = import_own(str(made["mlp"][0]), variant="vit_test2", pool=None, image_size=None, decoder=False)
    assert imported.weights.spec.num_classes == 0
    assert any("mlp head is left out" in note for note in imported.report.notes)
    assert not any(path.startswith("head") for path in flat(imported.weights.params))


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize(("way", "able"), [("mlp", {"onnx", "stablehlo"}), ("bottleneck", {"stablehlo"})])
def test_formats_without_a_place_refuse_by_name(made, tmp_path, way, able, format):
    weights = load_trained(made[way][0], kept="latest", tree="params", stage=None).weights
    if format in able:
        if format == "stablehlo":
            export(tmp_path / "out", format, weights)
            assert (tmp_path / "out" / "model.stablehlo").exists()
        return
    with pytest.raises(ValueError, match=f"vit_test2: {format} has no place for .*; take .*stablehlo"):
        export(tmp_path / "out", format, weights)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model.head": "deep"}, "model.head is 'deep'; legal values: linear, mlp"),
        ({"model.head": "mlp", "model.head_init": "probe"}, "head_init='probe' fits is linear; use head_init='random'"),
        ({"model.lora_kind": "prefix"}, "model.lora_kind is 'prefix'; legal values: low_rank, bottleneck"),
        ({"model.bottleneck_scale": 0.0}, "bottleneck_scale is 0.0; it must be above 0"),
        (
            {"model.variant": "convnext_test", "model.posemb": "none", "data.image_size": 32, **BOTTLENECK},
            "a convnext has no MLPs of one size to put a bottleneck beside; use lora_kind='low_rank'",
        ),
    ],
)
def test_what_cannot_be_is_refused_by_name(changes, message):
    with pytest.raises(ConfigError, match=message):
        small_config(**changes)


def test_a_bottleneck_wider_than_the_model_is_refused():
    with pytest.raises(ConfigError, match="lora_rank is 49; the blocks of this model are 48 wide"):
        bottleneck.inserted(
            {"blocks": {"mlp": {"fc1": {"kernel": np.zeros((2, 48, 96))}}}}, Bottleneck(49, 0.1), "blocks/mlp", KEY
        )
