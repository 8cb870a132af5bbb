"""Batches: the same for every way of reading them, resumable, complete, and safe from bad records."""

import dataclasses
import io
import itertools
import logging
import multiprocessing
import os
import signal
from multiprocessing import connection

import numpy as np
import pytest
from PIL import Image

from configs import digits as digits_config
from semivit_jax.data import bad_records, pipeline, rows
from semivit_jax.data.bad_records import BadRecord, BadRecordCount, TooManyBadRecords
from semivit_jax.data.dataset import TaskData
from semivit_jax.data.eval_pipeline import eval_batches
from semivit_jax.data.order import HostRows, StreamOrder
from semivit_jax.data.sources.image_set import ImageSet
from semivit_jax.data.splits import split_from_roles
from semivit_jax.recipes.check import check
from tests.configs import small_plan

NUM_IMAGES = 50
SIZE = 8
STAGES = ("mae", "finetune", "semi")


def number_of(images: np.ndarray) -> np.ndarray:
    """Which image of the set this is: the generated images carry their number in every pixel."""
    return images[..., 0, 0, 0].astype(int)


def encoded(number: int) -> bytes:
    file = io.BytesIO()
    Image.fromarray(np.full((SIZE, SIZE, 3), number, np.uint8)).save(file, format="PNG")
    return file.getvalue()


def make_task(bad=()) -> TaskData:
    records = [b"not an image" if number in bad else encoded(number) for number in range(NUM_IMAGES)]
    labels = np.arange(NUM_IMAGES, dtype=np.int32) % 5
    images = ImageSet(records, [f"image {number}" for number in range(NUM_IMAGES)], labels)
    split = split_from_roles(NUM_IMAGES, labeled=np.arange(3, 15), validation=np.arange(3))
    return TaskData(images, images.subset(split.validation), tuple("abcde"), split, "listing", "split")


@pytest.fixture(scope="module")
def task():
    return make_task()


@pytest.fixture(scope="module")
def data():
    return dataclasses.replace(check(digits_config.get_config()).data, max_bad_share=0.01)


@pytest.fixture
def decode_each_time(monkeypatch):
    monkeypatch.setattr(rows, "MEMORY_LIMIT_BYTES", 0)


def plan_of(stage, *, batch_size=8, ratio=2, accum=1, **changes):
    ratio = ratio if stage == "semi" else 0
    return small_plan(stage, batch_size=batch_size, unlabeled_ratio=ratio, accum=accum, **changes)


def open_batches(task, data, plan, *, seed=0, position=0, process_index=0, process_count=1):
    return pipeline.train_batches(
        task, data, plan, seed=seed, position=position, process_index=process_index, process_count=process_count
    )


def read(task, data, plan, count, **start):
    batches = open_batches(task, data, plan, **start)
    try:
        return list(itertools.islice(batches, count))
    finally:
        batches.close()


def evaluation(images, data, batch_size, *, label="class", process_index=0, process_count=1):
    return eval_batches(
        images, data, label=label, batch_size=batch_size, process_index=process_index, process_count=process_count
    )


def flat(batch, prefix=""):
    """{'labeled/image': array, ...}"""
    leaves = {}
    for key, value in batch.items():
        leaves |= flat(value, f"{key}/") if isinstance(value, dict) else {prefix + key: value}
    return leaves


def assert_same(left, right):
    assert len(left) == len(right)
    for a, b in zip(left, right, strict=True):
        a, b = flat(a), flat(b)
        assert a.keys() == b.keys()
        for key in a:
            np.testing.assert_array_equal(a[key], b[key], err_msg=key)
            assert a[key].dtype == b[key].dtype


def global_rows(host_batches):
    """Joins the batches of all hosts and undoes the accumulation axis."""
    joined = {key: np.concatenate([flat(b)[key] for b in host_batches], axis=1) for key in flat(host_batches[0])}
    return {key: value.reshape(-1, *value.shape[2:]) for key, value in joined.items()}


@pytest.mark.parametrize("stage", STAGES)
def test_leaves(task, data, stage):
    batch = flat(read(task, data, plan_of(stage, accum=2), 1)[0])
    image, label = ((2, 4, SIZE, SIZE, 3), np.uint8), ((2, 4), np.int32)
    unlabeled = {
        "unlabeled/image": ((2, 8, SIZE, SIZE, 3), np.uint8),
        "unlabeled/label": ((2, 8), np.int32),
    }
    wanted = {
        "mae": {"image": image},
        "finetune": {"image": image, "label": label},
        "semi": {"labeled/image": image, "labeled/label": label, **unlabeled},
    }
    assert {key: (value.shape, value.dtype) for key, value in batch.items()} == wanted[stage]


@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize("process_count", [1, 2, 4])
@pytest.mark.parametrize("accum", [1, 2])
def test_global_batches_do_not_depend_on_hosts_or_accumulation(task, data, stage, process_count, accum):
    reference = read(task, data, plan_of(stage), 12)
    hosts = [
        read(task, data, plan_of(stage, accum=accum), 12, process_index=p, process_count=process_count)
        for p in range(process_count)
    ]
    for step in range(12):
        assert_same([global_rows([reference[step]])], [global_rows([host[step] for host in hosts])])


@pytest.mark.parametrize("stage", STAGES)
def test_memory_and_decoding_give_the_same(task, data, stage, monkeypatch):
    from_memory = read(task, data, plan_of(stage, batch_size=12, accum=2), 5)
    monkeypatch.setattr(rows, "MEMORY_LIMIT_BYTES", 0)
    assert_same(from_memory, read(task, data, plan_of(stage, batch_size=12, accum=2), 5))


def test_a_set_is_decoded_once_for_all_stages(data, monkeypatch):
    task, other, decode_each, decoded = make_task(), make_task(), rows._decode_each, []
    monkeypatch.setattr(rows, "_decode_each", lambda images, data: decoded.append(images) or decode_each(images, data))
    batches = [read(task, data, plan_of(stage), 1) for stage in STAGES]
    assert decoded == [task.train]
    assert_same(read(other, data, plan_of("mae"), 1), batches[0])
    rows.decode_all(task.train, dataclasses.replace(data, exif_rotation=not data.exif_rotation))
    assert decoded == [task.train, other.train, task.train]


@pytest.mark.usefixtures("decode_each_time")
@pytest.mark.parametrize("threads", [1, 3])
def test_threads_and_read_ahead_change_nothing(task, data, threads):
    plan = plan_of("semi", batch_size=16)
    other = dataclasses.replace(data, threads=threads, prefetch_batches=5)
    assert_same(read(task, data, plan, 4), read(task, other, plan, 4))


@pytest.mark.usefixtures("decode_each_time")
def test_workers_change_nothing_and_resume_exactly(data):
    task = make_task(bad=[20])
    plan = plan_of("semi", batch_size=16)
    in_process = read(task, data, plan, 6)
    in_workers = open_batches(task, dataclasses.replace(data, workers=2), plan, position=2)
    update = [next(in_workers)]
    workers = multiprocessing.active_children()
    assert len(workers) == 2
    for worker in workers:  # Ctrl-C and the end of a terminal come to all its processes, and training saves first
        os.kill(worker.pid, signal.SIGINT)
        os.kill(worker.pid, signal.SIGHUP)
    assert not connection.wait([worker.sentinel for worker in workers], timeout=0.5), "a worker has ended"
    assert_same(in_process[2:], [*update, *itertools.islice(in_workers, 3)])
    assert in_workers.bad_records > 0
    in_workers.close()


@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize("limit", [0, rows.MEMORY_LIMIT_BYTES])
def test_resuming_equals_not_stopping(task, data, stage, limit, monkeypatch):
    monkeypatch.setattr(rows, "MEMORY_LIMIT_BYTES", limit)
    plan = plan_of(stage, accum=2)
    assert_same(read(task, data, plan, 9)[4:], read(task, data, plan, 5, position=4))


def test_every_pass_holds_every_image_once_in_a_new_order(task, data):
    batches = read(task, data, plan_of("semi", batch_size=6, ratio=3), 10)
    for stream, indices in (("labeled", task.split.labeled), ("unlabeled", task.split.unlabeled)):
        seen = np.concatenate([number_of(batch[stream]["image"]).ravel() for batch in batches])
        passes = [seen[start : start + len(indices)] for start in range(0, len(seen), len(indices))]
        whole = [one for one in passes if len(one) == len(indices)]
        assert len(whole) >= 2
        for one in whole:
            np.testing.assert_array_equal(np.sort(one), indices)
        assert not np.array_equal(whole[0], whole[1])


def test_labels_belong_to_their_images(task, data):
    for batch in read(task, data, plan_of("semi"), 10):
        for stream in batch.values():
            np.testing.assert_array_equal(stream["label"], task.train.labels[number_of(stream["image"])])


def test_mae_sees_everything_but_validation(task, data):
    seen = {n for batch in read(task, data, plan_of("mae"), 20) for n in number_of(batch["image"]).ravel()}
    assert seen == set(range(NUM_IMAGES)) - set(task.split.validation)


def test_seeds_stages_and_streams_have_their_own_orders(task, data):
    def first(stage, seed):
        return number_of(read(task, data, plan_of(stage), 1, seed=seed)[0]["image"]).ravel().tolist()

    assert first("finetune", 0) != first("finetune", 1)
    indices = np.arange(30)
    orders = [StreamOrder(indices, 0, name).place_at(indices) for name in ("semi/labeled", "semi/unlabeled")]
    assert not np.array_equal(*orders)


def test_random_numbers_of_a_row_depend_on_its_position_only():
    indices = np.arange(10)
    order = StreamOrder(indices, 3, "mae/training")
    draws = [order.generator_at(position).random() for position in (4, 14, 4)]
    assert draws[0] == draws[2]
    assert draws[0] != draws[1]  # the next pass draws anew
    assert StreamOrder(indices, 3, "semi/labeled").generator_at(4).random() != draws[0]
    assert (
        len({StreamOrder(indices, 3, "mae/training").generator_at(position).random() for position in range(500)}) == 500
    )


def test_host_rows_formula():
    global_rows, process_count, accum = 12, 3, 2
    host = HostRows(global_rows, 1, process_count)
    b = global_rows // process_count
    wanted = [(t * accum + m) * global_rows + 1 * b + i for t in range(3) for m in range(accum) for i in range(b)]
    np.testing.assert_array_equal(host.stream_positions(0, len(wanted)), wanted)
    np.testing.assert_array_equal(host.stream_positions(5, 4), wanted[5:9])


def test_indivisible_batches_are_refused(task, data):
    with pytest.raises(ValueError, match=r"batch_size 6 is not divisible by 2 micro-steps times 2 processes"):
        read(task, data, plan_of("mae", batch_size=6, accum=2), 1, process_count=2)


# ---- bad records


@pytest.mark.parametrize("limit", [0, rows.MEMORY_LIMIT_BYTES])
def test_a_bad_record_is_replaced_by_the_next_of_the_stream(data, limit, monkeypatch, caplog):
    monkeypatch.setattr(rows, "MEMORY_LIMIT_BYTES", limit)
    bad = {20, 33}
    plan = plan_of("mae", batch_size=8)
    good_batches = read(make_task(), data, plan, 12)
    with caplog.at_level(logging.WARNING, logger=bad_records.__name__):
        batches = open_batches(make_task(bad), data, plan)
        found = np.concatenate([number_of(next(batches)["image"]).ravel() for _ in range(11)])
        batches.close()
    order = np.concatenate([number_of(batch["image"]).ravel() for batch in good_batches])
    wanted = [next(n for n in order[position:] if n not in bad) for position in range(len(found))]
    np.testing.assert_array_equal(found, wanted)
    assert batches.bad_records == np.isin(order[: len(found)], list(bad)).sum() > 2
    assert sorted(record.args[0] for record in caplog.records) == ["image 20", "image 33"]  # named once each


def test_too_many_bad_records_stop_the_run(task, data):
    strict = dataclasses.replace(data, max_bad_share=0.0)
    with pytest.raises(TooManyBadRecords, match=r"'image 20'.*max_bad_share = 0.0"):
        read(make_task(bad=[20]), strict, plan_of("mae"), 10)
    with pytest.raises(TooManyBadRecords, match="none of the 12 images of the stream 'finetune/labeled'"):
        read(make_task(bad=range(3, 15)), data, plan_of("finetune"), 1)


def broken(*indices):
    return [BadRecord(index, "broken") for index in indices]


def test_the_share_is_that_of_the_last_records():
    count = BadRecordCount(["x", "y"], max_bad_share=0.002)
    for _ in range(100):  # one in a thousand for ever is fine
        count.add(999, broken(0))
    assert count.total == 100
    with pytest.raises(TooManyBadRecords, match="21 bad among this host's last 10,000 records"):
        count.add(988, broken(*[1] * 12))


@pytest.mark.parametrize(("share", "records"), [(0.5, 20), (0.1, 100), (0.01, 1_000)])
def test_the_share_is_that_of_few_records_too(share, records):
    """Chance brings ten bad records together, but not more."""
    for good in (0, records - 11):
        count = BadRecordCount(["x", "y"], max_bad_share=share)
        count.add(good, broken(*[0, 1] * 5))
        with pytest.raises(TooManyBadRecords, match=rf"^11 bad .* last {good + 11:,} .*_share = {share}; repair"):
            count.add(0, broken(1))
    count = BadRecordCount(["x", "y"], max_bad_share=share)
    count.add(round(1.1 * records), broken(*[0, 1] * 5, 1))  # 11 of so many are not above the share


def test_a_short_run_stops_at_too_many_bad_records(data):
    """A fifth are bad, which twenty updates of eight show; a tenth is what an own folder bears."""
    lenient = dataclasses.replace(data, max_bad_share=0.1)
    with pytest.raises(TooManyBadRecords, match=r"^1\d bad among this host's last \d\d records, .* = 0.1; repair"):
        read(make_task(bad=range(15, 25)), lenient, plan_of("mae"), 20)
    read(make_task(bad=range(15, 18)), lenient, plan_of("mae"), 20)  # 3 of 47


@pytest.mark.parametrize("limit", [0, rows.MEMORY_LIMIT_BYTES])
def test_one_bad_image_of_few_does_not_end_a_run(data, limit, monkeypatch):
    monkeypatch.setattr(rows, "MEMORY_LIMIT_BYTES", limit)
    read(make_task(bad=[5]), data, plan_of("finetune"), 200)  # one of twelve, of which a hundredth may be bad
    with pytest.raises(TooManyBadRecords, match=r"'image [56]'"):
        read(make_task(bad=[5, 6]), data, plan_of("finetune"), 200)


def test_a_record_that_vanishes_is_a_bad_record(data, monkeypatch):
    class Vanishing(list):
        def __getitem__(self, index):
            if index == 20:
                raise FileNotFoundError("no such file: image 20")
            return super().__getitem__(index)

    task = make_task()
    task = dataclasses.replace(task, train=dataclasses.replace(task.train, records=Vanishing(task.train.records)))
    monkeypatch.setattr(rows, "MEMORY_LIMIT_BYTES", 0)
    seen = np.concatenate([number_of(b["image"]).ravel() for b in read(task, data, plan_of("mae"), 12)])
    assert 20 not in seen


# ---- evaluation


@pytest.mark.parametrize("limit", [0, rows.MEMORY_LIMIT_BYTES])
@pytest.mark.parametrize("process_count", [1, 2, 4])
@pytest.mark.parametrize("batch_size", [4, 20, 64])
def test_evaluation_sees_every_image_once(task, data, process_count, batch_size, limit, monkeypatch):
    monkeypatch.setattr(rows, "MEMORY_LIMIT_BYTES", limit)
    hosts = [
        eval_batches(
            task.train, data, label="class", batch_size=batch_size, process_index=p, process_count=process_count
        )
        for p in range(process_count)
    ]
    assert len({len(host) for host in hosts}) == 1
    for _ in range(2):  # iterating again starts again
        seen = []
        for batch in itertools.chain.from_iterable(hosts):
            assert batch["image"].shape == (batch_size // process_count, SIZE, SIZE, 3)
            real = batch["mask"] == 1
            seen.extend(number_of(batch["image"])[real])
            np.testing.assert_array_equal(batch["label"][real], task.train.labels[number_of(batch["image"])[real]])
            assert (batch["label"][~real] == -1).all()
        assert sorted(seen) == list(range(NUM_IMAGES))


def test_a_bad_evaluation_image_is_masked(data):
    def read_with(max_bad_share, bad):
        settings = dataclasses.replace(data, max_bad_share=max_bad_share)
        images = make_task(bad=bad).train
        return list(evaluation(images, settings, NUM_IMAGES))

    (batch,) = read_with(0.1, [7, 9])
    np.testing.assert_array_equal(np.flatnonzero(batch["mask"] == 0), [7, 9])
    with pytest.raises(TooManyBadRecords, match="image 9"):
        read_with(0.01, [7, 9])
    (batch,) = read_with(0.01, [7])  # more than a hundredth of these few, and yet only one
    np.testing.assert_array_equal(np.flatnonzero(batch["mask"] == 0), [7])
    with pytest.raises(TooManyBadRecords, match="image 7"):
        read_with(0.0, [7])


@pytest.mark.parametrize(("process", "process_count", "real", "bad"), [(0, 1, 50, 6), (0, 2, 32, 4), (1, 2, 18, 2)])
def test_the_share_of_evaluation_is_that_of_a_hosts_real_images(data, process, process_count, real, bad):
    """A batch of 64 is 14 rows longer than the 50 images, of which a tenth may be bad."""
    settings = dataclasses.replace(data, max_bad_share=0.1)

    def read_with(num_bad):
        images = make_task(bad=range(process * 32, process * 32 + num_bad)).train
        list(
            eval_batches(
                images, settings, label="class", batch_size=64, process_index=process, process_count=process_count
            )
        )

    read_with(bad - 1)
    with pytest.raises(TooManyBadRecords, match=rf"^{bad} bad among this host's last {real} .*share = 0.1; repair"):
        read_with(bad)


def test_a_bad_evaluation_image_is_named_once_over_all_evaluations(data, caplog):
    images = make_task(bad=[7]).train
    batches = evaluation(images, data, NUM_IMAGES)
    for _ in range(3):
        list(batches)
    assert [r.getMessage().split(":")[0] for r in caplog.records] == ["passing over 'image 7'"]


def test_an_image_of_another_size_is_refused(data):
    task = make_task()
    with pytest.raises(ValueError, match=r"shape \(8, 8, 3\).*image_size = 9"):
        read(task, dataclasses.replace(data, image_size=9), plan_of("mae"), 1)
