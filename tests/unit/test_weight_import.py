"""Import without torch: safetensors in the layouts of timm and Hugging Face, written here by name."""

import contextlib
import dataclasses
import errno
import io
import json
import pathlib
import sys
import types

import numpy as np
import pytest
import rich.console
import safetensors.numpy

from semivit_jax.cli.import_weights import import_weights as command
from semivit_jax.export import export
from semivit_jax.models import families
from semivit_jax.weights import convnext, layout, vit_names
from semivit_jax.weights.account import Status
from semivit_jax.weights.folder import load_imported, save_imported
from semivit_jax.weights.importing import Imported, import_weights
from semivit_jax.weights.layout import Table
from semivit_jax.weights.preprocessing import IMAGENET_224
from tests.models import spec_of
from tests.state_dicts import PIXELS, SIZE, state_dict


@pytest.fixture
def run(tmp_path):
    """Stores tensors (and config files beside them) and imports them."""

    def save_and_import(tensors, configs=None, **options):
        safetensors.numpy.save_file(tensors, tmp_path / "model.safetensors")
        for name, config in (configs or {}).items():
            (tmp_path / name).write_text(json.dumps(config))
        defaults = {"variant": "vit_test", "pool": None, "image_size": PIXELS, "decoder": False}
        return import_weights(str(tmp_path / "model.safetensors"), **{**defaults, **options})

    return save_and_import


def hugging_face_config(**changes) -> dict:
    return {
        "model_type": "vit",
        "hidden_act": "gelu",
        "layer_norm_eps": 1e-6,
        "num_attention_heads": SIZE.num_heads,
        "image_size": PIXELS,
        **changes,
    }


def convnext_state_dict(table: Table) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Random tensors of the small ConvNeXt under the names of a layout, and the same by our paths."""
    generator = np.random.default_rng(0)
    classes = 5 if "head/kernel" in table else 0
    shapes = families.shapes(spec_of("convnext_test", image_size=PIXELS, num_classes=classes))
    ours = {path: generator.standard_normal(shape).astype(np.float32) for path, shape in shapes.items()}
    theirs = layout.state_dict(ours, table)
    return {name: np.ascontiguousarray(tensor) for name, tensor in theirs.items()}, ours


def rows(result, status: Status) -> list:
    return [row for row in result.report.params if row.status is status]


def assert_same_trees(actual: dict, expected: dict):
    actual, expected = layout.flatten(actual), layout.flatten(expected)
    assert actual.keys() == expected.keys()
    for path, array in expected.items():
        np.testing.assert_array_equal(actual[path], array)


def test_every_tensor_and_every_parameter_is_accounted_for(run):
    tensors = state_dict(vit_names.TIMM) | {"mask_token": np.zeros((1, 1, 4), np.float32)}
    result = run(tensors, pool="mean", image_size=64)
    all_rows = result.report.params
    assert sorted(name for row in all_rows for name in row.names) == sorted(tensors)
    assert {row.path for row in rows(result, Status.RESIZED)} == {"posemb"}
    assert {row.names[0] for row in rows(result, Status.LEFT_OVER)} == {
        "mask_token",
        *("norm.weight", "norm.bias", "head.weight", "head.bias"),  # of the class token
    }
    reinitialised = {row.path for row in rows(result, Status.REINITIALISED)}
    assert reinitialised == {"fc_norm/scale", "fc_norm/bias", "head/kernel", "head/bias"}
    assert layout.flatten(result.weights.params).keys() == families.shapes(result.weights.spec).keys()


def test_hugging_face_gives_the_same_parameters_as_timm(run):
    timm = run(state_dict(vit_names.TIMM))
    stored = {
        name if name.startswith("classifier") else f"vit.{name}": tensor
        for name, tensor in state_dict(vit_names.HUGGING_FACE).items()
    }
    assert_same_trees(run(stored, {"config.json": hugging_face_config()}).weights.params, timm.weights.params)


def test_query_key_and_value_are_the_thirds_of_the_joined_projection(run):
    stored = state_dict(vit_names.HUGGING_FACE)
    result = run(stored, {"config.json": hugging_face_config()})
    thirds = np.split(result.weights.params["blocks"]["attn"]["qkv"]["kernel"][1], 3, axis=-1)
    for part, third in zip(("query", "key", "value"), thirds, strict=True):
        np.testing.assert_array_equal(third.T, stored[f"encoder.layer.1.attention.attention.{part}.weight"])


def test_a_shape_that_does_not_fit_names_both(run):
    with pytest.raises(ValueError, match=r"blocks/attn/proj/kernel: the source has \(3, 48, 48\), the model \(12, 384"):
        run(state_dict(vit_names.TIMM), variant="vit_s16")


def test_another_depth_names_both(run):
    with pytest.raises(ValueError, match=r"the source has \(3, 48\), the model \(2, 48\)"):
        run(state_dict(vit_names.TIMM), variant="vit_test2")


def test_a_lacking_tensor_is_named(run):
    tensors = state_dict(vit_names.TIMM)
    del tensors["blocks.1.attn.qkv.bias"]
    with pytest.raises(ValueError, match=r"lacks 1 tensor the model needs: blocks\.1\.attn\.qkv\.bias"):
        run(tensors)


def test_a_tensor_without_a_place_is_named(run):
    extra = {"blocks.0.attn.q_norm.weight": np.ones(4, np.float32)}
    with pytest.raises(ValueError, match=r"no place for 1 tensor of the source: blocks\.0\.attn\.q_norm\.weight"):
        run(state_dict(vit_names.TIMM) | extra)


@pytest.mark.parametrize("name", ["register_tokens", "reg_token"])
def test_registers_are_refused_where_the_model_has_none(run, name):
    with pytest.raises(ValueError, match="the source has 4 registers, vit_test none: leave --model away"):
        run(state_dict(vit_names.TIMM) | {name: np.zeros((1, 4, SIZE.width), np.float32)})


def test_a_gate_in_a_layer_of_its_own_is_refused_by_name(run):
    with pytest.raises(ValueError, match=r"mlp\.fc1_g\.weight: MLPs whose gate is a layer of its own"):
        run(state_dict(vit_names.TIMM) | {"blocks.0.mlp.fc1_g.weight": np.zeros((4, 4), np.float32)})


@pytest.mark.parametrize(("channels", "told"), [(1, "1 channel"), (4, "4 channels")])
def test_patches_of_other_channels_are_refused_by_name(run, channels, told):
    kernel = np.zeros((SIZE.width, channels, SIZE.patch_size, SIZE.patch_size), np.float32)
    with pytest.raises(
        ValueError, match=rf"patch_embed\.proj\.weight reads {told}: .*red, green and blue; --sum_channels"
    ):
        run(state_dict(vit_names.TIMM) | {"patch_embed.proj.weight": kernel})


@pytest.mark.parametrize("channels", [1, 4])
@pytest.mark.parametrize("family", ["vit", "convnext"])
def test_patches_of_other_channels_are_summed_when_flagged(run, channels, family):
    """Images whose channels are all alike are seen as the source sees them; the config's mean is one for all."""
    generator = np.random.default_rng(0)
    if family == "vit":
        tensors, name, options = state_dict(vit_names.TIMM), "patch_embed.proj.weight", {}
    else:
        tensors, name = convnext_state_dict(convnext.TIMM)[0], "stem.0.weight"
        options = {"variant": "convnext_test"}
    width, _, *sides = tensors[name].shape
    kernel = generator.standard_normal((width, channels, *sides)).astype(np.float32)
    theirs = {"mean": [0.5] * channels, "std": [0.25] * channels, "input_size": [channels, PIXELS, PIXELS]}
    configs = {"config.json": {"architecture": "x", "pretrained_cfg": theirs}}
    result = run(tensors | {name: kernel}, configs, sum_channels=True, **options)
    params = result.weights.params
    ours = (params["patch_embed"] if family == "vit" else params["downsample_0"]["conv"])["kernel"]
    grey = generator.standard_normal(sides)
    seen = np.einsum("hw,hwcd->d", grey, ours)
    np.testing.assert_allclose(seen, np.einsum("hw,dchw->d", grey, kernel), rtol=1e-5, atol=1e-5)
    assert (result.weights.preprocessing.mean, result.weights.preprocessing.std) == ((0.5,) * 3, (0.25,) * 3)
    assert any(f"{name} reads {channels} channel" in note for note in result.report.notes)
    with pytest.raises(ValueError, match=r"input_size .*; --sum_channels takes others"):
        run(tensors | {name: kernel}, configs, **options)


def test_a_packed_gated_mlp_is_refused_by_name(run):
    tensors = state_dict(vit_names.TIMM)
    tensors["blocks.0.mlp.fc1.weight"] = np.zeros((2 * SIZE.mlp_dim, SIZE.width), np.float32)
    with pytest.raises(ValueError, match=r"fc1 gives 384 values and fc2 takes 192.*SwiGLU"):
        run(tensors)


def test_layer_scale_is_folded_exactly(run):
    plain, generator = state_dict(vit_names.TIMM), np.random.default_rng(1)
    gammas = {
        f"blocks.{block}.{scale}.gamma": generator.standard_normal(SIZE.width).astype(np.float32)
        for block in range(SIZE.depth)
        for scale in ("ls1", "ls2")
    }
    expected = dict(plain)
    for block in range(SIZE.depth):
        for layer, scale in (("attn.proj", "ls1"), ("mlp.fc2", "ls2")):
            gamma = gammas[f"blocks.{block}.{scale}.gamma"]
            name = f"blocks.{block}.{layer}"
            expected[f"{name}.weight"] = gamma[:, None] * plain[f"{name}.weight"]
            expected[f"{name}.bias"] = gamma * plain[f"{name}.bias"]
    result = run(plain | gammas)
    assert_same_trees(result.weights.params, run(expected).weights.params)
    named = {name for row in result.report.params for name in row.names}
    assert named == plain.keys() | gammas.keys()


def test_a_gamma_of_another_width_is_refused(run):
    with pytest.raises(ValueError, match=r"ls1\.gamma of shape \(3,\) does not fit blocks\.0\.attn\.proj"):
        run(state_dict(vit_names.TIMM) | {"blocks.0.ls1.gamma": np.ones(3, np.float32)})


def test_half_precision_is_widened(run):
    tensors = state_dict(vit_names.TIMM)
    result = run({name: tensor.astype(np.float16) for name, tensor in tensors.items()})
    bias = result.weights.params["head"]["bias"]
    assert bias.dtype == np.float32
    np.testing.assert_array_equal(bias, tensors["head.bias"].astype(np.float16))


def test_layer_norm_eps_comes_along(run, tmp_path):
    result = run(state_dict(vit_names.HUGGING_FACE), {"config.json": hugging_face_config(layer_norm_eps=1e-12)})
    assert result.weights.spec.layer_norm_eps == 1e-12
    save_imported(tmp_path / "in", result)
    assert load_imported(tmp_path / "in").weights.spec.layer_norm_eps == 1e-12
    with pytest.raises(ValueError, match="layer_norm_eps 1e-12: a vit of timm computes with 1e-06"):
        export(tmp_path / "out", "timm", result.weights)


def test_ctrl_c_while_an_import_is_written_leaves_no_folder(run, tmp_path, monkeypatch):
    result, folder, seen = run(state_dict(vit_names.TIMM)), tmp_path / "in", []

    def stopped(tensors, path):
        pathlib.Path(path).write_bytes(b"half")
        seen.extend(file.name for file in folder.iterdir())
        raise KeyboardInterrupt

    monkeypatch.setattr(safetensors.numpy, "save_file", stopped)
    with pytest.raises(KeyboardInterrupt):
        save_imported(folder, result)
    assert len(seen) == 1
    assert "params.safetensors" not in seen  # of which nobody could tell that it is half a one
    assert not folder.exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"hidden_act": "gelu_new"}, "gelu_new"),
        ({"num_attention_heads": 4}, "the source has 4, vit_test 3"),
        ({"model_type": "swin"}, "model_type 'swin': only dinov3_vit, clip, clip_vision_model, siglip, "),
    ],
)
def test_configs_that_do_not_fit_are_refused(run, change, message):
    with pytest.raises(ValueError, match=message):
        run(state_dict(vit_names.HUGGING_FACE), {"config.json": hugging_face_config(**change)})


def test_hugging_face_names_need_their_config(run):
    with pytest.raises(ValueError, match=r"without their config\.json"):
        run(state_dict(vit_names.HUGGING_FACE))


@pytest.mark.parametrize(
    ("name", "shape", "message"),
    [
        ("head.weight", (), r"head\.weight has shape \(\)"),
        ("blocks.0.mlp.fc2.weight", (48,), "fc1 gives 192 values and fc2 takes 48"),
        ("cls_token", (3,), r"cls_token: the source has \(3,\), the model \(1, 1, 48\)"),
        ("decoder_embed.weight", (48, 48), r"lacks decoder_embed\.bias"),
    ],
)
def test_tensors_of_absurd_shapes_are_refused(run, name, shape, message):
    with pytest.raises(ValueError, match=message):
        run(state_dict(vit_names.TIMM) | {name: np.zeros(shape, np.float32)}, decoder="decoder" in name)


def test_parts_that_cannot_be_joined_are_named(run):
    tensors = state_dict(vit_names.HUGGING_FACE)
    key = "encoder.layer.1.attention.attention.key.weight"
    with pytest.raises(ValueError, match=r"attention\.key\.weight has shape \(47, 48\).*query\.weight \(48, 48\)"):
        run(tensors | {key: np.zeros((48, 47), np.float32)}, {"config.json": hugging_face_config()})


def test_a_pool_that_contradicts_the_norm_is_refused(run):
    config = {"pretrained_cfg": {"input_size": [3, PIXELS, PIXELS]}}
    with pytest.raises(ValueError, match="global_pool 'avg' with norm"):
        run(state_dict(vit_names.TIMM), {"config.json": {**config, "global_pool": "avg"}})
    assert run(state_dict(vit_names.TIMM), {"config.json": {**config, "global_pool": None}}).weights.spec.pool == "cls"


def test_an_unknown_layout_lists_names(run):
    with pytest.raises(ValueError, match=r"not a layout known here.*conv1\.weight"):
        run({"conv1.weight": np.zeros(3, np.float32)})


def test_preprocessing_and_class_names_travel(run):
    config = hugging_face_config(id2label={str(i): f"class {i}" for i in range(5)})
    preprocessor = {
        "size": {"height": PIXELS, "width": PIXELS},
        "resample": 2,
        "image_mean": [0.5, 0.5, 0.5],
        "image_std": [0.5, 0.5, 0.5],
    }
    configs = {"config.json": config, "preprocessor_config.json": preprocessor}
    result = run(state_dict(vit_names.HUGGING_FACE), configs, image_size=None)
    assert result.weights.class_names == tuple(f"class {i}" for i in range(5))
    assert result.weights.preprocessing.to_json() == {
        "image_size": PIXELS,
        "crop_fraction": 1.0,
        "interpolation": "bilinear",
        "mean": (0.5, 0.5, 0.5),
        "std": (0.5, 0.5, 0.5),
        "exif_rotation": False,
    }


@pytest.mark.parametrize(
    ("table", "config", "eps"),
    [
        (convnext.PUBLISHED, None, 1e-6),
        (convnext.TIMM, None, 1e-6),
        (convnext.HUGGING_FACE, hugging_face_config(model_type="convnext", layer_norm_eps=1e-12), 1e-12),
        (convnext.HUGGING_FACE_DINOV3, hugging_face_config(model_type="dinov3_convnext"), 1e-6),
    ],
    ids=["published", "timm", "Hugging Face", "DINOv3 of Hugging Face"],
)
def test_convnext_comes_in_whole_from_every_layout(run, table, config, eps):
    tensors, ours = convnext_state_dict(table)
    result = run(tensors, {"config.json": config} if config else None, variant=None)
    assert result.weights.spec.variant == "convnext_test"
    assert_same_trees(result.weights.params, layout.unflatten(ours))
    assert sorted(name for row in result.report.params for name in row.names) == sorted(tensors)
    assert result.weights.spec.layer_norm_eps == eps


@pytest.mark.parametrize("prefix", ["", "model."])
def test_dinov3s_convnext_is_read_with_its_prefix_and_without(run, prefix):
    """transformers has had both: before the names of its stages, and none."""
    tensors, ours = convnext_state_dict(convnext.HUGGING_FACE_DINOV3)
    named = {prefix * name.startswith("stages.") + name: tensor for name, tensor in tensors.items()}
    result = run(named, {"config.json": hugging_face_config(model_type="dinov3_convnext")}, variant=None)
    assert_same_trees(result.weights.params, layout.unflatten(ours))


def test_dinov3s_convnext_has_one_epsilon(run):
    """Theirs is that of all norms; of ours only the last one's can be set."""
    tensors, _ = convnext_state_dict(convnext.HUGGING_FACE_DINOV3)
    config = hugging_face_config(model_type="dinov3_convnext", layer_norm_eps=1e-3)
    with pytest.raises(ValueError, match="the norms of blocks have 1e-06 here"):
        run(tensors, {"config.json": config}, variant=None)


def test_a_convnext_with_another_activation_is_refused(run):
    tensors, _ = convnext_state_dict(convnext.HUGGING_FACE)
    config = hugging_face_config(model_type="convnext", hidden_act="relu")
    with pytest.raises(ValueError, match="hidden_act 'relu'"):
        run(tensors, {"config.json": config}, variant="convnext_test")


def test_the_printed_report_cuts_no_name(run):
    result = run(state_dict(vit_names.HUGGING_FACE), {"config.json": hugging_face_config()})
    console = rich.console.Console(width=80, file=io.StringIO())
    console.print(result.report.tables()[0])
    printed = console.file.getvalue()
    assert "blocks/attn/qkv/kernel" in "".join(
        line.split("│")[2].strip() for line in printed.splitlines() if "│" in line
    )
    assert "…" not in printed


def test_class_names_that_do_not_belong_to_the_head_are_refused(run):
    config = hugging_face_config(id2label={"0": "cat", "1": "dog"})
    with pytest.raises(ValueError, match="names 2 classes, and its head has 5 outputs"):
        run(state_dict(vit_names.HUGGING_FACE), {"config.json": config})
    headless = {n: t for n, t in state_dict(vit_names.HUGGING_FACE).items() if not n.startswith("classifier")}
    assert (
        run(headless, {"config.json": config}).weights.class_names is None
    )  # transformers writes two names for encoders


def test_without_a_config_the_authors_preprocessing_is_taken(run):
    result = run(state_dict(vit_names.TIMM))
    assert result.weights.preprocessing == dataclasses.replace(IMAGENET_224, image_size=PIXELS)


def without_arrays(imported: Imported) -> Imported:
    return dataclasses.replace(imported, weights=dataclasses.replace(imported.weights, params={}))


def test_an_import_that_cannot_be_written_whole_leaves_nothing(run, tmp_path, monkeypatch):
    result = run(state_dict(vit_names.TIMM))

    def full(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(json, "dumps", full)
    with pytest.raises(OSError, match="No space left"):
        save_imported(tmp_path / "out", result)
    assert not (tmp_path / "out").exists()


def test_a_folder_written_by_the_command_loads_bit_for_bit(run, tmp_path, capsys):
    result = run(state_dict(vit_names.TIMM))
    out = tmp_path / "out"
    arguments = ["--model", "vit_test", "--image_size", str(PIXELS), "--out", str(out)]
    assert command([str(tmp_path / "model.safetensors"), *arguments]) == 0
    assert "blocks/attn/qkv/kernel" in capsys.readouterr().out
    loaded = load_imported(out)
    assert_same_trees(loaded.weights.params, result.weights.params)
    assert without_arrays(loaded) == without_arrays(result)
    with pytest.raises(FileExistsError, match="already holds an import"):
        save_imported(out, result)


def test_the_command_reports_a_bad_source_in_one_line(tmp_path, capsys):
    code = command([str(tmp_path / "none.safetensors"), "--model", "vit_test", "--out", str(tmp_path / "out")])
    assert code == 1
    assert "no such file or folder" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_pth_without_torch_names_the_extra(tmp_path, monkeypatch):
    (tmp_path / "x.pth").write_bytes(b"PK")
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(ImportError, match=r"pip install -c requirements/constraints.txt -e '.\[torch\]'"):
        import_weights(str(tmp_path / "x.pth"), variant="vit_test", pool=None, image_size=PIXELS, decoder=False)


def torch_that_fails(monkeypatch, error):
    """A stand-in for torch, which is not among the default tests' packages."""

    def load(*args, **kwargs):
        raise error

    serialization = types.SimpleNamespace(safe_globals=lambda names: contextlib.nullcontext())
    monkeypatch.setitem(sys.modules, "torch", types.SimpleNamespace(load=load, serialization=serialization))


@pytest.mark.parametrize("error", [KeyError("x"), RuntimeError("PytorchStreamReader failed\nmore"), EOFError("short")])
def test_a_damaged_torch_file_is_told_with_its_cause(tmp_path, monkeypatch, error):
    (tmp_path / "x.pth").write_bytes(b"hello")
    torch_that_fails(monkeypatch, error)
    said = rf"x\.pth: not a PyTorch file, or a damaged one \({type(error).__name__}: {str(error).splitlines()[0]}\)"
    with pytest.raises(ValueError, match=said) as raised:
        import_weights(str(tmp_path / "x.pth"), variant="vit_test", pool=None, image_size=None, decoder=False)
    assert raised.value.__cause__ is error


@pytest.mark.parametrize("error", [OSError(5, "Input/output error", "x.pth"), MemoryError("too large")])
def test_a_disk_that_fails_is_no_damaged_file(tmp_path, monkeypatch, error):
    (tmp_path / "x.pth").write_bytes(b"hello")
    torch_that_fails(monkeypatch, error)
    with pytest.raises(type(error)) as raised:
        import_weights(str(tmp_path / "x.pth"), variant="vit_test", pool=None, image_size=None, decoder=False)
    assert raised.value is error
