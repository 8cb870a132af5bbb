"""The page of config keys tells all of them, and asks for a meaning of each."""

import dataclasses
import re

import pytest

from semivit_jax.config import StageConfig
from semivit_jax.recipes import keys
from tests.golden import config_page


@dataclasses.dataclass(frozen=True)
class Section(StageConfig):
    """Has a key that says nothing."""

    nameless: int


@pytest.fixture(scope="module")
def page():
    return config_page.config_page()


def test_every_key_has_a_row(page):
    rows = re.findall(r"^\| `(\w+)` \|", page, flags=re.MULTILINE)
    assert set(rows) == {key.rpartition(".")[2] for key in keys.marks()}


def test_a_row_tells_meaning_unit_range_and_values(page):
    (row,) = re.findall(r"^\| `image_size` .*$", page, flags=re.MULTILINE)
    assert [cell.strip() for cell in row.split("|")[2:-1]] == [
        "Pixels, side of the square input",
        "pixels",
        "whole number, 1 or more",
        "no",
        "`32` cifar10; `8` digits; `224` others",
    ]


def test_a_comment_above_a_key_is_its_meaning_too(page):
    assert "| `remat` | Activations computed again in the backward pass: none, all but products, all |" in page


def test_a_key_without_a_comment_is_refused():
    own = {"nameless": keys.of_section(Section)["nameless"]}
    with pytest.raises(ValueError, match=r"Section\.nameless has no comment that says what it means"):
        config_page._section("heading", "", Section, ("mae.",), own, {})
