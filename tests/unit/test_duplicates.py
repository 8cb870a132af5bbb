"""Images of the same content: in several roles, with several labels, and how many files are read to find them."""

import numpy as np
import pytest

from semivit_jax.data import duplicates
from semivit_jax.data.dataset import open_task
from semivit_jax.data.sources.folder import FolderRecords
from tests.configs import small_config

CLASSES = ("ant", "bee")


@pytest.fixture
def photos(tmp_path, monkeypatch):
    """Twelve files of each class, of twelve sizes."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    for name in CLASSES:
        (tmp_path / "photos" / name).mkdir(parents=True)
        for number in range(12):
            content = b"\xff\xd8\xff" + f"{name} {number}".encode().ljust(20 + number)
            (tmp_path / "photos" / name / f"{number}.jpg").write_bytes(content)
    return tmp_path / "photos"


@pytest.fixture
def read(monkeypatch):
    """Names of the files that were read."""
    names, get = [], FolderRecords.__getitem__
    monkeypatch.setattr(
        FolderRecords, "__getitem__", lambda self, index: names.append(self.names[index]) or get(self, index)
    )
    return names


def opened(photos):
    values = {"dataset": "own_folder", "root": str(photos), "train_split": "", "eval_split": "", "labels_per_class": 0}
    values |= {"label_fraction": 1.0, "validation_share": 0.25}
    return open_task(small_config(**{f"data.{k}": v for k, v in values.items()}), workdir=None, label_free=("mae",))


def test_a_content_with_two_labels_is_reported_in_one_role_too(photos):
    (photos / "bee" / "wrong.jpg").write_bytes((photos / "ant" / "3.jpg").read_bytes())
    (photos / "unlabeled").mkdir()
    (photos / "unlabeled" / "copy.jpg").write_bytes((photos / "ant" / "3.jpg").read_bytes())
    (photos / "ant" / "twice.jpg").write_bytes((photos / "ant" / "7.jpg").read_bytes())
    told = duplicates.told(duplicates.find(opened(photos)))
    assert told[0] in (
        "same content, other labels: 'ant/3.jpg' ('ant'), 'bee/wrong.jpg' ('bee')",
        "same content, other labels: 'bee/wrong.jpg' ('bee'), 'ant/3.jpg' ('ant')",
    )
    assert len([line for line in told if "other labels" in line]) == 1
    assert "'unlabeled/copy.jpg' (unlabeled)" in told[1]


def test_files_of_a_size_of_their_own_are_not_read(photos, read):
    for number in range(12):
        (photos / "bee" / f"{number}.jpg").unlink()
        (photos / "bee" / f"{number}.jpg").write_bytes(b"\xff\xd8\xff".ljust(100 + number))
    (photos / "bee" / "copy.jpg").write_bytes((photos / "bee" / "3.jpg").read_bytes())
    duplicates.find(opened(photos))
    assert sorted(read) == ["bee/3.jpg", "bee/copy.jpg"]


def test_a_start_reads_so_many_files_and_says_what_it_left(photos, read, monkeypatch):
    monkeypatch.setattr(duplicates, "_MOST_READ", 20)
    lines = duplicates.warnings(opened(photos))
    assert len(read) == 20
    assert lines == ["4 images of equal size not compared: `semivit split` names all"]


def test_a_start_names_the_first_few(photos):
    for number in range(12):
        (photos / "bee" / f"{number}.jpg").write_bytes((photos / "ant" / f"{number}.jpg").read_bytes())
    task = opened(photos)
    found = duplicates.find(task)
    assert len(found.at_odds) == 12
    lines = duplicates.warnings(task)
    assert sum(line.startswith("same content, other labels: ") for line in lines) == 5
    more = 7 + max(0, len(found.across) - 5)
    assert lines[-1] == f"{more} further duplicates: `semivit split` names all"


def test_folders_without_duplicates_are_no_matter(photos):
    assert duplicates.warnings(opened(photos)) == []
    np.testing.assert_array_equal(duplicates.find(opened(photos)).not_compared, 0)
