"""Executes one run of a sweep: starts its ranks, waits, and returns what is kept of it."""

import ctypes
import datetime
import json
import os
import platform
import shlex
import signal
import subprocess
import time

from causeway_script import Refused
from plan import arguments_of

HERE = os.path.dirname(os.path.realpath(__file__))
MPI_ENV = os.path.join(os.path.dirname(HERE), "mpi-env")
MPIRUN = "mpirun -n {ranks}"
PR_SET_PDEATHSIG = 1


def find_causeway(given, device):
    """The program: as given, or of a build in this tree, of the installation that this script is in, or of PATH."""
    root = os.path.dirname(os.path.dirname(HERE))
    folders = [os.path.join(root, "build", name) for name in (["cuda", "release"] if device == "cuda" else ["release"])]
    folders += [os.path.join(os.path.dirname(root), "bin")] + os.environ.get("PATH", "").split(os.pathsep)
    for path in [given] if given else [os.path.join(folder, "causeway") for folder in folders]:
        if os.path.isfile(path) and os.access(path, os.X_OK):
            return os.path.realpath(path)
    raise Refused(f"--causeway {given}: no such program" if given else
                  "no causeway in build/release and in PATH; --causeway names it")


def output_of(*command):
    try:
        return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60).stdout
    except (OSError, subprocess.TimeoutExpired) as error:
        raise Refused(f"{command[0]}: {error}") from error


def processor():
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            for line in file:
                if line.startswith("model name"):
                    return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.machine()


def of_this_machine(causeway):
    """What is recorded with every run."""
    return {"host": platform.node(), "cores": len(os.sched_getaffinity(0)), "processor": processor(),
            "program": output_of(causeway, "--version").strip().splitlines()[0]}


def command_of(run, causeway, launch, json_path):
    words = [word.replace("{ranks}", str(run["ranks"])) for word in shlex.split(launch)]
    command = words + arguments_of(run, causeway, json_path)
    # Only for mpirun on this machine: with fewer cores than ranks, or as root, Open MPI needs these variables.
    if launch == MPIRUN and os.path.exists(MPI_ENV):
        command = ["sh", "-c", '. "$0" && exec "$@"', MPI_ENV] + command
    return command


def end_with_parent():
    """In the child: if this process is killed, mpirun gets TERM and ends its ranks."""
    try:
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
    except (OSError, AttributeError):
        pass


def end_group(process):
    for signal_number, seconds in ((signal.SIGTERM, 5), (signal.SIGKILL, None)):
        try:
            os.killpg(process.pid, signal_number)
            process.wait(seconds)
            return
        except subprocess.TimeoutExpired:
            continue
        except ProcessLookupError:
            process.wait()
            return


def error_of(output):
    """The program's own message; mpirun adds many lines below it."""
    lines = output.strip().splitlines()
    own = [line for line in lines if line.startswith("causeway")]
    return " ".join((own[0] if own else " ".join(lines[-3:])).split())[:500]


def execute(run, causeway, launch, timeout, machine, folder):
    """{"run": its configuration and how it ended, "report": the JSON of bench or None}."""
    json_path = os.path.join(folder, f"{run['key']}.bench")
    environment = dict(os.environ)
    if run["threads"]:
        environment["OMP_NUM_THREADS"] = str(run["threads"])
    ended = dict(run, **machine, started=datetime.datetime.utcnow().isoformat(timespec="seconds") + "Z",
                 load=os.getloadavg()[0])
    begin = time.monotonic()
    try:
        process = subprocess.Popen(command_of(run, causeway, launch, json_path), env=environment, text=True,
                                   errors="replace", stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                   stderr=subprocess.STDOUT, start_new_session=True, preexec_fn=end_with_parent)
    except OSError as error:
        raise Refused(f"--launch {launch}: {error}") from error
    try:
        output, code = process.communicate(timeout=timeout)[0], process.returncode
    except subprocess.TimeoutExpired:
        end_group(process)
        output, code = f"took longer than {timeout:g} s (--timeout)", 124
    except BaseException:  # a signal: the run has not ended, so nothing is kept of it
        end_group(process)
        raise
    ended.update(wall_s=time.monotonic() - begin, exit=code if code >= 0 else 128 - code, error="")
    report = None
    try:
        if ended["exit"] == 0:
            with open(json_path, encoding="utf-8") as file:
                report = json.load(file)
        else:
            ended["error"] = error_of(output)
    except (OSError, ValueError) as error:
        ended.update(exit=1, error=f"the program wrote no JSON: {error}")
    if os.path.exists(json_path):
        os.remove(json_path)
    return {"run": ended, "report": report}
