"""Import published weights as parameters of ours, with all that must travel with them."""

import dataclasses

from semivit_jax.models import families
from semivit_jax.models.spec import ModelSpec
from semivit_jax.weights import channels, exchanges, layout
from semivit_jax.weights.account import ImportReport
from semivit_jax.weights.exchange import Wanted
from semivit_jax.weights.fill import Filled, fill
from semivit_jax.weights.locate import locate
from semivit_jax.weights.preprocessing import Preprocessing
from semivit_jax.weights.sources import Source
from semivit_jax.weights.state_dicts import open_weights
from semivit_jax.weights.variants import check_said, variant_of
from semivit_jax.weights.weights import Weights
from semivit_jax.words import counted


@dataclasses.dataclass(frozen=True)
class Imported:
    """Weights from elsewhere in our layout.

    Attributes:
      weights: float32 numpy arrays; their spec has num_classes 0 where the source brought no head that fits.
      ema_params: moving average of the params, where the source has both.
      pool: what a head on these weights is to read; None where the source does not tell, as an encoder that was
        trained by masking alone.
      report: what became of every tensor.
    """

    weights: Weights
    ema_params: dict | None
    pool: str | None
    report: ImportReport


def import_weights(
    source: str,
    *,
    variant: str | None,
    pool: str | None,
    image_size: int | None,
    decoder: bool,
    sum_channels: bool = False,
) -> Imported:
    """Reads published weights into one of our models.

    Args:
      source: a file, a folder, or "hf://org/name".
      variant: a row of the model tables, such as "vit_b16" or "convnext_tiny"; None takes the one whose sizes the
        source has.
      pool: "mean", "cls" or "map"; None keeps the source's own.
      image_size: pixels; None keeps the source's own, told by its config or by its position embedding. Position
        embeddings are resized to fit.
      decoder: import encoder and decoder of an MAE, to continue its pre-training.
      sum_channels: take weights that read one or four channels (see `channels`), which are refused otherwise.

    Raises:
      FileNotFoundError, ImportError: the source cannot be read (see `locate` and `state_dicts`).
      ValueError: the source is not known, not representable, does not fit the variant, or is of another model than
        the config beside it.
    """
    files = locate(source)
    state_dicts = open_weights(files.weights, files.listed)
    configs = channels.of_colour(files.configs) if sum_channels else files.configs
    found, told = channels.fitted(exchanges.recognise(state_dicts.params, configs), summed=sum_channels)
    ema = None
    if state_dicts.ema_params is not None:
        ema, _ = channels.fitted(exchanges.recognise(state_dicts.ema_params, configs), summed=sum_channels)
    check_said(found, configs)
    return import_sources(
        source,
        found,
        ema,
        variant=variant,
        pool=pool,
        image_size=image_size,
        decoder=decoder,
        notes=(*state_dicts.notes, *told),
    )


def import_sources(
    name: str,
    found: Source,
    ema: Source | None,
    *,
    variant: str | None,
    pool: str | None,
    image_size: int | None,
    decoder: bool,
    notes: tuple[str, ...],
) -> Imported:
    """What `import_weights` does once the weights, and their moving average where there is one, are recognised.

    Args:
      name: of the source, for the report.
      found: the weights.
      ema: their moving average.
      variant: as in `import_weights`, and so are the next three.
      pool: what the head reads.
      image_size: pixels.
      decoder: whether the decoder is imported too.
      notes: what people should know of the choice of these weights.
    """
    variant = variant or variant_of(found)
    preprocessing, assumed = _view(found, image_size)
    spec = _spec(found, Wanted(variant, pool, preprocessing.image_size, decoder))
    filled = _fill(found, spec)
    names = found.beside.class_names if "head/kernel" in filled.params else None
    if names is not None and len(names) != found.num_classes:
        raise ValueError(
            f"{name}: its config names {counted(len(names), 'class', 'classes')}, "
            f"and its head has {counted(found.num_classes, 'output')}"
        )
    filled_ema = None if ema is None else _fill(ema, spec)
    return Imported(
        weights=Weights(spec, layout.unflatten(filled.params), names, preprocessing),
        ema_params=None if filled_ema is None else layout.unflatten(filled_ema.params),
        pool=None if decoder else pool or found.pool,
        report=ImportReport(
            name,
            found.kind,
            filled.rows,
            None if filled_ema is None else filled_ema.rows,
            notes=(*notes, *found.beside.notes, *assumed),
        ),
    )


def _view(source: Source, image_size: int | None) -> tuple[Preprocessing, tuple[str, ...]]:
    """The preprocessing, and a note on what of it is assumed.

    The image size is the one asked for, else the config's, else that of the position embedding, else the authors'.

    Raises:
      ValueError: config and position embedding contradict each other, and no size is asked for.
    """
    view, assumed = source.beside.preprocessing, source.beside.assumed
    size = view.image_size
    if image_size is not None:
        size = image_size
    elif source.image_size is not None and "image_size" in assumed:
        size = source.image_size
    elif source.image_size not in (None, size):
        raise ValueError(
            f"the config beside the weights says {size} pixels, and their position embedding is for "
            f"{source.image_size}: --image_size says which"
        )
    view = dataclasses.replace(view, image_size=size)
    if not assumed:
        return view, ()
    known = image_size is not None or source.image_size is not None
    guessed = [f"{name} {_told(getattr(view, name))}" for name in assumed if name != "image_size" or not known]
    if not guessed:
        return view, ()
    return view, (f"nothing in the source tells {', '.join(guessed)}: assumed, as is usual for ImageNet",)


def _told(value: object) -> str:
    return " ".join(map(str, value)) if isinstance(value, tuple) else str(value)


def _spec(source: Source, wanted: Wanted) -> ModelSpec:
    family = families.of(wanted.variant)
    if source.family != family.name:
        raise ValueError(f"the source is a {source.family} ({source.kind}), {wanted.variant} is a {family.name}")
    stride = family.stride(family.sizes[wanted.variant])
    if wanted.image_size % stride:
        raise ValueError(
            f"image_size {wanted.image_size}: must be a multiple of the {family.stride_name} of {wanted.variant}, "
            f"{stride}"
        )
    return exchanges.EXCHANGES[family.name].spec(source, wanted)


def _fill(source: Source, spec: ModelSpec) -> Filled:
    """Fills the tree of `spec`; folded tensors get a row of their own, so that every tensor has one."""
    exchange = exchanges.EXCHANGES[spec.family]
    tensors, folded = exchange.adapted(source, spec)
    filled = fill(tensors, exchange.target(source, spec))
    return dataclasses.replace(filled, rows=(*filled.rows, *folded))
