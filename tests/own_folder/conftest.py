"""A folder with three classes and unlabeled images, for every test here."""

import pytest

from semivit_jax.data.sources.folder import open_folder
from tests.own_folder.photos import put


@pytest.fixture
def root(tmp_path):
    """Three classes of 4, 3 and 2 images, four unlabeled ones in other places."""
    folder = tmp_path / "photos"
    for name, count in (("ant", 4), ("bee", 3), ("cat", 2)):
        for number in range(count):
            put(folder / name / f"{number}.png", number)
    for name in ("loose.png", "unlabeled/x.png", "trip/day 1/y.png", "ant/deep/z.png"):
        put(folder / name)
    return folder


@pytest.fixture
def listed(root, tmp_path):
    def open_it(labels=None, class_names=None, keep_none=False):
        return open_folder(
            root, labels_csv=labels, class_names=class_names, keep_none=keep_none, cache_dir=tmp_path / "cache"
        )

    return open_it
