# shellcheck shell=bash disable=SC2154 # run sets what is used here
# A scenario is a function: it submits a job, disturbs it, and compares the end with the undisturbed run. To add one,
# write a function and a line in this list: its name, and short or long; the long ones take a minute or more.

scenarios() {
  cat <<'END'
FourNodesTrainToTheEnd                 short
PreemptedJobResumes                    short
RequeuedJobResumes                     short
JobNearItsTimeLimitResumes             short
CancelledJobLosesNothing               short
LostBatchHostIsReplaced                short
LostNodeIsReplaced                     long
CutLinkIsNoticed                       short
FewerRanksResume                       short
JobWithAStoppedRankResumes             short
RestartsAreBounded                     short
JobThatWouldFailAgainIsNotRequeued     short
ScoringJobsAgreeWithOneProcess         short
SweepRunsAsJobArrays                   short
RealTimeLimitIsHandled                 long
END
}

FourNodesTrainToTheEnd() {
  local job run=$work/four
  job=$(submit_training "$run" --nodes=4)
  expect_end "$job" COMPLETED 0 0:0
  expect "lines of metrics" "$(wc -l <"$run/metrics.jsonl")" "$steps"
  if [[ $CLUSTER_NETWORK == namespaces ]]; then
    expect "hosts" "$(grep -o '"cn[0-9]"' "$run/environment.json" | sort -u | wc -l)" 4
  fi
  keep_undisturbed "$run"
}

# A job of a partition with a higher priority takes the nodes: Slurm sends TERM and waits GraceTime seconds.
PreemptedJobResumes() {
  local job urgent run=$work/preempted
  job=$(submit_training "$run")
  hold_at "$run" 10
  # Slurm also sends CONT to the stopped ranks.
  urgent=$(sbatch --parsable --partition=urgent --nodes=4 --exclusive --output=/dev/null --wrap 'sleep 1')
  expect_end "$job" COMPLETED 1 0:0
  expect "the urgent job's state" "$(field "$urgent" JobState)" COMPLETED
  expect_log "$job" "ended with code 75"
  expect_log "$job" "resumed from $run/step-"
  expect_undisturbed "$run"
}

# An operator requeues the job: Slurm sends TERM and waits KillWait seconds.
RequeuedJobResumes() {
  local job run=$work/requeued
  job=$(submit_training "$run")
  hold_at "$run" 10
  scontrol requeue "$job"
  expect_end "$job" COMPLETED 1 0:0
  expect_log "$job" "resumed from $run/step-"
  expect_undisturbed "$run"
}

# Slurm tells the script that the time limit is near (--signal=B:USR1@T); the script asks the ranks for a checkpoint.
JobNearItsTimeLimitResumes() {
  local job run=$work/limited
  job=$(submit_training "$run")
  hold_at "$run" 10
  warn_of_time_limit "$job" 1
  release
  expect_end "$job" COMPLETED 1 0:0
  expect_log "$job" "ended with code 75"
  expect_log "$job" "resumed from $run/step-"
  expect_undisturbed "$run"
}

# The same with a real time limit. Slurm checks limits every half minute, and limits are whole minutes.
RealTimeLimitIsHandled() {
  local job run=$work/limited
  job=$(submit_training "$run" --time=1 --signal=B:USR1@20)
  hold_at "$run" 10
  until_true 90 "Slurm's warning" grep -q "time limit is near" "$work/train-$job.log"
  release
  expect_end "$job" COMPLETED 1 0:0
  expect_undisturbed "$run"
}

# scancel is intended: the job ends with a checkpoint of its last complete step and is not requeued. Submitted again, it
# resumes.
CancelledJobLosesNothing() {
  local job run=$work/cancelled
  job=$(submit_training "$run")
  hold_at "$run" 10
  scancel "$job"
  expect_end "$job" CANCELLED 0 75:0
  expect_log "$job" "is not requeued"
  expect "the last checkpoint" "$(readlink "$run/latest")" "step-$(last_step "$run")"
  expect "jobs in the queue" "$(squeue --noheader | wc -l)" 0
  job=$(submit_training "$run")
  expect_end "$job" COMPLETED 0 0:0
  expect_log "$job" "resumed from $run/step-"
  expect_undisturbed "$run"
}

# A node that does not run the batch script fails: all its processes are killed.
LostNodeIsReplaced() {
  local job run=$work/lost
  job=$(EXTRA="--checkpoint-every 5" submit_training "$run" --nodes=3-4)
  hold_at "$run" 12
  lose_node "$(other_node "$job")"
  release
  expect_end "$job" COMPLETED 1 0:0
  expect_log "$job" "resumed from $run/step-"
  expect_undisturbed "$run"
}

# The node that runs the batch script fails: only Slurm itself can requeue the job. Here the test reports this to Slurm,
# as the health check of a site does. Without the report Slurm notices it after half a minute, as in LostNodeIsReplaced
# and CutLinkIsNoticed.
LostBatchHostIsReplaced() {
  local job node run=$work/lost
  job=$(EXTRA="--checkpoint-every 5" submit_training "$run")
  hold_at "$run" 12
  node=$(field "$job" BatchHost)
  lose_node "$node"
  release
  scontrol update nodename="$node" state=down reason=lost
  expect_end "$job" COMPLETED 1 0:0
  expect_log "$job" "resumed from $run/step-"
  expect_undisturbed "$run"
}

# The network link of a node is cut: its ranks still run, and nothing reports an error.
CutLinkIsNoticed() {
  local job node run=$work/cut
  [[ $CLUSTER_NETWORK == namespaces ]] || skipped "the loopback interface has no link to cut"
  job=$(EXTRA="--checkpoint-every 5" submit_training "$run")
  until_true 60 "step 12 of $run" has_reached "$run" 12
  node=$(other_node "$job")
  ip link set "v${node#cn}" down
  expect_end "$job" COMPLETED 1 0:0
  expect_log "$job" "resumed from $run/step-"
  expect_undisturbed "$run"
}

# The remaining nodes have room for only two ranks: one group instead of two, which computes both packs of a step in
# sequence.
FewerRanksResume() {
  local job run=$work/fewer
  job=$(EXTRA="--checkpoint-every 5" submit_training "$run")
  hold_at "$run" 12
  lose_node cn3
  lose_node cn4
  scontrol update nodename=cn[3-4] state=down reason=lost
  scancel "$job"
  release
  until_true 60 "the end of job $job" ended "$job"
  job=$(MESH="--data-parallel 1 --context-parallel 2 --accumulate 2" \
    submit_training "$run" --ntasks=2 --nodes=2 --ntasks-per-node=1)
  expect_end "$job" COMPLETED 0 0:0
  expect_log "$job" "resumed from $run/step-"
  expect_undisturbed_within_rounding "$run"
}

# A rank is stopped: Slurm and MPI notice nothing; the watchdog of the program does.
JobWithAStoppedRankResumes() {
  local job run=$work/stopped
  job=$(EXTRA="--checkpoint-every 5 --watchdog 8" submit_training "$run")
  hold_at "$run" 12
  # shellcheck disable=SC2046 # one word for each process
  kill -CONT $(ranks | tail -n +2)
  expect_end "$job" COMPLETED 1 0:0
  expect_log "$job" "ended with code 76"
  expect_log "$job" "resumed from $run/step-"
  expect_undisturbed "$run"
}

RestartsAreBounded() {
  local job run=$work/bounded
  job=$(RESTARTS=1 submit_training "$run")
  hold_at "$run" 10
  warn_of_time_limit "$job" 1
  release
  hold_at "$run" 20
  warn_of_time_limit "$job" 2
  release
  expect_end "$job" FAILED 1 75:0
  expect_log "$job" "the maximum (MAX_RESTARTS=1): ends with code 75"
  expect "the last checkpoint" "$(readlink "$run/latest")" "step-$(last_step "$run")"
}

# A missing file, and a file with a changed byte.
JobThatWouldFailAgainIsNotRequeued() {
  local absent damaged
  cp "$work/data.h5" "$work/damaged.h5"
  printf '\xff' | dd of="$work/damaged.h5" bs=1 seek=$(($(stat -c %s "$work/damaged.h5") / 2)) conv=notrunc status=none
  absent=$(EXTRA="--data $work/absent.h5" submit_training "$work/absent")
  damaged=$(EXTRA="--data $work/damaged.h5" submit_training "$work/damaged")
  expect_end "$absent" FAILED 0 2:0
  expect_log "$absent" "ended with code 2: a wrong option or a bad input file"
  expect_end "$damaged" FAILED 0 65:0
}

# Three files as an array and one file as a job on two ranks, both compared with one process without Slurm; then the
# array again, after one result was removed.
ScoringJobsAgreeWithOneProcess() {
  local array job i
  mkdir -p "$work/parts" "$work/alone"
  for i in 1 2 3; do
    "$causeway" import "$work"/text-*"$i".txt --out "$work/parts/$i.h5" >/dev/null 2>&1
    "$causeway" score --checkpoint "$undisturbed" --data "$work/parts/$i.h5" --out "$work/alone/$i.h5" >/dev/null 2>&1
  done
  edited score_array.sbatch >"$work/score_array.sbatch" <<END
PREFIX=$work/prefix
FILES=("$work"/parts/*.h5)
SCORES=$work/scores
OPTIONS=(--checkpoint "$undisturbed/step-$steps")
END
  edited score.sbatch >"$work/score.sbatch" <<END
PREFIX=$work/prefix
OPTIONS=(--checkpoint "$undisturbed" --data "$work/parts/1.h5" --out "$work/ranks.h5" --pack-tokens 1024)
END
  array=$(sbatch --parsable --chdir="$work" --array=0-3 --time=5 --cpus-per-task=1 "$work/score_array.sbatch")
  job=$(sbatch --parsable --chdir="$work" --ntasks=2 --time=5 --cpus-per-task=1 "$work/score.sbatch")
  expect_end "$job" COMPLETED 0 0:0
  h5diff -d 1e-6 "$work/alone/1.h5" "$work/ranks.h5" ||
    failed "the scores of two ranks differ from those of one process"
  for i in 1 2 3; do
    expect_end "${array}_$((i - 1))" COMPLETED 0 0:0
    h5diff "$work/alone/$i.h5" "$work/scores/$i.h5" ||
      failed "the scores of task $i of the array differ from those of one process"
  done
  expect_end "${array}_3" FAILED 0 2:0

  rm "$work/scores/2.h5"
  touch -d '1 hour ago' "$work/scores/1.h5"
  array=$(sbatch --parsable --chdir="$work" --array=0-2 --time=5 --cpus-per-task=1 "$work/score_array.sbatch")
  for i in 1 2 3; do expect_end "${array}_$((i - 1))" COMPLETED 0 0:0; done
  h5diff "$work/alone/2.h5" "$work/scores/2.h5" || failed "the missing file was not scored again"
  grep -q "exists: nothing to do" "$work/score_array-${array}_0.log" || failed "an existing file was scored again"
}

# scripts/scaling/sweep: a job array for every number of ranks, a job that collects, and what is missing afterwards.
SweepRunsAsJobArrays() {
  local candidate python='' options
  for candidate in "${CAUSEWAY_PYTHON:-python3}" /usr/bin/python3; do
    if [[ -z $python ]] && "$candidate" -c 'import h5py, numpy' 2>/dev/null; then python=$candidate; fi
  done
  [[ -n $python ]] || skipped "no Python with h5py and numpy"
  sweep() {
    "$python" "$project/scripts/scaling/sweep" --out "$work/results.h5" --causeway "$work/prefix/bin/causeway" "$@"
  }
  options=(--topics step --tokens 256 --strategy 'causal_conv=halo,selective_scan=state_carry' --bench='--steps 1')
  sweep "${options[@]}" --ranks 1,2 --repeats 2 --slurm=--time=5 >"$work/submitted" || failed "nothing was submitted"
  expect "lines of jobs" "$(grep -c '^sweep: job ' "$work/submitted")" 3
  until_true 120 "the collected results" test -s "$work/results-steps.csv"
  # shellcheck disable=SC2317 # until_true calls it
  no_jobs() { [[ -z $(squeue --noheader) ]]; }
  until_true 60 "the end of all jobs" no_jobs
  expect "runs that succeeded" "$(grep -cE '^[0-9a-f]+,step,[12],.*,0,$' "$work/results-runs.csv")" 4
  # Only what is missing is submitted again.
  expect "runs to do" "$(sweep "${options[@]}" --ranks 1,2 --repeats 2 --list)" ""
  sweep "${options[@]}" --ranks 1,2 --repeats 2 --slurm=--time=5 >"$work/again" || failed "a complete sweep failed"
  expect "jobs of a complete sweep" "$(cat "$work/again")" ""
}
