"""Batches of photographs: random views depend on the position in the stream alone, and go to the right streams."""

import dataclasses
import io
import itertools

import numpy as np
import pytest
from PIL import Image

from semivit_jax.config import PhotoViewsConfig, RandAugmentConfig
from semivit_jax.data.bad_records import BadRecord
from semivit_jax.data.dataset import TaskData
from semivit_jax.data.images.decode import decode
from semivit_jax.data.images.views import VIEWS, path_of, views_of
from semivit_jax.data.order import StreamOrder
from semivit_jax.data.rows import read_image
from semivit_jax.data.sources.image_set import ImageSet
from semivit_jax.data.splits import split_from_roles
from tests.configs import small_config
from tests.unit.test_pipeline import assert_same, evaluation, flat, global_rows, open_batches, plan_of, read

NUM_IMAGES = 24
SIZE = 16


def photo(number: int) -> bytes:
    """A smooth random picture of its own size."""
    generator = np.random.default_rng(number)
    small = Image.fromarray(generator.integers(0, 256, (4, 4, 3), np.uint8))
    file = io.BytesIO()
    small.resize((30 + number, 40)).save(file, format="JPEG", quality=95)
    return file.getvalue()


@pytest.fixture(scope="module")
def task():
    labels = np.arange(NUM_IMAGES, dtype=np.int32) % 3
    images = ImageSet([photo(n) for n in range(NUM_IMAGES)], [str(n) for n in range(NUM_IMAGES)], labels)
    split = split_from_roles(NUM_IMAGES, labeled=np.arange(4), validation=np.arange(4, 6))
    return TaskData(images, images.subset(split.validation), tuple("abc"), split, "listing", "split")


@pytest.fixture(scope="module", params=["fast", "pillow"])
def data(request):
    views = PhotoViewsConfig(
        crop_scale=(0.08, 1.0),
        mae_crop_scale=(0.2, 1.0),
        flip_prob=0.5,
        color_jitter=0.4,
        randaugment=RandAugmentConfig(num_ops=2, magnitude=9.0, magnitude_std=0.5, apply_prob=0.5),
        path=request.param,
    )
    return dataclasses.replace(
        small_config().data, photo_views=views, affine_views=None, image_size=SIZE, threads=2, eval_crop_fraction=0.875
    )


@pytest.mark.parametrize("stage", ["mae", "finetune", "semi"])
def test_leaves(task, data, stage):
    shapes = {key: value.shape for key, value in flat(read(task, data, plan_of(stage, batch_size=4), 1)[0]).items()}
    image = (1, 4, SIZE, SIZE, 3)
    wide = (1, 8, SIZE, SIZE, 3)
    assert (
        shapes
        == {
            "mae": {"image": image},
            "finetune": {"image": image, "label": (1, 4)},
            "semi": {
                "labeled/image": image,
                "labeled/label": (1, 4),
                "unlabeled/weak": wide,
                "unlabeled/strong": wide,
                "unlabeled/label": (1, 8),
            },
        }[stage]
    )


@pytest.mark.parametrize(("process_count", "accum"), [(2, 1), (4, 1), (1, 4), (2, 2)])
def test_views_do_not_depend_on_hosts_or_accumulation(task, data, process_count, accum):
    reference = read(task, data, plan_of("semi"), 4)
    plan = plan_of("semi", accum=accum)
    hosts = [read(task, data, plan, 4, process_index=p, process_count=process_count) for p in range(process_count)]
    for step in range(4):
        assert_same([global_rows([reference[step]])], [global_rows([host[step] for host in hosts])])


@pytest.mark.parametrize("threads", [1, 5])
def test_views_do_not_depend_on_threads_or_the_start(task, data, threads):
    other = dataclasses.replace(data, threads=threads, prefetch_batches=1)
    assert_same(read(task, data, plan_of("semi"), 5)[2:], read(task, other, plan_of("semi"), 3, position=2))


def test_passes_differ(task, data):
    batches = read(task, data, plan_of("finetune", batch_size=4), 2)  # a pass each
    order = [np.argsort(batch["label"].ravel(), kind="stable") for batch in batches]
    assert not np.array_equal(*(batch["image"][0, o] for batch, o in zip(batches, order, strict=True)))


def test_rows_are_the_views_of_their_images(task, data):
    """Row by row, from the parts: order, decoding, random numbers and views, and nothing besides."""
    plan = plan_of("semi", batch_size=6, ratio=3)
    (batch,) = read(task, data, plan, 1, position=2)
    for stream, indices, count in zip(plan.streams, (task.split.labeled, task.split.unlabeled), (6, 18), strict=True):
        order = StreamOrder(indices, 0, f"semi/{stream.name}")
        views = views_of(data, stream.views)
        for row in range(count):
            position = 2 * count + row
            index = int(indices[order.place_at(np.array(position))])
            image = decode(photo(index), path=path_of(data), exif_rotation=False, max_pixels=10_000)
            wanted = views(image, order.generator_at(position)) | {"label": task.train.labels[index]}
            assert wanted.keys() == batch[stream.name].keys()
            for key in wanted:
                np.testing.assert_array_equal(batch[stream.name][key][0, row], wanted[key])


def test_each_row_of_the_table_is_its_published_view(data):
    mae, labeled, weak, strong = (VIEWS[row](data, data.photo_views) for row in ("mae", "labeled", "weak", "strong"))
    assert labeled == strong
    assert (mae.crop_scale, mae.color_jitter, mae.randaugment) == ((0.2, 1.0), 0.0, None)
    assert (weak.crop_scale, weak.color_jitter, weak.randaugment) == ((0.08, 1.0), 0.4, None)
    assert (strong.crop_scale, strong.color_jitter) == ((0.08, 1.0), 0.0)
    assert strong.randaugment == data.photo_views.randaugment
    assert {view.flip_prob for view in (mae, weak, strong)} == {0.5}


def test_evaluation_is_the_same_on_both_paths(task, data):
    views = data.photo_views
    paths = [dataclasses.replace(data, photo_views=dataclasses.replace(views, path=p)) for p in ("fast", "pillow")]
    first, second = (list(evaluation(task.train, one, 10)) for one in paths)
    assert_same(first, second)
    assert sum(batch["mask"].sum() for batch in first) == NUM_IMAGES


def png(height: int, width: int) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (width, height)).save(file, format="PNG")
    return file.getvalue()


@pytest.mark.parametrize("size", [(1, 2_000), (2_000, 1)])
def test_an_image_too_long_to_resize_is_a_bad_record(task, data, size, caplog):
    """2,000 pixels are few, but resized to a shorter side of 18 they are 648,000."""
    images = dataclasses.replace(task.train, records=[*task.train.records[:-1], png(*size)])
    lenient = dataclasses.replace(data, max_bad_share=0.1)
    (batch,) = evaluation(images, lenient, NUM_IMAGES)
    np.testing.assert_array_equal(np.flatnonzero(batch["mask"] == 0), [NUM_IMAGES - 1])
    (line,) = (record.getMessage() for record in caplog.records)
    assert line.startswith(f"passing over '{NUM_IMAGES - 1}': image of ")
    assert line.endswith("648000, over config.data.max_pixels = 10000")


def test_the_configs_exif_rotation_is_applied(task, data):
    lying = Image.new("RGB", (30, 20))
    lying.putpixel((0, 0), (255, 255, 255))
    exif, file = Image.Exif(), io.BytesIO()
    exif[0x0112] = 6  # orientation: a quarter turn to the right
    lying.save(file, format="PNG", exif=exif)
    images = dataclasses.replace(task.train, records=[file.getvalue(), *task.train.records[1:]])
    for rotate, shape, white in ((False, (20, 30, 3), (0, 0)), (True, (30, 20, 3), (0, 19))):
        settings = dataclasses.replace(data, exif_rotation=rotate)
        image = read_image(images, 0, settings, path=path_of(data))
        assert isinstance(image, np.ndarray)
        assert image.shape == shape
        assert image[white].tolist() == [255, 255, 255]


def test_the_configs_limit_of_pixels_makes_a_bad_record(task, data):
    pixels = 30 * 40  # of the first photo
    for limit, good in ((pixels, True), (pixels - 1, False)):
        settings = dataclasses.replace(data, max_pixels=limit)
        image = read_image(task.train, 0, settings, path=path_of(data))
        assert isinstance(image, np.ndarray) == good
    assert image == BadRecord(0, "image of 30 x 40 = 1200 pixels is over config.data.max_pixels = 1199")


@pytest.mark.slow  # worker processes take seconds to start; test_pipeline has a quick test of them
def test_workers_give_the_same_views(task, data):
    plan = plan_of("semi")
    batches = open_batches(task, dataclasses.replace(data, workers=2), plan)
    assert_same(read(task, data, plan, 3), list(itertools.islice(batches, 3)))
    batches.close()
