"""Define the keys of a recipe: one frozen dataclass per section, without a single default.

A config file returns an `ml_collections.ConfigDict`; `recipes.check.check` turns it once into
these dataclasses. A key that is missing, unknown or of the wrong type is an error that names it, so whatever a
run does stands in its config. What else must hold of a key is marked beside it: a range of its number, or of every
number in its tuple; its legal words, in a tuple or as the rows of a table; RUNTIME and HOST.
"""

import dataclasses
import enum
import math
from collections.abc import Iterator, Mapping
from typing import Annotated, Any


class ConfigError(ValueError):
    """A config that cannot be run; the message names the key, its value and what is legal."""


@dataclasses.dataclass(frozen=True)
class Range:
    """Smallest and largest legal number of a key."""

    low: float
    high: float


SHARE = Range(0.0, 1.0)
POSITIVE = Range(1e-12, math.inf)
NOT_NEGATIVE = Range(0.0, math.inf)
AT_LEAST_ONE = Range(1, math.inf)


class Mark(enum.Enum):
    """What else is true of a key, or of every key of a section.

    RUNTIME: a restart may change it: it decides where and how fast a run happens and what it tells, not what comes out.
    HOST: hosts may differ in it: where each keeps its data and how it reads them, and its place among the others.
    """

    RUNTIME = enum.auto()
    HOST = enum.auto()


RUNTIME, HOST = Mark


@dataclasses.dataclass(frozen=True)
class RandAugmentConfig:
    """RandAugment with increasing severities (timm calls the published one rand-m9-mstd0.5-inc1)."""

    num_ops: Annotated[int, NOT_NEGATIVE]  # operators drawn for an image
    magnitude: Annotated[float, Range(0.0, 10.0)]  # mean severity of an operator, of 10
    magnitude_std: Annotated[float, NOT_NEGATIVE]  # standard deviation of the severity
    apply_prob: Annotated[float, SHARE]  # each drawn operator is applied with this probability


@dataclasses.dataclass(frozen=True)
class PhotoViewsConfig:
    """Views of photographs, made on the host in uint8."""

    # Area share of the random crop, in fine-tuning and both semi views.
    crop_scale: Annotated[tuple[float, float], Range(1e-6, 1.0)]
    mae_crop_scale: Annotated[tuple[float, float], Range(1e-6, 1.0)]  # the same in the mae stage
    flip_prob: Annotated[float, SHARE]  # share of images that are mirrored
    color_jitter: Annotated[float, SHARE]  # weak view: brightness, contrast, saturation in [1-j, 1+j]
    randaugment: RandAugmentConfig  # labeled and strong views
    path: Annotated[str, ("pillow", "fast")]  # of training views: 'pillow' is exact, 'fast' quicker and nearly equal


@dataclasses.dataclass(frozen=True)
class AffineConfig:
    """Ranges of one random affine view, made on the device; every value is drawn uniformly."""

    degrees: Annotated[float, NOT_NEGATIVE]  # rotation in [-degrees, degrees]
    shift: Annotated[float, NOT_NEGATIVE]  # share of the side, both directions
    scale: Annotated[tuple[float, float], POSITIVE]  # height and width each by their own factor
    shear: Annotated[float, NOT_NEGATIVE]  # horizontal shear factor in [-shear, shear]


@dataclasses.dataclass(frozen=True)
class AffineViewsConfig:
    """Views of small drawings (digits): one image travels to the device, the views are drawn there."""

    mae: AffineConfig  # view of the mae stage
    labeled: AffineConfig  # view of labeled images
    weak: AffineConfig  # what the teacher sees
    strong: AffineConfig  # what the student sees


@dataclasses.dataclass(frozen=True)
class DataConfig:
    """Where images come from, which of them carry labels, and how they are seen."""

    dataset: str  # 'digits', 'own_folder', or the name of any TFDS classification dataset
    data_dir: Annotated[str, RUNTIME, HOST]  # prepared TFDS datasets; '' is the user's cache folder
    root: Annotated[str, RUNTIME, HOST]  # folder of images (own_folder)
    labels: Annotated[str, RUNTIME, HOST]  # CSV of path,label (own_folder); '' reads class sub-folders
    keep_none: bool  # images with the label -none- count as unlabeled; off: they take no part (own_folder)
    # OLD:NEW, several with commas between: classes that the weights to start from know by another name; '' is none.
    renamed: Annotated[str, RUNTIME]
    train_split: str  # folder below `root`, '' is the root itself; of TFDS the name of a split
    eval_split: str  # '' evaluates on the validation images kept back from the training split
    labels_per_class: Annotated[int, NOT_NEGATIVE]  # labeled images drawn of each class; 0 when not used
    label_fraction: Annotated[float, SHARE]  # share of the images with known labels; 0 when not used
    # File that lists the labeled images, '' when not used; a workdir's split.csv holds its content.
    label_list: Annotated[str, RUNTIME, HOST]
    validation_share: Annotated[float, SHARE]  # of the images with known labels, kept back per class to evaluate on
    image_size: Annotated[int, AT_LEAST_ONE]  # pixels, side of the square input
    # Share of the resized short side that the centre crop of evaluation keeps.
    eval_crop_fraction: Annotated[float, Range(1e-3, 1.0)]
    interpolation: Annotated[str, ("bicubic", "bilinear")]  # of every resize
    mean: tuple[float, float, float]  # of red, green and blue in 0..1, subtracted from the pixels
    std: Annotated[tuple[float, float, float], POSITIVE]  # of red, green and blue in 0..1, divides the pixels
    photo_views: PhotoViewsConfig | None  # exactly one of the two view sections is given
    affine_views: AffineViewsConfig | None
    exif_rotation: bool  # turn a photo as its camera says
    max_pixels: Annotated[int, AT_LEAST_ONE]  # larger images are refused as decompression bombs
    # Unreadable images among the last 10,000 that a host has read; above it the run stops.
    max_bad_share: Annotated[float, SHARE, RUNTIME]
    threads: Annotated[int, NOT_NEGATIVE, RUNTIME, HOST]  # reading threads per host; 0 is one per core
    workers: Annotated[int, NOT_NEGATIVE, RUNTIME, HOST]  # reading processes per host; 0 reads in threads alone
    prefetch_batches: Annotated[int, NOT_NEGATIVE, RUNTIME, HOST]  # batches read ahead
    # Views drawn of every image whose features are computed once and kept, for model.tune = 'head'; 0 keeps none.
    cache_features: Annotated[int, NOT_NEGATIVE]


@dataclasses.dataclass(frozen=True)
class ModelConfig:
    """Architecture of the backbone, shared by all stages."""

    variant: str  # the model: a row of a family's sizes, models/families.py
    pool: str  # what the head reads: 'mean' of the patches, 'cls' (class token), or 'map' (attention), of SigLIP alone
    posemb: str  # position embedding, 'learned' or 'sincos' (frozen) in the supervised stages; ConvNeXt, DINOv3: 'none'
    head: Annotated[str, ("linear", "mlp")]  # 'mlp' has a hidden layer, as wide as the features, and a GELU
    head_init_std: Annotated[
        float, NOT_NEGATIVE
    ]  # standard deviation of the first weights of a random head's last layer
    # The head of a run that starts from weights without one: 'random', or fitted on frozen features ('probe').
    head_init: Annotated[str, ("random", "probe")]
    layer_norm_eps: Annotated[float, POSITIVE]  # of every norm; of a ConvNeXt the final one alone, its others have 1e-6
    dtype: Annotated[str, ("auto", "float32", "bfloat16")]  # of activations; 'auto' is bfloat16 on an accelerator
    attention: Annotated[str, RUNTIME]  # 'auto' takes cuDNN's kernel where it runs; ConvNeXt has no attention
    # Activations computed again in the backward pass: none, all but products, all.
    remat: Annotated[str, ("none", "dots", "full"), RUNTIME]
    unroll: Annotated[int, AT_LEAST_ONE, RUNTIME]  # blocks per iteration of the scan over depth
    # What the supervised stages train: 'all', 'head', 'last_N' (N blocks and what follows), 'lora' (with the head).
    tune: str
    # With tune = 'lora' alone: 'low_rank' adds to matrices (LoRA), 'bottleneck' a layer beside each MLP (AdaptFormer).
    lora_kind: Annotated[str, ("low_rank", "bottleneck")]
    lora_rank: Annotated[int, AT_LEAST_ONE]  # of what is added to a matrix, or of a bottleneck
    lora_alpha: Annotated[float, POSITIVE]  # LoRA adds alpha / rank times its two factors
    bottleneck_scale: Annotated[float, POSITIVE]  # factor of what a bottleneck gives
    lora_matrices: str  # to which LoRA adds: 'attention', 'mlp' or 'attention_mlp'; ConvNeXt has 'mlp' alone


@dataclasses.dataclass(frozen=True)
class StageConfig:
    """What every stage has: duration, batch and optimizer."""

    epochs: float  # passes over the stage's main stream
    batch_size: Annotated[int, AT_LEAST_ONE]  # images per update, over all devices (semi: labeled ones)
    accum: Annotated[int, AT_LEAST_ONE]  # micro-steps per update that the recipe itself asks for
    base_lr: Annotated[float, NOT_NEGATIVE]  # peak learning rate, per 256 images or absolute as lr_rule says
    lr_rule: Annotated[str, ("per_256", "absolute")]  # 'per_256': peak = base_lr * batch_size / 256
    min_lr: Annotated[float, NOT_NEGATIVE]  # where the schedule ends
    schedule: str  # of the learning rate: a row of optim.SCHEDULES (not loaded here, since it brings jax along)
    warmup_epochs: float  # linear rise of the learning rate from 0, passes over the stage's main stream
    # Fewest updates: where `epochs` gives fewer, they and the warm-up are stretched; 0 sets no floor.
    min_updates: Annotated[int, NOT_NEGATIVE]
    betas: Annotated[tuple[float, float], Range(0.0, 0.999999)]  # AdamW: decay of the first and the second moment
    eps: Annotated[float, NOT_NEGATIVE]  # AdamW: added to the root of the second moment
    weight_decay: Annotated[float, NOT_NEGATIVE]  # AdamW, decoupled; biases, norms and embeddings have none
    clip_norm: Annotated[float, NOT_NEGATIVE]  # largest global gradient norm; 0 switches clipping off


@dataclasses.dataclass(frozen=True)
class TrainConfig:
    """How the loop runs. What is computed changes only with on_collapse = 'rollback', lower_batch_to_fit, and a
    max_images_per_device that leaves no room for a mixing group: such a change is printed, and a restart keeps it.
    """

    eval_every_epochs: Annotated[float, POSITIVE]  # time between evaluations, in passes over the stage's main stream
    eval_batch_size: Annotated[int, AT_LEAST_ONE]  # images of an evaluation step, over all devices
    # Images of one forward pass, unlabeled ones too; more are accumulated, if need be in smaller groups. 0: no limit.
    max_images_per_device: Annotated[int, NOT_NEGATIVE]
    lower_batch_to_fit: bool  # a new stage whose images do not fill its batch takes the largest they do; off: refused
    deterministic: bool  # bit-identical repeats on GPU, slower
    compilation_cache: bool  # keep compiled programs in the user's cache folder, or JAX_COMPILATION_CACHE_DIR
    agree_every_steps: Annotated[int, AT_LEAST_ONE]  # updates between questions to all hosts whether to stop
    # Minutes without a step after which a process says where it waits; after twice as many a GPU's process that waits
    # for others ends. 0: neither.
    hang_minutes: Annotated[float, NOT_NEGATIVE]
    # Updates dropped for NaN or infinity in a row, after which the run stops.
    max_nonfinite_in_a_row: Annotated[int, AT_LEAST_ONE]
    collapse_window_steps: Annotated[int, AT_LEAST_ONE]  # updates over which the guard averages
    collapse_mask_rate_share: Annotated[float, SHARE]  # of the best mean mask_rate; below it the stage has collapsed
    # Of the teacher's best accuracy; below it at two evaluations the stage has collapsed. Also of a class's evaluation
    # images: with fewer answers of that class than that, pseudo labels leave it out, which is told.
    collapse_accuracy_share: Annotated[float, SHARE]
    on_collapse: Annotated[str, ("stop", "rollback")]  # stop the run, or go back to the last good checkpoint
    max_rollbacks: Annotated[int, NOT_NEGATIVE]  # times a stage may go back before it stops


@dataclasses.dataclass(frozen=True)
class MeshConfig:
    """Devices and hosts."""

    fsdp: Annotated[int, AT_LEAST_ONE]  # devices that share one copy of the parameters; other groups hold copies
    coordinator_address: Annotated[str, HOST]  # 'host:port'; '' finds the cluster from the environment
    num_processes: Annotated[int, HOST]  # -1 finds it from the environment
    process_id: Annotated[int, HOST]  # -1 finds it from the environment
    coordinator_timeout_seconds: Annotated[float, POSITIVE]  # longest wait for process 0 at the start


@dataclasses.dataclass(frozen=True)
class CheckpointConfig:
    """How often a stage saves its state, and how many of its checkpoints stay."""

    save_every_steps: Annotated[int, AT_LEAST_ONE]  # updates between checkpoints
    keep: Annotated[int, AT_LEAST_ONE]  # good checkpoints kept per stage, besides the best one


@dataclasses.dataclass(frozen=True)
class LogConfig:
    """What a run tells while it goes on, and what its reports call it."""

    every_steps: Annotated[int, AT_LEAST_ONE]  # updates between lines of metrics
    # Where numbers go: rows of the table of loggers, 'jsonl' (metrics.jsonl) always among them.
    writers: tuple[str, ...]
    tensorboard: bool  # off: no TensorBoard files, whatever `writers` says
    profile_at: Annotated[int, NOT_NEGATIVE]  # update of each stage from which on it is traced for a profile; 0: never
    profile_steps: Annotated[int, AT_LEAST_ONE]  # updates of a profile
    report: bool  # make report.html at the end of the run, where the extra `report` is installed
    recipe: str  # name of the recipe, printed in reports
    origin: Annotated[str, ("published", "ours")]  # 'published': the values of a published command; 'ours': chosen here


@dataclasses.dataclass(frozen=True)
class Config:
    """A whole run."""

    seed: Annotated[int, NOT_NEGATIVE]  # of every random draw: weights, order, views, and which images are labeled
    stages: Annotated[tuple[str, ...], RUNTIME]  # which run, in the order of the table of stages
    init_from: Annotated[str, RUNTIME, HOST]  # imported weights or another run's workdir; '' starts from scratch
    data: DataConfig
    model: ModelConfig
    sections: Mapping[
        str, StageConfig | None
    ]  # of every stage by its name; None where a stage that does not run has none
    train: Annotated[TrainConfig, RUNTIME]
    mesh: Annotated[MeshConfig, RUNTIME]
    checkpoint: Annotated[CheckpointConfig, RUNTIME]
    log: Annotated[LogConfig, RUNTIME]

    def stage(self, name: str) -> StageConfig:
        """Section of one stage; present for every stage in `stages`."""
        section = self.sections[name]
        assert section is not None, name
        return section

    def with_stage(self, name: str, section: StageConfig) -> "Config":
        """The same run with another section of one stage."""
        return dataclasses.replace(self, sections={**self.sections, name: section})


def flatten(config: Any, prefix: str = "") -> dict[str, Any]:
    """{'data.image_size': 224, ...}: one entry per leaf, absent sections as None."""
    flat = {}
    for name, value in _entries(config):
        key = f"{prefix}{name}"
        flat |= flatten(value, f"{key}.") if dataclasses.is_dataclass(value) else {key: value}
    return flat


def to_dict(config: Config) -> dict[str, Any]:
    """JSON-ready nested dict; `recipes.check.check(to_dict(c)) == c`."""
    return {
        name: dataclasses.asdict(value) if dataclasses.is_dataclass(value) and not isinstance(value, type) else value
        for name, value in _entries(config)
    }


def _entries(config: Any) -> Iterator[tuple[str, Any]]:
    """Names and values of a section, in order; those of a run's stages stand among its other sections."""
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        if isinstance(value, Mapping):
            yield from value.items()
        else:
            yield field.name, value
