"""List the data-sheet numbers of the chips that a run can be planned for.

Peak values are those the vendor prints, dense (no sparsity) bfloat16; nothing here was measured.
"""

import dataclasses

GIB = 2**30

# Where the numbers stand; looked up in 2026.
_CLOUD_TPU = "Google, Cloud TPU documentation, system architecture, page of the TPU version"
_A100 = "NVIDIA, A100 80GB SXM data sheet"
_H100 = "NVIDIA, H100 SXM data sheet (half of the printed rate, which counts sparsity)"
_H200 = "NVIDIA, H200 SXM data sheet (half of the printed rate, which counts sparsity)"


@dataclasses.dataclass(frozen=True)
class Chip:
    """One accelerator, with the numbers a roofline needs.

    Attributes:
      name: as written in a topology.
      platform: jax platform, 'tpu' or 'gpu'.
      hbm_bytes: memory of one chip.
      flops: peak bfloat16 operations per second, a multiplication and an addition counting two.
      hbm_bandwidth: bytes per second.
      link_bandwidth: bytes per second one chip can send to the other chips of its slice or host, all links
        together, one direction: half of the bidirectional value that vendors print.
      dims: sides of a slice's torus, 0 for chips without one.
      source: vendor document.
    """

    name: str
    platform: str
    hbm_bytes: int
    flops: float
    hbm_bandwidth: float
    link_bandwidth: float
    dims: int
    source: str


CHIPS = {
    chip.name: chip
    for chip in (
        # Google prints GB for what the compiler counts as GiB.
        Chip("v4", "tpu", 32 * GIB, 275e12, 1200e9, 300e9, 3, _CLOUD_TPU),
        Chip("v5e", "tpu", 16 * GIB, 197e12, 819e9, 200e9, 2, _CLOUD_TPU),
        Chip("v5p", "tpu", 95 * GIB, 459e12, 2765e9, 600e9, 3, _CLOUD_TPU),
        Chip("v6e", "tpu", 32 * GIB, 918e12, 1638e9, 400e9, 2, _CLOUD_TPU),
        Chip("A100", "gpu", 80 * 10**9, 312e12, 2039e9, 300e9, 0, _A100),
        Chip("H100", "gpu", 80 * 10**9, 989e12, 3350e9, 450e9, 0, _H100),
        Chip("H200", "gpu", 141 * 10**9, 989e12, 4800e9, 450e9, 0, _H200),
    )
}
