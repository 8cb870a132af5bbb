"""`semivit prepare`: what goes in comes out, a kill costs one shard, and wrong sources are refused."""

import contextlib
import io
import os
import signal
import subprocess
import sys
import tarfile

import numpy as np
import pytest
import tensorflow_datasets as tfds
from PIL import Image

from semivit_jax import main
from semivit_jax.data.dataset import open_task
from semivit_jax.data.prepare import shards as prepare_shards
from semivit_jax.data.sources import tfds_source
from tests.configs import small_config

SYNSETS = ("n01440764", "n01443537", "n02105855")  # lines 1, 2 and 231 of the standard order
VALIDATION = {1: "n01751748", 2: "n09193705", 3: "n02105855"}  # of the published ground truth


@pytest.fixture(autouse=True)
def user_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture
def data_dir(tmp_path):
    (tmp_path / "data").mkdir()
    return tmp_path / "data"


def jpeg(number):
    """A picture of its own for every number."""
    encoded = io.BytesIO()
    Image.fromarray(np.random.default_rng(number).integers(0, 256, (9, 7, 3), np.uint8)).save(encoded, "JPEG")
    return encoded.getvalue()


def write_tree(root, names):
    """{name: bytes} of what was written."""
    content = {name: jpeg(number) for number, name in enumerate(names)}
    for name, data in content.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(data)
    return content


def tar_of(files):
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w:") as tar:
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    return content.getvalue()


def write_imagenet(folder, per_class=3):
    """{split: {file name: (bytes, synset)}} of miniature tars in the published layout."""
    folder.mkdir(exist_ok=True)
    train = {f"{s}_{i}.JPEG": (jpeg(100 * k + i), s) for k, s in enumerate(SYNSETS) for i in range(per_class)}
    inner = {f"{s}.tar": tar_of({name: data for name, (data, of) in train.items() if of == s}) for s in SYNSETS}
    (folder / "ILSVRC2012_img_train.tar").write_bytes(tar_of(inner))
    val = {f"ILSVRC2012_val_{n:08d}.JPEG": (jpeg(1000 + n), synset) for n, synset in VALIDATION.items()}
    (folder / "ILSVRC2012_img_val.tar").write_bytes(tar_of({name: data for name, (data, _) in val.items()}))
    return {"train": train, "validation": val}


def prepare(source, data_dir, *more):
    return main.main(["semivit", "prepare", str(source), "--name", "mine", "--data_dir", str(data_dir), *more])


def read(data_dir, split):
    """{file name: (bytes, class name)} as training reads it."""
    opened = tfds_source.open_split("mine", split, data_dir=data_dir, cache_dir=data_dir)
    names = [*opened.listing.class_names, None]  # label -1 is the last: not known
    return {name: (opened.records[i], names[opened.listing.labels[i]]) for i, name in enumerate(opened.listing.names)}


def test_imagenet_tars_round_trip(tmp_path, data_dir):
    written = write_imagenet(tmp_path / "tars")
    assert prepare(tmp_path / "tars", data_dir, "--allow_partial") == 0
    for split, expected in written.items():
        assert read(data_dir, split) == expected
    assert os.listdir(data_dir / "mine") == ["1.0.0"]


def test_labels_are_numbered_in_the_standard_order(tmp_path, data_dir):
    write_imagenet(tmp_path / "tars")
    prepare(tmp_path / "tars", data_dir, "--allow_partial")
    builder = tfds.builder_from_directory(data_dir / "mine" / "1.0.0")
    label = builder.info.features["label"]
    assert label.num_classes == 1000
    assert [label.str2int(synset) for synset in SYNSETS] == [0, 1, 230]


def test_plain_tensorflow_datasets_reads_it(tmp_path, data_dir):
    write_tree(tmp_path / "photos", ["cat/1.jpg", "dog/2.jpg"])
    prepare(tmp_path / "photos", data_dir)
    builder = tfds.builder_from_directory(data_dir / "mine" / "1.0.0")
    assert builder.info.splits["train"].num_examples == 2
    assert builder.info.supervised_keys == ("image", "label")
    records = list(builder.as_data_source(split="train"))
    assert {(r["file_name"], int(r["label"])) for r in records} == {(b"cat/1.jpg", 0), (b"dog/2.jpg", 1)}
    assert records[0]["image"].shape == (9, 7, 3)


def test_class_folders_in_splits(tmp_path, data_dir, capsys):
    train = write_tree(tmp_path / "photos" / "train", ["b c/1.jpg", "ä/2.jpg", "ä/deeper/3.jpg", "unlabeled/4.jpg"])
    val = write_tree(tmp_path / "photos" / "val", ["ä/9.jpg"])
    assert prepare(tmp_path / "photos", data_dir) == 0
    said = capsys.readouterr().out
    assert "train, val: 4 train images (2 labeled, 2 unlabeled), 1 validation image; 2 classes" in said
    classes = {"b c/1.jpg": "b c", "ä/2.jpg": "ä", "ä/deeper/3.jpg": None, "unlabeled/4.jpg": None}
    assert read(data_dir, "train") == {name: (train[name], classes[name]) for name in train}
    assert read(data_dir, "validation") == {"ä/9.jpg": (val["ä/9.jpg"], "ä")}


def test_it_shows_how_far_it_is(tmp_path, data_dir, small_shards, monkeypatch):
    told = []

    @contextlib.contextmanager
    def counting(title, *, total, before=0):
        told.append((title, total, before))
        yield lambda number: told.append(number)

    monkeypatch.setattr(prepare_shards.console, "counting", counting)
    write_tree(tmp_path / "photos", [f"{'cat' if i % 2 else 'dog'}/{i}.jpg" for i in range(10)])
    assert prepare(tmp_path / "photos", data_dir) == 0
    assert told[told.index(("writing train", 10, 0)) + 1 :] == list(range(1, 11))  # over all shards


def test_a_class_called_train_makes_no_split(tmp_path, data_dir):
    write_tree(tmp_path / "photos", ["train/1.jpg", "tram/2.jpg"])
    assert prepare(tmp_path / "photos", data_dir) == 0
    assert {label for _, label in read(data_dir, "train").values()} == {"train", "tram"}


def test_labels_from_csv(tmp_path, data_dir):
    files = write_tree(tmp_path / "photos", ["1.jpg", "deep/er/2.jpg", "3.jpg"])
    (tmp_path / "labels.csv").write_text("path,label\n1.jpg,cat\ndeep/er/2.jpg,dog\n")
    assert prepare(tmp_path / "photos", data_dir, "--labels", str(tmp_path / "labels.csv")) == 0
    labels = {"1.jpg": "cat", "deep/er/2.jpg": "dog", "3.jpg": None}
    assert read(data_dir, "train") == {name: (files[name], labels[name]) for name in files}


def test_names_that_are_no_utf8_survive(tmp_path, data_dir):
    name = os.fsdecode(b"cat/\xff.jpg")
    files = write_tree(tmp_path / "photos", [name, "cat/2.jpg", "dog/3.jpg"])
    assert prepare(tmp_path / "photos", data_dir) == 0
    assert read(data_dir, "train")[name] == (files[name], "cat")


@pytest.fixture
def small_shards(monkeypatch):
    monkeypatch.setattr(prepare_shards, "RECORDS_PER_SHARD", 4)


def test_every_image_is_in_one_shard(small_shards):
    names = [f"{i}.jpg" for i in range(10)]
    shards = prepare_shards.shard_positions(names)
    assert sorted(np.concatenate(shards)) == list(range(10))
    assert [len(shard) for shard in shards] == [4, 3, 3]
    renamed = prepare_shards.shard_positions(names[::-1])
    for shard, other in zip(shards, renamed, strict=True):  # whatever order the files are found in
        assert {names[i] for i in shard} == {names[::-1][i] for i in other}


def test_a_part_of_the_records_holds_all_classes():
    names = [f"{name}/{i}.jpg" for name in "abcd" for i in range(5000)]
    first = prepare_shards.shard_positions(names)[0]
    counts = np.bincount(first // 5000)
    np.testing.assert_allclose(counts, len(first) / 4, atol=150)


KILLED_AT_ITS_SEVENTH_IMAGE = """
import os, signal, sys
from semivit_jax import main
from semivit_jax.data.prepare import shards as prepare_shards; from semivit_jax.data.sources import folder
prepare_shards.RECORDS_PER_SHARD = 4
read, done = folder.FolderRecords.__getitem__, []
def read_or_die(records, index):
    if len(done) == 6:
        os.kill(os.getpid(), signal.SIGKILL)
    done.append(index)
    return read(records, index)
folder.FolderRecords.__getitem__ = read_or_die
main.main(["semivit", "prepare", *sys.argv[1:]])
"""


def test_a_kill_costs_one_shard(tmp_path, data_dir, small_shards, capsys):
    files = write_tree(tmp_path / "photos", [f"{'cat' if i % 2 else 'dog'}/{i}.jpg" for i in range(10)])
    arguments = [tmp_path / "photos", "--name", "mine", "--data_dir", data_dir]
    killed = subprocess.run([sys.executable, "-c", KILLED_AT_ITS_SEVENTH_IMAGE, *map(str, arguments)], check=False)
    assert killed.returncode == -signal.SIGKILL
    assert not (data_dir / "mine" / "1.0.0").exists()
    (kept,) = (data_dir / "mine" / ".building-1.0.0" / "1.0.0").iterdir()
    written = kept.stat().st_mtime_ns
    assert prepare(tmp_path / "photos", data_dir) == 0
    assert "1 of 3 shards done before" in capsys.readouterr().out
    assert (data_dir / "mine" / "1.0.0" / kept.name).stat().st_mtime_ns == written
    assert {name: data for name, (data, _) in read(data_dir, "train").items()} == files
    assert os.listdir(data_dir / "mine") == ["1.0.0"]


def stop_at_writing(monkeypatch, source, data_dir, *more):
    """A start that fails when its first shard is to be written."""
    with monkeypatch.context() as patch:
        patch.setattr(prepare_shards, "_shard_writer", fail_with(OSError("no space left")))
        assert prepare(source, data_dir, *more) == 1


def fail_with(error):
    def fail(*_):
        raise error

    return fail


def test_tars_are_scanned_once(tmp_path, data_dir, monkeypatch):
    written = write_imagenet(tmp_path / "tars")
    stop_at_writing(monkeypatch, tmp_path / "tars", data_dir, "--allow_partial")
    monkeypatch.setattr(tarfile, "open", fail_with(AssertionError("scanned again")))
    assert prepare(tmp_path / "tars", data_dir, "--allow_partial") == 0
    assert read(data_dir, "train") == written["train"]


def test_an_unfinished_build_of_other_images_is_refused(tmp_path, data_dir, monkeypatch, capsys):
    write_tree(tmp_path / "photos", ["cat/1.jpg", "dog/2.jpg"])
    stop_at_writing(monkeypatch, tmp_path / "photos", data_dir)
    write_tree(tmp_path / "photos", ["cat/3.jpg"])
    assert prepare(tmp_path / "photos", data_dir) == 1
    assert "unfinished build of other images" in capsys.readouterr().err


def test_an_unfinished_build_is_not_finished_with_other_photos_in_the_same_files(
    tmp_path, data_dir, monkeypatch, capsys
):
    """Its first shards would hold the old ones."""
    write_tree(tmp_path / "photos", ["cat/1.jpg", "dog/2.jpg"])
    stop_at_writing(monkeypatch, tmp_path / "photos", data_dir)
    changed = tmp_path / "photos" / "dog" / "2.jpg"
    changed.write_bytes((tmp_path / "photos" / "cat" / "1.jpg").read_bytes())
    os.utime(changed, (1577836800, 1577836800))
    assert prepare(tmp_path / "photos", data_dir) == 1
    assert "unfinished build of other images, of others in the same files" in capsys.readouterr().err


def test_lost_records_are_noticed(tmp_path, data_dir, monkeypatch, capsys):
    write_tree(tmp_path / "photos", ["cat/1.jpg", "dog/2.jpg"])
    monkeypatch.setattr(prepare_shards, "_to_disk", lambda path: path.write_bytes(b""))
    assert prepare(tmp_path / "photos", data_dir) == 1
    assert "2 images found for the split train, but 0 are in" in capsys.readouterr().err
    assert not (data_dir / "mine" / "1.0.0").exists()


def test_an_existing_dataset_is_refused(tmp_path, data_dir, capsys):
    write_tree(tmp_path / "photos", ["cat/1.jpg", "dog/2.jpg"])
    assert prepare(tmp_path / "photos", data_dir) == 0
    before = read(data_dir, "train")
    assert prepare(tmp_path / "photos", data_dir) == 1
    assert "exists already" in capsys.readouterr().err
    assert read(data_dir, "train") == before


def test_a_second_process_is_refused(tmp_path, data_dir, capsys):
    write_tree(tmp_path / "photos", ["cat/1.jpg", "dog/2.jpg"])
    with prepare_shards.only_builder(data_dir / "mine" / "1.0.0"):
        assert prepare(tmp_path / "photos", data_dir) == 1
    assert "another process is building" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("folders", "flags"),
    [
        (
            ("train", "test", "val"),
            "--config.data.train_split=train --config.data.eval_split=validation --config.data.validation_share=0.0",
        ),
        (
            ("train", "test"),
            "--config.data.train_split=train --config.data.eval_split=test --config.data.validation_share=0.0",
        ),
        (("train",), "--config.data.train_split=train --config.data.eval_split= --config.data.validation_share=SHARE"),
    ],
)
def test_it_says_how_to_train_on_it(tmp_path, data_dir, capsys, folders, flags):
    write_tree(tmp_path / "photos", [f"{folder}/{name}/1.jpg" for folder in folders for name in ("cat", "dog")])
    assert prepare(tmp_path / "photos", data_dir) == 0
    assert capsys.readouterr().out.rstrip().endswith(f"--config.data.data_dir={data_dir} {flags}")


def test_training_opens_it(tmp_path, data_dir):
    write_tree(tmp_path / "photos", [f"{name}/{i}.jpg" for name in ("cat", "dog") for i in range(6)])
    assert prepare(tmp_path / "photos", data_dir) == 0
    chosen = {"dataset": "mine", "data_dir": str(data_dir), "eval_split": "", "validation_share": 0.5}
    config = small_config(**{f"data.{key}": value for key, value in chosen.items()}, **{"data.labels_per_class": 2})
    task = open_task(config, workdir=None, label_free=("mae",))
    assert task.class_names == ("cat", "dog")
    assert (len(task.split.labeled), len(task.split.unlabeled), len(task.eval)) == (4, 2, 6)
