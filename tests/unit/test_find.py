"""Recipes as files, and `--help` of the commands that take one."""

import pytest

from semivit_jax.cli import exits, split, train
from semivit_jax.cli.flags import config_parser, read_config, read_flags
from semivit_jax.cli.plan import plan
from semivit_jax.config import flatten
from semivit_jax.configs import own_folder
from semivit_jax.recipes import find
from semivit_jax.recipes.check import check

pytestmark = pytest.mark.filterwarnings(
    "ignore:the load_module:DeprecationWarning"
)  # how ml_collections reads a config
COMMANDS = pytest.mark.parametrize("command", [train.train, split.split, plan])


@COMMANDS
@pytest.mark.parametrize("flag", ["-h", "--help"])
def test_help_needs_nothing_else(command, flag, capsys):
    assert command([flag]) == 0
    said = capsys.readouterr().out
    assert said.startswith(f"usage: semivit {command.__name__} --config=FILE[:ARGS] --")
    assert max(map(len, said.splitlines())) <= 128
    for name in find.installed():
        assert f"\n  {name} " in said


@COMMANDS
def test_help_on_a_recipe_has_its_words_and_every_key(command, capsys):
    assert command(["--config=configs/own_folder.py:model=vit_s16", "--help"]) == 0
    said = capsys.readouterr().out
    assert own_folder.__doc__.strip() in said
    for key, value in flatten(check(own_folder.get_config("model=vit_s16"))).items():
        assert f"\n  --config.{key}={value!r}\n" in said + "\n"


@pytest.mark.parametrize("name", sorted(find.installed()))
def test_every_recipe_explains_itself(name, capsys):
    assert train.train([f"--config={name}", "--help"]) == 0
    assert "--config.log.recipe=" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("flag", "said"),
    [
        ("--config=nowhere", "there is no config 'nowhere'; a path, or one of: cifar10,"),
        ("--config=own_folder:model=vit_x", "model=vit_x: legal values are vit_s16"),
        ("--config=README.md", "README.md is no Python file"),
        ("--config=setup_.py", "has no function get_config"),
    ],
)
def test_help_on_what_is_no_recipe(flag, said, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "README.md").write_text("words")
    (tmp_path / "setup_.py").write_text("VALUE = 1")
    assert train.train([flag, "--help"]) == exits.BAD_USAGE
    assert said in capsys.readouterr().err


@COMMANDS
def test_a_recipe_may_follow_its_flag(command, capsys):
    assert command(["--config", "digits:labels_per_class=1", "--help"]) == 0
    assert "--config.data.labels_per_class=1\n" in capsys.readouterr().out
    assert command(["--config", "nowhere"]) == exits.BAD_USAGE
    assert "there is no config 'nowhere'" in capsys.readouterr().err


def test_a_recipe_that_follows_its_flag_is_run():
    given = read_flags(config_parser("train"), ["--config", "digits"], required=("config",))
    assert read_config("train", given.config, None)[0].data.dataset == "digits"


@COMMANDS
@pytest.mark.parametrize("flags", [["--config"], ["--config", "--workdir=x"]])
def test_a_flag_without_its_recipe_is_named(command, flags, capsys):
    assert command(flags) == exits.BAD_USAGE
    assert "--config needs a recipe" in capsys.readouterr().err


@COMMANDS
def test_a_config_that_cannot_be_read_is_told_in_one_line(command, capsys, tmp_path):
    flag = "--topology=v5e:4x4" if command is plan else f"--{'out' if command is split.split else 'workdir'}=x"
    assert command([f"--config={tmp_path}", flag]) == exits.BAD_USAGE
    said = capsys.readouterr().err
    assert str(tmp_path) in said
    assert said.count("\n") == 1


# ---- what a name means


@pytest.fixture
def somewhere(tmp_path, monkeypatch):
    """An empty current folder, and a home beside it."""
    (tmp_path / "here").mkdir()
    (tmp_path / "home").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    return tmp_path / "here"


@pytest.mark.parametrize("name", ["digits", "own_folder", "cifar10"])
def test_a_bare_name_is_the_recipe_whatever_lies_here(name, somewhere):
    (somewhere / name).mkdir()
    assert find.recipe_file(name) == find.CONFIGS / f"{name}.py"


def test_a_file_of_ones_own_is_taken_before_an_installed_one(somewhere):
    for path in (somewhere / "configs" / "digits.py", somewhere.parent / "home" / "digits.py"):
        path.parent.mkdir(exist_ok=True)
        path.touch()
    assert find.recipe_file("configs/digits.py").resolve() == somewhere / "configs" / "digits.py"
    assert find.recipe_file("~/digits.py") == somewhere.parent / "home" / "digits.py"


@pytest.mark.parametrize("name", ["tuned/own_folder.py", "own_folder.py", "a/configs/own_folder.py", "~/own_folder.py"])
def test_a_file_that_is_not_there_is_never_another_of_its_name(name, somewhere):
    with pytest.raises(FileNotFoundError, match=f"there is no config '{name}'; .* --config=own_folder$"):
        find.recipe_file(name)


def test_the_documented_path_is_the_installed_recipe_and_says_so(somewhere, capsys):
    assert find.recipe_file("configs/digits.py") == find.CONFIGS / "digits.py"
    assert f"configs/digits.py is not in {somewhere}; taking the installed recipe" in capsys.readouterr().err


def test_a_folder_is_no_config(somewhere):
    (somewhere / "tuned.py").mkdir()
    with pytest.raises(IsADirectoryError, match=r"--config=tuned\.py is a folder"):
        find.recipe_file("tuned.py")
