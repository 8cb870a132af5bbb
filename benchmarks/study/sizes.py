"""How large the study is: images, network, lengths, seeds. `quick`, `small` and `features` are for two CPU cores."""

import dataclasses

NUM_CLASSES = 10
TUNING_SEED = 0  # whose fine-tuning the threshold is chosen on, by validation images


@dataclasses.dataclass(frozen=True)
class Supervised:
    """A stage with labels.

    Attributes:
      batch_size: labeled images of an update.
      epochs: passes over its main stream.
      peak_lrs: peak learning rates, not scaled, among which one is chosen where there are several.
      ema_decay: of the moving average, 0 for none.
    """

    batch_size: int
    epochs: float
    peak_lrs: tuple[float, ...]
    ema_decay: float


@dataclasses.dataclass(frozen=True)
class Scratch:
    """A small ViT, trained from nothing.

    Attributes:
      model: row of the table of ViTs.
      mae_batch, mae_epochs, decoder: of the pre-training; decoder width, depth, heads.
      scratch_epochs: passes over the labeled images without pre-training.
      unroll: blocks per iteration of the scan over depth.
    """

    model: str
    mae_batch: int
    mae_epochs: float
    decoder: tuple[int, int, int]
    scratch_epochs: float
    unroll: int


@dataclasses.dataclass(frozen=True)
class Frozen:
    """A head on frozen features of imported weights.

    Attributes:
      views: of each image, whose features are computed once for all cells.
    """

    views: int


@dataclasses.dataclass(frozen=True)
class Size:
    """One version of the study; image counts are per class.

    Attributes:
      network: what is trained.
      train: labeled and unlabeled images together.
      labels: of them, with a label.
      validation: held out of training, for what is chosen.
      test: read once by every cell.
      finetune, semi: of stages 2 and 3; `semi.epochs` are passes over the unlabeled images.
      unlabeled_ratio: unlabeled images beside a labeled one.
      thresholds: among which one is chosen.
      seeds: of the reported cells.
    """

    network: Scratch | Frozen
    train: int
    labels: int
    validation: int
    test: int
    finetune: Supervised
    semi: Supervised
    unlabeled_ratio: int
    thresholds: tuple[float, ...]
    seeds: tuple[int, ...]

    @property
    def unlabeled(self) -> int:
        """Unlabeled images of all classes."""
        return NUM_CLASSES * (self.train - self.labels)


def _gpu(labels: int, finetune: Supervised, seeds: tuple[int, ...]) -> Size:
    """ViT-S/4 as in configs/cifar10.py; 500 images of each class are held out, so 45,000 train."""
    return Size(
        network=Scratch("vit_s4", 1024, 800.0, (192, 4, 6), finetune.epochs, 1),
        train=4500,
        labels=labels,
        validation=500,
        test=1000,
        finetune=finetune,
        semi=Supervised(64, 100.0, (2.5e-4,), 0.999),
        unlabeled_ratio=7,
        thresholds=(0.5, 0.7, 0.8, 0.95),
        seeds=seeds,
    )


SIZES = {
    "quick": Size(
        network=Scratch("vit_study8", 64, 60.0, (48, 1, 3), 200.0, 4),
        train=544,  # 5,040 unlabeled images are 63 whole updates
        labels=40,
        validation=100,
        test=200,
        finetune=Supervised(40, 200.0, (2e-3,), 0.0),
        semi=Supervised(16, 10.0, (5e-4,), 0.99),
        unlabeled_ratio=5,
        thresholds=(0.5, 0.7, 0.9),
        seeds=(0, 1, 2),
    ),
    "small": Size(
        network=Scratch("vit_study4", 64, 60.0, (48, 1, 3), 200.0, 4),
        train=544,  # 5,040 unlabeled images are 63 whole updates
        labels=40,
        validation=100,
        test=200,
        finetune=Supervised(40, 200.0, (2e-3,), 0.0),
        semi=Supervised(16, 10.0, (5e-4,), 0.99),
        unlabeled_ratio=5,
        thresholds=(0.5, 0.7, 0.9),
        seeds=(0, 1, 2),
    ),
    "features": Size(
        network=Frozen(views=2),
        train=340,  # 3,000 unlabeled images are 15 whole updates
        labels=40,
        validation=100,
        test=200,
        finetune=Supervised(40, 40.0, (1e-4, 1e-3), 0.0),
        semi=Supervised(40, 40.0, (1e-4, 3e-4, 1e-3), 0.99),
        unlabeled_ratio=5,
        thresholds=(0.5, 0.7, 0.9),
        seeds=(0, 1, 2),
    ),
    "gpu_40": _gpu(4, Supervised(40, 500.0, (1.6e-4,), 0.0), (0, 1, 2, 3, 4)),
    "gpu_250": _gpu(25, Supervised(250, 500.0, (1e-3,), 0.0), (0, 1, 2)),
    "gpu_4000": _gpu(400, Supervised(400, 100.0, (1.6e-3,), 0.0), (0, 1, 2)),
}
