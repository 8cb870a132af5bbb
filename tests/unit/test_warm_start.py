"""Between stages every tensor is loaded, started afresh or dropped as declared; anything else is refused."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from semivit_jax.checkpoints import warm_start
from semivit_jax.checkpoints.reading import CheckpointError, newest_good
from semivit_jax.checkpoints.saving import Saver
from semivit_jax.checkpoints.warm_start import Crossing
from semivit_jax.models.mae import with_decoder
from semivit_jax.models.spec import Decoder
from semivit_jax.stages import STAGES
from tests.models import spec_of

ENCODER = {"patch_embed.kernel": (4, 8), "blocks.attn.kernel": (2, 8, 8)}
MAE = {**ENCODER, "norm.scale": (8,), "decoder.embed.kernel": (8, 4), "decoder.blocks.attn.kernel": (1, 4, 4)}
CLASSIFIER = {**ENCODER, "head.kernel": (8, 10), "fc_norm.scale": (8,), "posemb": (1, 5, 8)}


MEAN, CLS = spec_of("vit_test2", pool="mean"), spec_of("vit_test2", pool="cls")
AUTOENCODER = with_decoder(MEAN, Decoder(width=4, depth=1, num_heads=1))


def shapes(names):
    return {name: jax.ShapeDtypeStruct(shape, "float32") for name, shape in names.items()}


def crossing(origin, theirs=MEAN, ours=MEAN, stage="finetune"):
    return Crossing(STAGES[stage].starts_from[origin], theirs, ours)


def plan(available, wanted, origin, theirs=MEAN):
    return warm_start.plan_transfer("source", shapes(available), shapes(wanted), crossing(origin, theirs))


def test_every_tensor_is_accounted_for():
    transfer = plan(MAE, CLASSIFIER, "mae")
    assert set(transfer.loaded) == set(ENCODER)
    assert set(transfer.reinitialised) == {"head.kernel", "fc_norm.scale", "posemb"}
    assert set(transfer.dropped) == {"norm.scale", "decoder.embed.kernel", "decoder.blocks.attn.kernel"}
    told = "\n".join(transfer.lines())
    assert "loaded (2): patch_embed.kernel, 1 tensor of the blocks" in told
    assert "re-initialised (3)" in told
    assert "dropped (3): norm.scale, decoder.embed.kernel, 1 tensor of the decoder's blocks" in told


def test_a_head_for_other_classes_starts_afresh():
    transfer = plan(CLASSIFIER, {**CLASSIFIER, "head.kernel": (8, 5)}, "finetune")
    assert transfer.dropped == transfer.reinitialised == ("head.kernel",)


def test_a_head_on_the_other_pooling_starts_afresh():
    head = {"head.kernel": (8, 3), "head.bias": (3,)}
    transfer = plan({**ENCODER, "norm.scale": (8,), **head}, {**ENCODER, "fc_norm.scale": (8,), **head}, "import", CLS)
    assert set(transfer.loaded) == set(ENCODER)
    assert set(transfer.reinitialised) == {"fc_norm.scale", *head}
    assert set(transfer.dropped) == {"norm.scale", *head}


@pytest.mark.parametrize(
    ("available", "wanted", "from_stage", "complaint"),
    [
        (MAE, {**CLASSIFIER, "neck.bias": (3,)}, "mae", "neck.bias is not in source"),
        ({**MAE, "neck.bias": (3,)}, CLASSIFIER, "mae", "neck.bias of source has no place"),
        (CLASSIFIER, {**CLASSIFIER, "posemb": (1, 9, 8)}, "finetune", r"posemb has shape \(1, 5, 8\).*\(1, 9, 8\)"),
        (ENCODER, CLASSIFIER, "finetune", "head.kernel is not in source"),
        (MAE, ENCODER, "finetune", "norm.scale of source has no place"),
    ],
)
def test_what_is_not_declared_is_refused(available, wanted, from_stage, complaint):
    with pytest.raises(CheckpointError, match=complaint):
        plan(available, wanted, from_stage)


def test_values_come_from_the_named_tree_and_fresh_ones_stay(tmp_path):
    def tree(value, **more):
        return {"patch_embed": {"kernel": jnp.full((4, 8), value)}, **more}

    stored = {"params": tree(1.0), "ema_params": tree(2.0)}
    checkpoints = Saver(tmp_path / "checkpoints", keep=1)
    checkpoints.save(1, stored, {})
    checkpoints.close()
    fresh = tree(0.0)
    places = jax.tree.map(lambda leaf: leaf.sharding, fresh)
    source = newest_good(tmp_path / "checkpoints")
    for name, value in (("params", 1.0), ("ema_params", 2.0)):
        loaded, _ = warm_start.from_checkpoint(source, fresh, places, crossing=crossing("finetune"), tree=name)
        np.testing.assert_array_equal(loaded["patch_embed"]["kernel"], value)
    mae = {"params": {"encoder": tree(3.0), "decoder": {"bias": jnp.zeros(3)}}}
    checkpoints = Saver(tmp_path / "mae", keep=1)
    checkpoints.save(1, mae, {})
    checkpoints.close()
    wanted = tree(0.0, head={"bias": jnp.full(2, 7.0)})
    places = jax.tree.map(lambda leaf: leaf.sharding, wanted)
    loaded, _ = warm_start.from_checkpoint(
        newest_good(tmp_path / "mae"), wanted, places, crossing=crossing("mae", AUTOENCODER), tree="params"
    )
    np.testing.assert_array_equal(loaded["patch_embed"]["kernel"], 3.0)
    np.testing.assert_array_equal(loaded["head"]["bias"], 7.0)


def test_an_autoencoder_starts_from_another_as_it_is(tmp_path):
    stored = {"encoder": {"bias": jnp.full(3, 5.0)}, "decoder": {"bias": jnp.full(3, 6.0)}}
    checkpoints = Saver(tmp_path / "mae", keep=1)
    checkpoints.save(1, {"params": stored}, {})
    checkpoints.close()
    fresh = jax.tree.map(jnp.zeros_like, stored)
    places, way = jax.tree.map(lambda leaf: leaf.sharding, fresh), crossing("mae", AUTOENCODER, AUTOENCODER, "mae")
    source = newest_good(tmp_path / "mae")
    loaded, transfer = warm_start.from_checkpoint(source, fresh, places, crossing=way, tree="params")
    jax.tree.map(np.testing.assert_array_equal, loaded, stored)
    assert transfer.dropped == transfer.reinitialised == ()
