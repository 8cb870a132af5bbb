"""Where the files of a source are found: folders, split weights, the hub."""

import json
import pathlib

import numpy as np
import pytest
import safetensors.numpy

from semivit_jax.weights.importing import import_weights
from semivit_jax.weights.locate import INDEXES, locate
from semivit_jax.weights.preprocessing import Preprocessing
from semivit_jax.weights.state_dicts import open_weights


def write(path: pathlib.Path, **tensors) -> None:
    safetensors.numpy.save_file({name: np.float32([value]) for name, value in tensors.items()}, path)


def test_weights_split_over_files_are_one_state_dict(tmp_path):
    write(tmp_path / "model-00001-of-00002.safetensors", a=1)
    write(tmp_path / "model-00002-of-00002.safetensors", b=2)
    weight_map = {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
    tensors = open_weights(locate(str(tmp_path)).weights).params
    assert {name: tensors.read(name)[0] for name in tensors.shapes} == {"a": 1, "b": 2}


def indexed(folder: pathlib.Path, stem: str, suffix: str) -> list[str]:
    """Writes the index of two parts, of which each has one tensor; returns their names."""
    names = [f"{stem}-0000{number}-of-00002{suffix}" for number in (1, 2)]
    index = {"weight_map": dict(zip("ab", names, strict=True))}
    (folder / f"{stem}{suffix}.index.json").write_text(json.dumps(index))
    return names


@pytest.fixture
def parts(tmp_path):
    """A folder with an index of two parts."""
    names = indexed(tmp_path, "model", ".safetensors")
    for tensor, name in zip("ab", names, strict=True):
        write(tmp_path / name, **{tensor: 1})
    return tmp_path, names


@pytest.mark.parametrize(("stem", "suffix"), [("model", ".safetensors"), ("pytorch_model", ".bin")])
def test_a_part_that_is_missing_is_named(tmp_path, stem, suffix):
    names = indexed(tmp_path, stem, suffix)
    (tmp_path / names[0]).touch()
    said = rf"lacks {names[1]}, 1 of the 2 parts that {stem}{suffix}\.index\.json names"
    for source in (tmp_path, tmp_path / f"{stem}{suffix}.index.json"):
        with pytest.raises(FileNotFoundError, match=said):
            locate(str(source))


def test_safetensors_go_before_parts_of_torch_unless_their_index_is_asked_for(parts):
    folder, names = parts
    others = indexed(folder, "pytorch_model", ".bin")
    for other in others:
        (folder / other).touch()
    assert [path.name for path in locate(str(folder)).weights] == names
    asked = locate(str(folder / "pytorch_model.bin.index.json"))
    assert [path.name for path in asked.weights] == others
    assert asked.listed == dict(zip("ab", others, strict=True))


def test_a_tensor_that_its_part_lacks_is_no_tensor_of_the_model(parts):
    """A head that is not there would be a model without head."""
    folder, names = parts
    write(folder / names[1], c=1)
    with pytest.raises(ValueError, match=rf"{names[1]} lacks b which the index says it holds"):
        import_weights(str(folder), variant=None, pool=None, image_size=None, decoder=False)


def test_a_tensor_in_two_parts_is_taken_from_the_one_that_the_index_names(parts):
    """Whichever part is opened last holds another checkpoint's numbers, as likely as not."""
    folder, names = parts
    write(folder / names[0], a=1, b=3)
    write(folder / names[1], b=2, a=4)
    files = locate(str(folder))
    found = open_weights(files.weights, files.listed)
    assert {name: found.params.read(name)[0] for name in found.params.shapes} == {"a": 1, "b": 2}
    assert found.notes == (
        "2 tensors in more than one part, taken from the one that the index names: "
        f"a from {names[0]}, not from {names[1]}, and 1 more",
    )


def test_a_tensor_that_only_another_part_holds_is_refused(parts):
    folder, names = parts
    write(folder / names[0], a=1, b=2)
    write(folder / names[1], c=1)
    files = locate(str(folder))
    said = rf"^{names[1]} lacks b which the index says it holds; {names[0]} holds it, so parts and index are of"
    with pytest.raises(ValueError, match=said):
        open_weights(files.weights, files.listed)


@pytest.mark.parametrize("listed", [True, False], ids=["index", "no index"])
def test_a_tensor_in_two_parts_that_nothing_chooses_between_is_refused(parts, listed):
    folder, names = parts
    write(folder / names[0], a=1, c=3)
    write(folder / names[1], b=2, c=3)
    files = locate(str(folder))
    with pytest.raises(ValueError, match=rf"^{names[0]} and {names[1]} hold c both, and no index says which to take"):
        open_weights(files.weights, files.listed if listed else {})


def test_a_tensor_that_the_index_does_not_list_is_told(parts):
    folder, names = parts
    write(folder / names[1], b=2, c=3)
    files = locate(str(folder))
    found = open_weights(files.weights, files.listed)
    assert found.params.read("c")[0] == 3
    assert found.notes == (f"1 tensor that the index does not list, taken where found: c in {names[1]}",)


def test_one_part_is_no_model(parts):
    folder, names = parts
    with pytest.raises(ValueError, match=r"is one part of several; give the folder that holds them all"):
        locate(str(folder / names[0]))
    write(folder / "model-00001-of-00001.safetensors", a=1)
    assert locate(str(folder / "model-00001-of-00001.safetensors")).listed == {}


def test_another_file_of_weights_is_pointed_at(tmp_path):
    (tmp_path / "open_clip_config.json").write_text("{}")
    write(tmp_path / "open_clip_model.safetensors", a=1)
    with pytest.raises(FileNotFoundError, match=r"there; to take open_clip_model\.safetensors, give its own path"):
        locate(str(tmp_path))


@pytest.mark.parametrize(
    ("name", "advice"),
    [
        ("model-00002-of-00003.safetensors", r"give the folder that holds them all, with model\.safetensors\.index"),
        ("pytorch_model-00002-of-00003.bin", r"give the folder that holds them all, with pytorch_model\.bin\.index"),
    ],
)
def test_parts_without_their_index_are_told_what_to_do(tmp_path, name, advice):
    (tmp_path / name).write_bytes(b"x")
    with pytest.raises(FileNotFoundError, match=rf"there; of the parts like {name}: {advice}"):
        locate(str(tmp_path))
    with pytest.raises(ValueError, match=rf"is one part of several; {advice}"):
        locate(str(tmp_path / name))


def test_a_file_without_tensors_is_told(tmp_path):
    write(tmp_path / "x.safetensors")
    with pytest.raises(ValueError, match=r"x\.safetensors: holds no tensors"):
        open_weights(locate(str(tmp_path / "x.safetensors")).weights)


def test_configs_of_other_files_are_not_read(tmp_path):
    write(tmp_path / "mine.safetensors", a=1)
    (tmp_path / "config.json").write_text('{"model_type": "vit"}')
    assert locate(str(tmp_path / "mine.safetensors")).configs == {}


def test_a_folder_without_weights_says_what_it_looked_for(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no model\.safetensors, model\.safetensors\.index\.json"):
        locate(str(tmp_path))


def test_another_suffix_is_refused(tmp_path):
    (tmp_path / "weights.h5").write_bytes(b"")
    with pytest.raises(ValueError, match=r"weights\.h5: expected \.safetensors files, or \.pth"):
        open_weights(locate(str(tmp_path / "weights.h5")).weights)


def test_a_damaged_file_is_named(tmp_path):
    write(tmp_path / "x.safetensors", a=1)
    (tmp_path / "x.safetensors").write_bytes((tmp_path / "x.safetensors").read_bytes()[:20])
    with pytest.raises(ValueError, match=r"x\.safetensors: not a safetensors file, or a damaged one"):
        open_weights(locate(str(tmp_path / "x.safetensors")).weights)


@pytest.mark.parametrize("name", INDEXES)
@pytest.mark.parametrize("index", [{}, {"weight_map": None}, {"weight_map": {"a": 1}}, {"weight_map": ["a"]}])
def test_an_index_that_names_no_files_is_refused(tmp_path, name, index):
    (tmp_path / name).write_text(json.dumps(index))
    with pytest.raises(ValueError, match="weight_map"):
        locate(str(tmp_path))


@pytest.mark.parametrize("part", ["../x.safetensors", "sub/x.safetensors", "/etc/x.safetensors", ""])
def test_an_index_that_names_files_elsewhere_is_refused(tmp_path, part):
    (tmp_path / INDEXES[0]).write_text(json.dumps({"weight_map": {"a": part}}))
    with pytest.raises(
        ValueError, match=r"model\.safetensors\.index\.json: names '.*', which is no name of a file beside"
    ):
        locate(str(tmp_path))


@pytest.mark.parametrize("source", ["hf://name", "hf://org/name/more", "hf:///name"])
def test_a_hub_name_is_org_and_name(source):
    with pytest.raises(ValueError, match="hf://org/name"):
        locate(source)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"model_type": "vit"}', r"config\.json: lacks the key 'hidden_act'"),
        ("{", r"config\.json: is no JSON"),
        ("\udcff", r"config\.json: is no JSON"),
        ("[" * 100_000, r"config\.json: is no JSON"),
        ("[1]", r"config\.json: holds no JSON object, but list"),
    ],
    ids=["key", "syntax", "bytes", "depth", "kind"],
)
def test_a_config_that_cannot_be_used_is_named(tmp_path, text, message):
    write(tmp_path / "model.safetensors", a=1)
    (tmp_path / "config.json").write_bytes(text.encode(errors="surrogateescape"))
    with pytest.raises(ValueError, match=message):
        import_weights(str(tmp_path), variant="vit_test", pool=None, image_size=None, decoder=False)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"image_size": 0}, "image_size 0"),
        ({"crop_fraction": 1.5}, r"crop_fraction 1\.5"),
        ({"interpolation": "lanczos"}, "'lanczos'"),
        ({"std": (0.0, 1.0, 1.0)}, "std above 0"),
    ],
)
def test_preprocessing_checks_itself(change, message):
    legal = {"image_size": 8, "crop_fraction": 1.0, "interpolation": "bicubic", "mean": (0.0,) * 3, "std": (1.0,) * 3,
             "exif_rotation": False}  # fmt: skip
    with pytest.raises(ValueError, match=message):
        Preprocessing(**(legal | change))
