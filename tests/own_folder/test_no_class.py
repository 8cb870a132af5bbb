"""Images that a person has labeled `-none-`: they belong to no class, and take no part unless the config says so."""

import logging

import numpy as np
import pytest

from semivit_jax.cli.select import _labeled
from semivit_jax.data.sources.errors import DatasetError
from semivit_jax.inference.embedding import Embedding
from semivit_jax.main import main
from tests.own_folder.photos import csv_of, labels_of, put

NONE = ("loose.png", "ant/0.png")
LABELED = {"ant/1.png": "ant", "ant/2.png": "ant", "bee/0.png": "bee", "bee/1.png": "bee"}


@pytest.fixture
def table(tmp_path):
    return csv_of(tmp_path, *(f"{name},-none-" for name in NONE), *(f"{name},{kind}" for name, kind in LABELED.items()))


def test_they_take_no_part(listed, table, caplog):
    with caplog.at_level(logging.WARNING):
        opened = listed(table)
    assert labels_of(opened) == LABELED
    assert not set(NONE) & set(opened.listing.names)
    assert len(opened.listing.names) == len(opened.records) == 11
    assert opened.listing.class_names == ("ant", "bee")
    assert "2 images left out, since the label -none- says that they belong to no class" in caplog.text


def test_kept_they_are_unlabeled(listed, table):
    opened = listed(table, keep_none=True)
    assert labels_of(opened) == LABELED
    assert set(NONE) < set(opened.listing.names)
    assert opened.listing.class_names == ("ant", "bee")


def test_a_class_folder_of_that_name_is_refused(listed, root):
    put(root / "-none-" / "x.png")
    with pytest.raises(DatasetError, match="the class folder '-none-' has the name"):
        listed()


@pytest.mark.filterwarnings("ignore:the load_module:DeprecationWarning")  # how ml_collections reads a config
@pytest.mark.parametrize("keep", ["false", "true"])
def test_a_split_has_none_of_them(root, table, tmp_path, capsys, monkeypatch, keep):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    out = tmp_path / "list.txt"
    code = main(["semivit", "split", "--config=own_folder", f"--config.data.root={root}", f"--out={out}",
                 f"--config.data.labels={table}", f"--config.data.keep_none={keep}",
                 "--config.data.labels_per_class=1"])  # fmt: skip
    assert code == 0, capsys.readouterr()
    lines = [line for line in out.read_text().splitlines() if not line.startswith("#")]
    assert len(lines) == 2
    assert not set(lines) & set(NONE)
    # It compares the content of all images of the split.
    assert ("'loose.png' (unlabeled)" in capsys.readouterr().out) == (keep == "true")


def test_they_are_not_chosen_to_be_labeled(root, table):
    names = [*NONE, *LABELED, "cat/0.png"]
    found = Embedding(names, np.eye(7, dtype=np.float32), {"images": str(root)})
    left, labels = _labeled(found, table)
    assert list(left.names) == [*LABELED, "cat/0.png"]
    assert labels.tolist() == [0, 0, 1, 1, -1]
    np.testing.assert_array_equal(left.features, found.features[2:])
