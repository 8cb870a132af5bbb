"""Features of many images: equal to the model's, resumed after a kill, read back in both formats."""

import json
import os
import tracemalloc

import numpy as np
import pytest
from PIL import Image

from semivit_jax import files
from semivit_jax.inference import embed, embedding
from semivit_jax.inference.trained import load_trained
from semivit_jax.main import main
from tests.compiled import quick_jit
from tests.models import network_of

PIXELS = np.random.default_rng(5).integers(0, 256, (11, 8, 8, 3), np.uint8)
NAMES = [f"{'ant' if place % 2 else 'bee'}/{place:02d}.png" for place in range(len(PIXELS))]


@pytest.fixture
def photos(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    for name, pixels in zip(NAMES, PIXELS, strict=True):
        file = tmp_path / "photos" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(file)
    return tmp_path / "photos"


@pytest.fixture(scope="module")
def expected(finished):
    """Name -> features that the averaged weights give."""
    _, config, _, ema_params = finished
    model = network_of(config, image_size=8, num_classes=10)
    images = (PIXELS / 255 - np.array(config.data.mean)) / np.array(config.data.std)
    return dict(zip(NAMES, np.asarray(quick_jit(model.features)(ema_params, images.astype(np.float32))), strict=True))


def called(finished, photos, *more):
    return main(["semivit", "embed", f"--workdir={finished[0]}", f"--images={photos}", "--batch_size=3", *more])


@pytest.mark.parametrize("kind", embedding.WRITERS)
@pytest.mark.parametrize(("dtype", "rtol"), [("float32", 1e-5), ("float16", 1e-3)])
def test_features_are_the_model_s(finished, photos, expected, tmp_path, monkeypatch, kind, dtype, rtol):
    monkeypatch.setattr(embed, "PART", 4)  # three parts
    assert called(finished, photos, f"--out={tmp_path / 'emb'}", f"--format={kind}", f"--dtype={dtype}") == 0
    found = embedding.read(files.Path(tmp_path / "emb"))
    assert list(found.names) == sorted(NAMES)
    assert found.features.dtype == dtype
    assert {path.name for path in (tmp_path / "emb").iterdir()} == {"embedding.json", f"features.{kind}"}
    for name, row in zip(found.names, found.features, strict=True):
        np.testing.assert_allclose(row, expected[name], rtol=rtol, atol=rtol)


def test_what_was_computed_before_a_stop_is_kept(finished, photos, expected, tmp_path, monkeypatch):
    monkeypatch.setattr(embed, "PART", 4)
    out, read = tmp_path / "emb", []

    def stopping_at(limit):
        def one(image, view, *, name):
            read.append(name)
            if len(read) == limit:
                raise KeyboardInterrupt
            return plain(image, view, name=name)

        return one

    plain = embed.view_or_reason
    monkeypatch.setattr(embed, "view_or_reason", stopping_at(7))
    with pytest.raises(KeyboardInterrupt):
        called(finished, photos, f"--out={out}")
    assert not (out / "embedding.json").exists()
    with pytest.raises(embedding.EmbeddingError, match="holds no finished embedding"):
        embedding.read(files.Path(out))
    read.clear()
    monkeypatch.setattr(embed, "view_or_reason", stopping_at(None))
    assert called(finished, photos, f"--out={out}") == 0
    assert sorted(read) == sorted(NAMES)[4:]
    np.testing.assert_allclose(
        embedding.read(files.Path(out)).features, [expected[name] for name in sorted(NAMES)], rtol=1e-5, atol=1e-5
    )


def test_what_a_kill_left_of_the_parts_goes(finished, photos, tmp_path):
    out = tmp_path / "emb"
    assert called(finished, photos, f"--out={out}") == 0
    (out / "parts").mkdir()
    (out / "parts" / "000000000.npz").write_bytes(b"a part")
    assert called(finished, photos, f"--out={out}") == 0
    assert not (out / "parts").exists()


def test_a_name_that_parquet_cannot_hold_is_told_before_anything_is_computed(finished, photos, tmp_path, capsys):
    (photos / os.fsdecode(b"caf\xe9.png")).write_bytes((photos / NAMES[0]).read_bytes())
    assert called(finished, photos, f"--out={tmp_path / 'emb'}", "--format=parquet") == 1
    assert "has no place in Parquet; rename it, or take --format=npz" in capsys.readouterr().err
    assert called(finished, photos, f"--out={tmp_path / 'emb'}", "--format=npz") == 0


def test_images_that_cannot_be_read_are_listed(finished, photos, tmp_path, capsys):
    (photos / "ant" / "01.png").write_bytes((photos / "ant" / "01.png").read_bytes()[:60])
    (photos / "ant" / "03.png").write_bytes(b"no image")
    assert called(finished, photos, f"--out={tmp_path / 'emb'}") == 0
    found = embedding.read(files.Path(tmp_path / "emb"))
    assert list(found.names) == sorted(set(NAMES) - {"ant/01.png", "ant/03.png"})
    lines = (tmp_path / "emb" / "unread.txt").read_text().splitlines()
    assert [line.partition(" is not")[0].partition(":")[0] for line in lines] == ["'ant/03.png'", "'ant/01.png'"]
    assert "2 files without features" in capsys.readouterr().out


def test_a_folder_of_nothing_but_broken_images_is_an_error(finished, photos, tmp_path, capsys):
    for name in NAMES:
        (photos / name).write_bytes((photos / name).read_bytes()[:60])
    assert called(finished, photos, f"--out={tmp_path / 'emb'}") == 1
    assert "can be read:" in capsys.readouterr().err


def test_a_finished_one_is_not_made_again_and_another_is_refused(finished, photos, tmp_path, capsys):
    out = tmp_path / "emb"
    assert called(finished, photos, f"--out={out}") == 0
    before = (out / "features.npz").stat().st_mtime_ns
    assert called(finished, photos, f"--out={out}") == 0
    assert (out / "features.npz").stat().st_mtime_ns == before
    assert "holds these features already" in capsys.readouterr().out
    assert called(finished, photos, f"--out={out}", "--use=params") == 1
    assert f"{out} holds features of another set of weights; give another --out" in capsys.readouterr().err
    (photos / "ant" / "new.png").write_bytes((photos / NAMES[0]).read_bytes())
    assert called(finished, photos, f"--out={out}") == 1
    assert "of another set of images; give" in capsys.readouterr().err


def test_weights_and_photos_may_move_meanwhile(finished, photos, tmp_path, capsys):
    """What is compared is what they are, not where they lie."""
    out = tmp_path / "emb"
    assert called(finished, photos, f"--out={out}") == 0
    moved = photos.rename(tmp_path / "moved")
    capsys.readouterr()
    assert called(finished, moved, f"--out={out}") == 0
    assert "holds these features already" in capsys.readouterr().out
    assert called(finished, moved, f"--out={out}", "--format=parquet") == 1
    assert "of another format; give another --out" in capsys.readouterr().err


def test_a_list_that_is_not_there_is_named_by_its_flag(finished, photos, tmp_path, capsys):
    assert called(finished, photos, f"--out={tmp_path / 'emb'}", "--list=nowhere.txt") == 1
    assert "--list: there is no file nowhere.txt" in capsys.readouterr().err


def test_a_list_names_some_of_them(finished, photos, tmp_path):
    (tmp_path / "some.txt").write_text("ant/05.png\nbee/00.png\n")
    assert called(finished, photos, f"--out={tmp_path / 'emb'}", f"--list={tmp_path / 'some.txt'}") == 0
    assert list(embedding.read(files.Path(tmp_path / "emb")).names) == ["ant/05.png", "bee/00.png"]


@pytest.mark.filterwarnings("ignore:the load_module:DeprecationWarning")  # how ml_collections reads a config
def test_a_split_of_a_data_set(finished, tmp_path):
    code = main(["semivit", "embed", f"--workdir={finished[0]}", "--config=digits", "--split=test",
                 f"--out={tmp_path / 'emb'}"])  # fmt: skip
    assert code == 0
    found = embedding.read(files.Path(tmp_path / "emb"))
    assert len(found) == 360
    assert found.about["images"] == "digits, split 'test'"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "give the images, by --images=FOLDER or by --config=RECIPE, one of them"),
        (["--images=.", "--config=digits"], "one of them"),
        (["--config=digits", "--list=x"], "--list needs --images=FOLDER"),
        (["--images=.", "--split=test"], "--split needs --config=RECIPE"),
        (["--images=.", "--batch_size=0"], "--batch_size is 0; at least 1"),
    ],
)
def test_flags_that_contradict_each_other(arguments, message, tmp_path, capsys):
    assert main(["semivit", "embed", "--workdir=runs/mine", f"--out={tmp_path / 'emb'}", *arguments]) == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize("kind", embedding.WRITERS)
def test_a_damaged_one_is_refused(tmp_path, kind):
    features = np.zeros((3, 2), np.float32)
    embedding.WRITERS[kind](tmp_path / "f", ["a", "b", "c"], [features], width=2, dtype="float32")
    about = {"format": kind, "file": "f"}
    (tmp_path / "embedding.json").write_text(json.dumps(about))
    assert len(embedding.read(files.Path(tmp_path))) == 3
    (tmp_path / "f").write_bytes((tmp_path / "f").read_bytes()[:-40])
    with pytest.raises(embedding.EmbeddingError, match="is damaged, make it again"):
        embedding.read(files.Path(tmp_path))


def test_names_of_any_bytes_survive_and_parquet_says_what_it_cannot_hold(tmp_path):
    names, features = ["a,\n\u00e9.png", b"\xff.png".decode(errors="surrogateescape")], np.zeros((2, 2), np.float32)
    embedding.write_npz(tmp_path / "f", names, [features], width=2, dtype="float32")
    assert embedding.read_npz(files.Path(tmp_path / "f"))[0] == names
    with pytest.raises(embedding.EmbeddingError, match="is not UTF-8 and has no place in Parquet"):
        embedding.write_parquet(tmp_path / "g", names, [features], width=2, dtype="float32")


def test_a_long_name_among_many_takes_no_memory_for_all_of_them(tmp_path):
    """An array holds each name at the length of the longest: 160 MB here, and 16 GB of a million."""
    names = [f"{number:05}.jpg" for number in range(10_000)] + ["x/" * 2000 + "\u00e9.jpg"]
    parts = (np.full((len(part), 2), 7, np.float32) for part in np.array_split(np.arange(len(names)), 4))
    tracemalloc.start()
    embedding.write_npz(tmp_path / "f", names, parts, width=2, dtype="float32")
    found, features = embedding.read_npz(files.Path(tmp_path / "f"))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert found == names
    assert (features == 7).all()
    assert peak < 60e6
    assert (tmp_path / "f").stat().st_size < 2e6
    with np.load(tmp_path / "f") as arrays:  # as anybody reads it
        assert arrays["names"][:3].tolist() == names[:3]


def test_the_hash_of_weights_tells_one_from_another(finished):
    folder = files.path(finished[0])
    both = [load_trained(folder, kept="latest", tree=tree, stage=None) for tree in ("params", "ema_params")]
    hashes = [embed.weights_hash(one) for one in (*both, both[0])]
    assert hashes[0] == hashes[2] != hashes[1]
