"""All golden files: path from the repository's root -> the function that makes its text."""

import functools
from collections.abc import Callable
from pathlib import Path

from tests.extending.page import extending_page
from tests.golden.batch_text import batch_text
from tests.golden.config_page import config_page
from tests.golden.config_text import config_text
from tests.golden.param_text import TABLES, param_text
from tests.golden.plan_text import plan_text
from tests.golden.recipes import RECIPES
from tests.golden.recipes_page import recipes_page

ROOT = Path(__file__).parents[2]

GOLDENS: dict[str, Callable[[], str]] = {
    **{f"tests/golden/configs/{file}.txt": functools.partial(config_text, file) for file in RECIPES},
    **{f"tests/golden/params/{name}.txt": functools.partial(param_text, name) for name in TABLES},
    "tests/golden/plans.txt": plan_text,
    "tests/golden/batches.txt": batch_text,
    "docs/recipes.md": recipes_page,
    "docs/extending.md": extending_page,
    "docs/config.md": config_page,
}

# What a changed file means, told by the test that finds it.
MEANINGS = {
    "tests/golden/configs": "a recipe computes something else than before; published recipes must not",
    "tests/golden/params": "parameters, or how fast they learn, have changed; stored checkpoints may no longer fit",
    "tests/golden/plans.txt": "recipes are spread over devices in another way than before",
    "tests/golden/batches.txt": "stages train on other images, views or labels than before",
    "docs/recipes.md": "the page of recipes no longer tells what the configs say",
    "docs/extending.md": "the page of extensions no longer shows the files that its tests run",
    "docs/config.md": "the page of keys no longer tells what the code and the recipes say",
}


def meaning(path: str) -> str:
    """One sentence on what it means that the file at `path` has changed."""
    return next(text for start, text in MEANINGS.items() if path.startswith(start))
