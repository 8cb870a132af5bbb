"""Our own runs as a source of weights: told in the names of timm and MAE, so that one importer serves all sources."""

from collections.abc import Mapping

import numpy as np

from semivit_jax import files
from semivit_jax.checkpoints import manifest
from semivit_jax.checkpoints.workdir import STAGE_ORDER
from semivit_jax.inference.trained import Trained, find_checkpoint, load_trained, trees_of
from semivit_jax.models import posemb, vit
from semivit_jax.weights import layout, names
from semivit_jax.weights.folder import is_import
from semivit_jax.weights.importing import Imported, import_sources
from semivit_jax.weights.sources import Source
from semivit_jax.weights.tensors import Tensors


def is_own(source: str) -> bool:
    """Whether a source is a run folder, a checkpoint of a run, or a folder of `semivit import`."""
    if "://" in source:
        return False
    folder = files.path(source)
    is_run = (folder / "config.json").is_file() and any((folder / stage).is_dir() for stage in STAGE_ORDER)
    return is_run or manifest.is_sealed(folder) or is_import(folder)


def import_own(source: str, *, variant: str, pool: str | None, image_size: int | None, decoder: bool) -> Imported:
    """Both trees of the latest checkpoint of a run, of a given checkpoint, or of an import; see `import_weights`.

    Raises:
      CheckpointError: no good checkpoint. ValueError: it does not fit the variant.
    """
    folder = files.path(source)
    if not is_import(folder):
        folder = find_checkpoint(folder, kept="latest", stage=None)
    found = [_source(load_trained(folder, kept="latest", tree=tree, stage=None)) for tree in trees_of(folder)]
    return import_sources(
        str(folder),
        found[0],
        found[1] if len(found) > 1 else None,
        variant=variant,
        pool=pool,
        image_size=image_size,
        decoder=decoder,
    )


def _source(trained: Trained) -> Source:
    spec, tensors = trained.spec, _tensors(trained)
    is_mae, is_convnext = spec.decoder is not None, spec.family == "convnext"
    return Source(
        kind=f"our own {'MAE' if is_mae else 'classifier'}",
        family=spec.family,
        tensors=Tensors({name: tensor.shape for name, tensor in tensors.items()}, tensors.__getitem__),
        folded=(),
        table=names.TIMM_CONVNEXT if is_convnext else names.TIMM_VIT,
        decoder=names.MAE_DECODER if is_mae else None,
        fixed_tables=("pos_embed", "decoder_pos_embed"),
        pool=spec.pool,
        num_heads=None if is_convnext else spec.size.num_heads,
        decoder_num_heads=None if spec.decoder is None else spec.decoder.num_heads,
        layer_norm_eps=spec.layer_norm_eps,
        preprocessing=trained.view.preprocessing,
        class_names=trained.class_names,
    )


def _tensors(trained: Trained) -> dict[str, np.ndarray]:
    """Every array in the PyTorch layout, as views; frozen position embeddings are among them."""
    spec, flat = trained.spec, layout.flatten(trained.params)
    if spec.family == "convnext":
        return _split(names.TIMM_CONVNEXT, flat, {f"stages_{i}": depth for i, depth in enumerate(spec.size.depths)})
    grid_size, depths = vit.grid_size(spec), {"blocks": spec.size.depth}
    table = posemb.sincos(spec.size.width, grid_size)[None].astype(np.float32)
    if spec.decoder is None:
        return _split(names.TIMM_VIT, {"posemb": table, **flat}, depths)
    return {
        "pos_embed": table,
        **_split(names.TIMM_VIT, _under("encoder/", flat), depths),
        "decoder_pos_embed": posemb.sincos(spec.decoder.width, grid_size)[None].astype(np.float32),
        **_split(names.MAE_DECODER, _under("decoder/", flat), {"blocks": spec.decoder.depth}),
    }


def _under(prefix: str, flat: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {path.removeprefix(prefix): array for path, array in flat.items() if path.startswith(prefix)}


def _split(table: names.Table, flat: Mapping[str, np.ndarray], depths: Mapping[str, int]) -> dict[str, np.ndarray]:
    slots = layout.slots({path: theirs for path, theirs in table.items() if path in flat}, depths=depths)
    return {name: part for slot in slots for name, part in layout.split(slot, np.asarray(flat[slot.path])).items()}
