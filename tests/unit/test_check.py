"""The border of a config: every wrong key or value is an error that names it and what is legal."""

import ast
import dataclasses
import json
from pathlib import Path

import pytest

import semivit_jax
from semivit_jax import config as config_lib
from semivit_jax.config import HOST, ConfigError
from semivit_jax.models.clip import CLIP_SIZES
from semivit_jax.models.convnext import CONVNEXT_SIZES
from semivit_jax.models.data2vec import DATA2VEC_SIZES
from semivit_jax.models.dinov3 import DINOV3_SIZES
from semivit_jax.models.siglip import SIGLIP_SIZES
from semivit_jax.models.vit import VIT_SIZES
from semivit_jax.ops import optim
from semivit_jax.recipes import check, keys, stored
from semivit_jax.stages import STAGES, pseudo_mixup
from semivit_jax.stages.rules import RULES
from tests.configs import raw_config, small_config


def edited(**changes):
    """The digits config as a nested dict, with changed, added or (None) removed keys."""
    raw = raw_config().to_dict()
    for path, value in changes.items():
        *parents, last = path.split(".")
        section = raw
        for parent in parents:
            section = section[parent]
        if value is None:
            del section[last]
        else:
            section[last] = value
    return raw


def refused(**changes):
    with pytest.raises(ConfigError) as error:
        check.check(edited(**changes))
    return str(error.value)


def test_an_unknown_key_is_named_with_the_nearest_legal_one():
    message = refused(**{"semi.confidence_treshold": 0.5})
    assert "config.semi.confidence_treshold" in message
    assert "'confidence_threshold'" in message
    assert "legal keys: epochs, batch_size" in message
    assert "config.nothing_like_it" in refused(nothing_like_it=1)


def test_a_missing_key_is_named():
    assert refused(**{"finetune.label_smoothing": None}) == "config.finetune lacks the keys label_smoothing"


def test_absent_sections_of_stages_that_do_not_run_are_fine():
    raw = edited(mae=None, semi=None, stages=("finetune",))
    assert check.check(raw).sections["semi"] is None
    assert "config.stages names 'mae', but the section config.mae is absent" in refused(mae=None)


@pytest.mark.parametrize(
    ("key", "value", "kind"),
    [
        ("seed", 1.5, "int"),
        ("seed", True, "int"),
        ("semi.base_lr", "1e-3", "float"),
        ("semi.labeled_mixup", 1, "bool"),
        ("model.variant", 16, "str"),
        ("mae.betas", 0.9, "tuple"),
        ("mae.betas", (0.9,), "2 values"),
        ("mae.betas", (0.9, "0.95"), "float"),
        ("semi.epochs", float("nan"), "finite"),
        ("semi", 3, "section"),
    ],
)
def test_a_wrong_type_is_named(key, value, kind):
    message = refused(**{key: value})
    assert f"config.{key}" in message
    assert repr(value) in message or repr(value[-1]) in message
    assert kind in message


def test_whole_numbers_are_floats_where_floats_are_asked_for():
    assert check.check(edited(**{"semi.weight_decay": 1})).stage("semi").weight_decay == 1.0


@pytest.mark.parametrize(
    ("key", "value", "legal"),
    [
        ("model.pool", "max", "mean, cls"),
        ("model.posemb", "rope", "learned, sincos"),
        ("model.dtype", "float16", "auto, float32, bfloat16"),
        ("model.attention", "flash", "auto, xla, cudnn"),
        ("model.remat", "all", "none, dots, full"),
        ("model.unroll", 0, "at least 1"),
        ("train.on_collapse", "ignore", "stop, rollback"),
        ("train.collapse_window_steps", 0, "at least 1"),
        ("data.interpolation", "nearest", "bicubic, bilinear"),
        ("data.validation_share", 1.5, "between 0.0 and 1.0"),
        ("data.image_size", 0, "at least 1"),
        ("log.origin", "theirs", "published, ours"),
        ("log.every_steps", 0, "at least 1"),
        ("checkpoint.keep", 0, "at least 1"),
        ("semi.teacher", "both", "ema, student"),
        ("semi.pseudo_mixup", "cutmix", "none, mixup, mixup_confident, prob"),
        ("semi.lr_rule", "linear", "per_256, absolute"),
        ("semi.schedule", "constant", "cosine, cosine_inclusive_warmup"),
        ("semi.unlabeled_ratio", 0, "at least 1"),
        ("semi.ema_decay", 0, "always tracks"),
        ("semi.ema_decay", 1.5, "between 0.0 and 1.0"),
        ("semi.batch_size", 0, "at least 1"),
        ("semi.label_smoothing", 1.0, "between 0.0 and 0.999"),
        ("finetune.drop_path_rate", 1.0, "between 0.0 and 0.999"),
        ("finetune.mixup_group_size", 3, "even"),
        ("finetune.mixup_group_size", 0, "even"),
        ("mae.mask_ratio", 1.0, "between 0.01 and 0.99"),
    ],
)
def test_an_illegal_value_is_named_with_the_legal_ones(key, value, legal):
    message = refused(**{key: value})
    assert f"config.{key}" in message
    assert str(value) in message
    assert legal in message


NO_ALPHAS = {"semi.labeled_mixup": False, "semi.mixup_alpha": 0.0, "semi.cutmix_alpha": 0.0}


@pytest.mark.parametrize("kind", ["none", "prob"])
def test_a_pseudo_mixup_that_draws_no_lambda_needs_no_alpha(kind):
    assert small_config(**NO_ALPHAS, **{"semi.pseudo_mixup": kind}).stage("semi").mixup_alpha == 0.0


@pytest.mark.parametrize("key", ["layer_decay", "drop_path_rate"])
def test_pre_training_has_no_key_that_it_does_not_read(key):
    assert f"unknown key config.mae.{key}" in refused(**{f"mae.{key}": 0.5})


@pytest.mark.parametrize(
    ("key", "value", "legal"),
    [("pool", "cls", "mean"), ("attention", "cudnn", "auto, xla"), ("posemb", "learned", "none")],
)
def test_a_convnext_refuses_what_it_does_not_have(key, value, legal):
    convnext = {"model.variant": "convnext_tiny", "model.posemb": "none"}
    message = refused(**{**convnext, f"model.{key}": value})
    assert message == f"config.model.{key} is {value!r}; legal values of convnext_tiny: {legal}"


@pytest.mark.parametrize(
    ("changes", "parts"),
    [
        ({"stages": ("semi", "mae")}, ("config.stages", "in this order")),
        ({"stages": ()}, ("config.stages", "one or more")),
        ({"stages": ("finetune", "distill")}, ("config.stages", "'distill'", "mae, finetune, semi")),
        ({"semi.accum": 3}, ("config.semi.batch_size 40", "config.semi.accum 3")),
        ({"semi.warmup_epochs": 300.0}, ("config.semi", "warmup_epochs 300.0")),
        ({"semi.epochs": 0.0}, ("config.semi", "epochs 0.0")),
        (
            {"semi.labeled_mixup": True, "semi.mixup_alpha": 0.0, "semi.cutmix_alpha": 0.0},
            ("config.semi.labeled_mixup", "mixup_alpha or cutmix_alpha"),
        ),
        (
            {**NO_ALPHAS, "semi.pseudo_mixup": "mixup"},
            ("config.semi.pseudo_mixup is 'mixup'", "mixup_alpha or cutmix_alpha"),
        ),
        (
            {**NO_ALPHAS, "semi.pseudo_mixup": "mixup_confident"},
            ("config.semi.pseudo_mixup is 'mixup_confident'", "mixup_alpha or cutmix_alpha"),
        ),
        (
            {"data.affine_views.labeled.scale": (1.1, 0.9)},
            ("config.data.affine_views.labeled.scale is (1.1, 0.9)", "the smaller factor comes first"),
        ),
        (
            {"finetune.batch_size": 39, "finetune.labeled_mixup": True, "finetune.mixup_alpha": 0.8},
            ("config.finetune", "even micro-batch", "39"),
        ),
        ({"data.labels_per_class": 0}, ("labels_per_class, label_fraction and label_list",)),
        ({"data.label_fraction": 0.1}, ("labels_per_class, label_fraction and label_list", "0.1")),
        (
            {"data.dataset": "own_folder", "data.label_list": "list.txt"},
            ("at most one of config.data.labels_per_class, label_fraction and label_list", "'list.txt'"),
        ),
        ({"data.eval_split": ""}, ("config.data.eval_split", "validation_share")),
        ({"data.affine_views": None}, ("photo_views", "affine_views", "exactly one")),
    ],
)
def test_values_that_do_not_fit_together_are_named(changes, parts):
    message = refused(**changes)
    for part in parts:
        assert part in message


@pytest.mark.parametrize(
    ("key", "value", "legal"),
    [
        ("semi.confidence_threshold", 70.0, "between 0.0 and 1.0"),
        ("semi.unlabeled_weight", -5.0, "at least 0"),
        ("finetune.base_lr", -1e-3, "at least 0"),
        ("mae.weight_decay", -1.0, "at least 0"),
        ("finetune.betas", (0.9, 1.5), "between 0.0 and"),
        ("semi.mixup_prob", 3.0, "between 0.0 and 1.0"),
        ("finetune.erase_prob", 2.0, "between 0.0 and 1.0"),
        ("semi.mixup_alpha", -1.0, "at least 0"),
        ("data.labels_per_class", -3, "at least 0"),
        ("data.threads", -2, "at least 0"),
        ("data.std", (0.2, 0.0, 0.2), "above 0"),
        ("train.eval_every_epochs", -1.0, "above 0"),
        ("model.layer_norm_eps", 0.0, "above 0"),
        ("seed", -1, "at least 0"),
        ("mae.decoder_width", -3, "at least 1"),
        ("mae.decoder_depth", 0, "at least 1"),
        ("mae.decoder_num_heads", 0, "at least 1"),
        ("data.affine_views.labeled.scale", (0.0, 0.0), "above 0"),
        ("data.affine_views.strong.degrees", -1.0, "at least 0"),
        ("data.affine_views.mae.shift", -0.1, "at least 0"),
        ("data.affine_views.labeled.shear", -0.1, "at least 0"),
    ],
)
def test_a_number_out_of_range_is_named_with_the_range(key, value, legal):
    number = next(v for v in value if not 0 < v < 1) if isinstance(value, tuple) else value
    assert f"config.{key} is {number}; it must be {legal}" in refused(**{key: value})


@pytest.mark.parametrize(
    ("key", "table"),
    [
        ("semi.pseudo_mixup", pseudo_mixup.PSEUDO_MIXUPS),
        ("semi.schedule", optim.SCHEDULES),
        (
            "model.variant",
            {**VIT_SIZES, **DINOV3_SIZES, **CLIP_SIZES, **SIGLIP_SIZES, **DATA2VEC_SIZES, **CONVNEXT_SIZES},
        ),
    ],
)
def test_a_word_is_a_row_of_its_table(key, table):
    assert f"config.{key} is 'sotf'; legal values: {', '.join(table)}" in refused(**{key: "sotf"})


def test_a_new_row_is_legal_at_once(monkeypatch):
    monkeypatch.setitem(RULES, "mine", RULES["fixed"])
    for text in ("mine", "aligned(mine)"):
        assert small_config(**{"semi.pseudo_label_rule": text}).stage("semi").pseudo_label_rule == text


@pytest.mark.parametrize("younger", [("debias", "fairness", "fairness_images", "outlier_sigmas", "simpro_tau"), ()])
def test_a_config_from_before_the_rules_had_numbers_goes_on(younger):
    """Before any of them, and before some."""
    config = small_config()
    raw = json.loads(json.dumps(config_lib.to_dict(config)))
    semi = raw["semi"]
    del semi["outliers"]
    semi["rule"] = {name: value for name, value in semi["rule"].items() if name not in younger}
    if not younger:
        del semi["rule"]
    assert keys.identity(stored.check_stored(raw)) == keys.identity(config)  # the numbers of the recipes


def test_thresholds_of_class_mean_need_room():
    told = refused(**{"semi.rule.lowest": 0.9, "semi.rule.highest": 0.5})
    assert told == "config.semi.rule.lowest is 0.9, above highest 0.5"


def test_a_config_survives_its_file():
    config = small_config()
    assert check.check(json.loads(json.dumps(config_lib.to_dict(config)))) == config


def test_differences_are_readable_lines():
    old, new = (keys.identity(small_config(**{"semi.epochs": e})) for e in (30.0, 40.0))
    assert keys.differences(old, new) == ["semi.epochs: 30.0 -> 40.0"]
    assert keys.differences(old, json.loads(json.dumps(old))) == []


def test_runtime_keys_may_change_and_others_may_not():
    config = small_config()
    moved = small_config(**{"model.remat": "full", "data.threads": 3, "log.every_steps": 7, "mesh.fsdp": 2})
    assert keys.identity(moved) == keys.identity(config)
    for key, value in (("seed", 5), ("semi.base_lr", 0.5), ("data.mean", (0.1, 0.1, 0.1)), ("model.pool", "cls")):
        other = keys.identity(small_config(**{key: value}))
        assert len(keys.differences(keys.identity(config), other)) == 1


def test_a_section_marks_its_keys_and_hosts_differ_in_some():
    """A run's hosts compare all but the latter; a key that they may differ in, yet stores, would end every restart."""
    beside = keys.marks()
    assert "data.threads" not in keys.unmarked(small_config(), HOST)
    assert {"mesh.fsdp", "log.every_steps", "data.image_size"} <= keys.unmarked(small_config(), HOST).keys()
    assert not {key for key, marks in beside.items() if HOST in marks and config_lib.RUNTIME not in marks}


def reads_in(path):
    """Names read as attributes in a file."""
    tree = ast.parse(path.read_text())
    return {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}


def test_every_key_is_read_by_code_that_uses_it():
    """A key that nothing but the border reads would be a promise that the run does not keep."""
    package = Path(semivit_jax.__file__).parent
    border = {package / "config.py", package / "recipes" / "check.py"}
    files = [p for p in package.rglob("*.py") if p not in border and "configs" not in p.parts]
    read = set().union(*(reads_in(p) for p in files))
    # An affine view's ranges are the keyword arguments of the function that draws from them.
    read |= {field.name for field in dataclasses.fields(config_lib.AffineConfig)}
    read |= {*STAGES, *(spec.published for spec in STAGES.values())}  # asked by name
    assert not {key for key in keys.marks() if not set(key.split(".")) <= read}
