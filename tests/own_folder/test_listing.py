"""What counts as an image in an own folder, and what is said of the rest."""

import logging
import os
import pickle

import numpy as np
import pytest

from semivit_jax.data import folder_scan
from semivit_jax.data.errors import DatasetError
from semivit_jax.data.folder import open_folder
from tests.own_folder.photos import csv_of, labels_of, put

NASTY = ["b c.JPG", "new\nline.png", "ünïcödé 図.webp", "quote\"'.bmp", os.fsdecode(b"not-utf8-\xff.jpg")]


def test_class_folders_label_their_own_images_only(listed):
    folder = listed()
    assert folder.listing.class_names == ("ant", "bee", "cat")
    assert labels_of(folder) == {
        f"{name}/{number}.png": name for name, count in (("ant", 4), ("bee", 3), ("cat", 2)) for number in range(count)
    }
    assert len(folder.listing.names) == 13
    assert list(folder.listing.names) == sorted(folder.listing.names)


def test_images_deeper_than_the_classes_are_told(listed, root, tmp_path, caplog):
    put(root / "unlabeled" / "2024" / "meant.png")
    with caplog.at_level(logging.WARNING):
        listed()
    (told,) = (r.getMessage() for r in caplog.records)
    assert told.startswith("2 images lie deeper than ROOT/CLASS and count as unlabeled, 'ant/deep/z.png' for one; ")
    caplog.clear()
    with caplog.at_level(logging.WARNING):
        listed(csv_of(tmp_path, "loose.png,a", "ant/0.png,a"))
    assert not caplog.records


def test_listing_is_said_when_it_is_done_and_not_when_it_is_kept(listed, root, caplog):
    for told in ([f"listing the images in {root} (kept for the next start)"], []):
        caplog.clear()
        with caplog.at_level(logging.INFO):
            listed()
        assert [r.getMessage() for r in caplog.records if "listing" in r.getMessage()] == told


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
        line, _ = (r.getMessage() for r in caplog.records)
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
