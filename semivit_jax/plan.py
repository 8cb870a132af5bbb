"""Define Plan, the numbers of one stage (steps, batch, groups), and Stream, the images it takes."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple


class Stream(NamedTuple):
    """What a stage takes from the data: images of one role, seen in one or more ways, with what is known of them."""

    name: str  # '<stage>/<name>' keys its order and its draws on the host
    images: str  # role in the split: 'training', 'labeled' or 'unlabeled'
    views: tuple[tuple[str, str], ...]  # (leaf of the batch, row of data.images.views.VIEWS)
    per_row: int = 1  # images beside one of batch_size
    ratio_key: str = ""  # the section's key that says per_row, for advice in errors; '' where it is fixed
    label: str = "class"  # kind of the leaf 'label', a row of data.rows.LABELS; '' gives none
    sets_epoch: bool = True  # an epoch is one pass over it, and it must fill a batch; the others repeat
    balanced: bool = False  # every class comes equally often, and images of small classes repeat
    image_id: bool = False  # leaf 'image_id', int32: the image's place in its role
    bank: str = ""  # file of predictions (data/bank.py): leaves 'bank_class', int32, and 'bank_prob', float32


@dataclasses.dataclass(frozen=True)
class ImageCounts:
    """Images of each role, those not held out for validation or test; fields are named like the roles."""

    training: int  # labeled and unlabeled
    labeled: int
    unlabeled: int
    per_class: tuple[int, ...]  # labeled images of each class; equal shares where no data is open


def equal_shares(total: int, parts: int) -> tuple[int, ...]:
    """Whole numbers that add up to `total`, as equal as can be: (3, 3, 2) for 8 in 3 parts."""
    return tuple((total + parts - 1 - part) // parts for part in range(parts))


@dataclasses.dataclass(frozen=True)
class Plan:
    """Derived numbers of one stage. Batches are global; an image pair of weak and strong views counts once."""

    stage: str
    num_devices: int
    num_classes: int
    batch_size: int  # images per update (semi: labeled ones)
    unlabeled_ratio: int  # images of all other streams beside one of batch_size; 0 where there is one stream
    recipe_accum: int  # micro-steps per update in the recipe: decides epochs and lr
    accum: int  # micro-steps per update as run: the recipe's, times what the devices ask for
    group_size: int  # labeled images that draw and mix together; 1 where nothing mixes
    micro_per_epoch: int  # of the recipe's micro-batches
    steps_per_epoch: int
    stretch: float  # how many times as long as the recipe's epochs and warm-up these last; 1 but for `min_updates`
    total_steps: int
    eval_every_steps: int
    peak_lr: float
    deviations: tuple[str, ...]  # what differs from the recipe, in words
    streams: tuple[Stream, ...]  # the first gives the images that batch_size counts
    counts: ImageCounts

    @property
    def micro_batch(self) -> int:
        """Images per micro-step as run (semi: labeled ones)."""
        return self.batch_size // self.accum

    @property
    def groups(self) -> int:
        """Mixing groups per micro-step."""
        return self.micro_batch // self.group_size

    def updates(self, epochs: float) -> float:
        """Updates that so many of the recipe's epochs take as run."""
        return epochs * self.stretch * self.steps_per_epoch

    @property
    def label(self) -> str:
        """Kind of label that the stage is graded by."""
        return graded_by(self.streams)


def graded_by(streams: Sequence[Stream]) -> str:
    """Kind of label that a stage is graded by: its first labeled stream's, '' where none has a label."""
    return next((stream.label for stream in streams if stream.label), "")


def to_dict(plan: Plan) -> dict[str, Any]:
    """The numbers, as plan.json and checkpoints keep them; streams and counts come anew from config and data."""
    return {name: value for name, value in dataclasses.asdict(plan).items() if name not in ("streams", "counts")}


def as_batch(leaves: Mapping[str, Any]) -> Any:
    """The batch of {stream: its leaves}: of one stream its leaves, of several one dict each."""
    return dict(leaves) if len(leaves) > 1 else next(iter(leaves.values()))
