"""Our own runs as a source of weights: told in the names of timm and MAE, so that one importer serves all sources."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from semivit_jax.checkpoints import manifest
from semivit_jax.checkpoints.workdir import STAGE_ORDER
from semivit_jax.inference.trained import Trained, find_checkpoint, load_trained, trees_of
from semivit_jax.models import posemb
from semivit_jax.weights import convnext, layout, vit_names
from semivit_jax.weights.facts import ConvNextFacts, MaeFacts, VitFacts
from semivit_jax.weights.folder import is_import
from semivit_jax.weights.importing import Imported, import_sources
from semivit_jax.weights.layout import Table
from semivit_jax.weights.sources import Source
from semivit_jax.weights.tensors import Tensors


def is_own(source: str) -> bool:
    """Whether a source is a run folder, a checkpoint of a run, or a folder of `semivit import`."""
    folder = Path(source).expanduser()
    is_run = (folder / "config.json").is_file() and any((folder / stage).is_dir() for stage in STAGE_ORDER)
    return is_run or manifest.is_sealed(folder) or is_import(folder)


def import_own(source: str, *, variant: str, pool: str | None, image_size: int | None, decoder: bool) -> Imported:
    """Both trees of the latest checkpoint of a run, of a given checkpoint, or of an import; see `import_weights`.

    Raises:
      CheckpointError: no good checkpoint. ValueError: it does not fit the variant.
    """
    folder = Path(source).expanduser()
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
    model, tensors = trained.model, _tensors(trained)
    is_mae = isinstance(model, MaeFacts)
    return Source(
        kind=f"our own {'MAE' if is_mae else 'classifier'}",
        family="convnext" if isinstance(model, ConvNextFacts) else "vit",
        tensors=Tensors({name: tensor.shape for name, tensor in tensors.items()}, tensors.__getitem__),
        folded=(),
        table=convnext.TIMM if isinstance(model, ConvNextFacts) else vit_names.TIMM,
        decoder=vit_names.TIMM_DECODER if is_mae else None,
        fixed_tables=("pos_embed", "decoder_pos_embed"),
        pool=model.pool if isinstance(model, VitFacts) else "cls" if is_mae else "mean",
        num_heads=None if isinstance(model, ConvNextFacts) else model.num_heads,
        decoder_num_heads=model.decoder_num_heads if isinstance(model, MaeFacts) else None,
        layer_norm_eps=model.layer_norm_eps,
        preprocessing=trained.view.preprocessing,
        class_names=trained.class_names,
    )


def _tensors(trained: Trained) -> dict[str, np.ndarray]:
    """Every array in the PyTorch layout, as views; frozen position embeddings are among them."""
    model, flat = trained.model, layout.flatten(trained.params)
    if isinstance(model, ConvNextFacts):
        return _split(convnext.TIMM, flat, {f"stages_{i}": depth for i, depth in enumerate(model.depths)})
    table = posemb.sincos(model.width, model.grid_size)[None].astype(np.float32)
    if isinstance(model, VitFacts):
        return _split(vit_names.TIMM, {"posemb": table, **flat}, {"blocks": model.depth})
    return {
        "pos_embed": table,
        **_split(vit_names.TIMM, _under("encoder/", flat), {"blocks": model.depth}),
        "decoder_pos_embed": posemb.sincos(model.decoder_width, model.grid_size)[None].astype(np.float32),
        **_split(vit_names.TIMM_DECODER, _under("decoder/", flat), {"blocks": model.decoder_depth}),
    }


def _under(prefix: str, flat: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {path.removeprefix(prefix): array for path, array in flat.items() if path.startswith(prefix)}


def _split(table: Table, flat: Mapping[str, np.ndarray], depths: Mapping[str, int]) -> dict[str, np.ndarray]:
    slots = layout.slots({path: theirs for path, theirs in table.items() if path in flat}, depths=depths)
    return {name: part for slot in slots for name, part in layout.split(slot, np.asarray(flat[slot.path])).items()}
