"""The results of a sweep: one HDF5 file, replaced as a whole, and CSV files beside it.

A finished run is first a file of its own, OUT.parts/KEY.json, which appears complete (written beside and renamed). The
HDF5 file takes up such files; a part is removed only when a file that has it is on the disk. So a kill at any moment
loses no finished run, and tasks of a job array need not lock anything.
"""

import csv
import fcntl
import json
import os

from causeway_script import Refused, load
from tables import ABOUT, FORMAT, TABLES, rows_of

VERSION = 1


def write_atomically(path, write):
    """write(temporary path); then the file is flushed to the disk and gets its name."""
    temporary = f"{path}.tmp-{os.getpid()}"
    try:
        write(temporary)
        with open(temporary, "rb") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        if os.path.exists(temporary):
            os.remove(temporary)


def write_json(path, value):
    def write(temporary):
        with open(temporary, "w", encoding="utf-8") as file:
            json.dump(value, file)
    write_atomically(path, write)


def parts_folder(path):
    return path + ".parts"


def lock(path):
    """Makes the folder of parts and holds it until this process ends: two sweeps must not replace one file."""
    os.makedirs(parts_folder(path), exist_ok=True)
    descriptor = os.open(parts_folder(path), os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        os.close(descriptor)
        raise Refused(f"{path}: another sweep writes it") from error
    return descriptor


def column_type(kind):
    return {"i": "<i8", "f": "<f8"}.get(kind)


class Results:
    """Rows of every table, in memory; a row is a dictionary."""

    def __init__(self, path):
        self.path, self.seed, self.commands = path, None, []
        self.tables = {name: [] for name in TABLES}

    def keys(self, failed=True):
        """Of the runs that have ended; failed=False: only of those that succeeded."""
        return {row["run"] for row in self.tables["runs"] if failed or row["exit"] == 0}

    def add(self, part):
        """Takes up a run: {"run": …, "report": the JSON of bench, or null}. Replaces an earlier one with this key."""
        key = part["run"]["key"]
        if key in self.keys():
            for name in TABLES:
                self.tables[name] = [row for row in self.tables[name] if row["run"] != key]
        for name, rows in rows_of(part).items():
            self.tables[name] += rows

    def on(self, device):
        """The results of the runs on this device, to be read and not written."""
        part = Results(self.path)
        part.seed = self.seed
        keys = {row["run"] for row in self.tables["runs"] if row["device"] == device}
        part.tables = {name: [row for row in rows if row["run"] in keys] for name, rows in self.tables.items()}
        return part

    def record(self, command):
        """The command of a sweep, once, however often it was resumed."""
        if command not in self.commands:
            self.commands.append(command)

    def take(self, other):
        """Takes up the runs of another file that this one does not have, or has only as failed. Returns how many."""
        have = self.keys(failed=False)
        new = {row["run"] for row in other.tables["runs"]} - have
        if not other.keys() & new:
            return 0
        failed = new & self.keys()
        for name in TABLES:
            self.tables[name] = [row for row in self.tables[name] if row["run"] not in failed]
            self.tables[name] += [row for row in other.tables[name] if row["run"] in new]
        for command in other.commands:
            self.record(command)
        return len(new)

    def write(self):
        h5py, numpy = load("h5py"), load("numpy")

        def write(temporary):
            with h5py.File(temporary, "w", libver=("earliest", "v110")) as file:
                file.attrs["format"], file.attrs["version"], file.attrs["about"] = FORMAT, VERSION, ABOUT
                file.attrs["seed"] = self.seed
                file.attrs["commands"] = numpy.array(self.commands, dtype=h5py.string_dtype())
                file.attrs["seed meaning"] = "of the random order of the runs (Python's random.Random)"
                for name, (about, columns) in TABLES.items():
                    rows, types = self.tables[name], []
                    for column, (kind, _, _) in columns.items():
                        if kind == "s":
                            longest = max([1] + [len(str(row.get(column) or "").encode()) for row in rows])
                            types.append((column, h5py.string_dtype("utf-8", longest)))
                        else:
                            types.append((column, column_type(kind)))
                    values = numpy.zeros(len(rows), dtype=types)
                    for column, (kind, _, _) in columns.items():
                        default = {"s": "", "i": 0, "f": float("nan")}[kind]
                        found = [row.get(column) for row in rows]
                        found = [default if value is None else value for value in found]
                        values[column] = [str(value).encode() for value in found] if kind == "s" else found
                    table = file.create_dataset(name, data=values, maxshape=(None,), chunks=(max(64, len(rows)),),
                                                fletcher32=True, compression="gzip")
                    table.attrs["meaning"] = about
                    for column, (_, unit, meaning) in columns.items():
                        table.attrs[f"{column} unit"], table.attrs[f"{column} meaning"] = unit, meaning
        write_atomically(self.path, write)

    def write_csv(self):
        """OUT-TABLE.csv: the rows of every result together with the configuration of their run."""
        configuration = {row["run"]: row for row in self.tables["runs"]}
        stem = self.path[:-3] if self.path.endswith(".h5") else self.path
        for name, (_, columns) in TABLES.items():
            if name != "runs" and not self.tables[name]:
                continue
            own = [column for column in columns if column != "run"]
            shared = [] if name == "runs" else [column for column in TABLES["runs"][1] if column not in columns]

            def write(temporary):
                with open(temporary, "w", encoding="utf-8", newline="") as file:
                    writer = csv.writer(file, lineterminator="\n")
                    writer.writerow(["run"] + shared + own)
                    for row in self.tables[name]:
                        of = configuration.get(row["run"], {})
                        writer.writerow([row["run"]] + [of.get(column) for column in shared]
                                        + [row.get(column) for column in own])
            write_atomically(f"{stem}-{name}.csv", write)


def read_results(path):
    """The results in a file. A file that is damaged, or of another kind, is refused by name."""
    h5py = load("h5py")
    results = Results(path)
    try:
        with h5py.File(path, "r") as file:
            found = str(file.attrs.get("format", ""))
            if found != FORMAT:
                raise Refused(f"{path}: its attribute format is '{found}', expected {FORMAT}")
            if int(file.attrs["version"]) > VERSION:
                raise Refused(f"{path}: its version is {file.attrs['version']}, this program reads {VERSION}")
            results.seed = int(file.attrs["seed"])
            results.commands = [command if isinstance(command, str) else command.decode()
                                for command in file.attrs.get("commands", [])]
            for name in TABLES:
                values = file[name][...] if name in file else []
                for value in values:
                    row = {column: value[column].decode() if isinstance(value[column], bytes) else value[column].item()
                           for column in (values.dtype.names or ())}
                    results.tables[name].append({column: None if cell != cell else cell  # NaN
                                                 for column, cell in row.items()})
    except FileNotFoundError as error:
        raise Refused(f"{path}: no such file") from error
    except (OSError, KeyError, ValueError, TypeError, UnicodeDecodeError) as error:
        raise Refused(f"{path}: is damaged, or is no HDF5 file ({error}). Move it away to start again") from error
    return results


def open_results(path):
    """The results in the file if there is one, and those of the parts beside it."""
    results = read_results(path) if os.path.exists(path) else Results(path)
    return results, take_parts(results)


def take_parts(results):
    """Adds the finished runs beside the file and returns their paths. Does not write."""
    folder, taken = parts_folder(results.path), []
    for name in sorted(os.listdir(folder)) if os.path.isdir(folder) else []:
        part = os.path.join(folder, name)
        if not name.endswith(".json") or name.startswith("plan-"):
            continue
        try:
            with open(part, encoding="utf-8") as file:
                results.add(json.load(file))
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise Refused(f"{part}: is damaged ({error!r}). Remove it to run its configuration again") from error
        taken.append(part)
    return taken


def save(results, parts):
    """Writes the file, then removes the parts that it now has."""
    results.write()
    for part in parts:
        os.remove(part)
    parts.clear()
