"""Names of Hugging Face that `semivit models` prints: which of them the installed libraries know.

Without a network nobody can ask the hub. transformers and open_clip name the weights that their classes were made for,
and the sizes that a config class of transformers has by default are those of the weights that its docstring names.
"""

import functools
import importlib.util
import pathlib
import re

import pytest

from semivit_jax.weights import exchanges
from semivit_jax.weights.locate import locate
from semivit_jax.weights.state_dicts import open_weights
from semivit_jax.weights.variants import variant_of

pytestmark = pytest.mark.interop

NAMED = {
    public.name: variant
    for exchange in exchanges.EXCHANGES.values()
    for variant, published in exchange.public.items()
    for public in published
    if not public.name.startswith("timm/")
}
UNKNOWN = {
    *(f"facebook/convnext-{size}-224" for size in ("small", "base", "large")),
    *(f"facebook/dinov2-{size}" for size in ("small", "large", "giant")),
    *(f"facebook/dinov2-with-registers-{size}" for size in ("small", "large", "giant")),
    *(f"facebook/dinov3-convnext-{size}-pretrain-lvd1689m" for size in ("small", "base", "large")),
    *(f"facebook/dinov3-vit{size}-pretrain-lvd1689m" for size in ("s16plus", "b16", "l16", "h16plus")),
    *(f"facebook/vit-mae-{size}" for size in ("large", "huge")),
    *(f"google/{version}-large-patch16-256" for version in ("siglip", "siglip2")),
    *(f"google/{version}-so400m-patch14-224" for version in ("siglip", "siglip2")),
    *(f"openai/clip-vit-{size}" for size in ("base-patch16", "large-patch14-336")),
}
"""Names that no installed library mentions: other sizes of weights that one does mention."""
DOCUMENTED: dict[str, dict] = {
    "facebook/convnext-tiny-224": {},
    "facebook/dinov2-base": {},
    "facebook/dinov2-with-registers-base": {"patch_size": 14},  # as published; the class has 16
    "facebook/dinov3-convnext-tiny-pretrain-lvd1689m": {},
    "facebook/dinov3-vits16-pretrain-lvd1689m": {"num_register_tokens": 4},  # as published; the class has none
    "facebook/vit-mae-base": {},
    "google/siglip-base-patch16-224": {},
    "openai/clip-vit-base-patch32": {},
}
"""Names in the docstring of a config class -> where its defaults are not theirs."""


def sources(library: str) -> list[str]:
    """The Python files of a library, which need not be importable."""
    spec = importlib.util.find_spec(library)
    assert spec is not None
    assert spec.origin is not None
    return [path.read_text() for path in sorted(pathlib.Path(spec.origin).parent.rglob("*.py"))]


@functools.cache
def mentioned() -> set[str]:
    """Everything in the installed libraries that has the form of a name of the hub, with or without a slash behind."""
    name = re.compile(r"(?<![\w./-])[\w.-]+/[\w.-]*\w(?=/?[^\w/.-])")
    return {
        found for library in ("transformers", "open_clip") for text in sources(library) for found in name.findall(text)
    }


def test_every_name_is_one_that_a_library_mentions_but_for_those_that_are_listed():
    assert {name for name in NAMED if name not in mentioned()} == UNKNOWN


def test_a_name_that_is_no_such_one_is_not_mentioned():
    """A prefix of a name is not that name."""
    assert not {"facebook/dinov2", "facebook/vit-mae", "openai/clip-vit-base", "laion/CLIP-ViT-B-32"} & mentioned()


@pytest.mark.parametrize("name", sorted(name for name in NAMED if name.startswith("laion/")))
def test_a_name_of_open_clip_stands_beside_the_model_that_it_is_of(name):
    from open_clip import pretrained

    models = {
        model
        for model, tags in pretrained._PRETRAINED.items()
        for config in tags.values()
        if config.get("hf_hub", "").strip("/") == name
    }
    letter, patch = re.fullmatch(r"clip_(\w)(\d+)", NAMED[name]).groups()
    assert models == {f"ViT-{letter.upper()}-{patch}"}


def test_a_config_class_documents_each_of_these():
    assert documented().keys() & NAMED.keys() == DOCUMENTED.keys()


@functools.cache
def documented() -> dict[str, str]:
    """Name -> config class whose defaults, says its docstring, are near those of these weights."""
    row = re.compile(r'@auto_docstring\(checkpoint="([^"]+)"[^)]*\)\n(?:@\w+\n)*class (\w+)\(')
    return {name: found for text in sources("transformers") for name, found in row.findall(text)}


@pytest.mark.parametrize("name", sorted(DOCUMENTED))
def test_the_defaults_of_the_config_that_names_it_are_recognised_as_its_model(tmp_path, name):
    """Saved by transformers, which has other names in memory."""
    import torch
    import transformers

    with torch.device("meta"):
        model = transformers.AutoModel.from_config(getattr(transformers, documented()[name])(**DOCUMENTED[name]))
    model = model.to(torch.bfloat16).to_empty(device="cpu")
    for tensor in model.state_dict().values():
        tensor.zero_()
    model.save_pretrained(tmp_path)
    files = locate(str(tmp_path))
    source = exchanges.recognise(open_weights(files.weights, files.listed).params, files.configs)
    assert variant_of(source) == NAMED[name]
