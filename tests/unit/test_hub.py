"""`hf://org/name` through huggingface_hub itself, against a small hub on 127.0.0.1; the real one is never asked."""

import json
import os
import socket
import subprocess
import sys

import huggingface_hub
import numpy as np
import pytest
import safetensors.numpy
from huggingface_hub import constants

from semivit_jax.weights import vit_names
from semivit_jax.weights.folder import load_imported
from semivit_jax.weights.locate import locate
from semivit_jax.weights.state_dicts import open_weights
from tests.unit.hub_server import COMMIT, serve
from tests.unit.test_weight_import import hugging_face_config, state_dict

PARTS = ("model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors")
INDEX = json.dumps({"weight_map": dict(zip("ab", PARTS, strict=True))}).encode()
TORCH_PARTS = ("pytorch_model-00001-of-00002.bin", "pytorch_model-00002-of-00002.bin")
TORCH_INDEX = json.dumps({"weight_map": dict(zip("ab", TORCH_PARTS, strict=True))}).encode()


def stored(**tensors) -> bytes:
    return safetensors.numpy.save({name: np.float32([value]) for name, value in tensors.items()})


REPOSITORIES = {
    "org/one": {
        "config.json": b'{"model_type": "vit"}',
        "model.safetensors": stored(a=1),
        "pytorch_model.bin": b"not wanted",
        "README.md": b"not wanted",
    },
    "org/split": {PARTS[0]: stored(a=1), PARTS[1]: stored(b=2), "model.safetensors.index.json": INDEX},
    "org/torch": {"pytorch_model.bin": b"PK"},
    "org/torch_split": {
        **dict(zip(TORCH_PARTS, (b"PK1", b"PK2"), strict=True)),
        "pytorch_model.bin.index.json": TORCH_INDEX,
    },
    "org/nothing": {"README.md": b"no weights here"},
    "org/vit": {
        "config.json": json.dumps(hugging_face_config()).encode(),
        "model.safetensors": safetensors.numpy.save(state_dict(vit_names.HUGGING_FACE)),
    },
}


@pytest.fixture(scope="module")
def hub():
    with serve(REPOSITORIES) as (endpoint, log):
        yield endpoint, log


@pytest.fixture
def use(monkeypatch, tmp_path):
    """Directs huggingface_hub, which has read its environment already, to an endpoint and an empty cache."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")

    def direct(endpoint: str) -> None:
        monkeypatch.setattr(constants, "ENDPOINT", endpoint)
        template = endpoint + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))

    return direct


def nobody() -> str:
    """An endpoint at which nobody listens."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{free.getsockname()[1]}"


def downloaded(log: list[str]) -> set[str]:
    return {line.rsplit("/", 1)[-1] for line in log if line.startswith("GET") and "/resolve/" in line}


def values(source: str) -> dict[str, float]:
    tensors = open_weights(locate(source).weights).params
    return {name: float(tensors.read(name)[0]) for name in tensors.shapes}


def test_one_file_is_fetched_with_its_config_and_nothing_else(hub, use):
    endpoint, log = hub
    use(endpoint)
    log.clear()
    files = locate("hf://org/one")
    assert files.configs == {"config.json": {"model_type": "vit"}}
    assert [path.name for path in files.weights] == ["model.safetensors"]
    assert downloaded(log) == {"config.json", "model.safetensors"}
    assert values("hf://org/one") == {"a": 1}


def test_split_weights_are_fetched_by_their_index(hub, use):
    endpoint, log = hub
    use(endpoint)
    log.clear()
    assert values("hf://org/split") == {"a": 1, "b": 2}
    assert downloaded(log) == {"model.safetensors.index.json", *PARTS}


def test_a_torch_file_is_fetched_where_there_is_nothing_safer(hub, use):
    use(hub[0])
    assert [path.read_bytes() for path in locate("hf://org/torch").weights] == [b"PK"]


def test_parts_of_torch_are_fetched_by_their_index(hub, use):
    endpoint, log = hub
    use(endpoint)
    log.clear()
    files = locate("hf://org/torch_split")
    assert [path.name for path in files.weights] == list(TORCH_PARTS)
    assert files.listed == dict(zip("ab", TORCH_PARTS, strict=True))
    assert downloaded(log) == {"pytorch_model.bin.index.json", *TORCH_PARTS}


def test_a_repository_without_weights_says_what_it_looked_for(hub, use):
    use(hub[0])
    with pytest.raises(FileNotFoundError, match=r"hf://org/nothing: no model\.safetensors, .* or pytorch_model\.bin"):
        locate("hf://org/nothing")


def test_a_missing_repository_is_named(hub, use):
    use(hub[0])
    with pytest.raises(FileNotFoundError, match=r"hf://org/absent: the hub has no such repository"):
        locate("hf://org/absent")


def test_without_a_network_the_message_says_so(use):
    use(nobody())
    with pytest.raises(FileNotFoundError, match=r"hf://org/one: the hub cannot be reached, .* not in the cache"):
        locate("hf://org/one")


@pytest.mark.parametrize("repository", ["org/one", "org/split"])
def test_without_a_network_an_earlier_download_serves(hub, use, repository):
    use(hub[0])
    online = values(f"hf://{repository}")
    use(nobody())
    assert values(f"hf://{repository}") == online


@pytest.mark.parametrize("unfit", ["a file", "read-only"])
def test_a_cache_that_cannot_be_written_to_is_done_without(hub, use, monkeypatch, tmp_path, caplog, unfit):
    use(hub[0])
    place = tmp_path / "cache"
    if unfit == "a file":
        place.touch()
    else:
        place.mkdir()
        monkeypatch.setattr(os, "access", lambda path, mode: mode != os.W_OK or str(place) not in str(path))
    assert values("hf://org/split") == {"a": 1, "b": 2}
    assert caplog.text.count("the hub's cache") == 1
    assert str(place) in caplog.text
    assert place.is_file() or not list(place.iterdir())


def test_a_read_only_cache_gives_what_it_holds(hub, use, monkeypatch):
    use(hub[0])
    online = values("hf://org/one")
    monkeypatch.setattr(os, "access", lambda path, mode: mode != os.W_OK)
    hub[1].clear()
    assert values("hf://org/one") == online
    assert not hub[1]


def test_a_read_only_cache_that_holds_a_part_is_no_obstacle(hub, use, monkeypatch, tmp_path):
    use(hub[0])
    locate("hf://org/split")
    next((tmp_path / "cache").rglob(f"snapshots/*/{PARTS[1]}")).unlink()
    monkeypatch.setattr(os, "access", lambda path, mode: mode != os.W_OK or str(tmp_path) not in str(path))
    assert values("hf://org/split") == {"a": 1, "b": 2}


def test_a_connection_that_breaks_off_is_one_message(hub, use, monkeypatch):
    from huggingface_hub.errors import HTTPError

    def broken(*arguments, **options):
        raise HTTPError("peer closed the connection")

    use(hub[0])
    monkeypatch.setattr(huggingface_hub, "snapshot_download", broken)
    with pytest.raises(ConnectionError, match=r"hf://org/one: the download failed \(peer closed"):
        locate("hf://org/one")


def import_from(endpoint: str, source: str, tmp_path) -> subprocess.CompletedProcess:
    """`semivit import` as a user runs it, with the hub that HF_ENDPOINT names."""
    settings = {"HF_ENDPOINT": endpoint, "HF_HOME": str(tmp_path / "home"), "NO_PROXY": "127.0.0.1"}
    return subprocess.run(
        [sys.executable, "-m", "semivit_jax.main", "import", source, "--model", "vit_test", "--out", tmp_path / "out"],
        env=os.environ | settings,
        capture_output=True,
        text=True,
        timeout=240,
    )


def test_the_command_imports_from_the_hub(hub, tmp_path):
    done = import_from(hub[0], "hf://org/vit", tmp_path)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "home" / "hub" / "models--org--vit" / "snapshots" / COMMIT / "config.json").is_file()
    imported = load_imported(tmp_path / "out")
    expected = REPOSITORIES["org/vit"]["model.safetensors"]
    np.testing.assert_array_equal(
        imported.weights.params["head"]["bias"], safetensors.numpy.load(expected)["classifier.bias"]
    )


def test_the_command_without_a_network_fails_in_one_line(tmp_path):
    done = import_from(nobody(), "hf://org/vit", tmp_path)
    assert done.returncode == 1
    assert "semivit import: hf://org/vit: the hub cannot be reached" in done.stderr
    assert "Traceback" not in done.stderr
