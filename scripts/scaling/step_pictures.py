"""Pictures of training steps: speed-up, efficiency, where the time goes, memory, packing."""

import textwrap

from picture import COLOURS, HATCHES, HEIGHT, INK, PAPER, WIDTH, Picture, pyplot, style
from summary import differing_settings, series_name, series_of, step_points

WAYS = (("packed", "tokens_per_s"), ("padded", "padded_tokens_per_s"),
        ("one at a time", "one_at_a_time_tokens_per_s"))
BARS = "bars span all repeats, or all steps of a single run"
WITHOUT = "The file has no runs for this picture: "


def short(tokens):
    """4K, 1M; numbers that are no multiple as they are."""
    for unit, size in (("M", 1 << 20), ("K", 1 << 10)):
        if tokens >= size and tokens % size == 0:
            return f"{tokens // size}{unit}"
    return f"{tokens:,}"


def label_of(series):
    return f"{series.name}, {short(series.tokens)} tokens a {'pack' if series.kind == 'strong' else 'rank'}"


def rank_axis(axes, ranks):
    axes.set_xscale("log", base=2)
    axes.set_xticks(sorted(ranks), [str(n) for n in sorted(ranks)])
    axes.minorticks_off()
    axes.set_xlabel("ranks")


def core_line(axes, results, ranks):
    """Where ranks begin to share cores: only on a CPU, and only if the sweep goes there."""
    cores = {run["cores"] // max(run["threads"], 1) for run in results.tables["runs"] if run["device"] == "cpu"}
    if len(cores) == 1 and min(ranks) <= min(cores) < max(ranks):
        core = cores.pop()
        axes.axvline(core, color=INK, linewidth=0.9, linestyle=(0, (1, 2)))
        axes.annotate(f"{core} cores: beyond,\nranks share them", (core, 0.02), xycoords=("data", "axes fraction"),
                      xytext=(4, 0), textcoords="offset points", fontsize=8, va="bottom")


def wrapped(text, most):
    """The text in lines of at most `most` characters: a picture as wide as a phone has no room for longer ones."""
    return "\n".join(textwrap.wrap(text, most))


def legend_below(axes, **settings):
    """Below the label of the x axis, however high the figure is."""
    height = max(axes.figure.get_figheight() - 1.4, 0.6)  # about that of the axes
    legend = axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.44 / height), **settings)
    for text in legend.get_texts():
        text.set_text(wrapped(text.get_text(), 44))


def figure_height(series):
    """Inches of a picture of curves whose legend has a line, or two, for each."""
    return HEIGHT + 0.2 * sum(wrapped(label_of(each), 44).count("\n") + 1 for each in series)


def row_label(point, differing):
    """Two lines or more, for the vertical axis of bars."""
    run = point.run
    ranks = f"{short(run['tokens'])}, {run['ranks']} rank{'s' * (run['ranks'] > 1)}"
    return f"{wrapped(series_name(run, differing), 26)}\n{ranks}"


def spread_text(median, low, high, form):
    return f"{median:{form}} ({low:{form}} to {high:{form}})"


def speed_up_picture(results):
    name, title = "speed-up", "Strong scaling: speed-up"
    found = series_of(results, "strong")
    if not found:
        return Picture(name, title, WITHOUT + "steps of one pack on two numbers of ranks or more.")
    plt = pyplot()
    figure, axes = plt.subplots(figsize=(WIDTH, figure_height(found)))
    ranks = sorted({point.run["ranks"] for series in found for point in series.points})
    axes.plot(ranks, ranks, color=INK, linewidth=1, linestyle=(0, (6, 3)), label="ideal")
    rows, words = [], []
    for index, series in enumerate(found):
        points = series.speed_ups()
        n, median = [row[0] for row in points], [row[1] for row in points]
        axes.errorbar(n, median, yerr=[[m - low for _, m, low, _ in points], [high - m for _, m, _, high in points]],
                      capsize=3, label=label_of(series), **style(index))
        for point, (count, m, low, high) in zip(series.points, points):
            rows.append([label_of(series), count, len(point.rows), f"{point.median('tokens_per_s'):,.0f}",
                         spread_text(m, low, high, ".2f")])
        words.append(f"{label_of(series)}: " + ", ".join(f"{m:.2f} on {count}" for count, m, _, _ in points))
    rank_axis(axes, ranks)
    axes.set_yscale("log", base=2)
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
    axes.minorticks_off()
    axes.set_ylabel("speed-up over the fewest ranks")
    core_line(axes, results, ranks)
    legend_below(axes)
    return Picture(name, title, "Tokens per second over those of the fewest ranks; the pack stays the same. Both axes "
                   f"are logarithmic; {BARS}.", figure,
                   "Speed-up over the number of ranks, with the ideal line. " + "; ".join(words) + ".",
                   ["series", "ranks", "repeats", "tokens/s", "speed-up (lowest to highest)"], rows)


def efficiency_picture(results, kind):
    name, title = f"efficiency-{kind}", f"{kind.capitalize()} scaling: efficiency"
    found = series_of(results, kind)
    if not found:
        return Picture(name, title, WITHOUT + f"a series of {kind} scaling (sweep --scaling {kind}).")
    plt = pyplot()
    figure, axes = plt.subplots(figsize=(WIDTH, figure_height(found)))
    ranks = sorted({point.run["ranks"] for series in found for point in series.points})
    axes.axhline(100, color=INK, linewidth=1, linestyle=(0, (6, 3)), label="ideal")
    rows, words = [], []
    for index, series in enumerate(found):
        points = [(n, *(100 * value / n for value in values)) for n, *values in series.speed_ups()]
        axes.errorbar([row[0] for row in points], [row[1] for row in points], capsize=3, label=label_of(series),
                      yerr=[[m - low for _, m, low, _ in points], [high - m for _, m, _, high in points]],
                      **style(index))
        rows += [[label_of(series), n, spread_text(m, low, high, ".0f") + " %"] for n, m, low, high in points]
        words.append(f"{label_of(series)}: " + ", ".join(f"{m:.0f} % on {n}" for n, m, _, _ in points))
    rank_axis(axes, ranks)
    axes.set_ylim(bottom=0)
    axes.set_ylabel("efficiency (%)")
    core_line(axes, results, ranks)
    legend_below(axes)
    how = "the pack stays the same" if kind == "strong" else "the pack grows with the ranks"
    return Picture(name, title, f"Tokens per second a rank over those of the fewest ranks; {how}; "
                   f"{BARS}.", figure,
                   f"Efficiency over the number of ranks, {kind} scaling. " + "; ".join(words) + ".",
                   ["series", "ranks", "efficiency (lowest to highest)"], rows)


def time_picture(results, most=16):
    name, title = "time", "Where the time of a step goes"
    points = [point for point in step_points(results) if point.median("exposed_ms") is not None
              and point.median("padded_tokens_per_s") is None]
    differing = differing_settings(points)
    if not points:
        return Picture(name, title, WITHOUT + "steps with exposed_ms, which causeway prints since 0.2.")
    left_out = max(0, len(points) - most)
    plt = pyplot()
    shown = points[:most]
    lines = max(row_label(point, differing).count("\n") + 1 for point in shown)
    figure, axes = plt.subplots(figsize=(WIDTH, 2.0 + 0.18 * lines * len(shown)))
    labels, rows, words = [], [], []
    for point in points:
        run = point.run
        step, exposed, hidden = (point.median(column) for column in ("step_ms", "exposed_ms", "hidden_ms"))
        exposed = min(exposed, step)
        hidden = min(hidden, step - exposed)
        label = f"{series_name(run, differing)} {short(run['tokens'])}, {run['ranks']} rank{'s' * (run['ranks'] > 1)}"
        labels.append(row_label(point, differing))
        rows.append([label, f"{step:,.2f}", f"{step - exposed:,.2f}", f"{exposed:,.2f}", f"{hidden:,.3f}"])
        words.append(f"{label}: {100 * exposed / step:.0f} % exposed")
    for index, row in enumerate(rows[:most]):
        step, compute, exposed, hidden = (float(value.replace(",", "")) for value in row[1:])
        parts = ((compute - hidden, COLOURS[5], "", "compute"),
                 (hidden, COLOURS[4], "xxxx", "compute, communication hidden behind it"),
                 (exposed, COLOURS[1], "////", "exposed communication"))
        left = 0
        for width, colour, hatch, what in parts:
            axes.barh(index, 100 * width / step, left=left, color=colour, hatch=hatch, edgecolor=PAPER, linewidth=0.5,
                      label=what if index == 0 else None)
            left += 100 * width / step
    axes.set_yticks(range(len(shown)), labels[:most], fontsize=8)
    axes.set_ylim(len(shown) - 0.4, -0.6)
    axes.set_xlim(0, 100)
    axes.set_xlabel("share of the step (%)")
    axes.grid(axis="y", visible=False)
    legend_below(axes)
    caption = ("Compute is the step without what ranks waited for. Hidden communication was under way while ranks "
               "computed. Means over ranks and steps, median of the repeats.")
    caption += f" {left_out} further rows are only in the table." if left_out else ""
    return Picture(name, title, caption, figure, "Stacked bars, one a configuration. " + "; ".join(words[:most]) + ".",
                   ["configuration", "step (ms)", "compute (ms)", "exposed (ms)", "of compute, with hidden (ms)"], rows)


def memory_picture(results):
    name, title = "memory", "Memory of a rank"
    found = series_of(results, "strong")
    if not found:
        return Picture(name, title, WITHOUT + "steps of one pack on two numbers of ranks or more.")
    plt = pyplot()
    from matplotlib.ticker import LogLocator, NullFormatter
    figure, axes = plt.subplots(figsize=(WIDTH, figure_height(found)))
    ranks, rows, words = sorted({p.run["ranks"] for series in found for p in series.points}), [], []
    largest = max(point.median("memory_bytes") for series in found for point in series.points)
    unit, name_of_unit = (1e9, "GB") if largest > 2e9 else (1e6, "MB")
    for index, series in enumerate(found):
        n = [point.run["ranks"] for point in series.points]
        size = [point.median("memory_bytes") / unit for point in series.points]
        look = style(index)
        axes.plot(n, size, label=label_of(series), **look)
        axes.plot(n, [size[0] * n[0] / each for each in n], color=look["color"], linewidth=0.8,
                  linestyle=(0, (6, 3)), label="ideal: divided by the ranks" if index == 0 else None)
        rows += [[label_of(series), each, f"{value:,.2f}", f"{value / size[0]:.3f}"]
                 for each, value in zip(n, size)]
        words.append(f"{label_of(series)}: "
                     + ", ".join(f"{value:,.1f} {name_of_unit} on {each}" for each, value in zip(n, size)))
    rank_axis(axes, ranks)
    axes.set_yscale("log")
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 3, 5)))
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:,.4g}")
    axes.yaxis.set_minor_formatter(NullFormatter())
    axes.set_ylabel(f"memory of a rank ({name_of_unit})")
    legend_below(axes)
    return Picture(name, title, "Peak memory of tensors, of the rank with the most. Thin dashes: that of the fewest "
                   "ranks, divided by the ranks.", figure, "Memory of a rank over the ranks. " + "; ".join(words) + ".",
                   ["series", "ranks", name_of_unit, "of the fewest ranks'"], rows)


def packing_picture(results):
    name, title = "packing", "Packed documents against padded ones"
    points = [point for point in step_points(results) if point.median("padded_tokens_per_s") is not None
              or point.median("one_at_a_time_tokens_per_s") is not None]
    if not points:
        return Picture(name, title, WITHOUT + "steps with sweep --bench='--padded --one-at-a-time'.")
    plt, differing = pyplot(), differing_settings(points)
    figure, axes = plt.subplots(figsize=(WIDTH, 2.1 + 0.7 * len(points)))
    rows, words, labels = [], [], []
    for index, point in enumerate(points):
        labels.append(row_label(point, differing))
        values = [point.median(column) for _, column in WAYS]
        places, tokens = point.median("padded_places"), point.median("document_tokens")
        padding = f"{100 * (1 - tokens / places):.1f} %" if places else "-"
        for which, ((what, _), value) in enumerate(zip(WAYS, values)):
            if value is not None:
                axes.barh(index + 0.25 * (which - 1), value, height=0.23, color=COLOURS[which], hatch=HATCHES[which],
                          edgecolor=PAPER, linewidth=0.5, label=what if index == 0 else None)
        rows.append([labels[-1].replace("\n", " "), f"{100 * (1 - point.median('fill')):.1f} %", padding]
                    + ["-" if value is None else f"{value:,.0f}" for value in values])
        words.append(f"{rows[-1][0]}: " + ", ".join(f"{what} {value:,.0f} tokens/s" for (what, _), value
                                                    in zip(WAYS, values) if value is not None))
    axes.set_yticks(range(len(points)), labels, fontsize=8)
    axes.set_ylim(len(points) - 0.5, -0.5)
    axes.xaxis.set_major_locator(plt.MaxNLocator(4))
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
    axes.set_xlabel("tokens of documents per second")
    axes.grid(axis="y", visible=False)
    legend_below(axes, ncol=3)
    return Picture(name, title, "The same documents: as one pack; padded to the longest; one a pass.", figure,
                   "Bars of tokens per second. " + "; ".join(words) + ".",
                   ["configuration", "padding, packed", "padding, padded", *(what + " (tokens/s)" for what, _ in WAYS)],
                   rows)
