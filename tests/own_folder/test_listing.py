"""What counts as an image in an own folder, and what is said of the rest."""

import logging
import os
import pickle
import socket

import pytest
from PIL import Image

from semivit_jax.data.images import formats
from semivit_jax.data.sources.errors import DatasetError
from semivit_jax.data.sources.folder import open_folder
from tests.own_folder.photos import csv_of, labels_of, put

NASTY = [
    "b c.JPG",
    "of windows.jfif",
    "new\nline.png",
    "ünïcödé 図.webp",
    "quote\"'.bmp",
    os.fsdecode(b"not-utf8-\xff.jpg"),
]


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
    put(root / ".thumbnails" / "small.png")
    put(root / "ant" / "@eaDir" / "0.png" / "SYNOPHOTO_THUMB_M.jpg")
    put(root / "__MACOSX" / "ant" / "1.png")
    (root / "ant" / "._0.png").write_bytes(b"of macOS")
    (root / "bee" / ".DS_Store").write_bytes(b"of macOS")
    with caplog.at_level(logging.WARNING):
        folder = listed()
    assert len(folder.listing.names) == 13
    text = caplog.text
    assert "6 files or folders" in text
    for part in ("'ant/empty.jpg' is empty", "'ant/text.png' is not an image", "'ant/sound.webp' is not",
                 "'ant/gone.jpg' cannot be read: No such file", "'ant/self.jpg' cannot be read: Too many",
                 "'bee/loop' is a link to a folder that "
                 "contains it",
                 "2 files in", "5 hidden files and folders, or of programs, in",
                 "passed over, '.thumbnails' first; rename what is to take part"):  # fmt: skip
        assert part in text


def test_pipes_sockets_and_devices_are_not_opened(listed, root, caplog, monkeypatch):
    """Opening a pipe would wait for a writer for ever."""
    os.mkfifo(root / "ant" / "pipe.jpg")
    pipe = os.open(root / "ant" / "pipe.jpg", os.O_RDWR)
    os.write(pipe, (root / "ant" / "0.png").read_bytes())  # so that this test would fail, not hang
    monkeypatch.chdir(root / "ant")  # the name of a socket is short
    with socket.socket(socket.AF_UNIX) as opened:
        opened.bind("socket.jpg")
    (root / "ant" / "device.jpg").symlink_to("/dev/zero")
    with caplog.at_level(logging.WARNING):
        folder = listed()
    os.close(pipe)
    assert len(folder.listing.names) == 13
    for name in ("pipe", "socket", "device"):
        assert f"'ant/{name}.jpg' is not a regular file" in caplog.text


def test_a_folder_that_cannot_be_listed_is_left_out_until_it_can(listed, root, monkeypatch, caplog):
    def refuse(path):
        if str(path).endswith("bee"):
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    scandir = os.scandir
    with monkeypatch.context() as patched, caplog.at_level(logging.WARNING):
        patched.setattr(os, "scandir", refuse)
        for _ in range(2):  # scanned, then from the cache
            assert "bee" not in listed().listing.class_names
            assert "'bee' cannot be listed: Permission denied" in caplog.text
            caplog.clear()
    assert "bee" in listed().listing.class_names


def test_a_misnamed_image_is_still_an_image(listed, root):
    put(root / "ant" / "really.png")
    (root / "ant" / "really.png").rename(root / "ant" / "a jpeg by name.jpg")
    assert "ant/a jpeg by name.jpg" in labels_of(listed())


def test_a_linked_folder_is_read(listed, root, tmp_path):
    put(tmp_path / "elsewhere" / "far.png")
    (root / "dog").symlink_to(tmp_path / "elsewhere")
    assert labels_of(listed())["dog/far.png"] == "dog"


def test_a_folder_is_listed_once_where_it_lies(listed, root, tmp_path, caplog):
    """By whatever name a link comes in the order; a second name would make its labeled images unlabeled ones."""
    put(tmp_path / "elsewhere" / "sub" / "far.png")
    for name, target in {
        "aaa": root / "ant",
        "zzz": root / "ant",
        "trip/up": root,
        "x1": tmp_path / "elsewhere",
        "x2": tmp_path / "elsewhere",
        "x3": tmp_path / "elsewhere" / "sub",
    }.items():
        (root / name).symlink_to(target)
    with caplog.at_level(logging.WARNING):
        folder = listed()
    assert len(folder.listing.names) == 14
    assert "x1/sub/far.png" in folder.listing.names
    for line in ("'aaa' is the same folder as 'ant'; its images are listed there", "'zzz' is the same folder as 'ant'",
                 "'trip/up' is a link to a folder that contains it", "'x2' is the same folder as 'x1'",
                 "'x3' is the same folder as 'x1/sub'"):  # fmt: skip
        assert line in caplog.text


def test_folders_that_link_to_each_other_are_scanned_once_each(listed, root, monkeypatch):
    siblings = [f"class {number}" for number in range(9)]
    for number, name in enumerate(siblings):
        put(root / name / "a.png", number)
        for other in siblings:
            if other != name:
                (root / name / other).symlink_to(root / other)
    scandir, scanned = os.scandir, []
    monkeypatch.setattr(os, "scandir", lambda path: scanned.append(path) or scandir(path))
    assert len(listed().listing.names) == 13 + 9
    assert len(scanned) == 8 + 9  # folders, the root among them


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


@pytest.fixture
def without_heic(monkeypatch):
    monkeypatch.setattr(formats, "heic_is_read", lambda: False)


@pytest.mark.usefixtures("without_heic")
def test_photos_that_need_an_extra_are_counted(listed, root, tmp_path, caplog):
    for name in ("a.HEIC", "trip/b.heif"):
        (root / name).write_bytes(b"a photo")
    os.utime(root, ns=(1, 1))
    for _ in range(2):  # scanned, then from the cache
        with caplog.at_level(logging.WARNING):
            listed()
        line, _ = (r.getMessage() for r in caplog.records)
        assert line.startswith("2 files in ")
        told = "not read (.heic, .heif) and take no part; convert to JPEG or PNG, or install the extra heic: "
        assert told in line
        caplog.clear()
    with pytest.raises(DatasetError, match=r"1 problem with .*\n.* 'a.HEIC' is of a format that is not read; convert"):
        listed(csv_of(tmp_path, "loose.png,dog", "a.HEIC,dog"))


@pytest.mark.usefixtures("without_heic")
def test_a_folder_of_such_photos_alone_says_so(tmp_path):
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "a.heic").write_bytes(b"a photo")
    with pytest.raises(DatasetError, match=r"no images in .*\n1 file in .* convert"):
        open_folder(
            tmp_path / "photos", labels_csv=None, class_names=None, keep_none=False, cache_dir=tmp_path / "cache"
        )


def test_an_extra_that_comes_later_finds_its_photos(listed, root, monkeypatch):
    """What was kept for the next start was without them."""
    (root / "a.heic").write_bytes(b"\0\0\0\x1cftypheic")
    os.utime(root, ns=(1, 1))
    found = []
    for read in (False, True, False):
        monkeypatch.setattr(formats, "heic_is_read", lambda read=read: read)
        found.append("a.heic" in listed().listing.names)
    assert found == [False, True, False]


@pytest.mark.parametrize("name", ["a.TIF", "b.tiff", "c.avif"])
def test_photos_that_pillow_reads_take_part(listed, root, name):
    """Files with the pixels of a photo, saved by the name's format."""
    Image.new("RGB", (8, 8)).save(root / name)
    assert name in listed().listing.names


def test_no_folder_and_no_images(tmp_path):
    def opened(path):
        return open_folder(path, labels_csv=None, class_names=None, keep_none=False, cache_dir=tmp_path / "cache")

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
