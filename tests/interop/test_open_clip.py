"""OpenCLIP's own CLIPs, saved as it saves them: features before the projection, at two sizes, and its preprocessing."""

import numpy as np
import pytest

from semivit_jax.models.clip import CLIP_SIZES
from semivit_jax.weights.importing import import_weights
from tests.interop.conftest import PIXELS, our_features, photo_views, randomised, torch_output
from tests.interop.test_clip import DEPTH, HEADS, PATCH, SIZES, SPACE, WIDTH
from tests.interop.test_dinov2 import RESIDUAL, assert_close, prepared_photos

pytestmark = pytest.mark.interop

OTHER_SIZES = (16, 48)  # pixels: the table shrinks, and grows


@pytest.fixture(params=SIZES)
def variant(request, monkeypatch) -> str:
    monkeypatch.setitem(CLIP_SIZES, request.param, SIZES[request.param])
    return request.param


def open_clip_model(variant: str, scale: str, *, image_size: int = PIXELS):
    import open_clip
    import torch

    vision = {"layers": DEPTH, "width": WIDTH, "head_width": WIDTH // HEADS, "patch_size": PATCH,
              "image_size": image_size, "mlp_ratio": 4.0}  # fmt: skip
    text = {"context_length": 7, "vocab_size": 40, "width": 16, "heads": 2, "layers": 1}
    quick = SIZES[variant].mlp == "quick_gelu"
    model = randomised(open_clip.CLIP(SPACE, vision, text, quick_gelu=quick))
    if scale == "large":
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                if name.endswith(("c_proj.weight", "out_proj.weight")):
                    parameter.mul_(12)
                if "ln_" in name and name.endswith("weight"):
                    parameter.mul_(3)
    return model


def saved(model, folder) -> str:
    import torch

    torch.save(model.state_dict(), folder / "open_clip_pytorch_model.bin")
    return str(folder / "open_clip_pytorch_model.bin")


def imported(source: str, variant: str, *, image_size: int | None = None):
    return import_weights(source, variant=variant, pool=None, image_size=image_size, decoder=False)


def tower_of(model):
    """What the image tower gives before its projection."""
    model.visual.proj = None
    return model.visual


@pytest.mark.parametrize("scale", ["small", "large"])
def test_features_are_its_own_at_every_size(tmp_path, variant, scale):
    from open_clip.model import resize_pos_embed

    model = open_clip_model(variant, scale)
    source, state = saved(model, tmp_path), model.state_dict()
    result = imported(source, variant)
    assert (result.pool, result.weights.spec.image_size, result.weights.spec.num_classes) == ("cls", PIXELS, 0)
    assert_close(our_features(result, photo_views(PIXELS)), torch_output(tower_of(model), photo_views(PIXELS)))
    for image_size in OTHER_SIZES:
        other, resized = open_clip_model(variant, scale, image_size=image_size), dict(state)
        resize_pos_embed(resized, other)
        other.load_state_dict(resized)
        images = photo_views(image_size)
        expected = torch_output(tower_of(other), images)
        assert_close(our_features(imported(source, variant, image_size=image_size), images), expected)
    reached = []
    for block in model.visual.transformer.resblocks:
        block.register_forward_hook(lambda *call: reached.append(float(call[-1].abs().max())))
    torch_output(tower_of(model), photo_views(PIXELS))
    assert len(reached) == DEPTH
    assert scale == "small" or max(reached) > RESIDUAL


def test_photos_are_prepared_as_it_does(tmp_path, variant):
    """Nothing beside the file says how: what is assumed is what it does."""
    import open_clip

    model = open_clip_model(variant, "large")
    result, transform = imported(saved(model, tmp_path), variant), open_clip.image_transform(PIXELS, is_train=False)

    def processor(photos, return_tensors):
        return {"pixel_values": np.stack([transform(photo).numpy() for photo in photos])}

    images, theirs = prepared_photos(result.weights.preprocessing, processor)
    np.testing.assert_allclose(images, theirs, atol=1e-5)
    assert_close(our_features(result, images), torch_output(tower_of(model), theirs))
