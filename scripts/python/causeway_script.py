"""What Causeway's Python scripts share: exit codes, missing packages, a line of progress."""

import argparse
import importlib
import os
import signal
import sys
import sysconfig
import time

LARGEST_VOCABULARY = 1 << 31  # as causeway_dataset, which imports nothing of Causeway, has it


class Refused(Exception):
    """A wrong input or option; the message names it. The script ends with 2."""


def how_to_install(package):
    """The command. Where the system's Python belongs to the distribution (PEP 668: Debian, Ubuntu), pip refuses it
    outside a virtual environment."""
    command = f"{sys.executable} -m pip install {package}"
    managed = os.path.exists(os.path.join(sysconfig.get_path("stdlib"), "EXTERNALLY-MANAGED"))
    if not managed or sys.prefix != sys.base_prefix:
        return command
    return (f"{command}; if pip refuses that: python3 -m venv venv && venv/bin/pip install {package}, then run "
            f"venv/bin/python {sys.argv[0]}")


def load(module, package=None):
    """Imports a module, or says how to install its package."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        package = package or module.split(".")[0]
        raise Refused(f"the Python package {package} is missing: {how_to_install(package)}") from error


def open_start(path):
    """The file, opened to read bytes, and its first bytes, which are still to be read: a pipe is opened only once."""
    file = open(path, "rb")
    return file, file.peek(6)[:6]


def vocabulary_size(text):
    """The value of --vocabulary, for argparse."""
    if not text.isdigit() or not 1 <= int(text) <= LARGEST_VOCABULARY:
        raise argparse.ArgumentTypeError(f"found '{text}', expected 1 to {LARGEST_VOCABULARY}")
    return int(text)


def run(name, main):
    """Ends the program with main()'s result: 0, 2 for a wrong input or option, 74 for a file that cannot be read or
    written."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # so that temporary files are removed
    try:
        main()
    except (FileNotFoundError, FileExistsError, IsADirectoryError) as error:
        sys.exit(_say(name, f"{error.filename}: {error.strerror}" if error.filename else error, 2))
    except Refused as error:
        sys.exit(_say(name, error, 2))
    except OSError as error:
        sys.exit(_say(name, error, 74))
    except KeyboardInterrupt:
        sys.exit(128 + signal.SIGINT)


def _say(name, message, code):
    print(f"{name}: {message}", file=sys.stderr)
    return code


class Progress:
    """Prints documents and tokens so far, once in two seconds, if a person watches."""

    def __init__(self, data):
        self.data, self.next = data, time.monotonic() + 2

    def update(self):
        if sys.stderr.isatty() and time.monotonic() >= self.next:
            print(f"\r{self.data.documents:,} documents, {self.data.token_count:,} tokens", end="\r", file=sys.stderr)
            self.next = time.monotonic() + 2


def source_text(files):
    """A dataset's attribute `source`: the names of the first files."""
    return " ".join(files[:16]) + (f" and {len(files) - 16} more" if len(files) > 16 else "")


def report(path, data, empty):
    print(f"{path}: {data.documents:,} documents, {empty:,} of them empty, {data.token_count:,} tokens of a vocabulary "
          f"of {data.vocabulary_size:,}", file=sys.stderr)
