"""A bank is found again for the same images alone, and its rows stay with their images through order and hosts."""

import dataclasses

import numpy as np
import pytest

from semivit_jax.data import bank
from semivit_jax.data.bank import NOBODY, Bank
from semivit_jax.data.sources.errors import DatasetError
from semivit_jax.plan import Stream
from semivit_jax.training.describe import describe_batch
from semivit_jax.training.sharding import make_mesh
from tests.configs import small_config
from tests.unit.test_pipeline import flat, make_task, number_of, plan_of, read

NAMES, CLASSES = ["a.jpg", "b.jpg", "c.jpg"], ("ant", "bee")


def of_names(names, class_names=CLASSES, classes=None):
    n, k = len(names), bank.width(len(class_names))
    classes = np.zeros((n, k), np.int32) if classes is None else classes
    return Bank(
        classes, np.full((n, k), 1 / k, np.float32), tuple(class_names), bank.hash_of(names), {"combine": "means"}
    )


def test_a_bank_comes_back_as_it_was(tmp_path):
    found = of_names(NAMES, classes=np.array([[0, 1], [1, 0], [NOBODY, NOBODY]], np.int32))
    bank.save(tmp_path / "b", found)
    again = bank.load(tmp_path / "b", names=NAMES, class_names=CLASSES)
    np.testing.assert_array_equal(again.classes, found.classes)
    np.testing.assert_array_equal(again.probs, found.probs)
    assert again[2:] == found[2:]


@pytest.mark.parametrize(
    ("names", "classes", "told"),
    [
        (["a.jpg", "c.jpg", "b.jpg"], CLASSES, "was made of other images"),
        (NAMES[:2], CLASSES, r"was made of other images \(3\) than those of now \(2\)"),
        (["a.jpgb.jpg", "", "c.jpg"], CLASSES, "was made of other images"),
        (NAMES, ("bee", "ant"), "was made for classes of other names"),
    ],
)
def test_a_bank_of_other_images_or_classes_is_refused(tmp_path, names, classes, told):
    bank.save(tmp_path / "b", of_names(NAMES))
    with pytest.raises(DatasetError, match=told):
        bank.load(tmp_path / "b", names=names, class_names=classes)


def test_what_is_no_bank_is_a_line(tmp_path):
    (tmp_path / "text").write_text("nothing of that kind")
    np.savez(tmp_path / "other.npz", a=np.zeros(3))
    for name, told in {"none": "there is no bank", "text": "is no bank", "other.npz": "is no bank"}.items():
        with pytest.raises(DatasetError, match=told) as refused:
            bank.load(tmp_path / name, names=NAMES, class_names=CLASSES)
        assert "\n" not in str(refused.value)


@pytest.fixture
def taught(tmp_path):
    """A task, and a bank that says of each image its number."""
    task = make_task((5, 20))
    numbers = np.arange(len(task.train), dtype=np.int32)[:, None].repeat(bank.width(len(task.class_names)), axis=1)
    bank.save(tmp_path / "b", of_names(task.train.names, task.class_names, classes=numbers))
    unlabeled = Stream("unlabeled", "unlabeled", (("strong", "strong"),), per_row=2, bank=str(tmp_path / "b"))
    labeled = Stream("labeled", "labeled", (("image", "labeled"),), sets_epoch=False)
    return task, plan_of("semi", streams=(labeled, unlabeled), num_classes=5)


@pytest.mark.parametrize("hosts", [1, 2])
def test_rows_of_a_bank_stay_with_their_images(taught, hosts):
    """Also where a bad record was passed over, after a restart, and on several hosts."""
    task, plan = taught
    data = dataclasses.replace(small_config().data, max_bad_share=0.1)
    for batch in read(task, data, plan, 4, process_index=hosts - 1, process_count=hosts, position=3):
        rows = batch["unlabeled"]
        np.testing.assert_array_equal(rows["bank_class"][..., 0].ravel(), number_of(rows["image"]).ravel())


def test_a_plan_without_data_describes_its_leaves(taught):
    task, plan = taught
    config = small_config()
    (real,) = read(task, dataclasses.replace(config.data, max_bad_share=0.1), plan, 1)
    described = describe_batch(config, plan, make_mesh(1))
    assert {k: (v.shape, v.dtype) for k, v in flat(described).items()} == {
        k: (v.shape, v.dtype) for k, v in flat(real).items()
    }
