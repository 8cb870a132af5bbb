"""Hold the shape of the package: each limit may fall, never rise."""

import ast
import functools
import re
from pathlib import Path

import jax
import numpy as np
import pytest
from PIL import Image

import semivit_jax
from semivit_jax import main
from tests.e2e.photos import SMALL
from tests.house_paths import Followed, functions

pytestmark = pytest.mark.filterwarnings(
    "ignore:the load_module:DeprecationWarning"
)  # how ml_collections reads a config

PACKAGE = Path(semivit_jax.__file__).parent
FILES = {p.relative_to(PACKAGE).with_suffix("").as_posix(): p for p in sorted(PACKAGE.rglob("*.py"))}
FILES = {name: path for name, path in FILES.items() if not name.startswith("configs/")}
FOLLOWED = pytest.mark.xdist_group("followed")  # one run for all of them
TOP = {"__init__", "main", "config", "plan", "console", "words"}

STAGE = re.compile(r"\b(mae|finetune|semi)\b|\b(Mae|Finetune|Semi)(Config|Facts)\b")
FAMILY = re.compile(r"(?<![a-z])(vit|convnext)|(?<!Semi-)\b(ViT|Vit[A-Z]|ConvNe[Xx]t|VIT_|CONVNEXT_)|\bblocks/")
RUN_FOLDERS = ("checkpoints/", "training/", "inference/", "cli/flags", "cli/overrides", "data/dataset", "data/record",
               "data/splits")  # fmt: skip


@functools.cache
def parsed(path):
    return ast.parse(path.read_text())


@functools.cache
def told(path):
    """Names of a file, and its strings but for docstrings: what its code says."""
    return frozenset(said_in(parsed(path)))


def said_in(tree):
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    docstrings = {id(n.body[0].value) for n in ast.walk(tree)
                  if isinstance(n, documented) and n.body and isinstance(n.body[0], ast.Expr)}  # fmt: skip
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docstrings:
            yield node.value
        elif isinstance(node, ast.Name):
            yield node.id
        elif isinstance(node, ast.Attribute):
            yield node.attr
        elif isinstance(node, ast.alias):
            yield node.name.rpartition(".")[2]
        elif isinstance(node, ast.arg | ast.keyword):
            yield node.arg or ""


def naming(pattern, *, outside):
    """Files whose code says a word, but for those whose business it is."""
    return {name for name, path in FILES.items()
            if not name.startswith(outside) and any(pattern.search(text) for text in told(path))}  # fmt: skip


def test_the_top_holds_six_modules():
    assert {name for name in FILES if "/" not in name} == TOP


def test_few_files_outside_the_stages_name_one():
    """Left are MAE as a view, as a network and as a kind of weights, and configs that earlier versions stored."""
    found = naming(STAGE, outside=("stages/",))
    assert len(found) <= 6, sorted(found)


def test_few_files_outside_the_models_name_a_backbone():
    """Left are the table of exchanges, and what earlier versions stored of configs and imports."""
    found = naming(FAMILY, outside=("models/", "weights/vit", "weights/convnext"))
    assert len(found) <= 3, sorted(found)


def test_few_modules_open_a_workdir_by_themselves():
    found = {name for name, path in FILES.items()
             if name.startswith(RUN_FOLDERS) and "pathlib" in told(path) | imports(path)}  # fmt: skip
    assert len(found) <= 2, sorted(found)  # for the photos and the data sets of a user


def imports(path):
    return {node.module for node in ast.walk(parsed(path)) if isinstance(node, ast.ImportFrom)}


@pytest.mark.parametrize("name", FILES)
def test_a_file_is_read_in_one_sitting(name):
    assert len(FILES[name].read_text().splitlines()) <= 300


@pytest.fixture(scope="module")
def followed(tmp_path_factory):
    """One update of the semi-supervised stage on photos, from the command line, followed through the code."""
    folder = tmp_path_factory.mktemp("photos")
    for number in range(16):
        image = np.random.default_rng(number).integers(0, 256, (40, 48, 3), np.uint8)
        path = folder / "photos" / f"{'cat' if number % 2 else 'dog'}" / f"{number}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(path)
    flags = SMALL | {"data.root": folder / "photos", "stages": ("semi",), "semi.epochs": 0.5,
                     "data.threads": 1, "data.labels_per_class": 3, "data.validation_share": 0.25,
                     "train.compilation_cache": False}  # fmt: skip
    overrides = [f"--config.{key}={value}" for key, value in flags.items()]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(folder / "cache"))
        jax.config.update("jax_disable_most_optimizations", True)  # the program's making is followed, not its speed
        with Followed(CALLS) as found:
            code = main.main(["semivit", "train", "--config=own_folder", f"--workdir={folder / 'run'}", *overrides])
    jax.config.update("jax_disable_most_optimizations", False)
    assert code == 0
    return found


CALLS = {
    "network": lambda name, frame: name == "models/families" and "compile_stage" in functions(frame),
    "loss": lambda name, frame: name == "ops/losses" and frame.f_code.co_name == "cross_entropy",
    "converted": lambda name, frame: frame.f_locals.get("path") == f"config.{KEY}",
    "used": lambda name, frame: name == "stages/rules/fixed" and "confidence_threshold" in frame.f_locals,
}
KEY = "semi.confidence_threshold"


@FOLLOWED
def test_hops_from_main_to_the_loss(followed):
    found = followed.stacks["network"] | followed.stacks["loss"]
    assert len(found) <= 10, "\n".join(sorted(found))


@FOLLOWED
def test_files_that_an_image_passes(followed):
    assert len(followed.image_files) <= 17, ", ".join(sorted(followed.image_files))


@FOLLOWED
def test_files_that_a_config_value_passes(followed):
    naming_it = {name for name, path in FILES.items() if KEY.rpartition(".")[2] in told(path)}
    found = naming_it | followed.stacks["converted"] | followed.stacks["used"]
    assert len(found) <= 10, sorted(found)
