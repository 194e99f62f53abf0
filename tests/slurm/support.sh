# shellcheck shell=bash disable=SC2154 # run sets what is used here
# What the scenarios are told with: submit a template as a user edits it, wait for steps and states, disturb, compare. Runs inside tests/slurm/cluster.
# CLUSTER and
# CLUSTER_NETWORK come from there; causeway, project, work and undisturbed from run.

say() { echo "slurm: $*"; }

# Ends the scenario.
failed() {
  say "FAILED: $*"
  exit 1
}

# Ends the scenario where it cannot be played.
skipped() {
  say "skipped: $*"
  exit 77
}

expect() { # WHAT FOUND EXPECTED
  [[ $2 == "$3" ]] || failed "$1 is '$2', expected '$3'"
}

# until_true SECONDS WHAT COMMAND…: asks again and again.
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

# edited TEMPLATE: the template with the settings at its top as standard input has them, a line each; a setting that the template does not have is an error.
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

# A tiny model whose run lasts a few seconds. The strategies are named, as two fresh starts might measure differently; double precision, so that other
# meshes can be compared too.
readonly steps=40
training_options() {
  echo "--data $work/data.h5 --model mamba-tiny --pack-tokens 512 ${MESH:---data-parallel 2 --context-parallel 2}" \
    "--strategy causal_conv=halo,selective_scan=state_carry --dtype f64 --steps $steps --log-every 5"
}

# submit_training RUN [OPTIONS OF sbatch…]: prints the job's number. EXTRA: more options for causeway; MESH: other ones than for
# four ranks; RESTARTS: MAX_RESTARTS.
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
    *) return 1 ;; # also PREEMPTED, which a job is for a moment before it is queued again, and no answer
  esac
}

# Waits until job $1 has ended, and holds it to state $2, restarts $3, and exit code and signal $4.
expect_end() {
  until_true 90 "the end of job $1" ended "$1"
  expect "job $1's state" "$(field "$1" JobState)" "$2"
  expect "job $1's number of restarts" "$(field "$1" Restarts)" "$3"
  expect "job $1's exit code" "$(field "$1" ExitCode)" "$4"
}

# expect_log JOB TEXT
expect_log() { grep -qF -- "$2" "$work"/train-"$1".log || failed "job $1's log has no line with '$2'"; }

# ---- processes

# is_here PROCESS [VARIABLE=VALUE]: whether a process has this cluster, and that, in its environment. Without starting any other: there may be many to ask.
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

# Waits until run $1 has done step $2 and stops its ranks there, so that what is done next meets a run in its middle, however fast the machine.
hold_at() {
  until_true 60 "step $2 of $1" has_reached "$1" "$2"
  # shellcheck disable=SC2046 # a word a process
  kill -STOP $(ranks)
  ! has_reached "$1" "$steps" || failed "$1 was done before it could be disturbed"
}

release() {
  # shellcheck disable=SC2046
  kill -CONT $(ranks) 2>/dev/null || true # Slurm may have ended them
}

# What Slurm does to job $1 ahead of its time limit, for the $2-th time; its ranks being stopped, their signal waits for them.
warn_of_time_limit() {
  scancel --batch --signal=USR1 "$1"
  until_true 20 "the script to notice" warnings_are "$2" "$work/train-$1.log"
  sleep 0.5 # srun's way to the ranks
}

warnings_are() { (($(grep -c "time limit is near" "$2") == $1)); }

# A node of job $1 that does not run its batch script.
other_node() { scontrol show hostnames "$(field "$1" NodeList)" | grep -vxF "$(field "$1" BatchHost)" | tail -n 1; }

# Node $1 dies: everything on it is killed at once, and nobody says goodbye.
lose_node() {
  local process parent
  local -a dying
  dying=("$(<"$CLUSTER/slurmd.$1.pid")")
  for process in /proc/[0-9]*; do
    process=${process#/proc/}
    if is_here "$process" "SLURMD_NODENAME=$1"; then
      # A task's parent is slurmstepd, which writes over its own environment.
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
  sed -E 's/.*("step":[0-9]+).*("loss":[^,]+).*("learning_rate":[^,]+).*("grad_norm":[^,]+).*("tokens":[^,]+).*("bytes_sent":[^,]+).*/\1 \2 \3 \4 \5 \6/' "$1/metrics.jsonl"
}

# Keeps run $1 as the undisturbed one; whole or not at all, as another call may be looking.
keep_undisturbed() {
  mkdir -p "$(dirname "$undisturbed")"
  rm -rf "$undisturbed" "$undisturbed.new"
  cp -r "$1" "$undisturbed.new"
  mv "$undisturbed.new" "$undisturbed"
}

# Run $1 came to the undisturbed run's end: every step once, the same figures, the same parameters and optimizer state to the last bit; whole checkpoints.
expect_undisturbed() {
  local checkpoint=step-$steps
  diff <(figures "$undisturbed") <(figures "$1") >"$work/difference" || {
    head -n 6 "$work/difference"
    failed "$1/metrics.jsonl differs from an undisturbed run's"
  }
  h5diff "$undisturbed/$checkpoint/index.h5" "$1/$checkpoint/index.h5" || failed "$1/$checkpoint differs from an undisturbed run's"
  "$causeway" inspect "$1/latest" --verify >/dev/null || failed "$1/latest is damaged"
}

# The same where the order of sums is another.
expect_undisturbed_within_rounding() {
  paste <(figures "$undisturbed") <(figures "$1") | tr ':' ' ' | awk '
    function apart(a, b) { return (a > b ? a - b : b - a) > 1e-8 * (a < 0 ? -a : a) }
    { for (i = 2; i <= NF / 2; i += 2) if ($(i - 1) != "\"bytes_sent\"" && apart($i, $(i + NF / 2))) { print; exit 1 } }
    END { if (NR != '"$steps"') exit 1 }
  ' || failed "$1/metrics.jsonl differs from an undisturbed run's by more than rounding"
  h5diff --delta=1e-8 "$undisturbed/step-$steps/index.h5" "$1/step-$steps/index.h5" /parameters || failed "$1's parameters differ by more than rounding"
}
