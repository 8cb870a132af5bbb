"""What a stage may ask of the data besides today's batches: further streams, image ids, other kinds of labels."""

import dataclasses
import itertools
import pickle

import jax
import numpy as np
import pytest

from semivit_jax.data import rows
from semivit_jax.data.images.views import VIEWS, views_of
from semivit_jax.data.rows import LABELS, LabelKind
from semivit_jax.plan import ImageCounts, Stream
from semivit_jax.training.describe import describe_batch
from semivit_jax.training.sharding import make_mesh
from tests.configs import small_config
from tests.unit.test_photo_batches import data as photo_data  # noqa: F401 (a fixture)
from tests.unit.test_pipeline import (
    NUM_IMAGES,
    assert_same,
    evaluation,
    flat,
    global_rows,
    make_task,
    number_of,
    open_batches,
    plan_of,
    read,
)

LABELED = Stream("labeled", "labeled", (("image", "labeled"),), sets_epoch=False, image_id=True)
UNLABELED = Stream("unlabeled", "unlabeled", (("weak", "weak"), ("strong", "strong")), per_row=2, image_id=True)
EXTRA = Stream("again", "training", (("image", "mae"),), per_row=3, label="", sets_epoch=False, image_id=True)
STREAMS = (LABELED, UNLABELED, EXTRA)


@pytest.fixture(scope="module")
def task():
    return make_task()


@pytest.fixture(params=[0, rows.MEMORY_LIMIT_BYTES], ids=["decoded each time", "from memory"])
def data(request, monkeypatch):
    monkeypatch.setattr(rows, "MEMORY_LIMIT_BYTES", request.param)
    return dataclasses.replace(small_config().data, max_bad_share=0.1)


def three_streams(**changes):
    return plan_of("semi", streams=STREAMS, **changes)


# ---- streams and image ids


def test_every_stream_has_the_leaves_that_it_asks_for(task, data):
    (batch,) = read(task, data, three_streams(accum=2), 1)
    assert {key: leaf.shape for key, leaf in flat(batch).items()} == {
        "labeled/image": (2, 4, 8, 8, 3), "labeled/label": (2, 4), "labeled/image_id": (2, 4),
        "unlabeled/image": (2, 8, 8, 8, 3), "unlabeled/label": (2, 8), "unlabeled/image_id": (2, 8),
        "again/image": (2, 12, 8, 8, 3), "again/image_id": (2, 12),
    }  # fmt: skip
    assert {leaf.dtype for key, leaf in flat(batch).items() if key.endswith("image_id")} == {np.dtype(np.int32)}


@pytest.mark.parametrize("bad", [(), (5, 20, 33)])
def test_an_image_id_is_the_images_place_in_its_role(data, bad):
    """Also where a bad record was passed over: the id is that of the image one sees."""
    task = make_task(bad)
    batches = read(task, data, three_streams(), 8)
    for stream in STREAMS:
        ids, images = (
            np.concatenate([batch[stream.name][leaf] for batch in batches]) for leaf in ("image_id", "image")
        )
        np.testing.assert_array_equal(getattr(task.split, stream.images)[ids], number_of(images))
        assert len(np.unique(ids)) == len(set(getattr(task.split, stream.images)) - set(bad))


@pytest.mark.parametrize(("process_count", "accum"), [(2, 1), (4, 2)])
def test_streams_and_ids_are_the_same_on_any_number_of_hosts(task, data, process_count, accum):
    hosts = [
        read(task, data, three_streams(accum=accum), 6, process_index=p, process_count=process_count)
        for p in range(process_count)
    ]
    for step, whole in enumerate(read(task, data, three_streams(), 6)):
        assert_same([global_rows([whole])], [global_rows([host[step] for host in hosts])])


def test_streams_and_ids_go_on_after_a_restart(task, data):
    assert_same(read(task, data, three_streams(), 7)[3:], read(task, data, three_streams(), 4, position=3))


def test_a_further_stream_leaves_the_others_as_they_are(task, data):
    two, three = (read(task, data, plan_of("semi", streams=streams), 5) for streams in (STREAMS[:2], STREAMS))
    assert_same(two, [{name: batch[name] for name in ("labeled", "unlabeled")} for batch in three])


def test_only_a_stream_that_sets_the_epoch_must_fill_a_batch(task, data):
    read(task, data, three_streams(batch_size=16), 1)  # of 12 labeled images, and 48 of 47 in the third stream
    too_many = plan_of("semi", batch_size=16, streams=(LABELED, UNLABELED._replace(per_row=5)))
    with pytest.raises(ValueError, match=r"takes 80 unlabeled images per update, .* only 35 images"):
        read(task, data, too_many, 1)


# ---- views


def test_a_further_view_of_an_image_comes_with_those_before_it_as_they_are(photo_data):  # noqa: F811
    image = np.random.default_rng(0).integers(0, 256, (40, 50, 3)).astype(np.uint8)
    pair = (("weak", "weak"), ("strong", "strong"))
    two, three = (
        views_of(photo_data, views)(image, np.random.default_rng(1)) for views in (pair, (*pair, ("whole", "mae")))
    )
    assert list(three) == ["weak", "strong", "whole"]
    for leaf in two:
        np.testing.assert_array_equal(two[leaf], three[leaf])


@pytest.mark.parametrize("row", VIEWS)
def test_views_can_be_sent_to_worker_processes(photo_data, row):  # noqa: F811
    pickle.loads(pickle.dumps(views_of(photo_data, (("image", row),))))


# ---- kinds of labels


def divisors(images, positions):
    """Ones where 1, 2, ..., 5 divide the image's number."""
    numbers = np.array([int(images.names[p].removeprefix("image ")) for p in positions], int)
    return (numbers[:, None] % np.arange(1, 6) == 0).astype(np.int32)


@pytest.fixture
def several(monkeypatch):
    monkeypatch.setitem(LABELS, "several", LabelKind(shape=lambda num_classes: (num_classes,), of=divisors))


@pytest.mark.usefixtures("several")
def test_a_further_kind_of_label_reaches_training(task, data):
    stream = Stream("labeled", "labeled", (("image", "labeled"),), label="several")
    for batch in read(task, data, plan_of("finetune", streams=(stream,), accum=2), 3):
        numbers = number_of(batch["image"])
        assert batch["label"].shape == (2, 4, 5)
        np.testing.assert_array_equal(batch["label"], numbers[..., None] % np.arange(1, 6) == 0)


@pytest.mark.usefixtures("several")
@pytest.mark.parametrize("batch_size", [20, 64])
def test_a_further_kind_of_label_reaches_evaluation(data, batch_size):
    images = make_task(bad=[7]).train
    plan = plan_of("finetune", streams=(EXTRA, LABELED._replace(label="several")))
    seen = 0
    for batch in evaluation(images, data, batch_size, label=plan.label):
        real = batch["mask"] == 1
        seen += real.sum()
        assert batch["label"].shape == (batch_size, 5)
        assert batch["label"].dtype == np.int32
        np.testing.assert_array_equal(
            batch["label"][real], number_of(batch["image"])[real][:, None] % np.arange(1, 6) == 0
        )
        assert (batch["label"][~real] == -1).all()
    assert seen == NUM_IMAGES - 1


def test_without_labels_there_is_no_leaf(task, data):
    plan = plan_of("mae")
    assert plan.label == ""
    assert set(read(task, data, plan, 1)[0]) == {"image"}
    assert set(next(iter(evaluation(task.train, data, 10, label=plan.label)))) == {"image", "mask"}


@pytest.mark.usefixtures("several")
def test_workers_know_the_kinds_of_labels_of_their_parent(task, monkeypatch):
    monkeypatch.setattr(rows, "MEMORY_LIMIT_BYTES", 0)
    data = small_config().data
    plan = plan_of("semi", streams=(LABELED._replace(label="several"), UNLABELED))
    batches = open_batches(task, dataclasses.replace(data, workers=1), plan)
    assert_same(read(task, data, plan, 2), list(itertools.islice(batches, 2)))
    batches.close()


# ---- what others derive from streams


@pytest.mark.usefixtures("several")
def test_the_described_batch_holds_whatever_a_stage_asks_for(task, data):
    config = dataclasses.replace(small_config(), data=data)
    plan = plan_of("semi", num_classes=5, accum=2, streams=(LABELED._replace(label="several"), UNLABELED, EXTRA))
    real = jax.tree.map(lambda x: (x.shape, str(x.dtype)), read(task, data, plan, 1)[0])
    described = describe_batch(config, plan, make_mesh(1, jax.devices()[:1]))
    assert jax.tree.map(lambda x: (x.shape, str(x.dtype)), described) == real


def test_images_are_counted_by_role_and_class(task):
    assert task.counts == ImageCounts(training=47, labeled=12, unlabeled=35, per_class=(2, 2, 2, 3, 3))
