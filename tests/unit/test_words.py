"""Numbers in sentences."""

import pytest

from semivit_jax.words import counted


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
