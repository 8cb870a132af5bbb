"""Overrides on the command line: what follows from them, and what is said where one is no key."""

import json

import jax
import pytest

from configs import cifar10, imagenet_mae, own_folder
from semivit_jax import files
from semivit_jax.cli import exits, overrides
from semivit_jax.cli.flags import read_config
from semivit_jax.cli.split import split
from semivit_jax.config import RUNTIME, ConfigError, to_dict
from semivit_jax.recipes import find, keys
from semivit_jax.recipes import stored as stored_config
from semivit_jax.recipes.label import label_plans
from semivit_jax.recipes.planning import fit_batch, make_plan
from tests.configs import counts_of, small_config

pytestmark = pytest.mark.filterwarnings(
    "ignore:the load_module:DeprecationWarning"
)  # how ml_collections reads a config


COUNTS = counts_of(1437, 40, 1397, classes=10)


def command_line(*arguments):
    return read_config("split", find.with_paths(arguments), None)


def parsed(*arguments):
    return command_line(*arguments)[0]


# ---- stages


def test_weights_take_the_place_of_pre_training_however_they_are_given():
    override, (note,) = command_line("--config=own_folder", "--config.init_from=weights/mae")
    assert override.stages == ("finetune", "semi")
    assert "config.stages = ('finetune', 'semi'): weights/mae takes the place of MAE" in note
    assert override.stages == parsed("--config=own_folder:init_from=weights/mae").stages
    assert parsed("--config=own_folder", "--config.seed=1").stages == ("mae", "finetune", "semi")


def test_stages_that_are_asked_for_stay():
    every = ("mae", "finetune", "semi")
    asked = parsed("--config=own_folder", "--config.init_from=weights/mae", f"--config.stages={every}")
    assert asked.stages == every
    alone = imagenet_mae.get_config()
    assert not overrides.leave_out_pre_training(alone, {"init_from"})
    assert alone.stages == ("mae",)
    written = own_folder.get_config()  # a recipe may pre-train from weights that it names itself
    written.init_from = "weights/mae"
    assert not overrides.leave_out_pre_training(written, {"seed"})
    assert written.stages == every


def test_what_follows_is_said_before_devices_are_touched(monkeypatch):
    """`jax.distributed.initialize` refuses a process that has asked for its number before."""
    monkeypatch.setattr(jax, "process_index", lambda: pytest.fail("a backend was started"))
    parsed("--config=own_folder", "--config.init_from=weights/mae")


# ---- a workdir of an earlier version


def test_keys_that_a_workdir_is_older_than_have_the_values_of_then(tmp_path):
    """The recipe has others for them; another key that differs is still refused, and one that is given is taken."""
    stored = to_dict(parsed("--config=own_folder", "--config.seed=3"))
    del stored["finetune"]["min_updates"], stored["model"]["head_init"]
    (tmp_path / "config.json").write_text(json.dumps(stored))
    (tmp_path / "mae").mkdir()
    (tmp_path / "mae" / "DONE").touch()

    def gone_on(*flags):
        argv = find.with_paths(["--config=own_folder", *flags])
        return read_config("train", argv, files.Path(tmp_path))[0]

    config = gone_on("--config.seed=3")
    assert (config.stage("finetune").min_updates, config.model.head_init) == (0, "random")
    assert config.stage("semi").min_updates == parsed("--config=own_folder").stage("semi").min_updates > 0
    assert not keys.differences(keys.identity(stored_config.check_stored(stored)), keys.identity(config))
    assert gone_on("--config.model.head_init=probe").model.head_init == "probe"
    assert gone_on().seed == 0


# ---- the label


def test_the_label_tells_what_was_changed():
    config = parsed("--config=imagenet_semi", "--config.semi.teacher=student", "--config.semi.epochs=5.0")
    label = "imagenet_semi:model=vit_b16,labels=1pct,init=mae with semi.teacher='student', semi.epochs=5.0"
    assert config.log.recipe == label
    assert config.log.origin == "ours"
    assert config.stage("semi").published_acc1 == config.stage("finetune").published_acc1 == 0.0


def test_what_changes_no_result_changes_no_label():
    plain = parsed("--config=imagenet_semi")
    config = parsed("--config=imagenet_semi", "--config.seed=3", "--config.data.threads=2", "--config.model.remat=full")
    assert config.log == plain.log
    assert config.log.origin == "published"
    assert config.stage("semi").published_acc1 == 71.0


def test_a_label_of_ones_own_stays():
    assert parsed("--config=digits", "--config.log.recipe=mine", "--config.semi.epochs=50.0").log.recipe == "mine"


def test_arguments_that_choose_a_variant_stand_in_the_label():
    label = cifar10.get_config("labels=40,teacher=student,pseudo_mixup=none").log.recipe
    assert label == "cifar10:labels=40,teacher=student,pseudo_mixup=none"


def test_a_published_accuracy_is_no_part_of_a_runs_identity():
    beside = keys.marks()
    assert RUNTIME in beside["semi.published_acc1"]
    assert RUNTIME not in beside["semi.epochs"]


def test_another_list_of_labels_stands_in_the_label():
    """Though a restart may find its own elsewhere: a recipe's list is a published one."""
    config = parsed("--config=imagenet_semi", "--config.data.label_list=mine.txt")
    assert config.log.recipe.endswith(" with data.label_list='mine.txt'")
    assert config.log.origin == "ours"


@pytest.mark.parametrize(
    ("limit", "label"),
    [(0, "digits"), (24, "digits with semi.mixup_group_size=4"), (12, "digits with semi.mixup_group_size=2")],
)
def test_the_label_tells_which_mixing_groups_the_devices_made_smaller(limit, label):
    changes = {"semi.batch_size": 16, "semi.mixup_group_size": 8, "train.max_images_per_device": limit}
    config = small_config(**changes, **{"log.origin": "published", "semi.published_acc1": 70.0})
    plan = make_plan(config, "semi", COUNTS, num_devices=1, stored_group_size=None)
    told = label_plans(config, [plan])
    assert told.log.recipe == label
    assert (told.log.origin, told.stage("semi").published_acc1) == (("published", 70.0) if not limit else ("ours", 0.0))


def test_the_label_tells_which_batch_the_images_made_smaller():
    config = small_config(**{"finetune.batch_size": 80, "train.lower_batch_to_fit": True})
    lowered, _ = fit_batch(config, "finetune", COUNTS, num_devices=1, stored=None)
    plan = make_plan(lowered, "finetune", COUNTS, num_devices=1, stored_group_size=None)
    assert label_plans(config, [plan]).log.recipe == "digits with finetune.batch_size=40"


# ---- mistakes


@pytest.mark.parametrize(
    ("given", "nearest"),
    [
        ("data.lable", "data.labels"),
        ("lable", "data.labels"),
        ("semi.base_lrr", "semi.base_lr"),
        ("semo.base_lr", "semi.base_lr"),
        ("stages[0]", "stages"),
        ("data.photo_views.randaugment.magnitudes", "data.photo_views.randaugment.magnitude"),
    ],
)
def test_a_mistyped_key_is_named_with_the_nearest(given, nearest):
    with pytest.raises(ConfigError) as error:
        parsed("--config=own_folder", f"--config.{given}=3")
    assert str(error.value) == f"unknown key config.{given}; did you mean config.{nearest}?"


def test_a_key_like_no_other_is_named_alone():
    with pytest.raises(ConfigError, match=r"^unknown key config.xyzzy$"):
        overrides.check_keys(["--config.xyzzy", "3"])


def test_every_key_of_a_config_can_be_overridden():
    def keys(section, prefix):
        for key, value in section.items():
            yield from keys(value, f"{prefix}{key}.") if isinstance(value, dict) else [f"{prefix}{key}={value}"]

    found = list(keys(own_folder.get_config().to_dict(), "--config."))
    assert len(found) > 100
    overrides.check_keys(found)


def test_a_section_that_the_config_lacks_is_named(capsys):
    flags = ["--config=own_folder", "--config.data.affine_views.mae.degrees=3", "--out=x"]
    assert split(flags) == exits.BAD_USAGE
    assert "the config has no 'affine_views'" in capsys.readouterr().err


@pytest.mark.parametrize("section", ["log", "data", "stages"])
def test_a_section_that_the_config_file_lacks_is_named_whatever_is_overridden(tmp_path, capsys, section):
    file = tmp_path / "mine.py"
    file.write_text(
        "from configs import digits\n"
        "def get_config():\n"
        "    config = digits.get_config()\n"
        f"    del config.{section}\n"
        "    return config\n"
    )
    flags = [f"--config={file}", "--config.semi.epochs=5.0", "--config.init_from=x", "--out=x"]
    assert split(flags) == exits.BAD_USAGE
    assert capsys.readouterr().err == f"semivit split: config lacks the keys {section}\n"


@pytest.mark.parametrize("error", [AttributeError("x"), KeyError("x"), ValueError("x")], ids=repr)
def test_an_error_of_the_program_is_not_called_bad_usage(monkeypatch, error):
    def fail(*_):
        raise error

    monkeypatch.setattr(overrides, "apply", fail)
    with pytest.raises(type(error)):
        split(["--config=digits", "--out=x"])


def test_only_recipes_are_offered(capsys):
    for name in ("arguments", "_base"):
        assert split([f"--config={name}", "--out=x"]) == exits.BAD_USAGE
        said = capsys.readouterr().err
        assert f"there is no config {name!r}; a path, or one of: cifar10, digits, distill, imagenet_finetune" in said
        assert "arguments," not in said
