"""Make small pictures that a page holds inside itself."""

import base64
import io
from collections.abc import Sequence

import numpy as np
from PIL import Image

from semivit_jax.config import DataConfig
from semivit_jax.data.bad_records import BadRecord
from semivit_jax.data.rows import read_image
from semivit_jax.data.sources.image_set import ImageSet

SIDE = 128  # pixels of the longer side at most
_SMALL = 40  # pixels; pictures up to here are enlarged by the browser without blurring, and kept exactly
_QUALITY = 82


def encoded(image: np.ndarray) -> str:
    """uint8 [height, width, 3] as a data address: exact where it is tiny, else a small JPEG."""
    picture = Image.fromarray(image)
    file = io.BytesIO()
    if max(picture.size) <= _SMALL:
        picture.save(file, "PNG", optimize=True)
        return f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}"
    picture.thumbnail((SIDE, SIDE), Image.Resampling.LANCZOS)
    picture.save(file, "JPEG", quality=_QUALITY)
    return f"data:image/jpeg;base64,{base64.b64encode(file.getvalue()).decode()}"


def of_set(images: ImageSet, places: Sequence[int] | np.ndarray, data: DataConfig) -> list[str]:
    """Pictures of some images of a set; '' for one that cannot be read."""
    found = (read_image(images, int(place), data, path="pillow") for place in places)
    return ["" if isinstance(image, BadRecord) else encoded(image) for image in found]
