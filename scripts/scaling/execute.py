"""Executes one run of a sweep: starts its ranks, waits, and returns what is kept of it."""

import ctypes
import datetime
import json
import os
import platform
import shlex
import shutil
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
    folders = [os.path.join(root, "build", name) for name in (["cuda"] if device == "cuda" else ["release", "cuda"])]
    folders += [os.path.join(os.path.dirname(root), "bin")] + os.environ.get("PATH", "").split(os.pathsep)
    for path in [given] if given else [os.path.join(folder, "causeway") for folder in folders]:
        if os.path.isfile(path) and os.access(path, os.X_OK):
            return os.path.realpath(path)
    raise Refused(f"--causeway {given}: no such program" if given else
                  "no causeway in build/release, build/cuda and PATH; --causeway names it")


def output_of(*command):
    try:
        return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60).stdout
    except (OSError, subprocess.TimeoutExpired) as error:
        raise Refused(f"{command[0]}: {error}") from error


def field_of(path, name):
    """The value of a line "name: value" in a file of /proc; empty if there is none."""
    try:
        with open(path, encoding="utf-8") as file:
            for line in file:
                if line.startswith(name):
                    return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return ""


def accelerators():
    """Such as "2 × NVIDIA H200"; of the GPUs that CUDA_VISIBLE_DEVICES lets the program see."""
    if not shutil.which("nvidia-smi"):
        return ""
    names = output_of("nvidia-smi", "--query-gpu=name", "--format=csv,noheader").strip().splitlines()
    visible = [word for word in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if word.isdecimal()]
    names = [names[int(word)] for word in visible if int(word) < len(names)] if visible else names
    return ", ".join(f"{names.count(name)} × {name}" for name in dict.fromkeys(names))


def of_this_machine(causeway, device):
    """What is recorded with every run."""
    version = [line.split() for line in output_of(causeway, "--version").splitlines() if line.strip()]
    memory = field_of("/proc/meminfo", "MemTotal").split()
    return {"host": platform.node(), "cores": len(os.sched_getaffinity(0)),
            "processor": field_of("/proc/cpuinfo", "model name") or platform.machine(),
            "accelerator": accelerators() if device == "cuda" else "",
            "machine_memory": int(memory[0]) * 1024 if memory else None,
            "program": " ".join(version[0]) if version else "",
            "revision": next((words[1] for words in version if words[0] == "revision" and len(words) > 1), "")}


def busy_seconds():
    """(of all cores of this machine, of the children of this process that have ended), since their start."""
    try:
        with open("/proc/stat", encoding="utf-8") as file:
            ticks = [int(word) for word in file.readline().split()[1:]]
    except (OSError, ValueError):
        return None
    # user, nice, system, irq, softirq, steal; not idle, iowait and guest, which user contains
    busy = sum(ticks[:3]) + sum(ticks[5:8])
    children = os.times()
    return busy / os.sysconf("SC_CLK_TCK"), children.children_user + children.children_system


def used_elsewhere(before, after, seconds):
    """Cores that neither this process nor its children used between two busy_seconds(); None: not known."""
    if before is None or after is None or seconds <= 0:
        return None
    return max(0.0, (after[0] - before[0] - (after[1] - before[1])) / seconds)


def command_of(run, causeway, launch, json_path):
    words = [word.replace("{ranks}", str(run["ranks"])) for word in shlex.split(launch)]
    command = words + arguments_of(run, causeway, json_path)
    # Only for mpirun on this machine: with fewer cores than ranks, or as root, Open MPI needs these variables.
    if launch == MPIRUN and os.path.exists(MPI_ENV):
        command = ["sh", "-c", '. "$0" && exec "$@"', MPI_ENV] + command
    return command


def command_text(run, causeway, launch):
    """For the reader: the command as it can be given again."""
    threads = f"OMP_NUM_THREADS={run['threads']} " if run["threads"] else ""
    words = shlex.split(launch.replace("{ranks}", str(run["ranks"]))) + arguments_of(run, causeway, "FILE")
    return threads + shlex.join(words).replace(" --json FILE", "")


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
    ended = dict(run, **machine, started=datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ"),
                 load=os.getloadavg()[0], command=command_text(run, causeway, launch))
    begin, before = time.monotonic(), busy_seconds()
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
    if launch == MPIRUN and ended["exit"] == 0:
        ended["elsewhere"] = used_elsewhere(before, busy_seconds(), ended["wall_s"])
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
