"""`config.data.cache_features`: a head trains on features that are computed once and kept."""

import dataclasses
import functools
import hashlib
import re
import shutil

import jax
import numpy as np
import pytest

from semivit_jax.config import ConfigError
from semivit_jax.data import kept_features
from semivit_jax.data.feature_rows import FeatureRows, FeatureTable
from semivit_jax.data.order import StreamOrder
from semivit_jax.data.rows import BadRecord, StreamImages, class_of, decode_all
from semivit_jax.data.sources.image_set import ImageSet
from semivit_jax.data.sources.kept import cache_dir
from semivit_jax.inference.trained import load_trained
from semivit_jax.ops import rng
from semivit_jax.stages.stage import sample_images, see
from semivit_jax.training import loop, run, sharding, summary, view_features
from semivit_jax.training.compiled import compile_stage, stage_key
from semivit_jax.training.setup import Run
from tests.compiled import quick_jit
from tests.configs import small_config, small_plan
from tests.decoded import keep_decoded
from tests.models import network_of
from tests.serve.runs import TINY, digits, write_run
from tests.tune import tuned

pytestmark = pytest.mark.xdist_group("kept_features")

HEAD = {"model.tune": "head", "data.cache_features": 3}
RUN = TINY | {
    "stages": ("finetune", "semi"), "data.train_split": "train[:400]", "data.labels_per_class": 4,
    "model.head_init": "probe",
    "finetune.batch_size": 20, "finetune.mixup_group_size": 10, "finetune.epochs": 2.0, "finetune.warmup_epochs": 0.0,
    "semi.batch_size": 40, "semi.mixup_group_size": 10, "semi.epochs": 2.0, "semi.warmup_epochs": 0.0,
    "semi.confidence_threshold": 0.05, "train.eval_every_epochs": 10.0, "train.compilation_cache": False,
    "checkpoint.save_every_steps": 2, "log.tensorboard": False,
}  # fmt: skip
STILL = {"degrees": 0.0, "shift": 0.0, "scale": (1.0, 1.0), "shear": 0.0}
SAME_VIEWS = {  # every view is the image as it is, and nothing is mixed
    **{f"data.affine_views.{view}.{k}": v for view in ("labeled", "weak", "strong") for k, v in STILL.items()},
    "finetune.labeled_mixup": False, "semi.labeled_mixup": False, "semi.pseudo_mixup": "none",
}  # fmt: skip


@pytest.fixture(scope="module")
def train(tmp_path_factory):
    """Trains a head on given weights, with a cache folder of its own; returns the folder of the run."""
    root = tmp_path_factory.mktemp("kept")
    write_run(root / "weights", stage="mae")
    made = {"data.data_dir": str(cache_dir() / "tfds"), "init_from": str(root / "weights")}  # once for all tests
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(summary, "baselines", lambda task, data: {})
        keep_decoded(patch)
        jax.config.update("jax_disable_most_optimizations", True)  # compiled quickly

        def go(name, *, cache="cache", **changes):
            patch.setenv("XDG_CACHE_HOME", str(root / cache))
            run.train(small_config(**(RUN | HEAD | made | changes)), root / name)
            return root / name

        yield go
        jax.config.update("jax_disable_most_optimizations", False)


@pytest.fixture(scope="module")
def trained(train):
    return train("trained")


def heads(folder):
    """The heads that the stages of a run ended with, student and teacher."""
    found = {}
    for stage in (stage for stage in ("finetune", "semi") if (folder / stage).exists()):
        for tree in ("params", "ema_params"):
            weights = load_trained(folder, kept="latest", tree=tree, stage=stage).weights.params
            found |= {f"{stage} {tree} {name}": np.asarray(leaf) for name, leaf in weights["head"].items()}
    return found


def computed(said):
    """{row of VIEWS or 'evaluation': images whose features a run computed}, from what it said."""
    found = {}
    for count, row in re.findall(r"computed features of ([\d,]+) images? \((\w+),", said):
        found[row] = found.get(row, 0) + int(count.replace(",", ""))
    return found


def test_the_head_is_that_without_kept_features_where_the_views_are_the_same(train):
    """Of the stage that reads every kind of view."""
    kept, plain = (heads(train(name, stages=("semi",), **SAME_VIEWS, **views)) for name, views in PAIR.items())
    for name, leaf in plain.items():
        np.testing.assert_allclose(kept[name], leaf, rtol=0, atol=2e-5 * np.abs(leaf).max(), err_msg=name)
    assert np.abs(plain["semi params kernel"] - plain["semi ema_params kernel"]).max() > 1e-3  # it has learned


PAIR = {"kept": {"data.cache_features": 2}, "plain": {"data.cache_features": 0}}


def test_what_was_computed_once_is_kept_for_all_stages_and_runs(trained, train, capsys):
    """A second run on the same images computes nothing, and one with more labels what had none before."""
    capsys.readouterr()
    train("again", stages=("finetune",))
    assert computed(capsys.readouterr().out) == {}
    train("more_labels", stages=("semi",), **{"data.labels_per_class": 5})  # it reads every kind of view
    found = computed(capsys.readouterr().out)
    assert set(found) <= {"labeled", "weak", "strong", "evaluation"}
    assert 0 < found["labeled"] <= 50
    assert found.get("evaluation", 0) <= 50  # the labeled ones, which the probe is fitted on
    assert found.get("weak", 0) <= 40


@pytest.mark.slow
def test_a_run_that_ended_goes_on_with_the_same_features(train, monkeypatch):
    longer = {"semi.epochs": 6.0}
    wanted = heads(train("whole", **longer))
    consume = loop.Loop._consume

    def consume_or_end(self, step, found, **options):
        if self.plan.stage == "semi" and step > 3:
            self.wait()
            raise OSError("ended here")
        consume(self, step, found, **options)

    monkeypatch.setattr(loop.Loop, "_consume", consume_or_end)
    with pytest.raises(OSError, match="ended here"):
        train("ended", **longer)
    monkeypatch.setattr(loop.Loop, "_consume", consume)
    found = heads(train("ended", **longer))
    for name, leaf in wanted.items():
        np.testing.assert_array_equal(found[name], leaf, err_msg=name)


# ---- which features


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path / "semivit_jax" / "features"


ERASED = HEAD | {"finetune.erase_prob": 0.5}


def compiled_for(**changes):
    config = small_config(**(TINY | ERASED | {"stages": ("finetune",), "init_from": "x"} | changes))
    mesh = sharding.make_mesh(1, jax.devices()[:1])
    return Run(config, None, digits(), mesh, None, None), compile_stage(config, small_plan("finetune"), mesh)


@functools.cache
def first_state():
    """Of every one of these runs: what they change is no shape of the model."""
    one, compiled = compiled_for()
    return compiled.init(stage_key(one.config, "finetune"))


def backbone(weights=2, **changes):
    one, compiled = compiled_for(**changes)
    state = dataclasses.replace(first_state(), frozen=tuned.scattered(first_state().frozen, weights))
    return view_features.backbone_of(one, compiled, state)


def made_from(backbone, row="labeled"):
    config = backbone.run.config
    return view_features._made_from(backbone, view_features.look(config, config.stage("finetune"), row))


def test_draws_belong_to_an_image_and_the_number_of_its_view(cache):
    """Not to its place among the others, and they are what the table says: warped, erased, through the backbone."""
    one, images, indices = backbone(), digits().train, np.array([7, 3, 11])
    found = view_features.table(one, "labeled", images, indices)
    config = one.run.config
    seen = view_features.look(config, config.stage("finetune"), "labeled")
    network = network_of(config, image_size=8, num_classes=10)
    key = rng.stream(jax.random.key(config.seed), seen.told)

    @quick_jit
    def features_of(image, own):
        return network.features(one.params, see(image, sample_images(own, 1, seen.device), seen.device))

    for index in indices:
        number = np.uint32(int.from_bytes(hashlib.blake2b(images.records[index], digest_size=16).digest()[:4]))
        image = jax.numpy.asarray(decode_all(images, config.data).images[index][None])
        views = []
        for turn in range(3):
            own = jax.random.fold_in(jax.random.fold_in(key, number), turn)
            views.append(features_of(image, own)[0])
        np.testing.assert_allclose(found.features[found.row_of[index]], np.stack(views), rtol=0, atol=1e-4)
        assert np.abs(views[0] - views[1]).max() > 1e-2
    assert set(np.flatnonzero(found.row_of >= 0)) == set(indices)


def test_other_weights_views_or_draws_are_other_features():
    one = backbone()
    assert made_from(one) == made_from(backbone())
    assert made_from(one) == made_from(one, "labeled") != made_from(one, "weak")
    changes = (
        {"seed": 3},
        {"finetune.erase_prob": 0.25},
        {"data.cache_features": 4},
        {"data.affine_views.labeled.shear": 0.7},
    )
    others = [made_from(backbone(weights=3)), *(made_from(backbone(**change)) for change in changes)]
    assert len({made_from(one), *others}) == 1 + len(others)
    assert made_from(one) == made_from(backbone(**{"finetune.base_lr": 1.0, "finetune.labeled_mixup": False}))


def test_labeled_and_strong_views_are_one_where_they_are_made_alike():
    alike = {
        f"data.affine_views.{v}.{k}": x
        for v in ("labeled", "strong")
        for k, x in {"degrees": 5.0, "shift": 0.1, "scale": (1.0, 1.0), "shear": 0.0}.items()
    }
    one = backbone(**alike)
    assert made_from(one, "labeled") == made_from(one, "strong")


def test_a_file_of_other_features_and_a_damaged_one_are_passed_over(cache, caplog):
    ids = [bytes([n] * 16) for n in range(3)]
    kept_features.keep("a" * 64, dict(zip(ids, np.ones((3, 2, 5), np.float32), strict=True)))
    assert kept_features.recall("a" * 64, views=2, width=5).keys() == set(ids)
    (file,) = (cache / ("a" * 16)).glob("*.npz")
    (cache / ("b" * 16)).mkdir()
    shutil.copy(file, cache / ("b" * 16) / file.name)
    assert kept_features.recall("b" * 64, views=2, width=5) == {}
    assert kept_features.recall("a" * 64, views=1, width=5) == {}
    assert "is damaged" in caplog.text
    caplog.clear()
    file.write_bytes(file.read_bytes()[:-40])
    assert kept_features.recall("a" * 64, views=2, width=5) == {}
    assert "is damaged" in caplog.text


def test_an_image_is_told_by_its_bytes(cache, capsys):
    """Whatever its name; an image that changed is computed anew, and one that cannot be read is named each time."""
    one, records = backbone(), [digits().train.records[n] for n in range(3)]

    def table_of(*encoded, names="abc"):
        images = ImageSet(list(encoded), list(names), np.zeros(3, np.int32))
        return view_features.table(one, "weak", images, np.arange(3))

    first = table_of(*records)
    assert computed(capsys.readouterr().out) == {"weak": 3}
    second = table_of(*reversed(records), names="xyz")
    assert computed(capsys.readouterr().out) == {}
    np.testing.assert_array_equal(first.features[first.row_of], second.features[second.row_of[::-1]])
    third = table_of(records[0], b"no image", records[2])
    assert computed(capsys.readouterr().out) == {"weak": 1}
    assert third.row_of[1] == -1
    assert third.bad.keys() == {1}


# ---- rows


def test_each_pass_has_its_view_and_bad_images_are_skipped():
    indices = np.array([4, 6, 9])
    images = ImageSet([b""] * 10, [str(n) for n in range(10)], np.arange(10, dtype=np.int32))
    features = np.arange(2 * 2 * 1, dtype=np.float32).reshape(2, 2, 1)  # of images 4 and 9: 0 1, 2 3
    row_of = np.full(10, -1)
    row_of[[4, 9]] = 0, 1
    one = FeatureTable(features, row_of, {6: BadRecord(6, "bad")})
    order = StreamOrder(indices, seed=0, name="x")
    rows = FeatureRows(StreamImages(images, order, class_of, image_id=True, bank=None), {"weak": one, "strong": one})
    found = rows.read(np.arange(9))
    for position in range(9):
        label = int(found.arrays["label"][position])
        assert label in (4, 9)
        expected = features[row_of[label], (position // 3) % 2]
        for leaf in ("weak", "strong"):
            assert found.arrays[leaf][position].shape == (1, 1, 1)
            assert found.arrays[leaf][position].ravel() == expected
    assert [bad.index for bad in found.bad] == [6, 6, 6]


# ---- what is refused


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"model.tune": "all"}, "config.data.cache_features is 3 and config.model.tune 'all'"),
        ({"finetune.mixup_alpha": 0.0, "finetune.cutmix_alpha": 1.0}, "config.finetune.mixup_alpha is 0"),
    ],
)
def test_what_kept_features_cannot_do_is_refused(changes, words):
    with pytest.raises(ConfigError, match=re.escape(words)):
        small_config(**(HEAD | {"stages": ("finetune",)} | changes))


def test_several_processes_are_refused(monkeypatch, tmp_path):
    monkeypatch.setattr(run, "prepare_process", lambda config: None)
    monkeypatch.setattr(jax, "process_count", lambda: 2)
    with pytest.raises(ConfigError, match="features are kept by one process alone"):
        run.train(small_config(**(HEAD | {"stages": ("finetune",)})), tmp_path)
