"""Hold the shape of the package: each limit may fall, never rise."""

import ast
import re
from pathlib import Path

import pytest

import semivit_jax

PACKAGE = Path(semivit_jax.__file__).parent
FILES = {p.relative_to(PACKAGE).with_suffix("").as_posix(): p for p in sorted(PACKAGE.rglob("*.py"))}
FILES = {name: path for name, path in FILES.items() if not name.startswith("configs/")}
TOP = {"__init__", "main", "config", "plan", "files", "console", "words"}

STAGE = re.compile(r"\b(mae|finetune|semi)\b|\b(Mae|Finetune|Semi)(Config|Facts)\b")
FAMILY = re.compile(r"(?<![a-z])(vit|convnext)|\b(ViT|Vit[A-Z]|ConvNe[Xx]t|VIT_|CONVNEXT_)|\bblocks/")
RUN_FOLDERS = ("checkpoints/", "training/", "inference/", "cli/flags", "cli/overrides", "data/dataset", "data/splits")


def told(path):
    """Names of a file, and its strings but for docstrings: what its code says."""
    tree = ast.parse(path.read_text())
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


def test_the_top_holds_seven_modules():
    assert {name for name in FILES if "/" not in name} == TOP


def test_few_files_outside_the_stages_name_one():
    found = naming(STAGE, outside=("stages/",))
    assert len(found) <= 30, sorted(found)


def test_few_files_outside_the_models_name_a_backbone():
    found = naming(FAMILY, outside=("models/", "weights/vit", "weights/convnext"))
    assert len(found) <= 20, sorted(found)


def test_few_modules_open_a_workdir_by_themselves():
    found = {name for name, path in FILES.items()
             if name.startswith(RUN_FOLDERS) and "pathlib" in set(told(path)) | imports(path)}  # fmt: skip
    assert len(found) <= 23, sorted(found)


def imports(path):
    return {node.module for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.ImportFrom)}


@pytest.mark.parametrize("name", FILES)
def test_a_file_is_read_in_one_sitting(name):
    assert len(FILES[name].read_text().splitlines()) <= 300
