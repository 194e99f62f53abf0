"""The Slurm half of a sweep: a job array for every number of ranks, one task a run, and a job that collects."""

import json
import os
import shlex
import subprocess
import sys

from causeway_script import Refused
from results import parts_folder, write_json

LAUNCH = "srun --mpi=pmix --ntasks={ranks} --kill-on-bad-exit=1"
LARGEST_ARRAY = 1000  # Slurm's default MaxArraySize is 1001


def sbatch(options, name, log, script):
    command = ["sbatch", "--parsable", f"--job-name={name}", f"--output={log}"] + options
    try:
        done = subprocess.run(command, input=script, capture_output=True, text=True, check=False)
    except OSError as error:
        raise Refused(f"sbatch: {error.strerror}; --slurm runs where sbatch runs") from error
    if done.returncode != 0:
        raise Refused(f"sbatch: {done.stderr.strip()}")
    return done.stdout.strip().split(";")[0]


def batch_script(words):
    # srun does not take --cpus-per-task from the job by itself. PMIx's ring: see scripts/slurm/job.sh.
    return ("#!/bin/sh\nexport SRUN_CPUS_PER_TASK=${SLURM_CPUS_PER_TASK:-1}\n"
            "export SLURM_PMIX_FENCE=${SLURM_PMIX_FENCE:-ring}\n"
            f"exec {' '.join(shlex.quote(word) for word in words)}\n")


def submit(runs, settings, causeway, launch):
    """Submits the runs; prints the jobs. Every task writes its part, so that a part that a lost task misses is run when
    the same command is given again."""
    out, folder = os.path.abspath(settings.out), os.path.abspath(parts_folder(settings.out))
    script, options = [sys.executable, os.path.realpath(sys.argv[0])], shlex.split(settings.slurm)
    jobs = []
    for ranks in sorted({run["ranks"] for run in runs}):
        of_ranks = [run for run in runs if run["ranks"] == ranks]
        for begin in range(0, len(of_ranks), LARGEST_ARRAY):
            some = of_ranks[begin:begin + LARGEST_ARRAY]
            plan = os.path.join(folder, f"plan-{ranks}-{some[0]['key']}.json")
            write_json(plan, {"runs": some, "causeway": causeway, "launch": launch, "timeout": settings.timeout})
            # One task at a time: other runs on the same node would change the figures.
            task = script + ["--out", out, "--task", plan]
            job = sbatch([f"--array=0-{len(some) - 1}%1", f"--ntasks={ranks}"] + options, f"sweep-{ranks}",
                         os.path.join(folder, f"slurm-{ranks}-%a.log"), batch_script(task))
            print(f"sweep: job {job}: {len(some)} runs on {ranks} ranks")
            jobs.append(job)
    job = sbatch(["--ntasks=1", "--dependency=afterany:" + ":".join(jobs)] + collect_options(options), "sweep-collect",
                 os.path.join(folder, "slurm-collect.log"), batch_script(script + ["--out", out, "--collect"]))
    print(f"sweep: job {job} collects the results in {out}")


def collect_options(options):
    """Of the options of the runs only those that say where and for whom: collecting needs one core for a moment."""
    return [word for word in options if word.startswith(("--partition", "--account", "--qos", "--time", "--chdir"))]


def read_task(path):
    """(run, plan) of this task of the array."""
    try:
        with open(path, encoding="utf-8") as file:
            plan = json.load(file)
        return plan["runs"][int(os.environ["SLURM_ARRAY_TASK_ID"])], plan
    except KeyError as error:
        raise Refused(f"--task {path}: {error} is missing; only a job that --slurm submitted uses it") from error
    except (ValueError, IndexError) as error:
        raise Refused(f"--task {path}: {error}") from error
