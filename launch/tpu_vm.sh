#!/usr/bin/env bash
# Trains on all workers of a Cloud TPU VM slice, restarted after preemption until the run is DONE.
#
#   launch/tpu_vm.sh --name=vit-h --zone=us-west4-a --accelerator=v5litepod-256 --create --spot \
#     --config=imagenet_semi:model=vit_h14,labels=1pct --workdir=gs://BUCKET/runs/vit_h \
#     -- --config.data.data_dir=gs://BUCKET/tfds
#
#   --name=NAME          the TPU VM
#   --zone=ZONE          where it is, or shall be
#   --create             create it where it does not exist, and again after it was preempted
#   --accelerator=TYPE   with --create: v4-512, v5litepod-256, v5p-128, v6e-64, ...
#   --spot               with --create: cheaper, and preempted at any time
#   --retry-seconds=N    pause before another try to create it, or to look at its state (60)
#   --max-creations=N    tries to create it in a row that may fail, for want of capacity (1000)
#   --max-crashes=N      restarts after a crash (3); those after a preemption are not counted
#   --dry-run            print the commands, run none
#
# --workdir is a folder in a bucket, or one that every worker has mounted, such as a Filestore share. The disks of the
# workers are no place for it: they are not shared, and go with a node that is preempted.

# shellcheck source=launch/lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

name=""
zone=""
create=false
accelerator=""
spot=false
retry_seconds=60
max_creations=1000

while (($#)); do
  case $1 in
    --name=*) name=${1#*=} ;;
    --zone=*) zone=${1#*=} ;;
    --create) create=true ;;
    --accelerator=*) accelerator=${1#*=} ;;
    --spot) spot=true ;;
    --retry-seconds=*) retry_seconds=${1#*=} ;;
    --max-creations=*) max_creations=${1#*=} ;;
    --) shift && passed_on=("$@") && break ;;
    *) common_option "$1" ;;
  esac
  shift
done
need name "$name" zone "$zone" config "$config" workdir "$workdir"
need_shared "$workdir" absolute
need_count max-creations "$max_creations" retry-seconds "$retry_seconds" max-crashes "$max_crashes"
image_version=""
if "$create"; then
  need accelerator "$accelerator"
  case $accelerator in
    v2-* | v3-* | v4-*) image_version="tpu-ubuntu2204-base" ;;
    v5litepod-*) image_version=v2-alpha-tpuv5-lite ;;
    v5p-*) image_version=v2-alpha-tpuv5 ;;
    v6e-*) image_version=v2-alpha-tpuv6e ;;
    *) refuse "--accelerator=$accelerator; legal are v2-N, v3-N, v4-N, v5litepod-N, v5p-N and v6e-N" ;;
  esac
fi

tpu=(gcloud compute tpus tpu-vm)
here=("$name" "--zone=$zone")
code_folder=semivit_code

# node_state: READY, CREATING, PREEMPTED, ...; MISSING where there is none.
node_state() {
  "${tpu[@]}" describe "${here[@]}" '--format=value(state)' 2>/dev/null || echo MISSING
}

create_node() {
  local flags=()
  if "$spot"; then flags=(--spot); fi
  run "${tpu[@]}" create "${here[@]}" "--accelerator-type=$accelerator" "--version=$image_version" "${flags[@]}"
}

# install: copies this checkout to all workers, and installs it there; false as soon as one part fails.
install() {
  local root archive
  root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
  archive=${TMPDIR:-/tmp}/semivit_code_$name.tar.gz
  run tar --create --gzip "--file=$archive" "--directory=$root" \
    --exclude=.git --exclude=.venv --exclude=__pycache__ --exclude=./runs . &&
    run "${tpu[@]}" scp "$archive" "$name:semivit_code.tar.gz" "--zone=$zone" --worker=all &&
    run "${tpu[@]}" ssh "${here[@]}" --worker=all --command="rm -rf $code_folder && mkdir $code_folder \
&& tar --extract --gzip --file=semivit_code.tar.gz --directory=$code_folder && cd $code_folder \
&& bash launch/tpu_worker.sh install"
}

# train: runs on all workers; `code` becomes the exit code of the run.
#   gcloud joins the workers' codes into one of its own, so each worker prints its own too.
train() {
  local arguments output codes programs=""
  printf -v arguments ' %q' "--config=$config" "--workdir=$workdir" "${passed_on[@]}"
  # Of places for compiled programs, a bucket alone means the same on the workers as here.
  if [[ ${JAX_COMPILATION_CACHE_DIR:-} == gs://* ]]; then
    printf -v programs 'JAX_COMPILATION_CACHE_DIR=%q ' "$JAX_COMPILATION_CACHE_DIR"
  fi
  local command=("${tpu[@]}" ssh "${here[@]}" --worker=all
    --command="cd $code_folder && ${programs}bash launch/tpu_worker.sh train$arguments")
  if "$dry_run"; then
    show "${command[@]}"
    return
  fi
  output=$(mktemp)
  code=0
  run "${command[@]}" 2>&1 | tee "$output" || code=$?
  codes=$(sed -n 's/.*semivit worker exit code \([0-9]*\).*/\1/p' "$output" | sort --numeric-sort --reverse)
  rm "$output"
  if grep -qx 75 <<<"$codes"; then
    code=75
  elif [[ -n $codes && $code != 0 ]]; then
    code=${codes%%$'\n'*}
  fi
}

# is_done: whether the run's folder says so.
is_done() {
  if [[ $workdir == gs://* ]]; then
    run gcloud storage ls "$workdir/DONE"
    return
  fi
  run "${tpu[@]}" ssh "${here[@]}" --worker=0 "--command=test -e $(printf %q "$workdir/DONE")"
}

# make_ready: returns with the node READY; `installed` turns false where it is a new one.
make_ready() {
  local state failures=0
  while true; do
    state=$(node_state)
    case $state in
      READY) return ;;
      CREATING | STARTING | RESTARTING | REPAIRING) say "$name is $state" && sleep "$retry_seconds" ;;
      MISSING | PREEMPTED | TERMINATED | FAILED)
        "$create" || refuse "$name is $state; --create would create it"
        say "$name is $state; creating it"
        installed=false
        if [[ $state != MISSING ]]; then run "${tpu[@]}" delete "${here[@]}" --quiet; fi
        if ! create_node; then
          failures=$((failures + 1))
          ((failures < max_creations)) || { say "could not create $name in $failures tries" && exit 1; }
          sleep "$retry_seconds"
        fi
        ;;
      *) refuse "$name is $state; legal is READY (gcloud compute tpus tpu-vm start?)" ;;
    esac
  done
}

if "$dry_run"; then
  show "${tpu[@]}" describe "${here[@]}" '--format=value(state)'
  if "$create"; then create_node; fi
  install
  train
  is_done
  exit 0
fi

installed=false
crashes=0
while true; do
  make_ready
  if ! "$installed"; then
    # A node that is preempted while the code travels there is no failure of the code.
    install || { [[ $(node_state) != READY ]] && continue || exit 1; }
    installed=true
  fi
  train
  result=$(verdict "$code")
  if [[ $result == finished ]]; then
    is_done || { say "all workers ended with 0, but $workdir/DONE does not exist" && exit 1; }
    exit 0
  elif [[ $result == again ]]; then
    say "preempted; starting again"
  elif [[ $(node_state) != READY ]]; then
    say "$name went away (exit code $code)"
  elif [[ $result == crashed ]]; then
    crashes=$((crashes + 1))
    ((crashes <= max_crashes)) || { say "crash $crashes (exit code $code): giving up" && exit 1; }
    say "crash $crashes of at most $max_crashes (exit code $code); starting again"
  else
    exit "$code"
  fi
done
