"""What a run refuses, or warns of, before it reads a single image."""

import pytest

from semivit_jax.checkpoints import init_from as origin
from semivit_jax.config import ConfigError
from semivit_jax.training import run
from tests.configs import small_config


@pytest.mark.parametrize("init_from", ["nowhere", "hf://org/name"])
def test_weights_that_are_not_there_are_refused_before_data_are_opened(tmp_path, monkeypatch, init_from):
    monkeypatch.setattr(run, "open_task", lambda *_, **__: pytest.fail("the data were opened"))
    config = small_config(init_from=init_from, **{"train.compilation_cache": False})
    with pytest.raises(ConfigError, match=rf"init_from {init_from} is not a folder; .*`semivit import"):
        run.train(config, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_folder_without_weights_is_refused(tmp_path):
    with pytest.raises(ConfigError, match=r"yet, nor imported weights; .* is imported first: `semivit import"):
        origin.check(str(tmp_path))


def test_few_images_for_pre_training_are_warned_of(capsys):
    run.warn_of_few(580)
    assert "warning: 580 images are few" in capsys.readouterr().out
    run.warn_of_few(20_000)
    assert not capsys.readouterr().out


@pytest.mark.parametrize(("begun", "asked"), [(None, 1), ("a record", 0)])
def test_a_run_that_goes_on_does_not_ask_what_its_first_weights_saw(tmp_path, monkeypatch, begun, asked):
    """Their run may have gone since, or have become another."""
    calls = []
    monkeypatch.setattr(run.record, "read", lambda folder: begun)
    monkeypatch.setattr(run.init_from, "seen", lambda *_: calls.append("asked"))
    monkeypatch.setattr(run, "open_task", lambda *_, **__: None)
    run._open(small_config(init_from=str(tmp_path / "gone")), tmp_path)
    assert len(calls) == asked
