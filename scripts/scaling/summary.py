"""What the results say: medians over repeats, speed-up and efficiency, the fastest strategy. For sweep's table and for
report."""

import re
import statistics

MEASURING = re.compile(r"--(steps \S+|padded|one-at-a-time) ?")  # options that do not change the step itself
USUAL = {"layout": "contiguous", "strategy": "auto", "shard": "optimizer"}  # what the program does unless told
SETTINGS = ("model", "layout", "strategy", "shard", "device", "dtype", "threads", "options")


def shares_cores(run):
    return run["device"] == "cpu" and run["ranks"] * max(run["threads"], 1) > run["cores"]


class Point:
    """The values of one configuration, of all its repeats."""

    def __init__(self, run, rows):
        self.run, self.rows = run, rows

    def values(self, column):
        return [row[column] for row in self.rows if row.get(column) is not None]

    def median(self, column):
        values = self.values(column)
        return statistics.median(values) if values else None

    def spread(self, column):
        """The lowest and the highest of the repeats; of one step run, of tokens_per_s, that of its steps."""
        values = self.values(column)
        row = self.rows[0]
        if column == "tokens_per_s" and len(values) == 1 and row.get("fastest_ms") and row.get("slowest_ms"):
            return tuple(values[0] * row["step_ms"] / row[name] for name in ("slowest_ms", "fastest_ms"))
        return (min(values), max(values)) if values else (None, None)


def successful_runs(results, topic):
    return {row["run"]: row for row in results.tables["runs"] if row["topic"] == topic and row["exit"] == 0}


def step_points(results):
    """A Point for every configuration of topic step, in a stable order."""
    runs, groups = successful_runs(results, "step"), {}
    for row in results.tables["steps"]:
        run = runs.get(row["run"])
        if run:
            key = tuple(run[name] for name in SETTINGS) + (run["tokens"], run["ranks"])
            groups.setdefault(key, []).append((run, row))
    return [Point(found[0][0], [row for _, row in found]) for _, found in sorted(groups.items())]


class Series:
    """Points of one model and settings over the number of ranks."""

    def __init__(self, kind, name, tokens, points):
        self.kind, self.name, self.tokens = kind, name, tokens  # tokens: of a pack (strong), of a rank (weak)
        self.points = sorted(points, key=lambda point: point.run["ranks"])

    def speed_ups(self, column="tokens_per_s"):
        """(ranks, median, lowest, highest) over the median of the fewest ranks, times these ranks: with one rank its
        speed-up is 1."""
        first = self.points[0]
        unit = first.median(column) / first.run["ranks"]
        rows = []
        for point in self.points:
            low, high = point.spread(column)
            rows.append((point.run["ranks"], point.median(column) / unit, low / unit, high / unit))
        return rows


def options_of(run):
    """["--recompute", "--lengths one"], without those that only measure."""
    return re.findall(r"--\S+(?: (?!--)\S+)*", MEASURING.sub("", run["options"] + " "))


def series_name(run, differing):
    """The model and the settings in which the runs differ and that are not the program's: see differing_settings()."""
    words = [run["model"]]
    for option in options_of(run):
        if option not in differing.get("options", options_of(run)):
            layers = re.fullmatch(r"--layers-count (\d+)", option)
            words.append(f"{layers.group(1)} layers" if layers else option.lstrip("-"))
    for name in SETTINGS[1:-1]:
        if name in differing and run[name] not in (0, "", USUAL.get(name)):
            words.append(f"shard {run[name]}" if name == "shard" else str(run[name]))
    return " ".join(word for word in words if word)


def differing_settings(points):
    """{setting: the values that all runs share} of the settings in which they differ. Only options have several values
    of which some may be shared."""
    found = {name: () for name in SETTINGS[:-1] if len({point.run[name] for point in points}) > 1}
    options = [set(options_of(point.run)) for point in points]
    if any(each != options[0] for each in options):
        found["options"] = set.intersection(*options)
    return found


def series_of(results, kind):
    """kind: strong (the pack stays the same) or weak (the tokens of a rank do). Only series of two points or more."""
    groups = {}
    for point in step_points(results):
        run = point.run
        if kind == "weak" and run["tokens"] % run["ranks"]:
            continue
        tokens = run["tokens"] if kind == "strong" else run["tokens"] // run["ranks"]
        groups.setdefault((tuple(run[name] for name in SETTINGS), tokens), []).append(point)
    groups = {key: found for key, found in sorted(groups.items()) if len(found) > 1}
    differing = differing_settings([point for found in groups.values() for point in found])
    return [Series(kind, series_name(found[0].run, differing), tokens, found)
            for (_, tokens), found in groups.items()]


def of_run(run):
    """What must be equal for times of operators to be compared."""
    layout = f", {run['layout']}" if run["layout"] not in ("", "contiguous") else ""
    return f"{run['device']} {run['dtype']}" + (f", {run['channels']} channels" if run["channels"] else "") + layout


def strategy_medians(results):
    """{(where, operator, ranks, tokens, documents): {(strategy, variant): Point}}; ms: both passes. where: of_run()."""
    runs, groups = successful_runs(results, "strategies"), {}
    for row in results.tables["strategies"]:
        run = runs.get(row["run"])
        if run:
            row = dict(row, ms=row["forward_ms"] + row["backward_ms"])
            case = (of_run(run), run["operator"], run["ranks"], run["tokens"], row["documents"])
            found = groups.setdefault(case, {}).setdefault((row["strategy"], row["variant"]), (run, []))
            found[1].append(row)
    return {case: {name: Point(run, rows) for name, (run, rows) in sorted(found.items())}
            for case, found in sorted(groups.items())}


def fastest(points):
    """((strategy, variant), ms) of the lowest median."""
    name = min(points, key=lambda each: points[each].median("ms"))
    return name, points[name].median("ms")


def text_table(header, rows):
    """Lines with columns aligned: numbers to the right."""
    cells = [header] + [[str(cell) for cell in row] for row in rows]
    widths = [max(len(line[i]) for line in cells) for i in range(len(header))]
    right = [all(not line[i] or line[i][0].isdigit() or line[i] == "-" for line in cells[1:])
             for i in range(len(header))]
    return ["  ".join(cell.rjust(width) if to_right else cell.ljust(width)
                      for cell, width, to_right in zip(line, widths, right)).rstrip() for line in cells]


def summary_lines(results):
    """The tables that sweep prints."""
    lines, points = [], step_points(results)
    if points:
        differing, rows = differing_settings(points), []
        speed_ups = {}
        for series in series_of(results, "strong"):
            for point, (ranks, median, _, _) in zip(series.points, series.speed_ups()):
                speed_ups[id(point.run)] = (f"{median:.2f}", f"{100 * median / ranks:.0f} %")
        for point in points:
            run, memory = point.run, point.median("memory_bytes")
            rows.append([series_name(run, differing), f"{run['tokens']:,}", run["ranks"], len(point.rows),
                         f"{point.median('step_ms'):,.1f}", f"{point.median('tokens_per_s'):,.0f}",
                         *speed_ups.get(id(run), ("-", "-")), f"{memory / 1e6:,.1f}"])
        lines += text_table(["training step", "tokens", "ranks", "repeats", "ms", "tokens/s", "speed-up", "efficiency",
                             "MB a rank"], rows)
    cases = strategy_medians(results)
    if cases:
        rows, several = [], len({where for where, *_ in cases}) > 1
        for (where, operator, ranks, tokens, documents), found in cases.items():
            (strategy, variant), ms = fastest(found)
            rows.append([f"{operator}, {where}" if several else operator, f"{tokens:,}", documents, ranks,
                         f"{strategy} {variant}".strip(), f"{ms:,.2f}"])
        lines += [""] * bool(lines) + text_table(["operator", "tokens", "documents", "ranks", "fastest strategy", "ms"],
                                                 rows)
    failed = [row for row in results.tables["runs"] if row["exit"] != 0]
    if failed:
        lines += ["", f"{len(failed)} runs failed; the first: {failed[0]['error']}"]
    return lines
