"""Weights from elsewhere as parameters of ours, with everything that must travel with them."""

import dataclasses

from semivit_jax.models.spec import ModelSpec
from semivit_jax.weights import layout
from semivit_jax.weights.account import ImportReport, Row, Status
from semivit_jax.weights.fill import Filled, fill
from semivit_jax.weights.locate import locate
from semivit_jax.weights.preprocessing import Preprocessing
from semivit_jax.weights.sources import Source, recognise
from semivit_jax.weights.targets import choose_spec, target_for
from semivit_jax.weights.tensors import open_weights
from semivit_jax.words import counted


@dataclasses.dataclass(frozen=True)
class Imported:
    """Weights in our layout and what belongs to them.

    Attributes:
      spec: the model that `params` fit; num_classes 0 where the source brought no head that fits.
      params: nested dict of float32 numpy arrays; without "head" where num_classes is 0.
      ema_params: moving average of params, where the source has both.
      preprocessing: mean, std, size, crop and interpolation that the weights expect.
      class_names: where the source stores them.
      report: what became of every tensor.
    """

    spec: ModelSpec
    params: dict
    ema_params: dict | None
    preprocessing: Preprocessing
    class_names: tuple[str, ...] | None
    report: ImportReport


def import_weights(source: str, *, variant: str, pool: str | None, image_size: int | None, decoder: bool) -> Imported:
    """Reads published weights into one of our models.

    Args:
      source: a file, a folder, or "hf://org/name".
      variant: a row of the model tables, such as "vit_b16" or "convnext_tiny".
      pool: "mean" or "cls"; None keeps the source's own.
      image_size: pixels; None keeps the source's own. Position embeddings are resized to fit.
      decoder: import encoder and decoder of an MAE, to continue its pre-training.

    Raises:
      FileNotFoundError, ImportError: the source cannot be read (see `files` and `tensors`).
      ValueError: the source is not known, not representable, or does not fit the variant.
    """
    files = locate(source)
    state_dicts = open_weights(files.weights)
    found = recognise(state_dicts.params, files.configs)
    ema = None if state_dicts.ema_params is None else recognise(state_dicts.ema_params, files.configs)
    return import_sources(source, found, ema, variant=variant, pool=pool, image_size=image_size, decoder=decoder)


def import_sources(
    name: str,
    found: Source,
    ema: Source | None,
    *,
    variant: str,
    pool: str | None,
    image_size: int | None,
    decoder: bool,
) -> Imported:
    """What `import_weights` does once the weights, and their moving average where there is one, are recognised.

    Args:
      name: of the source, for the report.
      found: the weights.
      ema: their moving average.
      variant, pool, image_size, decoder: as in `import_weights`.
    """
    size = found.preprocessing.image_size if image_size is None else image_size
    spec = choose_spec(found, variant=variant, pool=pool, image_size=size, decoder=decoder)
    filled = _fill(found, spec)
    names = found.class_names if "head/kernel" in filled.params else None
    if names is not None and len(names) != found.num_classes:
        raise ValueError(
            f"{name}: its config names {counted(len(names), 'class', 'classes')}, "
            f"and its head has {counted(found.num_classes, 'output')}"
        )
    filled_ema = None if ema is None else _fill(ema, spec)
    return Imported(
        spec=spec,
        params=layout.unflatten(filled.params),
        ema_params=None if filled_ema is None else layout.unflatten(filled_ema.params),
        preprocessing=dataclasses.replace(found.preprocessing, image_size=size),
        class_names=names,
        report=ImportReport(name, found.kind, filled.rows, None if filled_ema is None else filled_ema.rows),
    )


def _fill(source: Source, spec: ModelSpec) -> Filled:
    """Fills the tree of `spec`; folded tensors get a row of their own, so that every tensor has one."""
    filled = fill(source.tensors, target_for(source, spec))
    if not source.folded:
        return filled
    note = "layer scale, folded into attn/proj and mlp/fc2"
    row = Row(Status.LOADED, "blocks", source.folded, None, None, note)
    return dataclasses.replace(filled, rows=(*filled.rows, row))
