"""A run folder belongs to one experiment."""

import json

import pytest

from semivit_jax.checkpoints import workdir
from semivit_jax.config import ConfigError
from tests.configs import small_config

CLAIMED = {"seed": 0, "semi.confidence_threshold": 0.7, "checkpoint.keep": 2, "mesh.fsdp": 1}


def claim(folder, said=None, **changes):
    workdir.claim(
        folder, small_config(**(CLAIMED | changes)), first_host=True, say=(said if said is not None else []).append
    )


def test_another_experiment_is_refused_and_every_difference_named(tmp_path):
    claim(tmp_path)
    before = (tmp_path / "config.json").read_bytes()
    with pytest.raises(ConfigError) as refused:
        claim(tmp_path, **{"seed": 1, "semi.confidence_threshold": 0.9})
    assert "seed: 0 -> 1" in str(refused.value)
    stored = small_config(**CLAIMED).stage("semi").confidence_threshold
    assert f"semi.confidence_threshold: {stored} -> 0.9" in str(refused.value)
    assert (tmp_path / "config.json").read_bytes() == before


def test_what_does_not_change_results_may_change_and_is_told(tmp_path):
    said = []
    claim(tmp_path)
    claim(tmp_path, said, **{"checkpoint.keep": 5, "mesh.fsdp": 2})
    assert said == ["changed since the last start: checkpoint.keep: 2 -> 5; mesh.fsdp: 1 -> 2"]
    assert workdir.load_config(tmp_path).checkpoint.keep == 5


@pytest.mark.parametrize("as_stored", [{"layer_norm_eps": None}, {}], ids=["null", "no key"])
def test_a_folder_of_a_version_that_did_not_spell_the_epsilon_out_is_still_this_runs(tmp_path, as_stored):
    claim(tmp_path)
    stored = json.loads((tmp_path / "config.json").read_text())
    del stored["model"]["layer_norm_eps"]
    stored["model"] |= as_stored
    (tmp_path / "config.json").write_text(json.dumps(stored))
    assert workdir.load_config(tmp_path).model.layer_norm_eps == 1e-6
    claim(tmp_path)
    with pytest.raises(ConfigError, match=r"model\.layer_norm_eps: 1e-06 -> 1e-12"):
        claim(tmp_path, **{"model.layer_norm_eps": 1e-12})


def test_a_folder_with_keys_that_were_never_read_is_still_this_runs(tmp_path):
    claim(tmp_path)
    stored = json.loads((tmp_path / "config.json").read_text())
    stored["mae"] |= {"layer_decay": 1.0, "drop_path_rate": 0.0}
    (tmp_path / "config.json").write_text(json.dumps(stored))
    said = []
    claim(tmp_path, said)
    assert not said
    with pytest.raises(ConfigError, match=r"seed: 0 -> 1$"):
        claim(tmp_path, **{"seed": 1})


def test_a_convnext_of_a_version_that_did_not_read_its_pooling_is_still_this_runs(tmp_path):
    convnext = {"model.variant": "convnext_tiny", "model.posemb": "none", "model.attention": "auto"}
    claim(tmp_path, **convnext)
    stored = json.loads((tmp_path / "config.json").read_text())
    stored["model"] |= {"pool": "cls", "attention": "cudnn"}
    (tmp_path / "config.json").write_text(json.dumps(stored))
    claim(tmp_path, **convnext)


def test_a_config_that_is_cut_off_is_named(tmp_path):
    (tmp_path / "config.json").write_text('{"seed": ')
    with pytest.raises(ConfigError, match=r"config\.json is no run's config"):
        workdir.load_config(tmp_path)


def test_a_config_that_is_no_runs_is_named(tmp_path):
    """As in a Hugging Face folder that was given without importing it first."""
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "vit", "hidden_act": "gelu"}))
    with pytest.raises(ConfigError, match=r"config\.json is no run's config .*: unknown key config\.model_type"):
        workdir.load_config(tmp_path)


def test_other_hosts_write_nothing(tmp_path):
    workdir.claim(tmp_path, small_config(), first_host=False, say=print)
    assert not list(tmp_path.iterdir())


def test_a_folder_without_a_run_is_refused(tmp_path):
    with pytest.raises(ConfigError, match=r"no config\.json"):
        workdir.load_config(tmp_path)
    with pytest.raises(ConfigError, match="no finished checkpoint"):
        workdir.latest_stage(tmp_path)


def test_the_latest_stage_is_the_last_with_a_sealed_checkpoint(tmp_path):
    for stage, name in (("mae", "1/MANIFEST.json"), ("finetune", "2/MANIFEST.json"), ("semi", "1/state")):
        path = tmp_path / stage / "checkpoints" / name
        path.parent.mkdir(parents=True)
        path.touch()
    assert workdir.latest_stage(tmp_path) == "finetune"
