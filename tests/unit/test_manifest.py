"""A manifest that matches is what makes a checkpoint good; every fault of storage shows."""

import json

import pytest

from semivit_jax.checkpoints import manifest


@pytest.fixture
def sealed(tmp_path):
    """A folder written by two processes, sealed."""
    (tmp_path / "state" / "ocdbt.process_1").mkdir(parents=True)
    (tmp_path / "state" / "array").write_bytes(bytes(range(256)) * 8)
    (tmp_path / "state" / "ocdbt.process_1" / "array").write_bytes(b"of the other process")
    for index in range(2):
        manifest.write_part(tmp_path, index, 2)
    assert manifest.seal(tmp_path)
    return tmp_path


def test_a_sealed_folder_is_good(sealed):
    assert manifest.problems(sealed) == []
    files = json.loads((sealed / manifest.MANIFEST).read_text())
    assert sorted(files) == ["state/array", "state/ocdbt.process_1/array"]


@pytest.mark.parametrize("bit", [0, 7, 8 * 1000 + 3, 8 * 2048 - 1])
def test_every_flipped_bit_shows(sealed, bit):
    array = bytearray((sealed / "state" / "array").read_bytes())
    array[bit // 8] ^= 1 << bit % 8
    (sealed / "state" / "array").write_bytes(array)
    assert manifest.problems(sealed) == ["state/array does not match its checksum"]


def test_truncated_and_missing_files_are_named(sealed):
    with open(sealed / "state" / "array", "r+b") as file:
        file.truncate(5)
    (sealed / "state" / "ocdbt.process_1" / "array").unlink()
    assert manifest.problems(sealed) == [
        "state/array has 5 bytes instead of 2048",
        "state/ocdbt.process_1/array is missing",
    ]


def test_without_the_part_of_every_process_nothing_is_sealed(tmp_path):
    (tmp_path / "array").write_bytes(b"1")
    assert not manifest.seal(tmp_path)
    manifest.write_part(tmp_path, 1, 2)
    assert not manifest.seal(tmp_path)
    assert manifest.problems(tmp_path) == ["it was never completed (no manifest)"]
    manifest.write_part(tmp_path, 0, 2)
    assert manifest.seal(tmp_path)
    assert manifest.problems(tmp_path) == []


def test_a_damaged_manifest_is_no_manifest(sealed):
    (sealed / manifest.MANIFEST).write_text('{"state/arr')
    assert "manifest cannot be read" in manifest.problems(sealed)[0]
