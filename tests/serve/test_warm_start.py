"""Weights carried to another data set: a head for other classes starts anew, and is listed; other names are told."""

import dataclasses
import functools
import types
from pathlib import Path

import jax
import numpy as np
import pytest

from configs import transfer
from semivit_jax.checkpoints import class_rows, reading, warm_start
from semivit_jax.checkpoints.class_rows import mismatch
from semivit_jax.checkpoints.reading import CheckpointError
from semivit_jax.checkpoints.warm_start import Crossing
from semivit_jax.cli.overrides import adopt_preprocessing
from semivit_jax.config import ConfigError
from semivit_jax.main import main
from semivit_jax.stages.spec import AS_IT_IS, IMPORTED
from semivit_jax.stages.state import TrainState
from semivit_jax.training import sharding, start
from semivit_jax.training.setup import Run
from semivit_jax.weights.folder import load_imported, save_imported
from tests.models import spec_of
from tests.serve.runs import digits, fresh_params, write_run

HEAD = ("head.bias", "head.kernel")
AS_BEFORE = Crossing(AS_IT_IS, spec_of("vit_test2"), spec_of("vit_test2"))
FROM_IMPORT = AS_BEFORE._replace(handover=IMPORTED)


@pytest.fixture
def three_classes(finished):
    """Fresh params for three classes, and where they go."""
    params = fresh_params(finished[1], "finetune", num_classes=3, seed=9)
    params = jax.tree.map(jax.numpy.asarray, params)
    return params, jax.tree.map(lambda _: sharding.replicated(sharding.make_mesh(1)), params)


def assert_all_but_the_head_is_loaded(params, transfer, source, fresh):
    found, loaded, new = (reading.flat(tree) for tree in (params, source, fresh))
    for name in found:
        np.testing.assert_array_equal(found[name], (new if name in HEAD else loaded)[name], err_msg=name)
    assert transfer.reinitialised == transfer.dropped == HEAD
    assert "re-initialised (2): head.bias, head.kernel" in "\n".join(transfer.lines())


@pytest.mark.parametrize(("tree", "which"), [("params", 2), ("ema_params", 3)])
def test_a_run_with_other_classes_gives_everything_but_its_head(finished, three_classes, tree, which):
    fresh, places = three_classes
    source = reading.newest_good(finished[0] / "finetune" / "checkpoints")
    params, transfer = warm_start.from_checkpoint(source, fresh, places, crossing=AS_BEFORE, tree=tree)
    assert_all_but_the_head_is_loaded(params, transfer, finished[which], fresh)


def test_an_import_with_other_classes_gives_everything_but_its_head(finished, imported, three_classes):
    fresh, places = three_classes
    weights = load_imported(imported).weights
    params, transfer = warm_start.from_arrays(weights.params, fresh, places, crossing=FROM_IMPORT, source="in")
    assert_all_but_the_head_is_loaded(params, transfer, finished[2], fresh)


@pytest.mark.parametrize("posemb", ["sincos", "learned"])
def test_an_overridden_image_size_needs_a_table_that_fits(tmp_path, posemb):
    """The decision about another run's view: the fixed table is computed anew, a learned one is the importer's."""
    settings, stored, _ = write_run(tmp_path / "run", **{"model.posemb": posemb})
    larger = dataclasses.replace(settings, data=dataclasses.replace(settings.data, image_size=16))
    fresh = jax.tree.map(jax.numpy.asarray, fresh_params(larger, "finetune", num_classes=10, seed=9))
    places = jax.tree.map(lambda _: sharding.replicated(sharding.make_mesh(1)), fresh)
    source = reading.newest_good(tmp_path / "run" / "finetune" / "checkpoints")
    start_from = functools.partial(warm_start.from_checkpoint, source, fresh, places, crossing=AS_BEFORE)
    if posemb == "sincos":
        jax.tree.map(np.testing.assert_array_equal, start_from(tree="params")[0], stored)
        return
    with pytest.raises(CheckpointError, match=r"\(1, 2, 48\) in .*needs \(1, 5, 48\) \(`semivit import` with --image"):
        start_from(tree="params")
    argv = [str(tmp_path / "run"), "--model=vit_test2", "--image_size=16", f"--out={tmp_path / 'in'}"]
    assert main(["semivit", "import", *argv]) == 0
    params, transfer = warm_start.from_arrays(
        load_imported(tmp_path / "in").weights.params, fresh, places, crossing=FROM_IMPORT, source="in"
    )
    assert transfer.reinitialised == transfer.dropped == ()
    np.testing.assert_array_equal(params["head"]["kernel"], stored["head"]["kernel"])


def test_a_head_of_another_width_is_still_refused():
    shape = jax.ShapeDtypeStruct
    with pytest.raises(CheckpointError, match=r"head.kernel has shape \(4, 3\) in a, the model needs \(5, 2\)"):
        warm_start.plan_transfer(
            "a", {"head.kernel": shape((4, 3), "float32")}, {"head.kernel": shape((5, 2), "float32")}, AS_BEFORE
        )


def test_only_the_head_may_have_another_shape():
    shape = jax.ShapeDtypeStruct
    with pytest.raises(CheckpointError, match=r"posemb has shape \(1, 3\) in a"):
        warm_start.plan_transfer(
            "a", {"posemb": shape((1, 3), "float32")}, {"posemb": shape((1, 2), "float32")}, AS_BEFORE
        )


def inherited(finished, workdir: Path, origin: Path | str, class_names, stage="finetune") -> dict:
    """Params of a stage that starts from `origin`, on data with other names for the same number of classes."""
    return all_inherited(finished, workdir, origin, class_names, stage).state.params


def all_inherited(finished, workdir: Path, origin: Path | str, class_names, stage="finetune") -> start.Inherited:
    settings = dataclasses.replace(finished[1], init_from=str(origin), stages=(stage,))
    (workdir / stage).mkdir()
    run = Run(settings, workdir, dataclasses.replace(digits(), class_names=class_names), None, None, None)
    fresh = fresh_params(settings, stage, num_classes=10, seed=9)
    placed = jax.device_put(fresh, sharding.replicated(sharding.make_mesh(1)))
    compiled = types.SimpleNamespace(
        stage=types.SimpleNamespace(name=stage), target=types.SimpleNamespace(params=placed)
    )
    state = TrainState(step=0, position=0, params=placed, opt_state=(), ema_params=None, policy_state=())
    return start.inherit(run, compiled, state)


def stored_import(imported, folder: Path, class_names) -> Path:
    whole = load_imported(imported)
    named = dataclasses.replace(whole.weights, class_names=class_names)
    save_imported(folder / "in", dataclasses.replace(whole, weights=named))
    return folder / "in"


DIGITS = tuple("0123456789")


@pytest.fixture
def origin(finished, imported, tmp_path, request):
    """A run, or an import that knows the digits by their names."""
    return finished[0] if request.param == "run" else stored_import(imported, tmp_path, DIGITS)


ORIGINS = pytest.mark.parametrize("origin", ["run", "import"], indirect=True)


@ORIGINS
def test_a_head_for_classes_of_other_names_is_told(finished, origin, tmp_path, capsys):
    params = inherited(finished, tmp_path, origin, tuple("abcdefghij"))
    np.testing.assert_array_equal(params["head"]["bias"], finished[2]["head"]["bias"])
    said = " ".join(capsys.readouterr().out.split())
    assert "warning: the head of" in said
    assert "is kept, but output 0 is '0' there and 'a' here, output 1 is '1' there and 'b' here" in said
    assert "(10 of 10 class names differ)" in said


@pytest.mark.parametrize(
    ("names", "own"), [(DIGITS, True), (("1", "0", *DIGITS[2:9], "ten"), True), (tuple("abcdefghij"), False)]
)
def test_a_head_is_of_these_classes_where_some_have_the_same_name(finished, tmp_path, names, own):
    """Or else a probe may take its place."""
    assert all_inherited(finished, tmp_path, finished[0], names).own_head == own


@ORIGINS
def test_outputs_of_a_head_follow_the_names_of_their_classes(finished, origin, tmp_path, capsys):
    """Two are exchanged, one is gone, and one is new, which starts as it was drawn."""
    params = inherited(finished, tmp_path, origin, ("1", "0", *DIGITS[2:9], "ten"))
    fresh = fresh_params(finished[1], "finetune", num_classes=10, seed=9)["head"]
    for name, theirs in finished[2]["head"].items():
        np.testing.assert_array_equal(params["head"][name][..., [1, 0, *range(2, 9)]], theirs[..., :9])
        np.testing.assert_array_equal(params["head"][name][..., 9], fresh[name][..., 9])
    said = capsys.readouterr().out
    assert "by class name (2): head.bias, head.kernel: 9 of 10 classes; new: 'ten'; left behind: '9'" in said
    assert "re-initialised (0): none" in said
    assert "warning" not in said


@pytest.mark.parametrize("tree", ["params", "ema_params"])
def test_a_class_that_is_added_leaves_the_others_what_they_were(finished, tree):
    ours = ("seven", "7", *DIGITS[:7], "8", "9")
    fresh = jax.tree.map(jax.numpy.asarray, fresh_params(finished[1], "finetune", num_classes=11, seed=9))
    places = jax.tree.map(lambda _: sharding.replicated(sharding.make_mesh(1)), fresh)
    way = AS_BEFORE._replace(rows=class_rows.match(DIGITS, ours, ""))
    source = reading.newest_good(finished[0] / "finetune" / "checkpoints")
    params, transfer = warm_start.from_checkpoint(source, fresh, places, crossing=way, tree=tree)
    theirs = finished[2 if tree == "params" else 3]
    for name in ("kernel", "bias"):
        expected = np.array(fresh["head"][name])
        for number, label in enumerate(ours[1:], 1):
            expected[..., number] = theirs["head"][name][..., int(label)]
        np.testing.assert_array_equal(params["head"][name], expected)
    assert transfer.by_class == HEAD
    assert not transfer.dropped


# ---- which outputs belong together


def test_a_renamed_class_keeps_its_output():
    rows = class_rows.match(("cat", "dog", "ox"), ("dog", "kitten", "yak"), "cat:kitten")
    assert (rows.ours, rows.theirs, rows.new, rows.left) == ((0, 1), (1, 0), ("yak",), ("ox",))
    assert class_rows.match(("cat", "dog"), ("kitten", "dog"), "cat:kitten").theirs == (0, 1)


def test_a_class_is_renamed_on_the_way_from_another_run_alone(finished, tmp_path):
    """The later stages of this run start from one that knows it by its new name."""
    names, settings = ("zero", *DIGITS[1:]), finished[1]
    data = dataclasses.replace(settings.data, renamed="0:zero")
    settings = dataclasses.replace(settings, data=data, init_from="elsewhere", stages=("finetune", "semi"))
    run = Run(settings, tmp_path, dataclasses.replace(digits(), class_names=names), None, None, None)
    model = AS_BEFORE.ours
    first = start.crossing(run, "finetune", start.Origin("finetune", model, DIGITS))
    assert (first.rows.theirs, first.rows.new) == (tuple(range(10)), ())
    assert start.crossing(run, "semi", start.Origin("finetune", model, names)).rows is None


@pytest.mark.parametrize("theirs", [None, ("a", "b"), ("x", "y"), ("x", "y", "z")])
def test_without_a_common_name_or_a_difference_a_head_is_taken_or_left_as_a_whole(theirs):
    assert class_rows.match(theirs, ("a", "b"), "") is None


@pytest.mark.parametrize(
    ("theirs", "renamed", "said"),
    [
        (("a", "b"), "a", "it must be OLD:NEW"),
        (("a", "b"), "a:x,b", "it must be OLD:NEW"),
        (("a", "b"), "c:x", "the earlier weights have no class 'c'; they have 'a', 'b'"),
        (("a", "b"), "a:y", "the data have no class 'y'; they have 'x', 'b'"),
        (None, "a:x", "store no class names"),
    ],
)
def test_a_name_that_nobody_has_is_refused(theirs, renamed, said):
    with pytest.raises(ConfigError, match=rf"config\.data\.renamed is '{renamed}'.*{said}"):
        class_rows.match(theirs, ("x", "b"), renamed)


def test_a_checkpoint_of_a_run_may_be_named_itself(finished, tmp_path, capsys):
    """As predict, eval and export take it: the best weights, for one."""
    (best,) = (finished[0] / "finetune" / "best").iterdir()
    params = inherited(finished, tmp_path, best, DIGITS)
    np.testing.assert_array_equal(params["head"]["bias"], 2 * finished[2]["head"]["bias"])
    assert f"warm start from {best}" in capsys.readouterr().out
    (tmp_path / "again").mkdir()
    (best / "MANIFEST.json").rename(tmp_path / "MANIFEST.json")
    with pytest.raises(ConfigError, match="holds no finished checkpoint"):
        inherited(finished, tmp_path / "again", best, DIGITS)
    (tmp_path / "MANIFEST.json").rename(best / "MANIFEST.json")


@ORIGINS
def test_a_head_for_the_same_classes_needs_no_warning(finished, origin, tmp_path, capsys):
    inherited(finished, tmp_path, origin, DIGITS)
    assert "warning" not in capsys.readouterr().out


def test_a_head_without_class_names_is_told(finished, imported, tmp_path, capsys):
    inherited(finished, tmp_path, stored_import(imported, tmp_path, None), DIGITS)
    assert "no class names are stored with it" in " ".join(capsys.readouterr().out.split())


def test_class_names_of_another_number_are_told():
    assert mismatch(("a", "b"), ("a", "b", "c")) == "it stores 2 class names, the data have 3 classes"


def test_of_many_names_three_are_spelled_out():
    told = mismatch(("a", "b", "c", "d", "e"), ("a", "B", "C", "D", "E"))
    assert told.endswith("output 3 is 'd' there and 'D' here, ... (4 of 5 class names differ)")


def test_another_data_set_is_seen_as_the_run_to_start_from_saw_its_own(tmp_path):
    write_run(tmp_path / "run", **{"data.mean": (0.5, 0.4, 0.3), "model.layer_norm_eps": 1e-12})
    raw = transfer.get_config(f"init_from={tmp_path / 'run'}")
    said = " ".join(adopt_preprocessing(raw, ("data.std",), None))
    assert (raw.data.mean, raw.data.image_size, raw.data.eval_crop_fraction) == ((0.5, 0.4, 0.3), 8, 1.0)
    assert raw.model.layer_norm_eps == 1e-12
    assert raw.data.std == transfer.get_config().data.std  # set on the command line
    assert "config.data.image_size = 8, from" in said
    assert "(the config says 224)" in said


@pytest.mark.parametrize("origin", ["hf://org/name", "weights/not_imported"])
def test_what_is_no_folder_of_weights_says_how_to_make_one(finished, tmp_path, origin):
    with pytest.raises(ConfigError, match=rf"init_from {origin} is not a folder; .*`semivit import"):
        inherited(finished, tmp_path, origin, DIGITS)


def test_pre_training_goes_on_from_another_runs(finished, tmp_path):
    _, stored, _ = write_run(tmp_path / "run", stage="mae", keep_ema=False)
    (tmp_path / "new").mkdir()
    jax.tree.map(
        np.testing.assert_array_equal, inherited(finished, tmp_path / "new", tmp_path / "run", DIGITS, "mae"), stored
    )


def test_pre_training_does_not_start_from_a_classifier(finished, tmp_path):
    with pytest.raises(CheckpointError, match="stage mae does not start from finetune, but from mae, import"):
        inherited(finished, tmp_path, finished[0], DIGITS, "mae")
