"""Between stages every tensor is loaded, started afresh or dropped as declared; anything else is refused."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from semivit_jax.checkpoints import warm_start
from semivit_jax.checkpoints.reading import CheckpointError, newest_good
from semivit_jax.checkpoints.saving import Saver

ENCODER = {"patch_embed.kernel": (4, 8), "blocks.attn.kernel": (2, 8, 8)}
MAE = {**ENCODER, "norm.scale": (8,), "decoder.embed.kernel": (8, 4), "decoder.blocks.attn.kernel": (1, 4, 4)}
CLASSIFIER = {**ENCODER, "head.kernel": (8, 10), "fc_norm.scale": (8,), "posemb": (1, 5, 8)}


def shapes(names):
    return {name: jax.ShapeDtypeStruct(shape, "float32") for name, shape in names.items()}


def plan(available, wanted, from_stage):
    return warm_start.plan_transfer("source", shapes(available), shapes(wanted), from_stage=from_stage)


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
    transfer = plan({**ENCODER, "norm.scale": (8,), **head}, {**ENCODER, "fc_norm.scale": (8,), **head}, "import")
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
        loaded, _ = warm_start.from_checkpoint(source, fresh, places, from_stage="finetune", tree=name)
        np.testing.assert_array_equal(loaded["patch_embed"]["kernel"], value)
    mae = {"params": {"encoder": tree(3.0), "decoder": {"bias": jnp.zeros(3)}}}
    checkpoints = Saver(tmp_path / "mae", keep=1)
    checkpoints.save(1, mae, {})
    checkpoints.close()
    wanted = tree(0.0, head={"bias": jnp.full(2, 7.0)})
    places = jax.tree.map(lambda leaf: leaf.sharding, wanted)
    loaded, _ = warm_start.from_checkpoint(
        newest_good(tmp_path / "mae"), wanted, places, from_stage="mae", tree="params"
    )
    np.testing.assert_array_equal(loaded["patch_embed"]["kernel"], 3.0)
    np.testing.assert_array_equal(loaded["head"]["bias"], 7.0)
