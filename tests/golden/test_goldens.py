"""Configs, parameter tables, plans and the page of recipes are what is committed."""

import difflib

import pytest

from tests.golden.goldens import GOLDENS, MEANINGS, ROOT, meaning


@pytest.mark.parametrize("path", GOLDENS)
def test_golden_file_is_up_to_date(path):
    committed = (ROOT / path).read_text().splitlines() if (ROOT / path).exists() else []
    made = GOLDENS[path]().splitlines()
    diff = list(difflib.unified_diff(committed, made, f"{path} (committed)", f"{path} (now)", lineterm="", n=1))
    if diff:
        shown = "\n".join(diff[:60])
        pytest.fail(
            f"{path}: {meaning(path)}.\nIf that is meant, run `make golden` and commit.\n{shown}", pytrace=False
        )


def test_no_golden_file_is_left_over():
    committed = {p.relative_to(ROOT).as_posix() for p in (ROOT / "tests/golden").rglob("*.txt")}
    assert committed <= GOLDENS.keys()


def test_every_golden_file_has_a_meaning():
    for path in GOLDENS:
        assert sum(path.startswith(start) for start in MEANINGS) == 1
