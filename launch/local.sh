#!/usr/bin/env bash
# Trains with several processes on this host, restarted after preemption until the run is DONE.
#
#   launch/local.sh --processes=2 --gpus=8 --config=imagenet_semi:model=vit_b16,labels=1pct --workdir=runs/vit_b
#   launch/local.sh --processes=2 --cpu-devices=2 --config=digits --workdir=runs/digits [-- --config.seed=1]
#
#   --processes=N      processes to start
#   --gpus=N           GPUs of this host, divided evenly among them, or
#   --cpu-devices=N    simulated CPU devices of each process
#   --port=N           coordinator's port on the loopback interface (8476)
#   --grace-seconds=N  what the processes get to save and end after SIGTERM (120)
#   --max-crashes=N    restarts after a crash (3); those after a preemption (exit code 75) are not counted
#   --dry-run          print the commands, run none
#
# SIGTERM and Ctrl-C are passed on as SIGTERM: the processes save, and the launcher exits with 75 or 130.

# shellcheck source=launch/lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

processes=""
gpus=""
cpu_devices=""
port=8476
grace_seconds=120
lost_peer_seconds=10 # a process that waits for one that is gone can neither go on nor save

while (($#)); do
  case $1 in
    --processes=*) processes=${1#*=} ;;
    --gpus=*) gpus=${1#*=} ;;
    --cpu-devices=*) cpu_devices=${1#*=} ;;
    --port=*) port=${1#*=} ;;
    --grace-seconds=*) grace_seconds=${1#*=} ;;
    --) shift && passed_on=("$@") && break ;;
    *) common_option "$1" ;;
  esac
  shift
done
need processes "$processes" config "$config" workdir "$workdir"
need_shared "$workdir"
need_count processes "$processes" port "$port" grace-seconds "$grace_seconds" max-crashes "$max_crashes"
if [[ -n $gpus ]]; then
  [[ -z $cpu_devices ]] || refuse "--gpus and --cpu-devices exclude each other"
  need_count gpus "$gpus"
  ((gpus % processes == 0)) || refuse "--gpus=$gpus do not divide into --processes=$processes"
else
  need cpu-devices "$cpu_devices"
  need_count cpu-devices "$cpu_devices"
fi

# environment_of PROCESS: fills `environment` with its place in the run and its devices.
environment_of() {
  environment=(
    "SEMIVIT_COORDINATOR=127.0.0.1:$port"
    "SEMIVIT_NUM_PROCESSES=$processes"
    "SEMIVIT_PROCESS_ID=$1"
  )
  if [[ -n $gpus ]]; then
    local each=$((gpus / processes))
    environment+=("CUDA_VISIBLE_DEVICES=$(seq -s, $(($1 * each)) $(($1 * each + each - 1)))")
  else
    environment+=(
      "JAX_PLATFORMS=cpu"
      "XLA_FLAGS=${XLA_FLAGS:+$XLA_FLAGS }--xla_force_host_platform_device_count=$cpu_devices"
    )
  fi
}

pids=()        # processes that have not ended
timer=""       # pid of a sleep; when it ends, so does the patience with the rest
told_to_end="" # exit code of this launcher, once it was told to end

# start_processes: process 0 writes to the terminal as it is, the others behind their number.
start_processes() {
  local process command
  for ((process = 0; process < processes; process++)); do
    environment_of "$process"
    command=(env "${environment[@]}"
      semivit train "--config=$config" "--workdir=$workdir" "${passed_on[@]}")
    show "${command[@]}"
    if "$dry_run"; then continue; fi
    if ((process == 0)); then
      "${command[@]}" &
    else
      "${command[@]}" > >(sed -u "s/^/[$process] /") 2>&1 &
    fi
    pids+=($!)
  done
}

# signal_all NAME: to all processes that still run; one that ended meanwhile is no error.
signal_all() {
  local pid
  for pid in "${pids[@]}"; do
    kill "-$1" "$pid" 2>/dev/null || true
  done
}

# kill_in SECONDS: SIGKILL to all that still run by then.
kill_in() {
  if [[ -z $timer ]]; then
    sleep "$1" &
    timer=$!
  fi
}

# tell_to_end CODE: the launcher's own end, with this exit code.
tell_to_end() {
  told_to_end=$1
  signal_all TERM
  kill_in "$grace_seconds"
}

# run_once: runs all processes to their end; `code` is the first exit code that is not 0.
#   Then the others end too: processes are preempted together, and without a crashed one they cannot go on.
run_once() {
  local ended one pid rest
  code=0
  start_processes
  while ((${#pids[@]})); do
    one=0
    # shellcheck disable=SC2086  # no timer, no argument
    wait -n -p ended "${pids[@]}" $timer || one=$?
    if [[ -z ${ended:-} ]]; then # a signal to this launcher; its trap has run
      continue
    elif [[ $ended == "$timer" ]]; then
      signal_all KILL
      timer=""
      continue
    fi
    rest=()
    for pid in "${pids[@]}"; do
      [[ $pid == "$ended" ]] || rest+=("$pid")
    done
    pids=("${rest[@]}")
    if ((one != 0 && code == 0)); then
      code=$one
      if ((code == 75)); then
        kill_in "$grace_seconds"
      else
        signal_all TERM
        kill_in "$lost_peer_seconds"
      fi
    fi
  done
  if [[ -n $timer ]]; then
    kill "$timer" 2>/dev/null || true
    timer=""
  fi
}

if "$dry_run"; then
  start_processes
  exit 0
fi
trap 'tell_to_end 75' TERM
trap 'tell_to_end 130' INT

crashes=0
while true; do
  run_once
  [[ -z $told_to_end ]] || exit "$told_to_end"
  case $(verdict "$code") in
    finished)
      is_there "$workdir/DONE" || { say "all processes ended with 0, but $workdir/DONE does not exist" && exit 1; }
      exit 0
      ;;
    again) say "preempted; starting again" ;;
    crashed)
      crashes=$((crashes + 1))
      ((crashes <= max_crashes)) || { say "crash $crashes (exit code $code): giving up" && exit 1; }
      say "crash $crashes of at most $max_crashes (exit code $code); starting again"
      ;;
    stop) exit "$code" ;;
  esac
done
