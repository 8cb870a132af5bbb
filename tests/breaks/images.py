"""Breaks on the way from files to batches."""

from tests.breaks.broken import Break

SPLITS = ("tests/unit/test_splits.py",)
PIPELINE = ("tests/unit/test_pipeline.py",)
DECODE = ("tests/unit/test_decode.py",)

BREAKS = {
    "every pass has the same order": Break(
        "data/order.py",
        "_pass_order(self.seed, self.name, int(pass_number)",
        "_pass_order(self.seed, self.name, 0 * int(pass_number)",
        PIPELINE,
    ),
    "all hosts read the same rows": Break(
        "data/order.py",
        "micro_step * self.global_rows + self.process_index * self.local_rows + row",
        "micro_step * self.global_rows + row",
        PIPELINE,
    ),
    "a place in the stream has the views of the place before": Break(
        "data/order.py", "_ROW, position))", "_ROW, max(0, position - 1)))", PIPELINE
    ),
    "a restart begins in the wrong block": Break(
        "data/pipeline.py", "start = position * blocks_per_update", "start = position", PIPELINE
    ),
    "bad records are not counted": Break(
        "data/rows.py", "            bad.append(image)\n        raise", "        raise", PIPELINE
    ),
    "padding of an evaluation counts": Break(
        "data/eval_pipeline.py", "mask = np.zeros(count, np.float32)", "mask = np.ones(count, np.float32)", PIPELINE
    ),
    "more labels move the validation images": Break(
        "data/splits.py",
        "validation.append(order[available:])",
        "validation.append(order[count : count + kept_back])",
        SPLITS,
    ),
    "a list of other files is taken": Break(
        "data/label_lists.py",
        "if not stored or stored == listing_id(names):",
        "if True:",
        ("tests/unit/test_label_lists.py",),
    ),
    "labels are no part of a listing's hash": Break(
        "data/sources/listing.py",
        'table.ends.astype("<i8"), self.labels.astype("<i4"))',
        'table.ends.astype("<i8"))',
        ("tests/own_folder/test_listing.py", "tests/own_folder/test_task.py"),
    ),
    "a finished shard of other images is kept": Break(
        "data/prepare/shards.py",
        "elif json.loads(path.read_text()) != wanted:",
        "elif False:",
        ("tests/unit/test_prepare.py",),
    ),
    # Views
    "crops are as high as they should be wide": Break(
        "data/images/crop_resize.py",
        "width, height = round(math.sqrt(area * aspect))",
        "height, width = round(math.sqrt(area * aspect))",
        ("tests/parity/test_crop_resize.py",),
    ),
    "the weak view is not jittered": Break(
        "data/images/views.py",
        "crop_scale=photo.crop_scale, color_jitter=photo.color_jitter)",
        "crop_scale=photo.crop_scale)",
        ("tests/unit/test_photo_batches.py",),
    ),
    "one EXIF orientation is mirrored": Break(
        "data/images/decode.py", "if orientation in (2, 3, 6, 7):", "if orientation in (2, 3, 6):", DECODE
    ),
}
