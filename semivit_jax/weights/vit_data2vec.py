"""Translate data2vec 2.0's ViTs, whose norms stand after the sums, from MIM-Refiner's files."""

from semivit_jax.models import families
from semivit_jax.models.layers import LAYER_NORM_EPS
from semivit_jax.models.spec import ModelSpec
from semivit_jax.weights import vit_grid, vit_names, vit_refined, vit_relatives
from semivit_jax.weights.exchange import HEAD, Exchange, Timm
from semivit_jax.weights.fill import Target
from semivit_jax.weights.layout import Table, norm_rows
from semivit_jax.weights.preprocessing import IMAGENET_224
from semivit_jax.weights.sources import UNSAID, Beside, Configs, Source
from semivit_jax.weights.tensors import Tensors

NAMES: Table = {**vit_names.TIMM, **norm_rows("norm_pre", "norm_pre")}


def recognise(tensors: Tensors, configs: Configs) -> Source | None:
    """MIM-Refiner's names with a norm before the blocks."""
    if not (vit_refined.is_refined(tensors) and "embed_norm.weight" in tensors.shapes):
        return None
    return vit_grid.with_image_size(
        Source(
            kind="MIM-Refiner's data2vec 2.0",
            family="data2vec",
            tensors=vit_refined.as_timm_names_them(tensors),
            table=NAMES,
            decoder=None,
            decoder_num_heads=None,
            pool="cls",
            size={},
            image_size=None,
            beside=Beside(LAYER_NORM_EPS, IMAGENET_224, UNSAID, None, ()),
        )
    )


def target(source: Source, spec: ModelSpec) -> Target:
    """The position embedding is resized as MAE's is; nothing else may be lacking."""
    return Target(
        shapes=families.shapes(spec),
        table=source.table,
        resizers={"posemb": vit_relatives.posemb_resizer(spec, "plain", "MAE's fine-tuning", class_rows=1)},
        fresh={},
        drawn=() if spec.num_classes else HEAD,
        expendable=((r"head\.(weight|bias)$", "head on the other pooling"),),
    )


def timm(spec: ModelSpec) -> Timm:
    """Refuses.

    Raises:
      ValueError: always.
    """
    raise ValueError(f"{spec.variant}: no model of timm normalises after its sums; stablehlo takes any model")


EXCHANGE = Exchange(
    known=("MIM-Refiner's data2vec 2.0",),
    public={},
    model_types=(),
    recognise=recognise,
    measured=vit_relatives.measured,
    adapted=lambda source, spec: (source.tensors, ()),
    spec=vit_relatives.spec,
    target=target,
    names=lambda spec: NAMES,
    decoder_names=None,
    constants=lambda spec: {},
    timm=timm,
    hugging_face=lambda spec: None,
    onnx=None,
)
