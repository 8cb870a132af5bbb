"""A folder of photos, some with hostile names, and labels for them."""

import os

import pytest

from tests.own_folder.photos import put

PLAIN = ("a.png", "b.png", "sub/c.png", "sub/d.png")
HOSTILE = (
    "<script>alert(1)</script>.png".replace("/", "\N{FRACTION SLASH}"),
    "..x.png",
    "%2e%2e%2fx.png",
    "x" * 251 + ".png",
    os.fsdecode(b"caf\xe9.png"),  # Latin-1
    'quote".png',
    "line\nbreak.png",
    "return\rhere.png",
    "turned\u202egnp.png",
    " blank.png",
)


@pytest.fixture
def photos(tmp_path):
    return put_photos(tmp_path / "photos")


def put_photos(folder):
    """Writes the photos; gives their folder back."""
    for number, name in enumerate((*PLAIN, *HOSTILE)):
        put(folder / name, number)
    return folder
