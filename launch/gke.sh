#!/usr/bin/env bash
# Trains on a TPU slice or on GPU nodes of a GKE cluster, restarted after preemption until the run is DONE.
#
#   launch/gke.sh --name=vit-h --image=REGISTRY/semivit:tpu --accelerator=tpu-v5-lite-podslice --topology=16x16 \
#     --claim=shared --config=imagenet_semi:model=vit_h14,labels=1pct --workdir=/mnt/shared/vit_h
#   launch/gke.sh --name=vit-l --image=REGISTRY/semivit:gpu --accelerator=nvidia-h100-80gb --nodes=4 \
#     --gpus-per-node=8 --claim=shared --config=imagenet_semi:model=vit_l16,labels=1pct \
#     --workdir=/mnt/shared/vit_l
#
#   --name=NAME          of the JobSet: lower-case letters, digits and -, at most 40
#   --image=IMAGE        built from launch/Dockerfile.tpu or launch/Dockerfile.gpu
#   --accelerator=TYPE   value of the node label cloud.google.com/gke-tpu-accelerator, or .../gke-accelerator
#   --topology=AxB[xC]   TPU: the slice, and
#   --chips-per-node=N   TPU: chips of one VM of it (4), or
#   --nodes=N --gpus-per-node=N   GPU
#   --claim=NAME         persistent volume claim, mounted on /mnt/shared in all pods; --workdir must be in it, or in
#                        a bucket, since all else in a pod ends with it
#   --namespace=NAME     (default)
#   --max-restarts=N     restarts after failures (10); those after a preemption are not counted
#   --dry-run            print the manifest and the command, run none
#   -- ARGUMENTS         for `semivit train`, such as --config.seed=1

# shellcheck source=launch/lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

name=""
image=""
accelerator=""
topology=""
chips_per_node=4
nodes=""
gpus_per_node=""
claim=""
namespace=default
max_restarts=10

while (($#)); do
  case $1 in
    --name=*) name=${1#*=} ;;
    --image=*) image=${1#*=} ;;
    --accelerator=*) accelerator=${1#*=} ;;
    --topology=*) topology=${1#*=} ;;
    --chips-per-node=*) chips_per_node=${1#*=} ;;
    --nodes=*) nodes=${1#*=} ;;
    --gpus-per-node=*) gpus_per_node=${1#*=} ;;
    --claim=*) claim=${1#*=} ;;
    --namespace=*) namespace=${1#*=} ;;
    --max-restarts=*) max_restarts=${1#*=} ;;
    --max-crashes=*) refuse "unknown option '$1'; here it is --max-restarts" ;;
    --) shift && passed_on=("$@") && break ;;
    *) common_option "$1" ;;
  esac
  shift
done
need name "$name" image "$image" accelerator "$accelerator" claim "$claim" config "$config" workdir "$workdir"
[[ $workdir == /mnt/shared/* || $workdir == gs://?*/?* ]] ||
  refuse "--workdir=$workdir; legal are folders in /mnt/shared, where --claim is mounted, and gs://BUCKET/FOLDER"
need_count max-restarts "$max_restarts"
[[ $name =~ ^[a-z]([-a-z0-9]{0,38}[a-z0-9])?$ ]] || refuse "--name=$name; legal are lower-case letters, digits, -"

# json TEXT...: the texts as a JSON list, which YAML reads as it is.
json() {
  local text list=""
  for text in "$@"; do
    [[ $text != *[[:cntrl:]]* ]] || refuse "a control character in '$text'"
    text=${text//\\/\\\\}
    list+="${list:+, }\"${text//\"/\\\"}\""
  done
  printf '[%s]' "$list"
}

# The values that differ between TPU and GPU nodes, as YAML in one line each.
if [[ -n $topology ]]; then
  [[ -z $nodes$gpus_per_node ]] || refuse "--topology excludes --nodes and --gpus-per-node"
  [[ $topology =~ ^[0-9]+(x[0-9]+){1,2}$ ]] || refuse "--topology=$topology; legal are such as 4x4 and 4x4x8"
  need_count chips-per-node "$chips_per_node"
  chips=$((${topology//x/*}))
  ((chips % chips_per_node == 0)) || refuse "--topology=$topology does not divide into --chips-per-node=$chips_per_node"
  nodes=$((chips / chips_per_node))
  # A slice is one node pool: pods of two pools have no links between their chips.
  annotations='{alpha.jobset.sigs.k8s.io/exclusive-topology: cloud.google.com/gke-nodepool}'
  node_selector="{cloud.google.com/gke-tpu-accelerator: \"$accelerator\", cloud.google.com/gke-tpu-topology: \"$topology\"}"
  resources="{google.com/tpu: $chips_per_node}"
else
  need nodes "$nodes" gpus-per-node "$gpus_per_node"
  need_count nodes "$nodes" gpus-per-node "$gpus_per_node"
  annotations='{}'
  node_selector="{cloud.google.com/gke-accelerator: \"$accelerator\"}"
  resources="{nvidia.com/gpu: $gpus_per_node}"
fi

# Processes of one pod talk through /dev/shm, of which a container gets only 64 MB by itself.
volumes="[{name: shm, emptyDir: {medium: Memory}}, {name: shared, persistentVolumeClaim: {claimName: \"$claim\"}}]"
volume_mounts='[{name: shm, mountPath: /dev/shm}, {name: shared, mountPath: /mnt/shared}]'

# fill NAME VALUE: puts the value where `manifest` says ${NAME}.
fill() {
  manifest=${manifest//"\${$1}"/"$2"}
}

command=$(json semivit train "--config=$config" "--workdir=$workdir" "${passed_on[@]}")
manifest=$(<"$(dirname "${BASH_SOURCE[0]}")/gke_jobset.yaml")
fill NAME "$name"
fill IMAGE "$image"
fill NODES "$nodes"
fill MAX_RESTARTS "$max_restarts"
fill ANNOTATIONS "$annotations"
fill NODE_SELECTOR "$node_selector"
fill RESOURCES "$resources"
fill VOLUMES "$volumes"
fill VOLUME_MOUNTS "$volume_mounts"
fill COMMAND "$command" # last, so that nothing in the user's own arguments is taken for a gap

if "$dry_run"; then printf '%s\n' "$manifest"; fi
run kubectl apply "--namespace=$namespace" --filename=- <<<"$manifest"
