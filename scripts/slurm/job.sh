# shellcheck shell=bash
# What the templates share. Nothing here needs editing.
#
# `run_or_requeue COMMAND…` runs the command of a batch job and, when it has ended, either lets the job end with its exit code or puts the job back into the queue,
# MAX_RESTARTS times at most:
#
#   0             done
#   75            a signal came and a checkpoint was written: queued again, and goes on there
#   76            the watchdog saw no progress: a rank hung, a node or its network is ill. Queued again; Slurm may give other nodes
#   129 and more  a rank was killed by a signal: its node died, or ran out of memory. Queued again
#   1, 2          a defect, a wrong option, a bad input file: would end the same way again. Not queued
#   65            damaged checkpoint or data: --resume auto has already passed over damaged checkpoints and found no whole one. Not queued
#   70            the loss became infinite or NaN: the same step would give the same bits again. Not queued
#   74            reading or writing failed: a full disk stays full until somebody makes room. Not queued
#
# Every start counts, also those that Slurm itself makes after a preemption or a lost node: SLURM_RESTART_COUNT is Slurm's own counter.

# srun no longer takes it from the job by itself.
export SRUN_CPUS_PER_TASK=${SLURM_CPUS_PER_TASK:-1}
# How Slurm's PMIx plugin makes ranks wait for each other while MPI starts. Its default, mixed, lets a rank send before another is ready to receive: with
# Slurm 22.05 and Open MPI 4.1, one start in fifteen on a busy machine ended with a segmentation fault in MPI_Init; none with tree or ring.
export SLURM_PMIX_FENCE=${SLURM_PMIX_FENCE:-tree}

say() { echo "slurm: job ${SLURM_JOB_ID}: $*"; }

# End a job whose restarts are used up with code $1.
out_of_restarts() {
  say "was restarted ${SLURM_RESTART_COUNT:-0} times, which is all that MAX_RESTARTS=$MAX_RESTARTS allows: ends with code $1. sbatch goes on from the last checkpoint"
  exit "$1"
}

# Puts this job back into the queue and ends it; $1: the exit code where that cannot be.
requeue() {
  local state
  # A job that was cancelled, or that Slurm is already putting back, is no longer RUNNING. scontrol would wake a cancelled job from the dead.
  # Slurm's controller may be away for a while: asked again for two minutes.
  for _ in {1..12}; do
    state=$(squeue --noheader --jobs="$SLURM_JOB_ID" --format=%T) && break
    state=unknown
    sleep 10
  done
  if [[ $state != RUNNING ]]; then
    say "is $state, so it is not put back into the queue from here"
    exit "$1"
  fi
  ((${SLURM_RESTART_COUNT:-0} < MAX_RESTARTS)) || out_of_restarts "$1"
  say "goes back into the queue"
  scontrol requeue "$SLURM_JOB_ID" || exit "$1"
  sleep 600 # Slurm ends this script while it puts the job back; exiting first would end the job
  exit "$1"
}

# Why code $1 ended the command, for the log.
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
  # Only starts that Slurm made itself come this far beyond the bound.
  ((${SLURM_RESTART_COUNT:-0} <= MAX_RESTARTS)) || out_of_restarts 75

  # The command runs in the background, as bash heeds a signal only while it waits. A batch job's signals come to this script (--signal=B:) or to the
  # ranks (preemption, scancel), not to both: USR1 is passed on, by srun or mpirun, to every rank.
  "$@" &
  command=$!
  # shellcheck disable=SC2064 # the process is known now
  trap "interrupted=1; say 'the time limit is near: asks for a checkpoint'; kill -USR1 $command" USR1
  # TERM comes with the end of a grace time or with scancel, which the ranks are told themselves: stay until they have ended, and the log is whole.
  trap 'interrupted=1' TERM
  while :; do
    interrupted=0 status=0
    wait "$command" || status=$?
    ((interrupted)) || break # a signal ends wait, not the command
  done
  trap - USR1 TERM

  say "ended with code $status: $(meaning "$status")"
  case $status in
    75 | 76) requeue "$status" ;;
    *) if ((status > 128)); then requeue "$status"; fi ;;
  esac
  exit "$status"
}
