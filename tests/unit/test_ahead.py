"""Later stages are compiled in a thread, and what comes of it is what their first call would have compiled."""

import threading
from types import SimpleNamespace

import jax
import numpy as np
import pytest

from semivit_jax.checkpoints import workdir
from semivit_jax.training import ahead, sharding
from semivit_jax.training.ahead import Ahead, compile_whole
from semivit_jax.training.compiled import compile_stage, key_on_mesh
from semivit_jax.training.describe import describe_batch, describe_eval_batch
from tests.configs import small_config, small_plan

PLANS = [small_plan(stage) for stage in ("mae", "finetune", "semi")]


def run_of(folder, **changes):
    config = small_config(**{"model.variant": "vit_test", "train.compile_ahead": True, **changes})
    return SimpleNamespace(config=config, workdir=folder, mesh=sharding.make_mesh(1, jax.devices()[:1]))


@pytest.fixture
def compiled(monkeypatch):
    """Names what is compiled by (thread, stage); nothing is."""
    found = []

    def note(*given):
        plan = given[1]
        found.append((threading.current_thread().name.rpartition("_")[0], plan.stage))
        return plan.stage

    monkeypatch.setattr(ahead, "compile_whole", note)
    return found


def drawn(described):
    """Arrays of the described shapes: random pixels, labels of the first classes, every image real."""
    draw = np.random.default_rng(0)

    def leaf(path, a):
        high = 2 if path[-1].key == "mask" else 256 if a.dtype == np.uint8 else 4
        return jax.device_put(draw.integers(1, high, a.shape).astype(a.dtype), a.sharding)

    return jax.tree_util.tree_map_with_path(leaf, described)


def test_compiled_steps_give_the_same_bits(tmp_path):
    run, plan = run_of(tmp_path), small_plan("finetune")
    batch = drawn(describe_batch(run.config, plan, run.mesh))
    images = drawn(describe_eval_batch(run.config, plan, run.mesh))

    def after_a_step(made):
        key = key_on_mesh(run.config, plan.stage, run.mesh)
        state, found = made.train_step(made.init(key), batch, key)
        evaluated = made.eval_step(made.stage.eval_params(state)["val"], images)
        return jax.device_get((state, found, evaluated))

    jax.tree.map(
        np.testing.assert_array_equal,
        after_a_step(compile_whole(run, plan)),
        after_a_step(compile_stage(run.config, plan, run.mesh)),
    )


def test_a_compiled_step_says_where_it_came_from(tmp_path):
    run = run_of(tmp_path)
    assert compile_whole(run, small_plan("finetune")).told is not None
    assert compile_stage(run.config, small_plan("finetune"), run.mesh).told is None


def test_stages_after_the_first_that_is_left_are_compiled_in_a_thread(tmp_path, compiled):
    (tmp_path / "mae").mkdir()
    workdir.mark_done(tmp_path / "mae")
    with Ahead.compiling(run_of(tmp_path), PLANS) as programs:
        assert [programs.take(plan) for plan in PLANS[1:]] == [None, "semi"]
    assert compiled == [("compiling", "semi")]


@pytest.mark.parametrize(
    ("changes", "processes"),
    [({"train.compile_ahead": False}, 1), ({}, 2), ({"data.cache_features": 1, "model.tune": "head"}, 1)],
)
def test_nothing_is_compiled_ahead(tmp_path, compiled, monkeypatch, changes, processes):
    monkeypatch.setattr(jax, "process_count", lambda: processes)
    with Ahead.compiling(run_of(tmp_path, **changes), PLANS) as programs:
        assert programs.take(PLANS[2]) is None
    assert not compiled


def test_what_cannot_be_compiled_is_told_where_it_is_taken(tmp_path, monkeypatch):
    def refuse(run, plan):
        raise RuntimeError(f"no memory for {plan.stage}")

    monkeypatch.setattr(ahead, "compile_whole", refuse)
    with Ahead.compiling(run_of(tmp_path), PLANS) as programs, pytest.raises(RuntimeError, match="for finetune"):
        programs.take(PLANS[1])


def test_a_run_that_stops_compiles_no_further(tmp_path, monkeypatch):
    begun, has_begun, go_on = [], threading.Event(), threading.Event()

    def wait(run, plan):
        begun.append(plan.stage)
        has_begun.set()
        go_on.wait()

    def stop():
        with Ahead.compiling(run_of(tmp_path), PLANS):
            has_begun.wait()
            threading.Timer(0.2, go_on.set).start()
            raise KeyboardInterrupt

    monkeypatch.setattr(ahead, "compile_whole", wait)
    with pytest.raises(KeyboardInterrupt):
        stop()
    assert begun == ["finetune"]
