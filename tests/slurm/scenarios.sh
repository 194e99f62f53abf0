# shellcheck shell=bash disable=SC2154 # run sets what is used here
# A scenario is a function: it submits, disturbs, and holds the end to the undisturbed run's. A new one is a function and its line in this list: its name, and
# whether it is always run or takes minutes.

scenarios() {
  cat <<'END'
FourNodesTrainToTheEnd  short
PreemptedJobGoesOn      short
RequeuedJobGoesOn       short
END
}

FourNodesTrainToTheEnd() {
  local job run=$work/four
  job=$(submit_training "$run" --nodes=4)
  expect_end "$job" COMPLETED 0 0
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
  expect_end "$job" COMPLETED 1 0
  expect "the urgent job's state" "$(field "$urgent" JobState)" COMPLETED
  expect_log "$job" "ended with code 75"
  expect_log "$job" "resumed from"
  expect_undisturbed "$run"
}

# An operator puts the job back: Slurm sends TERM and leaves KillWait.
RequeuedJobGoesOn() {
  local job run=$work/requeued
  job=$(submit_training "$run")
  hold_at "$run" 10
  scontrol requeue "$job"
  expect_end "$job" COMPLETED 1 0
  expect_log "$job" "resumed from"
  expect_undisturbed "$run"
}
