"""Present our own runs as sources of weights, under timm's names, so one importer serves all."""

import dataclasses
import re

from semivit_jax import files
from semivit_jax.checkpoints import manifest
from semivit_jax.inference.trained import find_checkpoint, load_trained, trees_of
from semivit_jax.models.heads import PATHS
from semivit_jax.stages import STAGES
from semivit_jax.weights import layout
from semivit_jax.weights.exchanges import EXCHANGES, arrays_of, names_of
from semivit_jax.weights.folder import is_import, load_pool
from semivit_jax.weights.importing import Imported, import_sources
from semivit_jax.weights.sources import Beside, Source
from semivit_jax.weights.tensors import Tensors
from semivit_jax.weights.weights import Weights


def is_own(source: str) -> bool:
    """Whether a source is a run folder, a checkpoint of a run, or a folder of `semivit import`."""
    if source.startswith("hf://"):
        return False
    folder = files.path(source)
    is_run = (folder / "config.json").is_file() and any((folder / stage).is_dir() for stage in STAGES)
    return is_run or manifest.is_sealed(folder) or is_import(folder)


def import_own(
    source: str, *, variant: str | None, pool: str | None, image_size: int | None, decoder: bool
) -> Imported:
    """Both trees of the latest checkpoint of a run, of a given checkpoint, or of an import; see `import_weights`.

    An mlp head is left out: imports have linear ones.

    Raises:
      CheckpointError: no good checkpoint. ValueError: it does not fit the variant, or has bottlenecks, for which an
        import has no place.
    """
    folder = files.path(source)
    if not is_import(folder):
        folder = find_checkpoint(folder, kept="latest", stage=None)
    every = [load_trained(folder, kept="latest", tree=tree, stage=None).weights for tree in trees_of(folder)]
    told = load_pool(folder) if is_import(folder) else every[0].spec.pool
    found = [_source(weights, told) for weights in every]
    return import_sources(
        str(folder),
        found[0],
        found[1] if len(found) > 1 else None,
        variant=variant,
        pool=pool,
        image_size=image_size,
        decoder=decoder,
        notes=(),
    )


def _source(weights: Weights, pool: str | None) -> Source:
    spec, exchange = weights.spec, EXCHANGES[weights.spec.family]
    if spec.bottleneck is not None:
        raise ValueError(
            "the run has bottlenecks beside its MLPs (config.model.lora_kind), for which an import has no place: start "
            "from the run itself (config.init_from)"
        )
    arrays = {path: a for path, a in arrays_of(weights).items() if spec.head == "linear" or not re.search(PATHS, path)}
    notes = () if spec.head == "linear" else ("the run's mlp head is left out: imports have linear heads",)
    tensors = layout.state_dict(arrays, names_of(spec))
    return Source(
        kind=f"our own {'classifier' if spec.decoder is None else 'MAE'}",
        family=spec.family,
        tensors=Tensors({name: tensor.shape for name, tensor in tensors.items()}, tensors.__getitem__),
        table=exchange.names(spec),
        decoder=None if spec.decoder is None else exchange.decoder_names,
        decoder_num_heads=None if spec.decoder is None else spec.decoder.num_heads,
        pool=pool if spec.decoder is None else None,
        size=dataclasses.asdict(spec.size),
        image_size=spec.image_size,
        beside=Beside(spec.layer_norm_eps, weights.preprocessing, (), weights.class_names, notes),
    )
