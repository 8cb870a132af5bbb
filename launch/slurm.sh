#!/usr/bin/env bash
# Submits a training run over several GPU nodes to Slurm, requeued after preemption until the run is DONE.
#
#   launch/slurm.sh --nodes=4 --gpus-per-node=8 --config=imagenet_semi:model=vit_l16,labels=1pct \
#     --workdir=/shared/runs/vit_l
#
#   --nodes=N          nodes of the job
#   --gpus-per-node=N  GPUs on each
#   --process-per=P    one process per `node` or per `gpu` (node)
#   --job-name=NAME    (semivit)
#   --sbatch=FLAG      any further flag of sbatch, such as --sbatch=--partition=a100; may be repeated
#   --max-crashes=N    restarts after a crash within one allocation (3); those after a preemption do not count
#   --dry-run          print the commands, run none
#   -- ARGUMENTS       for `semivit train`, such as --config.seed=1
#
# The environment in which `semivit` is installed must be active, and lie where all nodes see it.

# shellcheck source=launch/lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

nodes=""
gpus_per_node=""
process_per=node
job_name=semivit
sbatch_flags=()

while (($#)); do
  case $1 in
    --nodes=*) nodes=${1#*=} ;;
    --gpus-per-node=*) gpus_per_node=${1#*=} ;;
    --process-per=*) process_per=${1#*=} ;;
    --job-name=*) job_name=${1#*=} ;;
    --sbatch=*) sbatch_flags+=("${1#*=}") ;;
    --) shift && passed_on=("$@") && break ;;
    *) common_option "$1" ;;
  esac
  shift
done
need nodes "$nodes" gpus-per-node "$gpus_per_node" config "$config" workdir "$workdir"
need_shared "$workdir"
need_count nodes "$nodes" gpus-per-node "$gpus_per_node" max-crashes "$max_crashes"
case $process_per in
  node) tasks_per_node=1 ;;
  gpu) tasks_per_node=$gpus_per_node ;;
  *) refuse "--process-per=$process_per; legal are node and gpu" ;;
esac

job=("$(dirname "${BASH_SOURCE[0]}")/slurm.sbatch"
  "--max-crashes=$max_crashes" "--config=$config" "--workdir=$workdir" "${passed_on[@]}")
run sbatch "--job-name=$job_name" "--nodes=$nodes" "--gpus-per-node=$gpus_per_node" \
  "--ntasks-per-node=$tasks_per_node" "${sbatch_flags[@]}" "${job[@]}"
if "$dry_run"; then
  DRY_RUN=true bash "${job[@]}"
fi
