"""Compute what LabelSpreading and an SVM reach on the digits, for comparison."""

import numpy as np
from sklearn.semi_supervised import LabelSpreading
from sklearn.svm import SVC

from semivit_jax.config import DataConfig
from semivit_jax.data.dataset import TaskData
from semivit_jax.data.rows import decode_all
from semivit_jax.data.sources.digits import MAX_RAW, to_raw_pixels


def digits_baselines(task: TaskData, data: DataConfig) -> dict[str, dict[str, float]]:
    """Test accuracy of LabelSpreading on all training images and of an SVM on the labeled ones alone.

    The settings are the well-working ones for these images; LabelSpreading's defaults reach 10 %.
    """
    pixels = to_raw_pixels(decode_all(task.train, data).images[..., 0]).reshape(len(task.train), -1)
    test = to_raw_pixels(decode_all(task.eval, data).images[..., 0]).reshape(len(task.eval), -1)
    labeled = np.full(len(task.train), -1)
    labeled[task.split.labeled] = task.train.labels[task.split.labeled]
    seen = task.split.training
    spreading = LabelSpreading(kernel="rbf", gamma=0.25, max_iter=100)  # pyright: ignore[reportArgumentType]
    spreading.fit(pixels[seen], labeled[seen])
    svm = SVC(C=10, gamma="scale").fit(pixels[task.split.labeled] / MAX_RAW, task.train.labels[task.split.labeled])
    return {
        "label_spreading": {"acc1": float(np.mean(spreading.predict(test) == task.eval.labels))},
        "svm_labeled_only": {"acc1": float(np.mean(svm.predict(test / MAX_RAW) == task.eval.labels))},
    }
