"""Build scikit-learn's handwritten digits (1,797 of 8x8) as a TFDS dataset without TensorFlow.

The drawings ship inside scikit-learn, so building needs no network. The grey values 0..16 are stored as PNG
with 8 bits, and `to_raw_pixels` gives back the original values exactly.
"""

import contextlib
import io
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
from PIL import Image

MAX_RAW = 16  # largest grey value of scikit-learn's drawings
NUM_TEST = 360  # a fifth, the same drawings for every seed
_TEST_SEED = 20220831


class Digits(tfds.core.GeneratorBasedBuilder):
    """Builder with the splits `train` (1,437) and `test` (360, stratified by class)."""

    VERSION = tfds.core.Version("1.0.0")

    def _info(self) -> tfds.core.DatasetInfo:
        features = tfds.features.FeaturesDict(
            {
                "image": tfds.features.Image(shape=(8, 8, 1), encoding_format="png"),
                "label": tfds.features.ClassLabel(names=[str(digit) for digit in range(10)]),
                "file_name": tfds.features.Text(),
            }
        )
        return tfds.core.DatasetInfo(
            builder=self,
            description="Handwritten digits of scikit-learn, 8x8 pixels, grey values 0..16 scaled to 0..255.",
            features=features,
            supervised_keys=("image", "label"),
            homepage="https://scikit-learn.org/stable/modules/generated/sklearn.datasets.load_digits.html",
        )

    def _split_generators(self, dl_manager: Any) -> dict[str, Any]:
        from sklearn.datasets import load_digits

        raw, labels = load_digits(return_X_y=True)
        images, labels = from_raw_pixels(raw.reshape(-1, 8, 8)), labels.astype(int)
        test = np.zeros(len(labels), bool)
        test[test_indices(labels)] = True
        return {
            "train": self._generate_examples(images, labels, np.flatnonzero(~test)),
            "test": self._generate_examples(images, labels, np.flatnonzero(test)),
        }

    def _generate_examples(
        self, images: np.ndarray, labels: np.ndarray, indices: np.ndarray
    ) -> Iterator[tuple[str, dict[str, Any]]]:
        for index in indices:
            name = f"{index:04d}.png"  # position in scikit-learn's own order
            yield name, {"image": _png(images[index]), "label": int(labels[index]), "file_name": name}


def from_raw_pixels(raw: np.ndarray) -> np.ndarray:
    """Grey values 0..16 (any numeric dtype) to uint8 0..255."""
    return np.rint(np.asarray(raw) * (255 / MAX_RAW)).astype(np.uint8)


def to_raw_pixels(images: np.ndarray) -> np.ndarray:
    """Inverse of `from_raw_pixels`: uint8 0..255 to float64 0..16, exact for every value in the dataset."""
    return np.rint(np.asarray(images) * (MAX_RAW / 255))


def test_indices(labels: np.ndarray) -> np.ndarray:
    """The 360 held-out positions, a stratified draw from a fixed seed: no run's seed changes them.

    Class sizes are 36 each, because 360 of 1,797 is 20 % of ten nearly equal classes.
    """
    per_class = NUM_TEST // 10
    chosen = [
        np.random.default_rng((_TEST_SEED, digit)).permutation(np.flatnonzero(labels == digit))[:per_class]
        for digit in range(10)
    ]
    return np.sort(np.concatenate(chosen))


def prepare(data_dir: Path) -> Path:
    """Builds the dataset under `data_dir` unless it is there, and returns its folder.

    The build happens under a temporary name and is renamed when complete. Processes that start together build
    twice, and the first rename wins: that needs no file locks, which shared file systems do not always have.
    """
    final = data_dir / "digits" / str(Digits.VERSION)
    if final.exists():
        return final
    final.parent.mkdir(parents=True, exist_ok=True)
    building = Path(tempfile.mkdtemp(prefix=".building-", dir=final.parent))
    tfds.disable_progress_bar()  # the build takes one second
    try:
        # tfds announces a download, which does not happen.
        with contextlib.redirect_stdout(io.StringIO()):
            Digits(data_dir=building, file_format="array_record").download_and_prepare()
        (building / "digits" / str(Digits.VERSION)).rename(final)
    except OSError:
        if not final.exists():  # otherwise another process was first, and its build is the same
            raise
    finally:
        tfds.enable_progress_bar()
        shutil.rmtree(building)
    return final


def _png(image: np.ndarray) -> io.BytesIO:
    encoded = io.BytesIO()
    Image.fromarray(image).save(encoded, format="PNG")
    encoded.seek(0)
    return encoded
