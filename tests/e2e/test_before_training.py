"""What is checked before the first stage begins, with the workdir left free where that fails."""

import pytest

from semivit_jax.checkpoints.reading import CheckpointError
from semivit_jax.config import ConfigError
from semivit_jax.data import label_lists
from semivit_jax.data.dataset import open_task
from semivit_jax.data.splits import SplitError
from semivit_jax.main import main
from semivit_jax.training import run
from tests.configs import small_config
from tests.serve.runs import write_run

CONVNEXT = {"model.variant": "convnext_tiny", "model.posemb": "none", "data.image_size": 32}


@pytest.fixture
def begin(machine, monkeypatch, tmp_path):
    """Runs up to the first stage; returns the config that the stages are given."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(machine.cache))
    begun = []
    monkeypatch.setattr(run, "run_stage", lambda one, plan: begun.append(one.config))
    monkeypatch.setattr(run.summary, "summarise", lambda config, task, folder, account: begun.append(config))
    monkeypatch.setattr(run.summary, "print_summary", lambda summary: None)
    monkeypatch.setattr(run.workdir, "mark_done", lambda folder: None)

    def begin(**changes):
        del begun[:]
        run.train(small_config(**{"train.compilation_cache": False, **changes}), tmp_path / "run")
        assert len(begun) == len(small_config(**changes).stages) + 1
        assert all(config == begun[0] for config in begun)
        return begun[0]

    return begin


@pytest.mark.parametrize(
    ("wrong", "right", "message"),
    [
        (
            {"stages": ("finetune", "semi"), **CONVNEXT, "finetune.layer_decay": 1.0, "semi.layer_decay": 0.75},
            {"stages": ("finetune", "semi"), **CONVNEXT, "finetune.layer_decay": 1.0, "semi.layer_decay": 1.0},
            r"config\.semi\.layer_decay.*use layer_decay 1\.0",
        ),
        ({"data.image_size": 9}, {}, r"config\.data\.image_size is 9; vit_digits needs a multiple of its patch size 2"),
        ({"mae.decoder_width": 30}, {}, r"config\.mae\.decoder_width is 30; it must be a multiple of 4"),
        ({"mae.decoder_num_heads": 3}, {}, r"config\.mae\.decoder_width is 32; .*decoder_num_heads, 3"),
    ],
    ids=["a later stage's layer decay", "image size", "decoder width", "decoder heads"],
)
def test_what_a_model_refuses_is_told_before_any_stage_begins(begin, tmp_path, wrong, right, message):
    with pytest.raises(ConfigError, match=message):
        begin(**wrong)
    assert not (tmp_path / "run").exists()
    begin(**right)  # the corrected command may have the folder


@pytest.mark.parametrize("kind", ["run", "import"])
def test_weights_that_do_not_fit_are_told_before_any_stage_begins(begin, tmp_path, kind):
    """Of a model of another width: its workdir stays free for the corrected command."""
    write_run(tmp_path / "source", stage="mae")
    origin = tmp_path / "source"
    if kind == "import":
        origin = tmp_path / "import"
        assert main(["semivit", "import", str(tmp_path / "source"), "--model=vit_test2", f"--out={origin}"]) == 0
    with pytest.raises(CheckpointError, match=r"patch_embed.kernel has shape .* in .*, the model needs"):
        begin(init_from=str(origin), stages=("finetune",))
    assert not (tmp_path / "run").exists()
    begin(stages=("finetune",))


def test_a_stage_that_is_finished_is_not_checked(begin, tmp_path):
    begin()
    (tmp_path / "run" / "mae").mkdir()
    (tmp_path / "run" / "mae" / "DONE").touch()
    begin(**{"model.attention": "xla"})
    with pytest.raises(ConfigError, match="'cudnn'"):
        begin(**{"model.attention": "cudnn"})
    for stage in ("finetune", "semi"):
        (tmp_path / "run" / stage).mkdir()
        (tmp_path / "run" / stage / "DONE").touch()
    begin(**{"model.attention": "cudnn"})


def test_a_list_of_labels_may_move_but_not_change(begin, tmp_path):
    """Where a file lies is no part of an experiment; its content is, and split.csv has that."""
    begin()
    names = open_task(small_config(), workdir=None, label_free=("mae",)).train.names
    labeled = open_task(small_config(), workdir=None, label_free=("mae",)).split.labeled
    first, moved, other = (tmp_path / name for name in ("first.txt", "moved.txt", "other.txt"))
    label_lists.write(first, labeled, names)
    label_lists.write(other, labeled[:-1], names)

    def listed(path):
        return begin(**{"data.labels_per_class": 0, "data.label_list": str(path), "finetune.batch_size": 20})

    for path in (tmp_path / "run").iterdir():
        path.unlink()
    listed(first)
    first.rename(moved)
    listed(moved)
    with pytest.raises(SplitError, match=r"split\.csv"):
        listed(other)


def test_hosts_may_keep_the_list_in_different_places():
    one, other = (small_config(**{"data.labels_per_class": 0, "data.label_list": path}) for path in ("a", "b"))
    assert run._shared_config(one) == run._shared_config(other)


def test_what_the_devices_change_in_the_recipe_stands_in_the_label(begin):
    """At most 24 images of a forward pass, 6 for each labeled one, leave 2 of the groups of 10 together."""
    config = begin(**{"train.max_images_per_device": 24, "log.origin": "published", "semi.published_acc1": 90.0})
    assert config.log.recipe == "digits with semi.mixup_group_size=2"
    assert config.log.origin == "ours"
    assert config.stage("semi").published_acc1 == 0.0
