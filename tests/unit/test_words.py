"""Numbers in sentences."""

import pytest

from semivit_jax.words import counted, few, percent, printable


@pytest.mark.parametrize(
    ("number", "noun", "plural", "told"),
    [
        (0, "image", "", "0 images"),
        (1, "image", "", "1 image"),
        (2, "image", "", "2 images"),
        (1_281_167, "image", "", "1,281,167 images"),
        (1, "class", "classes", "1 class"),
        (10, "class", "classes", "10 classes"),
    ],
)
def test_a_number_and_its_noun_agree(number, noun, plural, told):
    assert counted(number, noun, plural) == told


@pytest.mark.parametrize(("share", "told"), [(0.6, "60 %"), (0.0, "0 %"), (1.0, "100 %"), (0.006, "1 %")])
def test_a_share_in_percent(share, told):
    assert percent(share) == told


def test_the_first_names_of_a_list():
    assert few(["a"]) == "'a'"
    assert few(list("abcde")) == "'a', 'b', 'c', 'd', 'e'"
    assert few(["it's", "b", "c"], most=1) == '"it\'s" and 2 more'


def test_names_that_can_be_printed():
    assert [printable(name) for name in ("Caf\xe9 1", "a\nb", "\udce9")] == ["Caf\xe9 1", "'a\\nb'", "'\\udce9'"]
