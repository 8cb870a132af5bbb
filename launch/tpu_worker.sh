#!/usr/bin/env bash
# One worker's part of launch/tpu_vm.sh; runs on the TPU VM, in the folder of the copied code.
#
#   bash launch/tpu_worker.sh install
#   bash launch/tpu_worker.sh train --config=... --workdir=...

set -euo pipefail

environment=$HOME/semivit-env
pid_file=$HOME/semivit.pid

# install: Python 3.12 whatever the image has, and this checkout with its pinned dependencies.
install() {
  python3 -m pip install --quiet --user uv
  python3 -m uv venv --quiet --clear --python=3.12 "$environment"
  python3 -m uv pip install --quiet --python="$environment" \
    --constraints=requirements/constraints.txt '.[tpu,gcs]'
}

# end_previous: a run that goes on although its launcher lost the connection is told to save and end first, since
#   the chips have one owner.
end_previous() {
  local pid second
  [[ -f $pid_file ]] || return 0
  pid=$(<"$pid_file")
  grep -q semivit "/proc/$pid/cmdline" 2>/dev/null || return 0
  kill -TERM "$pid"
  for ((second = 0; second < 120; second++)); do
    kill -0 "$pid" 2>/dev/null || return 0
    sleep 1
  done
  kill -KILL "$pid"
}

train() {
  local pid code=0
  end_previous
  # tee goes on writing the log file when the connection, and so its standard output, is lost.
  "$environment/bin/semivit" train "$@" > >(tee --output-error=warn --append "$HOME/semivit.log") 2>&1 &
  pid=$!
  echo "$pid" >"$pid_file"
  wait "$pid" || code=$?
  echo "semivit worker exit code $code"
  return "$code"
}

case ${1:-} in
  install | train) "$@" ;;
  *) echo "tpu_worker.sh: '${1:-}'; legal are install and train" >&2 && exit 2 ;;
esac
