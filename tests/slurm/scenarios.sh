# shellcheck shell=bash disable=SC2154 # run sets what is used here
# A scenario is a function: it submits, disturbs, and holds the end to the undisturbed run's. A new one is a function and its line in this list: its name, and
# whether it is always run or takes a minute.

scenarios() {
  cat <<'END'
FourNodesTrainToTheEnd                 short
PreemptedJobGoesOn                     short
RequeuedJobGoesOn                      short
TimeLimitAheadJobGoesOn                short
CancelledJobLosesNothing               short
LostBatchHostIsReplaced                short
LostNodeIsReplaced                     long
CutLinkIsNoticed                       short
FewerRanksGoOn                         short
StoppedRankEndsTheJobWhichGoesOn       short
RestartsAreBounded                     short
WhatWouldFailAgainIsNotQueuedAgain     short
ScoringJobsAgreeWithOneProcess         short
SweepPrintsSpeedUps                    short
RealTimeLimitIsHeeded                  long
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

# A job of a higher partition takes the nodes: Slurm sends TERM and leaves GraceTime.
PreemptedJobGoesOn() {
  local job urgent run=$work/preempted
  job=$(submit_training "$run")
  hold_at "$run" 10
  urgent=$(sbatch --parsable --partition=urgent --nodes=4 --exclusive --output=/dev/null --wrap 'sleep 1') # Slurm sends CONT too
  expect_end "$job" COMPLETED 1 0:0
  expect "the urgent job's state" "$(field "$urgent" JobState)" COMPLETED
  expect_log "$job" "ended with code 75"
  expect_log "$job" "resumed from $run/step-"
  expect_undisturbed "$run"
}

# An operator puts the job back: Slurm sends TERM and leaves KillWait.
RequeuedJobGoesOn() {
  local job run=$work/requeued
  job=$(submit_training "$run")
  hold_at "$run" 10
  scontrol requeue "$job"
  expect_end "$job" COMPLETED 1 0:0
  expect_log "$job" "resumed from $run/step-"
  expect_undisturbed "$run"
}

# Slurm tells the script that the time limit is near (--signal=B:USR1@T); the script asks the ranks for a checkpoint.
TimeLimitAheadJobGoesOn() {
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

# The same without help: Slurm looks at its clock every half a minute, and limits are whole minutes.
RealTimeLimitIsHeeded() {
  local job run=$work/limited
  job=$(submit_training "$run" --time=1 --signal=B:USR1@20)
  hold_at "$run" 10
  until_true 90 "Slurm's warning" grep -q "time limit is near" "$work/train-$job.log"
  release
  expect_end "$job" COMPLETED 1 0:0
  expect_undisturbed "$run"
}

# scancel is meant: the job ends, with a checkpoint of the last step done, and is not queued again. Submitted again, it goes on.
CancelledJobLosesNothing() {
  local job run=$work/cancelled
  job=$(submit_training "$run")
  hold_at "$run" 10
  scancel "$job"
  expect_end "$job" CANCELLED 0 75:0
  expect_log "$job" "not put back into the queue"
  expect "the last checkpoint" "$(readlink "$run/latest")" "step-$(last_step "$run")"
  expect "jobs in the queue" "$(squeue --noheader | wc -l)" 0
  job=$(submit_training "$run")
  expect_end "$job" COMPLETED 0 0:0
  expect_log "$job" "resumed from $run/step-"
  expect_undisturbed "$run"
}

# A node that does not run the batch script dies with all its processes.
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

# The node that runs the batch script dies: only Slurm itself can queue the job again. Told by the site's health check, as it were; it takes Slurm half a minute
# to find out by itself, which LostNodeIsReplaced and CutLinkIsNoticed leave it.
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

# A node's cable is cut: nobody is told anything, its ranks are still there.
CutLinkIsNoticed() {
  local job node run=$work/cut
  [[ $CLUSTER_NETWORK == namespaces ]] || skipped "on the loopback there is no cable to cut"
  job=$(EXTRA="--checkpoint-every 5" submit_training "$run")
  until_true 60 "step 12 of $run" has_reached "$run" 12
  node=$(other_node "$job")
  ip link set "v${node#cn}" down
  expect_end "$job" COMPLETED 1 0:0
  expect_log "$job" "resumed from $run/step-"
  expect_undisturbed "$run"
}

# What is left of the cluster has room for two ranks only: one group in place of two, which takes both packs of a step, one after the other.
FewerRanksGoOn() {
  local job run=$work/fewer
  job=$(EXTRA="--checkpoint-every 5" submit_training "$run")
  hold_at "$run" 12
  lose_node cn3
  lose_node cn4
  scontrol update nodename=cn[3-4] state=down reason=lost
  scancel "$job"
  release
  until_true 60 "the end of job $job" ended "$job"
  job=$(MESH="--data-parallel 1 --context-parallel 2 --accumulate 2" submit_training "$run" --ntasks=2 --nodes=2 --ntasks-per-node=1)
  expect_end "$job" COMPLETED 0 0:0
  expect_log "$job" "resumed from $run/step-"
  expect_undisturbed_within_rounding "$run"
}

# A rank that is there and does nothing: Slurm and MPI see nothing wrong, the program's watchdog does.
StoppedRankEndsTheJobWhichGoesOn() {
  local job run=$work/stopped
  job=$(EXTRA="--checkpoint-every 5 --watchdog 8" submit_training "$run")
  hold_at "$run" 12
  # shellcheck disable=SC2046 # a word a process
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
  expect_log "$job" "which is all that MAX_RESTARTS=1 allows: ends with code 75"
  expect "the last checkpoint" "$(readlink "$run/latest")" "step-$(last_step "$run")"
}

# A file that is not there, and one with a flipped byte.
WhatWouldFailAgainIsNotQueuedAgain() {
  local absent damaged
  cp "$work/data.h5" "$work/damaged.h5"
  printf '\xff' | dd of="$work/damaged.h5" bs=1 seek=$(($(stat -c %s "$work/damaged.h5") / 2)) conv=notrunc status=none
  absent=$(EXTRA="--data $work/absent.h5" submit_training "$work/absent")
  damaged=$(EXTRA="--data $work/damaged.h5" submit_training "$work/damaged")
  expect_end "$absent" FAILED 0 2:0
  expect_log "$absent" "ended with code 2: a wrong option or a bad input file"
  expect_end "$damaged" FAILED 0 65:0
}

# Three files as an array, one file as a job on several ranks, both held to one process without Slurm; the array once more, where one file is missing.
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
  h5diff -d 1e-6 "$work/alone/1.h5" "$work/ranks.h5" || failed "two ranks score otherwise than one process"
  for i in 1 2 3; do
    expect_end "${array}_$((i - 1))" COMPLETED 0 0:0
    h5diff "$work/alone/$i.h5" "$work/scores/$i.h5" || failed "task $i of the array scores otherwise than one process"
  done
  expect_end "${array}_3" FAILED 0 2:0

  rm "$work/scores/2.h5"
  touch -d '1 hour ago' "$work/scores/1.h5"
  array=$(sbatch --parsable --chdir="$work" --array=0-2 --time=5 --cpus-per-task=1 "$work/score_array.sbatch")
  for i in 1 2 3; do expect_end "${array}_$((i - 1))" COMPLETED 0 0:0; done
  h5diff "$work/alone/2.h5" "$work/scores/2.h5" || failed "the missing file was not scored again"
  grep -q "is there: nothing to do" "$work/score_array-${array}_0.log" || failed "a file that was there was scored again"
}

# A table of figures that are known, then a sweep of real ones.
SweepPrintsSpeedUps() {
  local n
  edited scaling >"$work/weak" <<END
PREFIX=$work/prefix
FOLDER=$work/known
KIND=weak
RANKS=(1 2 4 8)
PACK_TOKENS=1000
WARM_UP=1
END
  for n in 1 2 4; do
    mkdir -p "$work/known/weak-$n"
    # The first step does not count; four ranks take twice as long as one for four times the tokens.
    printf '{"step":1,"tokens":9,"step_s":9.0}\n{"step":2,"tokens":%d,"step_s":%s}\n{"step":3,"eval_loss":1}\n' $((n * 1000)) "$((n == 4 ? 2 : 1)).0e-1" >"$work/known/weak-$n/metrics.jsonl"
  done
  diff - <(bash "$work/weak" --table) <<END || failed "the table of known figures is another"
weak scaling, 1000 tokens a rank
 ranks      tokens/s  speed-up  efficiency  steps
     1         10000      1.00       100 %      1
     2         20000      2.00       100 %      1
     4         20000      2.00        50 %      1
     8  no figures; see $work/known/weak-8.log
END

  edited scaling >"$work/strong" <<END
PREFIX=$work/prefix
FOLDER=$work/sweep
RANKS=(1 2 4)
PACK_TOKENS=512
STEPS=6
WARM_UP=2
SBATCH=(--time=5)
OPTIONS=(--data $work/data.h5 --model mamba-tiny --strategy causal_conv=halo,selective_scan=state_carry)
END
  bash "$work/strong" >"$work/strong.txt" || failed "the sweep was not submitted"
  until_true 60 "the sweep's table" grep -sq "^     4  " "$work/sweep/table.txt"
  expect "rows with figures" "$(grep -cE '^ +[124] +[0-9]+ +[0-9.]+ +[0-9]+ % +4$' "$work/sweep/table.txt")" 3
  ! bash "$work/strong" 2>/dev/null || failed "a second sweep went into the first one's folder"
}
