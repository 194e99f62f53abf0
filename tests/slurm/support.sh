# shellcheck shell=bash disable=SC2154 # run sets what is used here
# The steps of scenarios: submit a template as a user edits it, wait for steps and states, disturb, compare. It runs
# inside tests/slurm/cluster, which sets CLUSTER and CLUSTER_NETWORK; run sets causeway, project, work and undisturbed.

say() { echo "slurm: $*"; }

# Ends the scenario.
failed() {
  say "FAILED: $*"
  exit 1
}

# Ends the scenario if it cannot be run here.
skipped() {
  say "skipped: $*"
  exit 77
}

expect() { # WHAT FOUND EXPECTED
  [[ $2 == "$3" ]] || failed "$1 is '$2', expected '$3'"
}

# until_true SECONDS WHAT COMMAND…: repeats the command until it succeeds.
until_true() {
  local seconds=$1 what=$2 end
  shift 2
  end=$((SECONDS + seconds))
  until "$@"; do
    ((SECONDS < end)) || failed "waited $seconds s for $what"
    sleep 0.1
  done
}

# ---- jobs

# edited TEMPLATE: prints the template with the settings that standard input has, one per line, in place of its own. A
# setting that the template does not have is an error.
edited() {
  awk '
    NR == FNR { name = $0; sub(/=.*/, "", name); value[name] = $0; next }
    skipping { skipping = $0 !~ /^\)/; next }
    /^# ---- / { below = 1 }
    !below && match($0, /^[A-Z_]+=/) {
      name = substr($0, 1, RLENGTH - 1)
      if (name in value) {
        print value[name]
        used[name] = 1
        skipping = $0 ~ /=\($/
        next
      }
    }
    { print }
    END { for (name in value) if (!(name in used)) { print FILENAME " has no setting " name > "/dev/stderr"; exit 1 } }
  ' - "$project/scripts/slurm/$1"
}

# A tiny model whose run takes a few seconds. The strategies are given, because two starts can measure and choose
# differently; double precision, so that runs on other meshes can be compared.
readonly steps=40
training_options() {
  echo "--data $work/data.h5 --model mamba-tiny --pack-tokens 512 ${MESH:---data-parallel 2 --context-parallel 2}" \
    "--strategy causal_conv=halo,selective_scan=state_carry --dtype f64 --steps $steps --log-every 5"
}

# submit_training RUN [OPTIONS OF sbatch…]: prints the number of the job. EXTRA: more options for causeway; MESH: the
# mesh, by default that of four ranks; RESTARTS: MAX_RESTARTS.
submit_training() {
  local run=$1
  shift
  edited train.sbatch >"$run.sbatch" <<END
PREFIX=$work/prefix
RUN=$run
MAX_RESTARTS=${RESTARTS:-3}
OPTIONS=($(training_options) ${EXTRA:-})
END
  sbatch --parsable --chdir="$work" --ntasks=4 --nodes=2-4 --spread-job --cpus-per-task=1 --time=10 "$@" "$run.sbatch"
}

field() { # JOB NAME
  scontrol --oneliner show job "$1" | grep -o " $2=[^ ]*" | head -n 1 | cut -d= -f2-
}

state_is() { [[ $(field "$1" JobState) == "$2" ]]; }

ended() {
  case $(field "$1" JobState) in
    COMPLETED | FAILED | CANCELLED | TIMEOUT | NODE_FAIL | OUT_OF_MEMORY | DEADLINE | BOOT_FAIL) ;;
    *) return 1 ;; # also no answer, and PREEMPTED, the state for a moment before a job is requeued
  esac
}

# Waits until job $1 has ended, and compares state ($2), number of restarts ($3), exit code and signal ($4).
expect_end() {
  until_true 90 "the end of job $1" ended "$1"
  expect "job $1's state" "$(field "$1" JobState)" "$2"
  expect "job $1's number of restarts" "$(field "$1" Restarts)" "$3"
  expect "job $1's exit code" "$(field "$1" ExitCode)" "$4"
}

# expect_log JOB TEXT
expect_log() { grep -qF -- "$2" "$work"/train-"$1".log || failed "job $1's log has no line with '$2'"; }

# ---- processes

# is_here PROCESS [VARIABLE=VALUE]: whether the environment of a process has this cluster and that variable. It starts
# no process, because there may be many to ask.
is_here() {
  local -a environment=()
  mapfile -d '' -t environment <"/proc/$1/environ" || return 1
  [[ " ${environment[*]} " == *" CLUSTER=$CLUSTER "* && " ${environment[*]} " == *" ${2:-CLUSTER=$CLUSTER} "* ]]
} 2>/dev/null

# Ranks of this cluster: processes of the program.
ranks() {
  local process
  for process in /proc/[0-9]*; do
    if [[ $process/exe -ef $causeway ]] && is_here "${process#/proc/}"; then echo "${process#/proc/}"; fi
  done
}

last_step() { sed -n '$s/^{"step":\([0-9]*\).*/\1/p' "$1/metrics.jsonl" 2>/dev/null || true; }

has_reached() { (($(last_step "$1") + 0 >= $2)); }

# Waits until run $1 has done step $2 and stops its ranks, so that the disturbance comes in the middle of the run on any
# machine.
hold_at() {
  until_true 60 "step $2 of $1" has_reached "$1" "$2"
  # shellcheck disable=SC2046 # one word for each process
  kill -STOP $(ranks)
  ! has_reached "$1" "$steps" || failed "$1 was done before it could be disturbed"
}

release() {
  # shellcheck disable=SC2046
  kill -CONT $(ranks) 2>/dev/null || true # Slurm may have ended them
}

# Does what Slurm does to job $1 before its time limit, for the $2-th time. The ranks are stopped; the signal stays
# pending.
warn_of_time_limit() {
  scancel --batch --signal=USR1 "$1"
  until_true 20 "the script to notice" warnings_are "$2" "$work/train-$1.log"
  sleep 0.5 # until srun has sent it to the ranks
}

warnings_are() { (($(grep -c "time limit is near" "$2") == $1)); }

# A node of job $1 that does not run its batch script.
other_node() { scontrol show hostnames "$(field "$1" NodeList)" | grep -vxF "$(field "$1" BatchHost)" | tail -n 1; }

# Node $1 fails: all its processes are killed at once.
lose_node() {
  local process parent
  local -a dying
  dying=("$(<"$CLUSTER/slurmd.$1.pid")")
  for process in /proc/[0-9]*; do
    process=${process#/proc/}
    if is_here "$process" "SLURMD_NODENAME=$1"; then
      # The parent of a task is slurmstepd, which overwrites its own environment.
      parent=$(sed -n 's/^PPid:[^0-9]*//p' "/proc/$process/status")
      if [[ $(<"/proc/$parent/comm") == slurmstepd ]]; then dying+=("$parent"); fi
      dying+=("$process")
    fi
  done
  kill -KILL "${dying[@]}"
}

# ---- results

# The figures of every step that do not depend on the clock.
figures() {
  local pattern='.*("step":[0-9]+)' key
  for key in loss learning_rate grad_norm tokens bytes_sent; do pattern+=".*(\"$key\":[^,]+)"; done
  sed -E "s/$pattern.*/\1 \2 \3 \4 \5 \6/" "$1/metrics.jsonl"
}

# Keeps run $1 as the undisturbed one. The folder appears complete or not at all, because another call may read it.
keep_undisturbed() {
  mkdir -p "$(dirname "$undisturbed")"
  rm -rf "$undisturbed" "$undisturbed.new"
  cp -r "$1" "$undisturbed.new"
  mv "$undisturbed.new" "$undisturbed"
}

# Compares run $1 with the undisturbed run: every step once, the same figures, parameters and optimizer state bit for
# bit; undamaged checkpoints.
expect_undisturbed() {
  local checkpoint=step-$steps
  diff <(figures "$undisturbed") <(figures "$1") >"$work/difference" || {
    head -n 6 "$work/difference"
    failed "$1/metrics.jsonl differs from that of an undisturbed run"
  }
  h5diff "$undisturbed/$checkpoint/index.h5" "$1/$checkpoint/index.h5" ||
    failed "$1/$checkpoint differs from that of an undisturbed run"
  "$causeway" inspect "$1/latest" --verify >/dev/null || failed "$1/latest is damaged"
}

# The same, up to rounding, for runs with another order of sums.
expect_undisturbed_within_rounding() {
  paste <(figures "$undisturbed") <(figures "$1") | tr ':' ' ' | awk '
    function apart(a, b) { return (a > b ? a - b : b - a) > 1e-8 * (a < 0 ? -a : a) }
    { for (i = 2; i <= NF / 2; i += 2) if ($(i - 1) != "\"bytes_sent\"" && apart($i, $(i + NF / 2))) { print; exit 1 } }
    END { if (NR != '"$steps"') exit 1 }
  ' || failed "$1/metrics.jsonl differs from that of an undisturbed run by more than rounding"
  h5diff --delta=1e-8 "$undisturbed/step-$steps/index.h5" "$1/step-$steps/index.h5" /parameters ||
    failed "the parameters of $1 differ by more than rounding"
}
