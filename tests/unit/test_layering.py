"""Imports point one way, and compilation happens in few places (design: layout)."""

import ast
from pathlib import Path

import pytest

import semivit_jax

PACKAGE = Path(semivit_jax.__file__).parent
FILES = sorted(p for p in PACKAGE.rglob("*.py") if "configs" not in p.relative_to(PACKAGE).parts)
LEAVES = ("losses", "mixup", "rng", "erasing", "affine", "metrics", "optim", "config", "gather",
          "words", "models.posemb")  # fmt: skip
LOOP = ("train", "data", "checkpoint", "saving", "recovery", "sharding", "main", "evaluate", "report", "guard", "logs",
        "workdir", "cluster", "agreement", "warm_start", "manifest", "weights")  # fmt: skip
ALLOWED = {
    **dict.fromkeys(LEAVES, ()),
    "models.layers": ("gather",),
    "models.patches": ("gather", "models.layers"),
    "models.vit": ("models.posemb", "models.layers", "models.patches"),
    "models.mae": ("models.posemb", "models.layers", "models.patches"),
    "models.convnext": ("models.layers",),
    "pseudo_mixup": ("mixup",),
    "pseudo_label": ("config",),
    "config_ranges": ("config",),
    "config_check": ("config", "config_ranges", "models.variants", "optim", "pseudo_label", "pseudo_mixup"),
    "plan": ("config", "words"),
    "state": ("optim",),
}


def module_name(path):
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imported(path):
    """Our own modules that a file imports, wherever in the file, as 'stages.semi'."""
    names = {module_name(p) for p in FILES}
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {a.name.removeprefix("semivit_jax.") for a in node.names}
        if isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path.name}: relative import"
            module = (node.module or "").removeprefix("semivit_jax").removeprefix(".")
            members = {f"{module}.{a.name}".removeprefix(".") for a in node.names}
            found |= members & names or {module}  # a package that is only the way to a module does not count
    return found & names


def within(name, packages):
    return any(name == p or name.startswith(f"{p}.") for p in packages)


IMPORTS = {module_name(p): imported(p) for p in FILES}


@pytest.mark.parametrize("name", ALLOWED)
def test_lower_layers_import_nothing_else(name):
    assert IMPORTS[name] <= set(ALLOWED[name])


@pytest.mark.parametrize("name", [n for n in IMPORTS if within(n, ("stages", "models"))])
def test_models_and_stages_never_import_the_loop(name):
    forbidden = LOOP if within(name, ("stages",)) else (*LOOP, "stages", "state", "plan")
    assert not {n for n in IMPORTS[name] if within(n, forbidden)}


@pytest.mark.parametrize("name", [n for n in IMPORTS if within(n, ("data",))])
def test_data_never_reads_the_state_or_a_stage(name):
    assert not {n for n in IMPORTS[name] if within(n, ("state", "stages", "train", "models", "sharding", "optim"))}


def test_nothing_imports_main():
    assert not [name for name, imports in IMPORTS.items() if "main" in imports]


def test_imports_have_no_circle():
    seen, path = set(), []

    def visit(name):
        assert name not in path, " -> ".join([*path, name])
        if name in seen:
            return
        path.append(name)
        for other in IMPORTS[name]:
            visit(other)
        path.pop()
        seen.add(name)

    for name in IMPORTS:
        visit(name)


def test_jit_shardings_and_donation_stay_out_of_the_core():
    """A step is a pure function: what is compiled, and how it is spread, is decided above the stages.

    `gather` alone says inside a model where sharded weights are made whole.
    """
    core = (*LEAVES, "pseudo_label", "pseudo_mixup", "models", "stages", "state", "plan")
    words = {"jit", "pjit", "pmap", "with_sharding_constraint", "NamedSharding", "device_put", "donate_argnums"}
    for path in FILES:
        name = module_name(path)
        if name != "gather" and within(name, core):
            tree = ast.walk(ast.parse(path.read_text()))
            used = {n.attr if isinstance(n, ast.Attribute) else n.arg for n in tree
                    if isinstance(n, ast.Attribute | ast.keyword)}  # fmt: skip
            assert not used & words, name


def test_no_file_is_called_utils():
    assert not [p.name for p in FILES if p.stem in ("utils", "util", "helpers", "common", "misc")]
