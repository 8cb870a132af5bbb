# shellcheck shell=bash
# shellcheck disable=SC2034  # the options are read by the scripts that source this file
#
# What the launchers share: options that all of them take, printing or running a command, and what an exit code
# of `semivit train` asks of a launcher.

set -euo pipefail

config=""      # --config=NAME: the recipe
workdir=""     # --workdir=DIR: the run's folder, which every process must see
max_crashes=3  # --max-crashes=N: restarts after a crash; restarts after a preemption are not counted
dry_run=false  # --dry-run: print the commands, run none
passed_on=()   # everything after --: handed to `semivit train` as it is

# usage: prints the head comment of the script that sourced this file.
usage() {
  sed -n '2,/^$/s/^# \{0,1\}//p' "$0"
}

# refuse MESSAGE...: ends the launcher with the exit code of bad usage.
refuse() {
  printf '%s: %s\n' "$(basename "$0")" "$*" >&2
  exit 2
}

# say MESSAGE...: one line about what the launcher does next.
say() {
  printf '%s: %s\n' "$(basename "$0")" "$*" >&2
}

((BASH_VERSINFO[0] * 100 + BASH_VERSINFO[1] >= 501)) || refuse "bash $BASH_VERSION; legal is 5.1 or newer"

# common_option ARGUMENT: takes an option that every launcher has, or refuses it.
common_option() {
  case $1 in
    --config=*) config=${1#*=} ;;
    --workdir=*) workdir=${1#*=} ;;
    --max-crashes=*) max_crashes=${1#*=} ;;
    --dry-run) dry_run=true ;;
    -h | --help) usage && exit 0 ;;
    *) refuse "unknown option '$1'; --help lists the legal ones" ;;
  esac
}

# need NAME VALUE...: refuses an option that was left empty.
need() {
  while (($#)); do
    [[ -n $2 ]] || refuse "--$1=... is missing"
    shift 2
  done
}

# need_count NAME VALUE...: refuses anything but a whole number above 0 (max-crashes may be 0).
need_count() {
  while (($#)); do
    if [[ ! $2 =~ ^[0-9]+$ || ($2 -eq 0 && $1 != max-crashes) ]]; then
      refuse "--$1=$2; legal are whole numbers above 0"
    fi
    shift 2
  done
}

# need_shared WORKDIR [absolute]: refuses a run's folder that the run could not use, or that not every process sees.
need_shared() {
  [[ $1 != gs://?*/?* ]] || return 0
  [[ $1 != *://* ]] || refuse "--workdir=$1; legal is gs://BUCKET/FOLDER, or a folder that every process has mounted"
  [[ ${2:-} != absolute || $1 == /* ]] || refuse "--workdir=$1; legal is an absolute path that every worker has mounted"
}

# is_there PLACE: whether there is a file of that name, or an object, as gcloud's own login sees it.
is_there() {
  if [[ $1 == gs://* ]]; then gcloud storage ls "$1" >/dev/null 2>&1; else [[ -e $1 ]]; fi
}

# show COMMAND...: prints a command so that it can be pasted into a shell.
show() {
  local line
  printf -v line ' %q' "$@"
  printf '+%s\n' "$line"
}

# run COMMAND...: prints it, and runs it unless this is a dry run.
run() {
  show "$@"
  "$dry_run" || "$@"
}

# verdict CODE: what the exit code of `semivit train` asks for.
#   finished 0: all stages are finished
#   again    75: preempted, the state is saved
#   stop     1, 2, 130, ...: an error, bad usage or Ctrl-C; another try would end the same way
#   crashed  above 128: killed by a signal, or lost a peer; worth another try, but not for ever
verdict() {
  case $1 in
    0) echo finished ;;
    75) echo again ;;
    130) echo stop ;;
    *) if (($1 > 128)); then echo crashed; else echo stop; fi ;;
  esac
}
