"""Vision Transformers of other libraries: how their arrays are fitted to ours."""

import jax
import numpy as np


def resize_patch_kernel(kernel: np.ndarray, patch_size: int) -> np.ndarray:
    """Resizes a patch kernel without rescaling its values.

    Cubic with a = -0.75, half-pixel centres and no antialiasing: the resize of position embeddings.

    Args:
      kernel: (p, p, 3, width).
      patch_size: side wanted.

    Returns:
      (patch_size, patch_size, 3, width), same dtype.
    """
    shape = (patch_size, patch_size, *kernel.shape[2:])
    return np.asarray(jax.image.resize(kernel, shape, method="cubic-pytorch", antialias=False))
