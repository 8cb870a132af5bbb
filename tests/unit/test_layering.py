"""Imports point one way, and compilation happens in few places (docs/design.md, "Rooms")."""

import ast
from pathlib import Path

import pytest

import semivit_jax

PACKAGE = Path(semivit_jax.__file__).parent
FILES = sorted(p for p in PACKAGE.rglob("*.py") if "configs" not in p.relative_to(PACKAGE).parts)
# A room imports from itself and from those before it. The first of a line is its name; files beside it share its place.
ROOMS = (
    ("words",), ("hosts",), ("console",), ("files",), ("ops",), ("config",), ("plan",), ("models",), ("stages",),
    ("data",), ("recipes",), ("weights",), ("export",), ("checkpoints",), ("training",), ("inference",),
    ("report",), ("labeling",), ("preflight",), ("cli",), ("main",),
)  # fmt: skip
# Of the rooms before it, what a room leaves alone all the same.
NEVER = {
    "data": ("models", "stages", "recipes"),
    "stages": ("data", "checkpoints", "training"),
    "models": ("plan", "stages"),
}
PUBLIC = "inference"  # what `import semivit_jax` gives comes from there


def module_name(path):
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imported(path):
    """Our own modules that a file imports, wherever in the file, as 'stages.semi'."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {a.name.removeprefix("semivit_jax.") for a in node.names}
        if isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path.name}: relative import"
            module = (node.module or "").removeprefix("semivit_jax").removeprefix(".")
            members = {f"{module}.{a.name}".removeprefix(".") for a in node.names}
            found |= members & NAMES.keys() or {module}  # a package that is only the way to a module does not count
    return found & NAMES.keys()


def within(name, packages):
    return any(name == p or name.startswith(f"{p}.") for p in packages)


def room(name):
    return name.partition(".")[0]


PLACE = {name: place for place, names in enumerate(ROOMS) for name in names}
NAMES = {module_name(p): p for p in FILES}
MODULES = [name for name in NAMES if name]  # '' is the package itself


@pytest.fixture(scope="module")
def imports():
    """What every module imports; read in the tests alone, since each worker collects them."""
    return {name: imported(path) for name, path in NAMES.items()}


@pytest.mark.parametrize("name", MODULES)
def test_a_room_imports_only_from_rooms_before_it(name, imports):
    own = PLACE[room(name)]
    assert not {n for n in imports[name] - {""} if PLACE[room(n)] > own}


@pytest.mark.parametrize("name", [n for n in MODULES if room(n) in NEVER])
def test_what_a_room_leaves_alone(name, imports):
    assert not {n for n in imports[name] if room(n) in NEVER[room(name)]}


def test_the_package_itself_gives_what_predicts(imports):
    assert {room(n) for n in imports[""]} == {PUBLIC}
    assert not [name for name in MODULES if "" in imports[name]]


def test_imports_have_no_circle(imports):
    seen, path = set(), []

    def visit(name):
        assert name not in path, " -> ".join([*path, name])
        if name in seen:
            return
        path.append(name)
        for other in imports[name]:
            visit(other)
        path.pop()
        seen.add(name)

    for name in imports:
        visit(name)


def test_jit_shardings_and_donation_stay_out_of_the_core():
    """A step is a pure function: what is compiled, and how it is spread, is decided above the stages.

    `gather` alone says inside a model where sharded weights are made whole.
    """
    words = {"jit", "pjit", "pmap", "with_sharding_constraint", "NamedSharding", "device_put", "donate_argnums"}
    for path in FILES:
        name = module_name(path)
        if name != "models.gather" and within(name, ("ops", "config", "plan", "models", "stages")):
            tree = ast.walk(ast.parse(path.read_text()))
            used = {n.attr if isinstance(n, ast.Attribute) else n.arg for n in tree
                    if isinstance(n, ast.Attribute | ast.keyword)}  # fmt: skip
            assert not used & words, name


def test_no_file_is_called_utils():
    assert not [p.name for p in FILES if p.stem in ("utils", "util", "helpers", "common", "misc")]
