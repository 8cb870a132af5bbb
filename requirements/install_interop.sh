#!/usr/bin/env bash
# Makes the environment of `make test-interop`: this package with torch, timm, transformers, open_clip, onnx,
# onnxruntime, and the loggers of others: wandb, mlflow and trackio.
#
#   requirements/install_interop.sh VENV PYTHON
#
# VENV is the folder to make, PYTHON the interpreter whose version it takes over. The second run does nothing,
# unless a requirement has changed. torch is named in every call, because packages that depend on it would
# otherwise be free to bring another build.
set -euo pipefail

if [[ $# -ne 2 ]]; then
  echo "usage: $0 VENV PYTHON" >&2
  exit 2
fi
venv=$1 python=$2
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
requirements=("$root/setup.py" "$root/requirements/constraints.txt" "$root/requirements/constraints-interop.txt" "$0")
stamp=$venv/.installed
wanted=$(cat "${requirements[@]}" | cksum)
if [[ -f $stamp && $(<"$stamp") == "$wanted" ]]; then
  exit 0
fi

install() {
  "$venv/bin/python" -m pip install --quiet --disable-pip-version-check \
    -c "$root/requirements/constraints.txt" -c "$root/requirements/constraints-interop.txt" torch==2.13.0 "$@"
}

"$python" -m venv "$venv"
install
install timm==1.0.31 open_clip_torch==3.3.0 transformers==5.23.0 onnx==1.23.2 onnxruntime==1.32.0
# trackio asks for a Pillow older than the pinned one, for pictures, which are not logged here; so what it imports for
# numbers is named.
install gradio-client httpx orjson brotli python-multipart starlette 'uvicorn[standard]'
install --no-deps trackio==0.43.0
install -e "${root}[dev,wandb,mlflow]"
echo "$wanted" > "$stamp"
