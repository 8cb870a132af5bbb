"""The recipe: one frozen dataclass per section of a config, without a single default.

A config file returns an `ml_collections.ConfigDict`; `config_check.check` turns it once into
these dataclasses. A key that is missing, unknown or of the wrong type is an error that names it, so whatever a
run does stands in its config.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

STAGES = ("mae", "finetune", "semi")


class ConfigError(ValueError):
    """A config that cannot be run; the message names the key, its value and what is legal."""


@dataclasses.dataclass(frozen=True)
class RandAugmentConfig:
    """RandAugment with increasing severities (spec: views; recorded as rand-m9-mstd0.5-inc1)."""

    num_ops: int
    magnitude: float  # 0 to 10
    magnitude_std: float
    apply_prob: float  # each drawn operator is applied with this probability


@dataclasses.dataclass(frozen=True)
class PhotoViewsConfig:
    """Views of photographs, made on the host in uint8."""

    crop_scale: tuple[float, float]  # area share of the random crop in fine-tuning and both semi views
    mae_crop_scale: tuple[float, float]
    flip_prob: float
    color_jitter: float  # weak view: brightness, contrast, saturation in [1-j, 1+j]
    randaugment: RandAugmentConfig  # labeled and strong views
    path: str  # 'pillow' (exact) or 'fast'


@dataclasses.dataclass(frozen=True)
class AffineConfig:
    """Ranges of one random affine view, made on the device; every value is drawn uniformly."""

    degrees: float  # rotation in [-degrees, degrees]
    shift: float  # share of the side, both directions
    scale: tuple[float, float]  # height and width each by their own factor
    shear: float  # horizontal shear factor in [-shear, shear]


@dataclasses.dataclass(frozen=True)
class AffineViewsConfig:
    """Views of small drawings (digits): one image travels to the device, the views are drawn there."""

    mae: AffineConfig
    labeled: AffineConfig
    weak: AffineConfig
    strong: AffineConfig


@dataclasses.dataclass(frozen=True)
class DataConfig:
    """Where images come from, which of them carry labels, and how they are seen."""

    dataset: str  # 'digits', 'own_folder', or the name of any TFDS classification dataset
    data_dir: str  # prepared TFDS datasets; '' is the user's cache folder
    root: str  # own_folder: folder of images
    labels: str  # own_folder: CSV of path,label; '' reads class sub-folders
    train_split: str
    eval_split: str  # '' evaluates on the validation images kept back from the training split
    labels_per_class: int  # 0 when label_fraction or label_list says which images are labeled
    label_fraction: float  # share of the images with known labels; 0 when not used
    label_list: str  # file that lists the labeled images; '' when not used
    validation_share: float  # of the images with known labels, kept back per class
    image_size: int  # pixels, side of the square input
    eval_crop_fraction: float  # share of the resized short side that the centre crop keeps
    interpolation: str  # 'bicubic' or 'bilinear'
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    photo_views: PhotoViewsConfig | None  # exactly one of the two view sections is given
    affine_views: AffineViewsConfig | None
    exif_rotation: bool
    max_pixels: int  # larger images are refused as decompression bombs
    max_bad_share: float  # of this host's last 10,000 records; above it the run stops
    threads: int  # reading threads per host; 0 is one per core
    workers: int  # reading processes per host; 0 reads in threads alone
    prefetch_batches: int


@dataclasses.dataclass(frozen=True)
class ModelConfig:
    """Architecture of the backbone, shared by all stages."""

    variant: str  # a row of a family's sizes, models/families.py
    pool: str  # 'mean' or 'cls'; ConvNeXt has 'mean' alone
    posemb: str  # 'learned' or 'sincos' (frozen) in the supervised stages; 'none' for ConvNeXt
    head_init_std: float
    layer_norm_eps: float  # of every norm; of a ConvNeXt the final one alone, its others have 1e-6
    dtype: str  # activations: 'float32', 'bfloat16', or 'auto' (bfloat16 on an accelerator)
    attention: str  # 'auto', 'xla' or 'cudnn'; ConvNeXt has none, so 'cudnn' is refused there
    remat: str  # 'none', 'dots' or 'full'
    unroll: int  # blocks per iteration of the scan over depth


@dataclasses.dataclass(frozen=True)
class StageConfig:
    """What every stage has: duration, batch and optimizer."""

    epochs: float  # passes over the stage's main stream
    batch_size: int  # images per update (semi: labeled ones)
    accum: int  # micro-steps per update that the recipe itself asks for
    base_lr: float  # per 256 images, or absolute: see lr_rule
    lr_rule: str  # 'per_256' or 'absolute'
    min_lr: float
    schedule: str  # a row of optim.SCHEDULES
    warmup_epochs: float
    betas: tuple[float, float]
    eps: float
    weight_decay: float
    clip_norm: float  # global gradient norm; 0 switches clipping off


@dataclasses.dataclass(frozen=True)
class MaeConfig(StageConfig):
    """Stage 1, masked autoencoding (He et al. 2022)."""

    mask_ratio: float
    norm_pix_loss: bool
    decoder_width: int
    decoder_depth: int
    decoder_num_heads: int


@dataclasses.dataclass(frozen=True)
class FinetuneConfig(StageConfig):
    """Stage 2, supervised fine-tuning on the labeled images."""

    layer_decay: float  # 1 switches it off
    drop_path_rate: float
    ema_decay: float  # 0 keeps no average
    label_smoothing: float
    labeled_mixup: bool  # off: label-smoothed cross-entropy
    mixup_alpha: float  # Beta parameter; 0 leaves cutmix alone
    cutmix_alpha: float  # 0 leaves mixup alone
    mixup_prob: float
    cutmix_switch_prob: float  # cutmix instead of mixup, when both alphas are positive
    mixup_group_size: int  # labeled images that mix with each other, even
    erase_prob: float
    head_lr_scale: float  # extra factor for the last group: final norm and head
    published_acc1: float  # in percent, printed beside the measured one; 0 when there is none


@dataclasses.dataclass(frozen=True)
class SemiConfig(FinetuneConfig):
    """Stage 3, semi-supervised fine-tuning (Cai et al. 2022)."""

    unlabeled_ratio: int  # unlabeled images per labeled one (mu)
    unlabeled_weight: float
    teacher: str  # 'ema' or 'student'
    pseudo_label_rule: str  # a row of pseudo_label.RULES
    confidence_threshold: float
    pseudo_mixup: str  # a row of pseudo_mixup.PSEUDO_MIXUPS


@dataclasses.dataclass(frozen=True)
class TrainConfig:
    """How the loop runs; what is computed changes only with on_collapse = 'rollback', lower_batch_to_fit, and a
    max_images_per_device that leaves no room for a mixing group: both adaptations are said, and a restart keeps them.
    """

    eval_every_epochs: float
    eval_batch_size: int
    max_images_per_device: int  # of one forward pass; more are accumulated, if need be in smaller groups. 0: no limit
    lower_batch_to_fit: bool  # a new stage whose images do not fill its batch takes the largest they do; off: refused
    deterministic: bool  # bit-identical repeats on GPU, slower
    compilation_cache: bool  # keep compiled programs in the user's cache folder
    agree_every_steps: int  # hosts agree on stopping this often
    max_nonfinite_in_a_row: int
    collapse_window_steps: int
    collapse_mask_rate_share: float  # of its best windowed mean
    collapse_accuracy_share: float  # of the teacher's best accuracy, at two evaluations
    on_collapse: str  # 'stop' or 'rollback'
    max_rollbacks: int


@dataclasses.dataclass(frozen=True)
class MeshConfig:
    """Devices and hosts."""

    fsdp: int  # devices that share one copy of the parameters; the others hold further copies
    coordinator_address: str  # 'host:port'; '' finds the cluster from the environment
    num_processes: int  # -1 finds it from the environment
    process_id: int  # -1 finds it from the environment
    coordinator_timeout_seconds: float


@dataclasses.dataclass(frozen=True)
class CheckpointConfig:
    """How often a stage saves its state, and how many of its checkpoints stay."""

    save_every_steps: int
    keep: int  # good checkpoints kept per stage, besides the best one


@dataclasses.dataclass(frozen=True)
class LogConfig:
    """What a run tells while it goes on, and what its reports call it."""

    every_steps: int
    tensorboard: bool
    recipe: str  # name of the recipe, printed in reports
    origin: str  # 'published' or 'ours'


@dataclasses.dataclass(frozen=True)
class Config:
    """A whole run. Sections of stages that do not run may be absent (None)."""

    seed: int
    stages: tuple[str, ...]
    init_from: str  # imported weights or another run's workdir; '' starts from scratch
    data: DataConfig
    model: ModelConfig
    mae: MaeConfig | None
    finetune: FinetuneConfig | None
    semi: SemiConfig | None
    train: TrainConfig
    mesh: MeshConfig
    checkpoint: CheckpointConfig
    log: LogConfig

    def stage(self, name: str) -> StageConfig:
        """Section of one stage; present for every stage in `stages`."""
        section = getattr(self, name)
        assert isinstance(section, StageConfig), name
        return section


# Keys a restart may change: they decide where and how fast a run happens and what it tells, not what it computes.
RUNTIME_KEYS = (
    "data.data_dir",
    "data.root",
    "data.labels",
    "data.label_list",  # a workdir's split.csv holds its content
    "data.threads",
    "data.workers",
    "data.prefetch_batches",
    "data.max_bad_share",
    "init_from",
    "stages",
    "model.attention",
    "model.remat",
    "model.unroll",
    "finetune.published_acc1",
    "semi.published_acc1",
    "train",
    "mesh",
    "checkpoint",
    "log",
)


def flatten(config: Any, prefix: str = "") -> dict[str, Any]:
    """{'data.image_size': 224, ...}: one entry per leaf, absent sections as None."""
    flat = {}
    for field in dataclasses.fields(config):
        value, key = getattr(config, field.name), f"{prefix}{field.name}"
        flat |= flatten(value, f"{key}.") if dataclasses.is_dataclass(value) else {key: value}
    return flat


def to_dict(config: Config) -> dict[str, Any]:
    """JSON-ready nested dict; `config_check.check(to_dict(c)) == c`."""
    return dataclasses.asdict(config)


def identity(config: Config) -> dict[str, Any]:
    """The flattened keys that make two runs the same experiment: a workdir goes on with no others."""
    return {k: v for k, v in flatten(config).items() if not is_runtime(k)}


def is_runtime(key: str) -> bool:
    """Whether a restart may change a key, as in 'data.threads'."""
    return any(key == k or key.startswith(f"{k}.") for k in RUNTIME_KEYS)


def differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """Readable lines for keys of two flattened configs that differ."""
    absent = "absent"
    keys = sorted(old.keys() | new.keys())
    return [
        f"{k}: {old.get(k, absent)!r} -> {new.get(k, absent)!r}"
        for k in keys
        if _plain(old.get(k, absent)) != _plain(new.get(k, absent))
    ]


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value
