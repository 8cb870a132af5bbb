"""Weights carried to another data set: a head for other classes starts anew, and is listed."""

import jax
import numpy as np
import pytest

from semivit_jax import checkpoint, sharding, warm_start
from semivit_jax.checkpoint import CheckpointError
from semivit_jax.main import main
from semivit_jax.weights import load_imported
from tests.serve.runs import fresh_params

HEAD = ("head.bias", "head.kernel")


@pytest.fixture
def three_classes(finished):
    """Fresh params for three classes, and where they go."""
    params = fresh_params(finished[1], "finetune", num_classes=3, seed=9)
    params = jax.tree.map(jax.numpy.asarray, params)
    return params, jax.tree.map(lambda _: sharding.replicated(sharding.make_mesh(1)), params)


def assert_all_but_the_head_is_loaded(params, transfer, source, fresh):
    found, loaded, new = (checkpoint.flat(tree) for tree in (params, source, fresh))
    for name in found:
        np.testing.assert_array_equal(found[name], (new if name in HEAD else loaded)[name], err_msg=name)
    assert transfer.reinitialised == transfer.dropped == HEAD
    assert "re-initialised (2): head.bias, head.kernel" in "\n".join(transfer.lines())


@pytest.mark.parametrize(("tree", "which"), [("params", 2), ("ema_params", 3)])
def test_a_run_with_other_classes_gives_everything_but_its_head(finished, three_classes, tree, which):
    fresh, places = three_classes
    source = checkpoint.newest_good(finished[0] / "finetune" / "checkpoints")
    params, transfer = warm_start.from_checkpoint(source, fresh, places, from_stage="finetune", tree=tree)
    assert_all_but_the_head_is_loaded(params, transfer, finished[which], fresh)


def test_an_import_with_other_classes_gives_everything_but_its_head(finished, three_classes, tmp_path):
    fresh, places = three_classes
    argv = [str(finished[0]), "--model=vit_test2", f"--out={tmp_path / 'in'}"]
    assert main(["semivit", "import", *argv]) == 0
    imported = load_imported(tmp_path / "in")
    params, transfer = warm_start.from_arrays(imported.params, fresh, places, source="in")
    assert_all_but_the_head_is_loaded(params, transfer, finished[2], fresh)


def test_a_head_of_another_width_is_still_refused():
    shape = jax.ShapeDtypeStruct
    with pytest.raises(CheckpointError, match=r"head.kernel has shape \(4, 3\) in a, the model needs \(5, 2\)"):
        warm_start.plan_transfer(
            "a", {"head.kernel": shape((4, 3), "float32")}, {"head.kernel": shape((5, 2), "float32")}, from_stage="semi"
        )


def test_only_the_head_may_have_another_shape():
    shape = jax.ShapeDtypeStruct
    with pytest.raises(CheckpointError, match=r"posemb has shape \(1, 3\) in a"):
        warm_start.plan_transfer(
            "a", {"posemb": shape((1, 3), "float32")}, {"posemb": shape((1, 2), "float32")}, from_stage="finetune"
        )
