"""Reads what Causeway wrote: metrics.jsonl, HDF5 files and the JSON of `bench` and `pack --json`."""

import json
import os

from causeway_script import Refused, load


def read_metrics(path):
    """The lines of a run's steps. A line replaces earlier lines of its step and of later ones."""
    if os.path.isdir(path):
        path = os.path.join(path, "metrics.jsonl")
    lines = []
    with open(path, encoding="utf-8", errors="replace") as file:
        for text in file:
            try:
                line = json.loads(text)
            except ValueError:
                continue
            if not isinstance(line, dict) or not isinstance(line.get("step"), int):
                continue
            while lines and lines[-1]["step"] >= line["step"]:
                lines.pop()
            lines.append(line)
    if not lines:
        raise Refused(f"{path}: contains no step")
    return lines


def column(lines, *members):
    """Arrays of the members, of the lines in which all of them are finite numbers."""
    numpy = load("numpy")
    rows = [[line.get(member) for member in members] for line in lines]
    rows = [row for row in rows if all(isinstance(value, (int, float)) and numpy.isfinite(value) for value in row)]
    return [numpy.array(values, dtype=float) for values in zip(*rows)] if rows else [numpy.empty(0) for _ in members]


def open_h5(path, expected):
    """An open HDF5 file of Causeway."""
    h5py = load("h5py")
    try:
        file = h5py.File(path, "r")
    except FileNotFoundError as error:
        raise Refused(f"{path}: no such file") from error
    except OSError as error:
        raise Refused(f"{path}: {error}") from error
    found = file.attrs.get("format", "")
    found = found.decode(errors="replace") if isinstance(found, bytes) else found
    if found != expected:
        raise Refused(f"{path}: its attribute format is '{found}', expected {expected}")
    return file


def read_report(path, topic):
    with open(path, encoding="utf-8") as file:
        try:
            report = json.load(file)
        except ValueError as error:
            raise Refused(f"{path}: is not JSON: {error}") from error
    if not isinstance(report, dict) or report.get("topic") != topic or not report.get("results"):
        raise Refused(f"{path}: expected a report with topic {topic} and results")
    return report
