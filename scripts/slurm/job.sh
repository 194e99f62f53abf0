# shellcheck shell=bash
# The code that the templates share. Nothing here needs editing.
#
# `run_or_requeue COMMAND…` runs the command of a batch job. When the command has ended, either the job ends with its
# exit code, or the job is requeued, at most MAX_RESTARTS times:
#
#   0             done
#   75            a checkpoint was written after a signal. Requeued: the run resumes from it
#   76            the watchdog saw no progress: a rank hung, a node or the network failed. Requeued: Slurm may choose
#                 other nodes
#   129 and more  a rank was killed by a signal: its node died, or ran out of memory. Requeued
#   1, 2          a defect, a wrong option, a bad input file: it would fail again. Not requeued
#   65            damaged checkpoint or data: --resume auto skipped damaged checkpoints and found no other. Not requeued
#   70            the loss became infinite or NaN: the same step would give the same bits again. Not requeued
#   74            reading or writing failed: a full disk stays full. Not requeued
#
# Every start counts, also the restarts that Slurm makes after a preemption or a lost node: SLURM_RESTART_COUNT is
# Slurm's counter.

# srun does not take this from the job by itself.
export SRUN_CPUS_PER_TASK=${SLURM_CPUS_PER_TASK:-1}
# How Slurm's PMIx plugin synchronizes ranks while MPI starts. With some ways a rank can send before another is ready to
# receive: with Slurm 22.05 and Open MPI 4.1 on a busy machine, MPI_Init ended with a segmentation fault in one start of
# 15 with the default, mixed, in 18 of 820 with tree, and in none of 690 with ring.
export SLURM_PMIX_FENCE=${SLURM_PMIX_FENCE:-ring}

say() { echo "slurm: job ${SLURM_JOB_ID}: $*"; }

# Ends a job that has no restarts left, with code $1.
out_of_restarts() {
  say "was restarted ${SLURM_RESTART_COUNT:-0} times, the maximum (MAX_RESTARTS=$MAX_RESTARTS): ends with code $1." \
    "Submit it again to resume from the last checkpoint"
  exit "$1"
}

# Requeues this job and ends it. $1: the exit code if that is not possible.
requeue() {
  local state
  # A job that was cancelled, or that Slurm is requeueing, is not RUNNING; scontrol would restart even a cancelled job.
  # Slurm's controller may not answer for a while: the request is repeated for two minutes.
  for _ in {1..12}; do
    state=$(squeue --noheader --jobs="$SLURM_JOB_ID" --format=%T) && break
    state=unknown
    sleep 10
  done
  if [[ $state != RUNNING ]]; then
    say "is $state, so it is not requeued"
    exit "$1"
  fi
  ((${SLURM_RESTART_COUNT:-0} < MAX_RESTARTS)) || out_of_restarts "$1"
  say "is requeued"
  scontrol requeue "$SLURM_JOB_ID" || exit "$1"
  sleep 600 # Slurm ends this script while it requeues the job; if the script ended first, the job would end
  exit "$1"
}

# The meaning of exit code $1, for the log.
meaning() {
  case $1 in
    0) echo "done" ;;
    1) echo "a defect, or a resource it could not get; see the lines above" ;;
    2) echo "a wrong option or a bad input file" ;;
    65) echo "a checkpoint or dataset is damaged" ;;
    70) echo "the loss became infinite or NaN" ;;
    74) echo "reading or writing a file failed" ;;
    75) echo "checkpointed after a signal" ;;
    76) echo "no progress for too long" ;;
    *) if (($1 > 128)); then echo "a process was killed by signal $(($1 - 128))"; else echo "unknown to Causeway"; fi ;;
  esac
}

run_or_requeue() {
  local status interrupted command
  say "start $((${SLURM_RESTART_COUNT:-0} + 1)) of at most $((MAX_RESTARTS + 1)), on $SLURM_JOB_NODELIST"
  # Above the maximum only if Slurm itself restarted the job.
  ((${SLURM_RESTART_COUNT:-0} <= MAX_RESTARTS)) || out_of_restarts 75

  # The command runs in the background, because bash handles a signal only while it waits. Signals of a batch job come
  # either to this script (--signal=B:) or to the ranks (preemption, scancel). srun and mpirun pass USR1 on to all
  # ranks.
  "$@" &
  command=$!
  # shellcheck disable=SC2064 # expanded now: the process is known
  trap "interrupted=1; say 'the time limit is near: requests a checkpoint'; kill -USR1 $command" USR1
  # TERM comes at the end of a grace time or after scancel; the ranks get it too. Wait for their end, so that the log is
  # complete.
  trap 'interrupted=1' TERM
  while :; do
    interrupted=0 status=0
    wait "$command" || status=$?
    ((interrupted)) || break # a signal interrupts wait; the command still runs
  done
  trap - USR1 TERM

  say "ended with code $status: $(meaning "$status")"
  case $status in
    75 | 76) requeue "$status" ;;
    *) if ((status > 128)); then requeue "$status"; fi ;;
  esac
  exit "$status"
}
