"""Runs that train a part: their checkpoints are read as whole models, and each starts from each."""

import dataclasses
import itertools

import jax
import numpy as np
import pytest

from semivit_jax.checkpoints import reading
from semivit_jax.checkpoints.saving import Saver
from semivit_jax.config import ConfigError, to_dict
from semivit_jax.files import write_json
from semivit_jax.inference.trained import load_trained, trees_of
from semivit_jax.main import main
from semivit_jax.models import tuning
from semivit_jax.training import progress, sharding, start
from semivit_jax.training.compiled import compile_stage, stage_key
from semivit_jax.training.setup import Run
from semivit_jax.weights.folder import load_imported
from tests.configs import small_config, small_plan
from tests.serve.runs import TINY, digits
from tests.tune import tuned
from tests.tune.tuned import flat

WAYS = {
    "all": {},
    "head": {"model.tune": "head"},
    "last_1": {"model.tune": "last_1"},
    "lora": {"model.tune": "lora", "model.lora_rank": 3, "model.lora_alpha": 7.0},
}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """{way: (workdir, compiled stage, state of arbitrary numbers that is its checkpoint)}."""
    return {way: write(tmp_path_factory.mktemp("runs") / way, way) for way in WAYS}


def write(workdir, way):
    run = run_of(workdir, way)
    compiled = compile_stage(run.config, small_plan("finetune"), run.mesh)
    state = compiled.init(stage_key(run.config, "finetune"))
    trees = {name: tuned.scattered(getattr(state, name), seed) for seed, name in enumerate(("params", "ema_params"))}
    frozen = None if state.frozen is None else tuned.scattered(state.frozen, 2)
    state = dataclasses.replace(state, **trees, frozen=frozen)
    write_json(workdir / "config.json", to_dict(run.config))
    checkpoints = Saver(workdir / "finetune" / "checkpoints", keep=1)
    checkpoints.save(3, state, progress.facts(run, small_plan("finetune"), 3, 3, progress.fresh_progress(0.0)))
    checkpoints.close()
    return workdir, compiled, state


def run_of(workdir, way, init_from=""):
    config = small_config(**TINY, **WAYS[way], stages=("finetune",), init_from=str(init_from))
    (workdir / "finetune").mkdir(parents=True, exist_ok=True)
    return Run(config, workdir, digits(), sharding.make_mesh(1, jax.devices()[:1]), None, None)


def whole(compiled, state, tree="params"):
    return flat(jax.device_get(tuned.program_of(compiled.stage.parting.whole)(getattr(state, tree), state.frozen)))


def assert_equal(found, expected):
    assert found.keys() == expected.keys()
    for name in expected:
        np.testing.assert_array_equal(found[name], expected[name], err_msg=name)


@pytest.mark.parametrize("way", WAYS)
def test_a_checkpoint_holds_what_is_frozen_once(made, way):
    workdir, _, state = made[way]
    names = set(reading.array_shapes(reading.newest_good(workdir / "finetune" / "checkpoints")))
    trained, frozen = reading.flat(state.params), reading.flat(state.frozen)
    assert {n.removeprefix("frozen.") for n in names if n.startswith("frozen.")} == set(frozen)
    for tree in ("params", "ema_params", "opt_state.mu", "opt_state.nu"):
        assert {n.removeprefix(f"{tree}.") for n in names if n.startswith(f"{tree}.")} == set(trained), tree


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("tree", ["params", "ema_params"])
def test_weights_are_read_as_a_whole_model(made, way, tree):
    """For predict, export, eval and probes alike: LoRA is merged, and cut blocks are one stack again."""
    workdir, compiled, state = made[way]
    found = load_trained(workdir, kept="latest", tree=tree, stage=None)
    expected = whole(compiled, state, tree)
    assert flat(made["all"][2].params).keys() == flat(found.weights.params).keys() == expected.keys()
    for name, leaf in flat(found.weights.params).items():
        np.testing.assert_allclose(leaf, expected[name], rtol=1e-6, atol=1e-6, err_msg=name)
    assert trees_of(reading.newest_good(workdir / "finetune" / "checkpoints")) == ("params", "ema_params")


def test_an_import_of_a_run_with_lora_is_merged(made, tmp_path):
    workdir, compiled, state = made["lora"]
    assert main(["semivit", "import", str(workdir), "--model=vit_test2", f"--out={tmp_path / 'in'}"]) == 0
    imported = load_imported(tmp_path / "in")
    for tree, found in (("params", imported.weights.params), ("ema_params", imported.ema_params)):
        for name, leaf in whole(compiled, state, tree).items():
            np.testing.assert_allclose(flat(found)[name], leaf, rtol=1e-6, atol=1e-6, err_msg=name)


def started(made, tmp_path, way, theirs):
    """(compiled, state) of a run that starts from another one, checked as at the start of a run."""
    run, compiled = run_of(tmp_path / "run", way, init_from=made[theirs][0]), made[way][1]
    fresh = compiled.init(stage_key(run.config, "finetune"))
    described = jax.eval_shape(compiled.stage.parting.whole, fresh.params, fresh.frozen)
    start.check_source(run, "finetune", described)
    return compiled, start.inherit(run, compiled, fresh).state


STARTS = list(itertools.product(WAYS, WAYS))
BY_DEFAULT = {(way, way) for way in WAYS} | {("all", "lora"), ("head", "all"), ("last_1", "head"), ("lora", "last_1")}


@pytest.mark.parametrize(
    ("way", "theirs"), [pytest.param(*pair, marks=() if pair in BY_DEFAULT else pytest.mark.slow) for pair in STARTS]
)
def test_a_run_starts_from_each_kind(made, tmp_path, way, theirs):
    """As the same whole model. A run tuned alike takes the trees as they are; then, and for 'all', the average too."""
    _, before, source = made[theirs]
    compiled, state = started(made, tmp_path, way, theirs)
    if way == theirs:
        assert_equal(reading.flat(jax.device_get(state.params)), reading.flat(source.params))
        assert_equal(reading.flat(jax.device_get(state.frozen)), reading.flat(source.frozen))
    for name, leaf in whole(before, source).items():
        np.testing.assert_allclose(whole(compiled, state)[name], leaf, rtol=1e-6, atol=1e-6, err_msg=name)
    average = "ema_params" if way in (theirs, "all") else "params"
    for name, leaf in whole(before, source, average).items():
        found = whole(compiled, state, "ema_params")[name]
        np.testing.assert_allclose(found, leaf, rtol=1e-6, atol=1e-6, err_msg=name)
    assert all(leaf.sharding == place.sharding for leaf, place in zip(
        jax.tree.leaves((state.params, state.frozen)),
        jax.tree.leaves((compiled.target.params, compiled.target.frozen)), strict=True,
    ))  # fmt: skip


@pytest.mark.parametrize("way", WAYS)
def test_a_part_is_trained_of_weights_that_are_there(tmp_path, way):
    """What is frozen would stay as it was drawn."""
    run = run_of(tmp_path, way)
    if way == "all":
        start.check_source(run, "finetune", {})
        return
    with pytest.raises(
        ConfigError, match=f"tune is '{way}', so that most weights would stay .*; give config.init_from"
    ):
        start.check_source(run, "finetune", {})


@pytest.mark.parametrize(
    ("ours", "theirs", "alike"),
    [
        ({"model.tune": "lora"}, {"model.tune": "lora"}, True),
        ({"model.tune": "lora"}, {"model.tune": "lora", "model.lora_rank": 2}, False),
        ({"model.tune": "lora"}, {"model.tune": "lora", "model.lora_alpha": 2.0}, False),
        ({"model.tune": "lora"}, {"model.tune": "lora", "model.lora_matrices": "mlp"}, False),
        ({"model.tune": "last_1"}, {"model.tune": "last_2"}, False),
        ({"model.tune": "head"}, {"model.tune": "head", "model.lora_rank": 2}, True),
    ],
)
def test_runs_that_mean_the_same_by_their_parts(ours, theirs, alike):
    """Others are made whole: additions of another rank, or scaled otherwise, cannot be taken as they are."""
    assert tuning.same(small_config(**ours).model, small_config(**theirs).model) == alike


def test_an_import_is_parted(made, tmp_path):
    assert main(["semivit", "import", str(made["all"][0]), "--model=vit_test2", f"--out={tmp_path / 'in'}"]) == 0
    run, compiled = run_of(tmp_path / "run", "lora", init_from=tmp_path / "in"), made["lora"][1]
    state = start.inherit(run, compiled, compiled.init(stage_key(run.config, "finetune"))).state
    assert_equal(whole(compiled, state), flat(jax.device_get(made["all"][2].params)))
