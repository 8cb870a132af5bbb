"""Own folders: what counts as an image and as a label, and everything that can be wrong with a folder."""

import dataclasses
import logging
import os
import pickle

import numpy as np
import pytest
from PIL import Image

from configs import digits as digits_config
from semivit_jax import run
from semivit_jax.config import ConfigError
from semivit_jax.config_check import check
from semivit_jax.data import folder_scan, pipeline
from semivit_jax.data.dataset import describe, open_task
from semivit_jax.data.errors import DatasetError
from semivit_jax.data.folder import open_folder
from semivit_jax.data.splits import SplitError
from tests.configs import small_config

NASTY = ["b c.JPG", "new\nline.png", "ünïcödé 図.webp", "quote\"'.bmp", os.fsdecode(b"not-utf8-\xff.jpg")]


def put(path, number=0):
    path.parent.mkdir(parents=True, exist_ok=True)
    kind = {".jpg": "JPEG", ".png": "PNG", ".webp": "WEBP", ".bmp": "BMP", ".gif": "GIF"}[path.suffix.lower()]
    Image.new("RGB", (8, 8), (number, number, number)).save(path, format=kind)


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
    def open_it(labels=None, class_names=None):
        return open_folder(root, labels_csv=labels, class_names=class_names, cache_dir=tmp_path / "cache")

    return open_it


def labels_of(folder):
    listing = folder.listing
    return {
        name: listing.class_names[label]
        for name, label in zip(listing.names, listing.labels, strict=True)
        if label >= 0
    }


def csv_of(tmp_path, *rows, header="path,label"):
    path = tmp_path / "labels.csv"
    path.write_text("\n".join([header, *rows]) + "\n", encoding="utf-8")
    return path


# ---- listing


def test_class_folders_label_their_own_images_only(listed):
    folder = listed()
    assert folder.listing.class_names == ("ant", "bee", "cat")
    assert labels_of(folder) == {
        f"{name}/{number}.png": name for name, count in (("ant", 4), ("bee", 3), ("cat", 2)) for number in range(count)
    }
    assert len(folder.listing.names) == 13
    assert list(folder.listing.names) == sorted(folder.listing.names)


def test_records_are_the_files_also_in_another_process(listed, root):
    folder = listed()
    records = pickle.loads(pickle.dumps(folder.records))
    for index, name in enumerate(folder.listing.names):
        assert records[index] == (root / name).read_bytes()


def test_names_of_any_kind(listed, root):
    for name in NASTY:
        put(root / "dôg" / name)
    folder = listed()
    found = [name.removeprefix("dôg/") for name in folder.listing.names if name.startswith("dôg/")]
    assert sorted(found, key=os.fsencode) == sorted(NASTY, key=os.fsencode)
    assert {labels_of(folder)[f"dôg/{name}"] for name in NASTY} == {"dôg"}
    assert folder.records[list(folder.listing.names).index(f"dôg/{NASTY[1]}")]


def test_unusable_files_are_left_out_and_named_together(listed, root, caplog):
    (root / "ant" / "empty.jpg").touch()
    (root / "ant" / "text.png").write_text("hello")
    (root / "ant" / "sound.webp").write_bytes(b"RIFF\0\0\0\0WAVE")
    (root / "ant" / "gone.jpg").symlink_to(root / "nowhere.jpg")
    (root / "ant" / "notes.txt").write_text("not meant to be an image")
    (root / "ant" / "self.jpg").symlink_to("self.jpg")
    (root / "ant" / "self").symlink_to("self")
    (root / "bee" / "loop").symlink_to(root)
    (root / ".thumbnails").mkdir()
    put(root / ".thumbnails" / "small.png")
    with caplog.at_level(logging.WARNING):
        folder = listed()
    assert len(folder.listing.names) == 13
    text = caplog.text
    assert "6 files or folders" in text
    for part in ("'ant/empty.jpg' is empty", "'ant/text.png' is not an image", "'ant/sound.webp' is not",
                 "'ant/gone.jpg' cannot be read: No such file", "'ant/self.jpg' cannot be read: Too many",
                 "'bee/loop' is a link to a folder that "
                 "contains it",
                 "2 files in"):  # fmt: skip
        assert part in text


def test_a_misnamed_image_is_still_an_image(listed, root):
    put(root / "ant" / "really.png")
    (root / "ant" / "really.png").rename(root / "ant" / "a jpeg by name.jpg")
    assert "ant/a jpeg by name.jpg" in labels_of(listed())


def test_a_linked_folder_is_read(listed, root, tmp_path):
    put(tmp_path / "elsewhere" / "far.png")
    (root / "dog").symlink_to(tmp_path / "elsewhere")
    assert labels_of(listed())["dog/far.png"] == "dog"


def test_the_scan_is_done_once(listed, root, monkeypatch):
    first = listed()
    with monkeypatch.context() as patched:
        patched.setattr(folder_scan, "_scan", lambda root: pytest.fail("scanned again"))
        again = listed()
    assert again.listing.content_hash() == first.listing.content_hash()
    os.utime(root / "ant", ns=(1, 1))  # a new file sets the time of its folder, here with certainty
    put(root / "ant" / "new.png")
    assert "ant/new.png" in labels_of(listed())


def test_hash_is_that_of_names_and_labels(listed, root):
    before = listed().listing.content_hash()
    (root / "bee" / "0.png").rename(root / "cat" / "9.png")
    os.utime(root / "bee", ns=(1, 1))
    assert listed().listing.content_hash() != before


def test_hash_tells_labels_apart(listed, tmp_path):
    hashes = []
    for rows in (("ant/0.png,a", "bee/0.png,b"), ("ant/0.png,b", "bee/0.png,a"), ("ant/0.png,a", "bee/0.png,c")):
        hashes.append(listed(csv_of(tmp_path, *rows)).listing.content_hash())
    assert len(set(hashes)) == 3


def test_photos_of_formats_that_are_not_read_are_counted(listed, root, tmp_path, caplog):
    for name in ("a.HEIC", "trip/b.heif", "c.tif", "d.tiff", "e.avif"):
        (root / name).write_bytes(b"a photo")
    os.utime(root, ns=(1, 1))
    for _ in range(2):  # scanned, then from the cache
        with caplog.at_level(logging.WARNING):
            listed()
        (line,) = (r.getMessage() for r in caplog.records)
        assert line.startswith("5 files in ")
        assert line.endswith(
            "not read (.heic, .heif, .tif, .tiff, .avif): convert to JPEG or PNG, or they take no part"
        )
        caplog.clear()
    with pytest.raises(DatasetError, match=r"1 problem with .*\n.* 'a.HEIC' is of a format that is not read; convert"):
        listed(csv_of(tmp_path, "loose.png,dog", "a.HEIC,dog"))


def test_a_folder_of_such_photos_alone_says_so(tmp_path):
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "a.heic").write_bytes(b"a photo")
    with pytest.raises(DatasetError, match=r"no images in .*\n1 file in .* convert"):
        open_folder(tmp_path / "photos", labels_csv=None, class_names=None, cache_dir=tmp_path / "cache")


def test_a_scan_kept_by_an_earlier_version_is_made_again(listed, tmp_path):
    before = listed().listing.content_hash()
    (kept,) = (tmp_path / "cache").glob("folder_*.npz")
    with np.load(kept) as saved:
        old = {key: saved[key] for key in saved.files if key != "counts"}
    np.savez(kept, **old, ignored=np.array(0))
    assert listed().listing.content_hash() == before


def test_no_folder_and_no_images(tmp_path):
    def opened(path):
        return open_folder(path, labels_csv=None, class_names=None, cache_dir=tmp_path / "cache")

    with pytest.raises(DatasetError, match=r"nowhere' is not a folder"):
        opened(tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "a.jpg").touch()
    with pytest.raises(DatasetError, match=r"no images in .*\n'a.jpg' is empty"):
        opened(tmp_path / "empty")


def test_a_class_without_images_is_an_error(listed, root):
    (root / "dog").mkdir()
    with pytest.raises(DatasetError, match="the class folder 'dog' has no image"):
        listed()


# ---- CSV


def test_csv_labels(listed, root, tmp_path):
    put(root / "trip" / "a, b\nc.png")
    path = csv_of(
        tmp_path,
        "dog,./trip/day 1/../day 1/y.png",
        '"dog","trip/a, b\nc.png"',
        f"eel ,{root}/loose.png",
        header="label,path",
    )
    assert labels_of(listed(path)) == {
        "trip/day 1/y.png": "dog",
        "trip/a, b\nc.png": "dog",
        "loose.png": "eel",
    }


def test_csv_mistakes_are_reported_together(listed, root, tmp_path):
    (root / "ant" / "empty.jpg").touch()
    path = csv_of(
        tmp_path,
        "loose.png,dog",
        "loose.png,cat",
        "nowhere.png,dog",
        "../secret.png,dog",
        "/etc/secret.png,dog",
        "ant/0.png,",
        "ant/1.png",
        "ant/2.png,dog,more",
        "ant/empty.jpg,dog",
    )
    with pytest.raises(DatasetError) as caught:
        listed(path)
    message = str(caught.value)
    assert message.startswith("8 problems")
    for part in ("line 3: 'loose.png' is already in line 2", "line 4: there is no image 'nowhere.png'",
                 "line 5: '../secret.png' is outside", "line 6: '/etc/secret.png' is outside",
                 "line 7: 'ant/0.png' has an empty label", "line 8: it must have two values",
                 "line 9: it must have two values", "line 10: 'ant/empty.jpg' is empty"):  # fmt: skip
        assert part in message


@pytest.mark.parametrize("header", ["path", "path,label,author", "file,class", ""])
def test_csv_columns(listed, tmp_path, header):
    with pytest.raises(DatasetError, match=r"it must have path,label"):
        listed(csv_of(tmp_path, "loose.png,dog", header=header))


def test_csv_that_cannot_be_read(listed, tmp_path):
    with pytest.raises(DatasetError, match=r"labels .*nowhere.csv' cannot be read"):
        listed(tmp_path / "nowhere.csv")
    (tmp_path / "latin.csv").write_bytes("path,label\nloose.png,käfer\n".encode("latin-1"))
    with pytest.raises(DatasetError, match=r"cannot be read.*utf-8"):
        listed(tmp_path / "latin.csv")
    with pytest.raises(DatasetError, match="has no rows"):
        listed(csv_of(tmp_path))


def test_a_label_used_once_is_pointed_out(listed, tmp_path, caplog):
    with caplog.at_level(logging.WARNING):
        listed(csv_of(tmp_path, "ant/0.png,ant", "ant/1.png,ant", "ant/2.png,amt"))
    assert "the label 'amt' is used once" in caplog.text
    assert "'ant' is used once" not in caplog.text


def test_evaluation_folders_use_the_training_classes(listed):
    folder = listed(class_names=("zebra", "cat", "bee", "ant"))
    assert labels_of(folder)["cat/0.png"] == "cat"
    with pytest.raises(DatasetError, match="the class 'ant' is not among those of the training images"):
        listed(class_names=("cat", "bee"))


# ---- the whole task


def config_for(root, **data):
    config = check(digits_config.get_config())
    wanted = dict(dataset="own_folder", root=str(root), train_split="", eval_split="", labels_per_class=0,
                  validation_share=0.25, max_bad_share=0.05)  # fmt: skip
    return dataclasses.replace(config, data=dataclasses.replace(config.data, **(wanted | data)))


@pytest.fixture(autouse=True)
def private_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "user_cache"))


def test_task_of_a_folder(root, tmp_path):
    task = open_task(config_for(root), workdir=tmp_path / "run")
    assert (len(task.split.labeled), len(task.split.unlabeled), len(task.eval)) == (7, 4, 2)
    np.testing.assert_array_equal(task.eval.labels, task.train.labels[task.split.validation])
    sizes = "7 labeled, 4 unlabeled, 2 validation and 2 evaluation images"
    assert describe(task) == f"{sizes}; 3 classes: ant, bee, cat"
    assert sorted(p.name for p in (tmp_path / "run").iterdir()) == ["listing.json", "split.csv"]
    again = open_task(config_for(root), workdir=tmp_path / "run")
    assert (again.split_hash, again.listing_hash) == (task.split_hash, task.listing_hash)
    with pytest.raises(SplitError, match="holds another split"):
        open_task(config_for(root, labels_per_class=1), workdir=tmp_path / "run")


def test_a_run_is_not_continued_with_other_files(root, tmp_path):
    """One unlabeled image less moves no labeled one, and yet every draw of the unlabeled stream."""
    open_task(config_for(root), workdir=tmp_path / "run")
    before = (tmp_path / "run" / "listing.json").read_bytes()
    (root / "unlabeled" / "x.png").rename(tmp_path / "x.png")
    with pytest.raises(DatasetError, match=r"begun with other files.* 13 training images and 2 .* then, 12 training"):
        open_task(config_for(root), workdir=tmp_path / "run")
    assert (tmp_path / "run" / "listing.json").read_bytes() == before
    (tmp_path / "x.png").rename(root / "unlabeled" / "x.png")
    open_task(config_for(root), workdir=tmp_path / "run")


def test_train_and_test_sub_folders(root, tmp_path):
    (tmp_path / "both").mkdir()
    root.rename(tmp_path / "both" / "train")
    put(tmp_path / "both" / "test" / "bee" / "t.png")
    task = open_task(
        config_for(tmp_path / "both", train_split="train", eval_split="test", validation_share=0.0),
        workdir=None,
    )
    assert (len(task.train), len(task.eval)) == (13, 1)
    assert task.class_names[task.eval.labels[0]] == "bee"


def test_labels_are_needed_unless_only_mae_runs(root, tmp_path):
    put(tmp_path / "plain" / "a.png")
    config = config_for(tmp_path / "plain")
    with pytest.raises(DatasetError, match="no image has a label"):
        open_task(config, workdir=None)
    task = open_task(dataclasses.replace(config, stages=("mae",)), workdir=None)
    assert len(task.split.training) == 1


def test_one_class_is_refused(root, tmp_path):
    """What happens to a folder of nested photos when its labels are forgotten."""
    put(tmp_path / "plain" / "2022" / "a.png")
    put(tmp_path / "plain" / "2022" / "b.png")
    config = config_for(tmp_path / "plain")
    with pytest.raises(DatasetError, match=r"'2022'.*config.data.labels"):
        open_task(config, workdir=None)
    assert len(open_task(dataclasses.replace(config, stages=("mae",)), workdir=None).train) == 2


def test_files_that_vanish_while_training_are_bad_records(root):
    task = open_task(config_for(root), workdir=None)
    for name in task.train.names[:3]:
        (root / name).unlink()
    spec = pipeline.BatchSpec("mae", 4, 1, 1, 0)
    batches = pipeline.train_batches(task, config_for(root).data, spec, position=0, process_index=0, process_count=1)
    for _ in range(10):
        next(batches)
    assert batches.bad_records > 0
    batches.close()


@pytest.mark.parametrize(
    ("stage", "batch_size", "message"),
    [("mae", 12, "takes 12 training images .* only 11"), ("semi", 2, "takes 6 unlabeled images .* only 4")],
)
def test_a_set_smaller_than_a_batch_is_refused(root, stage, batch_size, message):
    task = open_task(config_for(root), workdir=None)
    spec = pipeline.BatchSpec(stage, batch_size, unlabeled_ratio=3, accum=1, seed=0)
    with pytest.raises(ValueError, match=message):
        pipeline.train_batches(task, config_for(root).data, spec, position=0, process_index=0, process_count=1)


def test_a_run_that_cannot_begin_leaves_its_workdir_free(root, tmp_path, monkeypatch):
    """The advice of the message is another batch size, which a claimed workdir would refuse."""
    values = {"dataset": "own_folder", "root": str(root), "train_split": "", "eval_split": "", "validation_share": 0.25}
    begun = []
    monkeypatch.setattr(run, "run_stage", lambda one, plan: begun.append(plan.stage))
    monkeypatch.setattr(run.report, "summarise", lambda *_: {})
    monkeypatch.setattr(run.report, "print_summary", lambda _: None)

    def start(batch_size, labels_per_class=0):
        changes = {f"data.{key}": value for key, value in values.items()}
        changes |= {"data.labels_per_class": labels_per_class, "train.compilation_cache": False}
        changes |= {"stages": ("finetune",), "finetune.batch_size": batch_size, "finetune.mixup_group_size": 2}
        run.train(small_config(**changes), tmp_path / "run")

    with pytest.raises(ConfigError, match=r"--config.finetune.batch_size=6 is the largest"):
        start(40)
    start(2, labels_per_class=1)
    assert begun == ["finetune"]
    (tmp_path / "run" / "DONE").unlink()
    with pytest.raises(ConfigError, match="another config"):
        start(2)
    assert (tmp_path / "run" / "config.json").exists()
