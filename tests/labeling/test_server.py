"""What the server gives, and to whom: images of the folder by number, to its own page, behind the token."""

import io
import json
import os

import numpy as np
import pytest
from PIL import Image

from semivit_jax.data.sources.label_paths import Images
from semivit_jax.inference import predict
from semivit_jax.inference.embedding import Embedding
from semivit_jax.labeling.guesses import Guess, Guesses, from_csv
from semivit_jax.labeling.similar import Similar
from tests.labeling.conftest import HOSTILE, PLAIN, put_photos
from tests.labeling.served import TOKEN, asked, serving_site, site
from tests.own_folder.photos import put

NAMES = sorted((*PLAIN, *HOSTILE), key=os.fsencode)


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    """A page that tests only look at."""
    folder = tmp_path_factory.mktemp("looked at")
    with serving_site(site(put_photos(folder / "photos"), NAMES, folder / "labels.csv")) as found:
        yield found


@pytest.fixture
def own_address(photos, tmp_path):
    with serving_site(site(photos, NAMES, tmp_path / "labels.csv")) as found:
        yield found


def test_the_page_and_its_files_come_with_the_token(address):
    for path in ("", "page/main.js", "page/page.css", "page/icon.svg", "start", "names?places=0,1", "news"):
        status, headers, content = asked(address, path)
        assert (status, bool(content)) == (200, True), path
        assert "default-src 'none'" in headers["content-security-policy"]
        assert headers["referrer-policy"] == "no-referrer"
        assert headers["x-content-type-options"] == "nosniff"
    assert asked(address, f"/{TOKEN}")[0] == 307


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Host": "evil.example"}, 421),
        ({"Host": "evil.example:8427"}, 421),
        ({"Origin": "http://evil.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Origin": "http://127.0.0.1:1"}, 403),
        ({"Sec_Fetch_Site": "cross-site"}, 403),
        ({"Sec_Fetch_Site": "same-site"}, 403),
        ({"Host": "localhost:1234", "Origin": "http://localhost:1234"}, 200),
        ({"Sec_Fetch_Site": "same-origin"}, 200),
    ],
)
def test_other_hosts_and_origins_are_refused(address, headers, status):
    for path in ("start", "picture/small/0"):
        assert asked(address, path, **headers)[0] == status


@pytest.mark.parametrize("path", ["/", "/start", "/other-token/start", f"/{TOKEN}x/start", "/%00/", "//start"])
def test_nothing_comes_without_the_token(address, path):
    status, _, content = asked(address, path)
    assert status == 404
    assert b"images" not in content


@pytest.mark.parametrize(
    "path",
    [
        "../x", "%2e%2e/x", "..%2fx", "picture/small/../../x", "picture/small/%2e%2e%2fx", "picture/small/-1",
        "picture/small/99", "picture/huge/0", "picture/small/0/../../../etc/passwd", "page/../server.py",
        "page/..%2fserver.py", "page/%2e%2e/server.py", "page//etc/passwd", "similar/99", "a.png",
        "picture/small/a.png", "picture/small/1e0", "picture/small/%d9%a3",
    ],
)  # fmt: skip
def test_paths_lead_nowhere(address, path):
    status, headers, _ = asked(address, path)
    assert status == 404
    assert headers["content-type"] in ("application/json", "text/plain; charset=utf-8")


def test_every_name_is_told_and_its_picture_is_shown(address):
    names = json.loads(asked(address, "names?places=" + ",".join(map(str, range(len(NAMES)))))[2])
    assert names == NAMES
    for place in range(len(NAMES)):
        status, headers, content = asked(address, f"picture/small/{place}")
        assert (status, headers["content-type"]) == (200, "image/png")
        assert Image.open(io.BytesIO(content)).size


def test_actions_come_as_json_of_this_listing(own_address):
    address, action = own_address, {"id": "12345678", "do": "label", "images": [0], "seen": [""], "label": "oak"}
    body = {"actions": [action], "version": 0, "guesses": 0, "listing": "listing"}
    assert asked(address, "act", method="POST", body=body, Content_Type="text/plain")[0] == 415
    assert asked(address, "act", method="POST", body=body | {"listing": "another"})[0] == 409
    assert asked(address, "act", method="POST", body={"actions": [{"do": "erase"}], "version": 0})[0] == 400
    assert asked(address, "act", method="POST", body=[])[0] == 400
    assert asked(address, "act")[0] == 404
    assert asked(address, "act", method="POST", body=body, Origin="http://evil.example")[0] == 403
    status, _, content = asked(address, "act", method="POST", body=body)
    assert status == 200
    assert json.loads(content)["answers"] == [{"id": "12345678", "done": True, "words": ""}]
    assert json.loads(asked(address, "start")[2])["labels"] == [["oak", [0]]]


def test_numbers_of_another_listing_are_refused(photos, tmp_path):
    """Since the folder changed, they may be those of other images: their pictures and names would be wrong."""
    features = Similar(Embedding(NAMES[:4], np.eye(4, dtype=np.float32), {"images": str(photos)}), NAMES)
    with serving_site(site(photos, NAMES, tmp_path / "labels.csv", similar=features)) as address:
        for path in ("picture/large/0?", "picture/small/0?", "names?places=0&", "similar/0?"):
            assert asked(address, f"{path}listing=listing")[0] == 200
            status, _, content = asked(address, f"{path}listing=another")
            assert (status, b"the folder has changed" in content) == (409, True), path


def test_places_of_names(address):
    status, _, content = asked(address, "places", method="POST", body=[NAMES[3], "gone.png", NAMES[-1]])
    assert (status, json.loads(content)) == (200, [3, None, len(NAMES) - 1])
    for wrong in (3, [[]], [{}]):
        assert asked(address, "places", method="POST", body=wrong)[0] == 400
    assert asked(address, "places", method="POST", body=[], Content_Type="text/plain")[0] == 415


def test_a_link_out_of_the_folder_is_not_shown(photos, tmp_path):
    put(tmp_path / "secret.png", 3)
    (photos / "linked.png").symlink_to(tmp_path / "secret.png")
    (photos / "within.png").symlink_to(photos / "a.png")
    (photos / "swapped.png").write_text("no image")
    names = ["linked.png", "within.png", "swapped.png", "gone.png"]
    with serving_site(site(photos, names, tmp_path / "labels.csv")) as address:
        found = [asked(address, f"picture/large/{place}") for place in range(4)]
    assert [status for status, _, _ in found] == [422, 200, 422, 422]
    assert b"a link that leads out of the folder" in found[0][2]
    assert b"No such file" in found[3][2]


def test_pictures_are_small_turned_upright_and_kept(tmp_path):
    folder = tmp_path / "photos"
    folder.mkdir()
    pixels = np.random.default_rng(0).integers(0, 256, (600, 900, 3), np.uint8)
    turned = Image.Exif()
    turned[0x0112] = 6  # a quarter turn
    Image.fromarray(pixels).save(folder / "big.jpg", exif=turned, quality=95)
    with serving_site(site(folder, ["big.jpg"], tmp_path / "labels.csv")) as address:
        sizes = {
            size: Image.open(io.BytesIO(asked(address, f"picture/{size}/0")[2])).size for size in ("small", "large")
        }
        kept = list((tmp_path / "cache").rglob("*.jpg"))
        again = asked(address, "picture/small/0")[2]
    assert sizes == {"small": (149, 224), "large": (600, 900)}
    assert [file.read_bytes() for file in kept] == [again]
    assert not Image.open(io.BytesIO(again)).getexif()


def test_similar_images_come_nearest_first(photos, tmp_path):
    features = np.array([[1, 0], [0, 1], [0.9, 0.1], [0.5, 0.5]], np.float32)
    found = Similar(Embedding(NAMES[:4], features, {"images": str(photos)}), NAMES)
    with serving_site(site(photos, NAMES, tmp_path / "labels.csv", similar=found)) as address:
        assert [place for place, _ in json.loads(asked(address, "similar/0")[2])] == [0, 2, 3, 1]
        assert json.loads(asked(address, "similar/7")[2]) == []
    with pytest.raises(ValueError, match="give the one of --images"):
        Similar(Embedding(["x.png"], features[:1], {"images": "elsewhere"}), NAMES)


def test_guesses_come_with_the_news_and_those_of_others_are_passed_over(photos, tmp_path):
    table = tmp_path / "predictions.csv"
    table.write_text(
        "path,label,confidence,label_2\nb.png,oak,0.75,ash\nelsewhere.png,ash,0.5,oak\na.png,ash,1,oak\n"
        "sub/c.png,,0.2,ash\n"
    )  # below --abstain_below
    guesses = from_csv(table, Images(photos, NAMES))
    wanted = [("b.png", "oak", 0.75), ("a.png", "ash", 1.0), ("sub/c.png", "", 0.2)]
    assert guesses.since(0) == [Guess(NAMES.index(name), label, confidence) for name, label, confidence in wanted]
    shown = site(photos, NAMES, tmp_path / "labels.csv", guesses=guesses, classes=guesses.classes)
    with serving_site(shown) as address:
        started = json.loads(asked(address, "start")[2])
        assert started["classes"] == ["ash", "oak"]
        assert len(started["guesses"]) == 3
        assert json.loads(asked(address, "news?version=0&guesses=3")[2])["guesses"] == []
    for wrong, told in (
        ("path,label\n", "has not the columns"),
        ("path,label,confidence\nx.png,oak,1\n", "names not one"),
        ("path,label,confidence\na.png,oak,1\nb.png,oak\n", "predictions.csv line 3 is cut off; write the table again"),
        ("path,label,confidence\na.png,oak,high\n", "line 2 has the confidence 'high'; 0 to 1"),
        ("path,label,confidence\na.png,oak,nan\n", "line 2 has the confidence 'nan'; 0 to 1"),
    ):
        table.write_text(wrong)
        with pytest.raises(ValueError, match=told):
            from_csv(table, Images(photos, NAMES))


def test_a_run_predicts_meanwhile(photos):
    class Run:
        def each(self, images):
            return ([predict.Guess(path.name, 0.5)] for path in images)

    guesses = Guesses("a run", ("oak",))
    guesses.start(Run(), photos, NAMES, [3, 1])
    guesses._running.join()
    assert [(guess.place, guess.label) for guess in guesses.since(0)] == [(3, NAMES[3]), (1, NAMES[1])]
    assert not guesses.working
