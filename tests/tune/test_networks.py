"""How a model parts, and what networks of two parts compute."""

import dataclasses
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from semivit_jax.config import ConfigError
from semivit_jax.models import families, tuning
from semivit_jax.models.families import FAMILIES
from semivit_jax.models.parting import Parts
from semivit_jax.models.spec import PLAIN
from semivit_jax.models.vit import ViTSize
from semivit_jax.preflight import flops
from semivit_jax.preflight.memory import device_stacks
from semivit_jax.stages import mae
from tests.compiled import quick_jit
from tests.configs import small_config
from tests.models import spec_of
from tests.stages import small
from tests.tune import tuned

KEY = jax.random.key(3)
IMAGES = small.images(5, 2)
CONVNEXT = {"model.variant": "convnext_test", "model.posemb": "none", "data.image_size": 32}


def parted(tune, **changes):
    """(network, plain network, whole params, parts), all numbers drawn."""
    network, plain = tuned.network_of(tune, **changes)
    params = tuned.scattered(jax.eval_shape(plain.init, KEY), 1)
    return network, plain, params, Parts(*quick_jit(network.parting.split)(params, KEY))


@pytest.mark.parametrize(
    ("tune", "trained"),
    [
        ("head", {"head/kernel", "head/bias"}),
        ("last_1", {"head/kernel", "head/bias", "fc_norm/scale", "fc_norm/bias", "blocks"}),
        ("lora", {"head/kernel", "head/bias", *(f"blocks/attn/{m}/lora_{f}" for m in ("qkv", "proj") for f in "ab")}),
    ],
)
def test_what_is_trained_and_what_is_frozen_make_the_model(tune, trained):
    network, _, params, parts = parted(tune)
    found = tuned.flat(parts.trained)
    assert {p.partition("/")[0] if p.startswith("blocks") and tune == "last_1" else p for p in found} == trained
    small.assert_equal(quick_jit(network.parting.whole)(*parts), params)
    if tune == "last_1":  # both blocks' arrays, cut along their first axis
        for path, leaf in tuned.flat(params["blocks"]).items():
            np.testing.assert_array_equal(tuned.flat(parts.frozen["blocks"])[path], leaf[:1])
            np.testing.assert_array_equal(tuned.flat(parts.trained["blocks"])[path], leaf[1:])


def test_blocks_are_joined_by_the_same_program_in_every_process():
    """In the order of their names: a set of them has another one wherever strings have other hashes."""
    network, _, _, parts = parted("last_1")
    program = jax.make_jaxpr(network.parting.whole)(*parts).jaxpr
    places = [program.outvars.index(e.outvars[0]) for e in program.eqns if e.primitive.name == "concatenate"]
    assert len(places) > 10
    assert places == sorted(places)


@pytest.mark.parametrize(("dtype", "remat"), [("float32", "none"), ("bfloat16", "full")])
def test_a_fresh_lora_is_the_frozen_model_bit_for_bit(dtype, remat):
    network, plain, params, parts = parted(
        "lora", **{"model.dtype": dtype, "model.remat": remat, "model.lora_matrices": "attention_mlp"}
    )
    images = jnp.asarray(IMAGES, jnp.float32)
    found = tuned.program_of(network.logits)(parts, images, None)
    np.testing.assert_array_equal(found, tuned.program_of(plain.logits)(params, images, None))


@pytest.mark.parametrize("tune", tuned.TUNES)
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.usefixtures("float64")
def test_two_parts_compute_what_the_whole_model_does(tune, masked):
    """LoRA's additions beside the kernels, or merged into them; drop path in the last block alone."""
    network, plain, _, parts = parted(tune, **{"model.lora_matrices": "attention_mlp", "model.lora_alpha": 3.0})
    parts = tuned.widened(parts._replace(trained=tuned.scattered(parts.trained, 2)))
    masks = jnp.ones((2, 2, 2)).at[1].set(jnp.asarray([[0.0, 1.5], [1.5, 0.0]])) if masked else None
    whole = quick_jit(network.parting.whole)(*parts)
    expected = tuned.program_of(plain.logits)(whole, IMAGES, None if tune == "head" else masks)
    small.assert_close(quick_jit(network.logits)(parts, IMAGES, masks), expected, rtol=1e-12)
    if not masked:
        features = tuned.program_of(plain.features)(whole, IMAGES)
        small.assert_close(quick_jit(network.features)(parts, IMAGES), features, rtol=1e-12)


def test_there_is_no_drop_path_where_nothing_is_trained():
    def rates_of(variant, tune):
        config = tuned.config_of("finetune", tune, **{"model.variant": variant})
        return tuning.network(config.model, spec_of(variant), PLAIN, 0.4).drop_path_rates

    rates = {tune: rates_of("vit_test2", tune) for tune in tuned.TUNES}
    np.testing.assert_array_equal(rates["head"], np.zeros((2, 2)))
    np.testing.assert_array_equal(rates["last_1"], [[0, 0], [0.4, 0.4]])
    np.testing.assert_array_equal(rates["lora"], [[0, 0], [0.4, 0.4]])  # the first block's rate is always 0
    np.testing.assert_array_equal(rates_of("vit_test", "last_1"), [[0, 0], [0, 0], [0.4, 0.4]])


@pytest.mark.usefixtures("float64")
def test_the_gradient_of_loras_second_factor():
    """alpha / rank A' dW, of every chosen kernel (Hu et al. 2021, eq. 3, differentiated)."""
    network, plain, params, parts = parted("lora", **{"model.lora_rank": 3, "model.lora_alpha": 5.0})
    params, parts = tuned.widened((params, parts))
    direction = np.random.default_rng(4).normal(size=(2, 10))

    def loss(logits):
        return (logits * direction).sum()

    found = tuned.flat(quick_jit(jax.grad(lambda t: loss(network.logits(parts._replace(trained=t), IMAGES, None))))(
        parts.trained
    ))  # fmt: skip
    kernels = tuned.flat(quick_jit(jax.grad(lambda p: loss(plain.logits(p, IMAGES, None))))(params))
    for matrix in ("qkv", "proj"):
        a = tuned.flat(parts.trained)[f"blocks/attn/{matrix}/lora_a"]
        expected = 5.0 / 3 * np.swapaxes(a, 1, 2) @ kernels[f"blocks/attn/{matrix}/kernel"]
        small.assert_close(found[f"blocks/attn/{matrix}/lora_b"], expected, rtol=1e-10)
        assert not found[f"blocks/attn/{matrix}/lora_a"].any(), "the second factor is zero"


DINOS = list(itertools.product(("vit", "dinov3"), ("gelu", "swiglu"), tuned.TUNES))
BY_DEFAULT = (
    ("vit", "gelu", "last_1"),
    ("vit", "swiglu", "lora"),
    ("dinov3", "gelu", "lora"),
    ("dinov3", "swiglu", "head"),
)


@pytest.mark.parametrize(
    ("family", "mlp", "tune"),
    [pytest.param(*case, marks=() if case in BY_DEFAULT else pytest.mark.slow) for case in DINOS],
)
def test_dinos_compute_in_two_parts_what_they_do_in_one(family, mlp, tune):
    """With registers and LayerScale; SwiGLU's matrices have names of their own."""
    in_two_parts_as_in_one(family, ViTSize(8, 48, 3, 3, 96, mlp=mlp, layer_scale=True, registers=2), "mean", tune)


@pytest.mark.parametrize(("family", "mlp"), [("clip", "quick_gelu"), ("siglip", "gelu_tanh"), ("data2vec", "gelu")])
def test_towers_compute_their_last_block_as_they_do_in_one(family, mlp):
    """What follows the blocks differs: a norm, attention pooling, nothing."""
    in_two_parts_as_in_one(family, ViTSize(8, 48, 3, 3, 96, mlp=mlp), FAMILIES[family].legal["pool"][0], "last_1")


def in_two_parts_as_in_one(family, size, pool, tune):
    posemb = FAMILIES[family].legal["posemb"][0]
    spec = dataclasses.replace(spec_of("vit_test"), family=family, size=size, posemb=posemb, pool=pool)
    config = tuned.config_of("finetune", tune, **{"model.lora_matrices": "attention_mlp"})
    network, plain = tuning.network(config.model, spec, PLAIN, 0.0), families.network(spec, PLAIN, 0.0)
    params = tuned.scattered(jax.eval_shape(plain.init, KEY), 1)
    parts = Parts(*quick_jit(network.parting.split)(params, KEY))
    if tune == "lora":
        added = {path for path in tuned.flat(parts.trained) if path.endswith("lora_a")}
        assert len(added) == 4  # qkv, proj, fc1, fc2
    parts = parts._replace(trained=tuned.scattered(parts.trained, 2))
    images = jnp.asarray(np.random.default_rng(0).normal(size=(2, 32, 32, 3)), jnp.float32)
    expected = quick_jit(lambda parts: plain.logits(network.parting.whole(*parts), images, None))(parts)
    small.assert_close(quick_jit(network.logits)(parts, images, None), expected, rtol=2e-4)


def test_convnext_trains_its_head_or_lora_in_its_mlps():
    config = small_config(**CONVNEXT, **{"model.tune": "lora", "model.lora_matrices": "mlp", "model.lora_rank": 2})
    spec = spec_of("convnext_test")
    network, plain = tuning.network(config.model, spec, PLAIN, 0.0), families.network(spec, PLAIN, 0.0)
    params = tuned.scattered(jax.eval_shape(plain.init, KEY), 1)
    parts = Parts(*quick_jit(network.parting.split)(params, KEY))
    assert sum(path.endswith("lora_a") for path in tuned.flat(parts.trained)) == 8  # two in each of four stages
    parts = parts._replace(trained=tuned.scattered(parts.trained, 2))
    images = jnp.asarray(np.random.default_rng(0).normal(size=(1, 32, 32, 3)), jnp.float32)
    expected = quick_jit(lambda parts: plain.logits(network.parting.whole(*parts), images, None))(parts)
    small.assert_close(quick_jit(network.logits)(parts, images, None), expected, rtol=1e-4)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model.tune": "tail"}, "tune is 'tail'; legal values: all, head, last_N"),
        ({"model.tune": "last"}, "tune is 'last'; legal values: all, head, last_N"),
        ({"model.tune": "last_0"}, "a vit of 4 blocks has last_1 to last_3; all trains all"),
        ({"model.tune": "last_4"}, "a vit of 4 blocks has last_1 to last_3; all trains all"),
        ({"model.tune": "lora", "model.lora_rank": 0}, "lora_rank is 0; it must be at least 1"),
        ({"model.tune": "lora", "model.lora_alpha": 0.0}, "lora_alpha is 0.0; it must be above 0"),
        ({"model.tune": "lora", "model.lora_matrices": "qkv"}, "is 'qkv'; legal values of vit_digits: attention, mlp"),
        ({**CONVNEXT, "model.tune": "last_1"}, "a convnext has no blocks of one size to cut between; use all or head"),
        ({**CONVNEXT, "model.tune": "lora"}, "is 'attention'; legal values of convnext_test: mlp"),
    ],
)
def test_what_cannot_be_tuned_is_refused_by_name(changes, message):
    with pytest.raises(ConfigError, match=message):
        small_config(**changes)


def test_a_rank_that_no_matrix_has_is_refused():
    with pytest.raises(ConfigError, match=r"lora_rank is 49; blocks/attn/\w+/kernel of this model has rank 48 at most"):
        parted("lora", **{"model.lora_rank": 49})


@pytest.mark.parametrize("tune", tuned.TUNES)
def test_pre_training_trains_all(tune):
    with pytest.raises(ConfigError, match=f"tune is '{tune}', and stage mae trains all; leave it out"):
        mae.model(small_config(**{"model.tune": tune}), 0)


def test_flops_of_a_convnext_are_those_of_what_goes_backward():
    spec, found = spec_of("convnext_test"), {}
    for tune in ("all", "head", "lora"):
        model = tuned.config_of("finetune", tune).model
        model = dataclasses.replace(model, variant="convnext_test", pool="mean", posemb="none", lora_matrices="mlp")
        found[tune] = tuning.cost(model, spec)
    head, stem = 2 * 32 * 10, 2 * 8**2 * 48 * 8
    forward = found["all"].flops.forward
    assert {cost.flops.forward for cost in found.values()} == {forward}
    assert found["all"].flops.backward == 2 * forward - stem
    assert found["head"].flops.backward == 2 * head
    assert found["lora"].flops.backward == forward - stem - head + 2 * head
    blocks = [stack.depth for stack in found["head"].stacks]
    going = {tune: [s.backward for s in device_stacks(cost, 1, itemsize=2)] for tune, cost in found.items()}
    assert going == {"all": blocks, "lora": blocks, "head": [0] * len(blocks)}


def test_flops_are_those_of_what_goes_backward():
    spec, found = spec_of("vit_test"), {}
    for tune in ("all", "head", "last_1", "last_2", "lora"):
        config = tuned.config_of("finetune", tune, **{"model.variant": "vit_test"})
        found[tune] = tuning.cost(config.model, spec)
        assert found[tune].flops.forward == families.cost(spec).flops.forward
    head = 2 * 2 * 48 * 10
    backward = {tune: cost.flops.backward - head for tune, cost in found.items()}
    embedding = 2 * 16 * 192 * 48
    assert backward["head"] == 0
    assert 3 * backward["last_1"] == 1.5 * backward["last_2"] == backward["all"] - embedding
    assert backward["last_1"] / 2 * 3 < backward["lora"] < backward["all"]
    assert {tune: cost.forward_only for tune, cost in found.items()} == {
        "all": 0, "head": 3, "last_1": 2, "last_2": 1, "lora": 0,
    }  # fmt: skip
    config, plan, _ = tuned.stage_of("semi", "head")
    student, teacher = flops.passes(config, plan)
    assert student.cost.flops.backward == head
    assert teacher.cost.stacks == student.cost.stacks
