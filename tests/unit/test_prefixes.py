"""Prefixes of wrappers are cut off where all names have them, in every container."""

import numpy as np
import pytest
import safetensors.numpy

from semivit_jax.weights import vit_names
from semivit_jax.weights.importing import import_weights
from semivit_jax.weights.prefixes import WRAPPERS, without_wrappers
from semivit_jax.weights.state_dicts import open_weights
from semivit_jax.weights.tensors import Tensors
from tests.state_dicts import state_dict


def names_without(*names: str) -> list[str]:
    return list(without_wrappers(Tensors(dict.fromkeys(names, ()), lambda name: np.zeros(()))).shapes)


SEVERAL = ("module._orig_mod.", "model.backbone.", "_orig_mod.module.encoder.", "student.module.", "teacher.backbone.")


@pytest.mark.parametrize("prefix", [*WRAPPERS, *SEVERAL])
def test_a_prefix_of_all_names_is_cut_off(prefix):
    assert names_without(f"{prefix}blocks.0.bias", f"{prefix}head.bias") == ["blocks.0.bias", "head.bias"]


@pytest.mark.parametrize("beside", ["head.bias", "dino_head.mlp.0.bias", "ibot_head.last_layer.bias", "classifier.bias",
                                    "n_averaged", "fc.weight"])  # fmt: skip
def test_heads_and_counters_may_lie_beside(beside):
    assert names_without("backbone.norm.bias", beside) == ["norm.bias", beside]


def test_a_prefix_of_some_names_is_a_name():
    for names in (
        ("encoder.layer.0.bias", "embeddings.cls_token"),
        ("student.model.a", "teacher.model.a"),
        ("head.a",),
    ):
        assert names_without(*names) == list(names)


def test_two_heads_of_the_same_name_are_refused():
    with pytest.raises(ValueError, match=r"model\.head\.bias and head\.bias would both be head\.bias"):
        names_without("model.blocks.0.bias", "model.head.bias", "head.bias")


def test_of_a_teacher_and_its_student_the_teacher_is_taken(tmp_path):
    tensors, other = state_dict(vit_names.TIMM), {}
    for name, tensor in tensors.items():
        other |= {f"module.student.backbone.{name}": tensor + 1, f"module.teacher.backbone.{name}": tensor}
    other["module.teacher.dino_head.last_layer.weight"] = np.zeros((4, 4), np.float32)
    safetensors.numpy.save_file(other, tmp_path / "model.safetensors")
    found = import_weights(str(tmp_path), variant=None, pool=None, image_size=None, decoder=False)
    np.testing.assert_array_equal(found.weights.params["head"]["bias"], tensors["head.bias"])
    assert "a teacher and its student: the teacher's" in " ".join(found.report.notes)


@pytest.mark.parametrize("container", ["file", "folder", "parts", "npz"])
def test_every_container_is_unwrapped(tmp_path, container):
    tensors = {f"module._orig_mod.{name}": tensor for name, tensor in state_dict(vit_names.TIMM).items()}
    path = tmp_path / ("model.npz" if container == "npz" else "model.safetensors")
    if container == "npz":
        np.savez(path, **tensors)
    else:
        safetensors.numpy.save_file(tensors, path)
    if container == "parts":
        first = dict(list(tensors.items())[:9])
        safetensors.numpy.save_file(first, tmp_path / "a.safetensors")
        safetensors.numpy.save_file({n: t for n, t in tensors.items() if n not in first}, tmp_path / "b.safetensors")
        found = open_weights([tmp_path / "a.safetensors", tmp_path / "b.safetensors"]).params
        assert found.shapes.keys() == state_dict(vit_names.TIMM).keys()
        return
    source = str(tmp_path if container == "folder" else path)
    imported = import_weights(source, variant="vit_test", pool=None, image_size=None, decoder=False)
    np.testing.assert_array_equal(imported.weights.params["head"]["bias"], tensors["module._orig_mod.head.bias"])
