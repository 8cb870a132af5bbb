"""A folder of photos, labels for some of them in a CSV file, and one file cut short: all three stages run."""

import io
import json

import numpy as np
import pytest
from PIL import Image

from tests.e2e.photos import SMALL
from tests.e2e.runs import STAGES

pytestmark = [
    pytest.mark.xdist_group("own folder"),
    pytest.mark.filterwarnings("ignore:the load_module:DeprecationWarning"),  # how ml_collections reads a config
]

COLORS = {"apple": (200, 40, 40), "leaf": (40, 180, 60), "sea": (30, 60, 200)}
NUM_PHOTOS, NUM_LABELED = 60, 36
TRUNCATED = "trip 2/photo_59.jpg"


def photo(name, number):
    """Noise on the colour of the class, in sizes that differ."""
    chance = np.random.default_rng(number)
    noise = chance.normal(0, 25, (40 + number % 9, 48, 3))
    encoded = io.BytesIO()
    Image.fromarray(np.clip(COLORS[name] + noise, 0, 255).astype(np.uint8)).save(encoded, "JPEG", quality=90)
    return encoded.getvalue()


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """60 photos in two folders; the first 36 have a label, the last one is cut in the middle."""
    root = tmp_path_factory.mktemp("photos")
    rows = ["path,label"]
    for number in range(NUM_PHOTOS):
        name, path = list(COLORS)[number % 3], f"trip {1 + number % 2}/photo_{number:02d}.jpg"
        content = photo(name, number)
        (root / path).parent.mkdir(exist_ok=True)
        (root / path).write_bytes(content[: len(content) // 2] if path == TRUNCATED else content)
        rows += [f"{path},{name}"] if number < NUM_LABELED else []
    (root / "labels.csv").write_text("\n".join(rows))
    return root


@pytest.fixture(scope="module")
def run(train_here, photos, tmp_path_factory):
    """The finished run: its folder, and what it printed."""
    workdir = tmp_path_factory.mktemp("runs") / "photos"
    values = SMALL | {"data.root": photos, "data.labels": photos / "labels.csv"}
    return workdir, train_here(workdir, config="own_folder", **values)


def test_it_tells_what_it_found(run):
    # A fifth of the 36 labeled images is kept back.
    assert "29 labeled, 24 unlabeled and 7 validation images; 3 classes: apple, leaf, sea" in run[1]


def test_few_images_for_pretraining_are_warned_of(run):
    assert "53 images are few for MAE pre-training" in run[1]


def test_what_compiles_for_long_is_told_before(run):
    for stage in STAGES:
        before, _, after = run[1].partition(f"{stage}: compiling the step (once per start")
        assert after.partition(f"{stage}: step 1 began after")[1]
        assert "compiling the step" not in after.partition(f"{stage}: step 1 began after")[0]
        assert f"{stage}: step 1 began" not in before


def test_every_stage_is_finished(run):
    assert all((run[0] / stage / "DONE").exists() for stage in STAGES)


def test_summary(run):
    summary = json.loads((run[0] / "summary.json").read_text())
    expected = {"dataset": "own_folder", "num_train": 53, "num_labeled": 29, "num_test": 7, "seed": 0}
    assert {key: summary[key] for key in expected} == expected
    assert list(summary["stages"]) == list(STAGES)
    assert summary["recipe"].startswith("own_folder:model=vit_b16 with model.variant='vit_test2', ")
    for stage, keys in {"mae": {"loss"}, "finetune": {"acc1"}, "semi": {"acc1", "ema_acc1", "mask_rate"}}.items():
        assert keys <= summary["stages"][stage].keys()
    for stage in ("finetune", "semi"):  # whole images of seven
        assert summary["stages"][stage]["acc1"] * 7 == pytest.approx(round(summary["stages"][stage]["acc1"] * 7))


def test_the_split_is_stored_with_class_names(run):
    listing = json.loads((run[0] / "listing.json").read_text())
    assert listing["class_names"] == list(COLORS)
    rows = (run[0] / "split.csv").read_text().splitlines()[1:]
    assert sorted(row.partition(",")[0] for row in rows) == ["labeled"] * 29 + ["validation"] * 7


def test_the_truncated_photo_is_replaced_and_named_once_though_two_stages_read_it(run):
    (named,) = [line for line in run[1].splitlines() if "passing over" in line]
    assert TRUNCATED in named


def test_bad_records_are_counted_in_the_metrics(run):
    lines = (run[0] / "mae" / "metrics.jsonl").read_text().splitlines()
    counts = [json.loads(line)["perf/bad_records"] for line in lines]
    assert counts == sorted(counts)
    assert counts[-1] > 0
