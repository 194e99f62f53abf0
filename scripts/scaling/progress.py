"""Progress of a sweep on standard error: a table and a bar that are redrawn on a terminal, plain lines in a log."""

import shutil
import sys
import time

SAVE_EVERY_S = 10
TABLE_EVERY_S = 300  # in a log


def duration(seconds):
    minutes, seconds = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"


class Progress:
    def __init__(self, total):
        self.total, self.done, self.begun, self.lines = total, 0, time.monotonic(), 0
        self.terminal = sys.stderr.isatty()
        self.saved = self.printed = time.monotonic()
        self.label, self.table = "", []

    def begin(self, label):
        self.label = label
        if self.terminal:
            self.draw()

    def end(self, ended, summary):
        """Shows that a run has ended. Returns whether it is time to save."""
        self.done += 1
        run, now = ended["run"], time.monotonic()
        if self.terminal:
            self.table = summary()
            self.draw()
        else:
            outcome = self.figures(ended) if run["exit"] == 0 else f"FAILED with {run['exit']}: {run['error']}"
            print(f"sweep: {self.done}/{self.total} {self.left()}: {self.label}: {outcome}", file=sys.stderr,
                  flush=True)
            if now - self.printed > TABLE_EVERY_S:
                print("\n".join(summary()), file=sys.stderr, flush=True)
                self.printed = now
        due = now - self.saved > SAVE_EVERY_S
        if due:
            self.saved = now
        return due

    @staticmethod
    def figures(ended):
        report, run = ended["report"], ended["run"]
        if run["topic"] == "step":
            return f"{report['step_ms']:,.1f} ms, {report['tokens_per_s']:,.0f} tokens/s ({run['wall_s']:.1f} s)"
        return f"{len(report['results'])} rows ({run['wall_s']:.1f} s)"

    def left(self):
        if self.done == 0:
            return ""
        return duration((time.monotonic() - self.begun) / self.done * (self.total - self.done)) + " left"

    def draw(self):
        columns, rows = shutil.get_terminal_size()
        width = max(10, min(40, columns - 50))
        filled = width * self.done // max(self.total, 1)
        lines = self.table[:max(0, rows - 3)]
        lines = lines + [f"[{'#' * filled}{'.' * (width - filled)}] {self.done}/{self.total} {self.left()}", self.label]
        # Back to the first line of what was drawn, and erase to the end of the screen.
        back = f"\x1b[{self.lines}F\x1b[J" if self.lines else ""
        print(back + "\n".join(line[:columns - 1] for line in lines), file=sys.stderr, flush=True)
        self.lines = len(lines)
