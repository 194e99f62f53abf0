"""The picture that says what Causeway is for: packs without padding; one sequence on several ranks, faster, and with
less memory a rank. For a wide page; the other pictures show the same one by one."""

from picture import COLOURS, HATCHES, INK, PAPER, Picture, pyplot, style
from step_pictures import WAYS, WITHOUT, short, wrapped
from summary import series_of, shares_cores, step_points

MOST = 3  # series


def best_device(results):
    """The device whose figures are shown: a GPU where several were measured, else the CPU."""
    for device in ("cuda", "cpu"):
        part = results.on(device)
        if series_of(part, "strong"):
            return part
    return results.on("cpu")


def machine_of(results):
    runs = [row for row in results.tables["runs"] if row["exit"] == 0]
    accelerators = {row["accelerator"].split(" × ")[-1] for row in runs if row.get("accelerator")}
    return ", ".join(sorted(accelerators or {row["processor"] for row in runs}))


def packing_panel(axes, point):
    """One bar a way; relative to the packed one."""
    values = [(what, point.median(column)) for what, column in WAYS]
    values = [(what, value) for what, value in values if value]
    for index, (what, value) in enumerate(values):
        axes.barh(index, value, height=0.6, color=COLOURS[index], hatch=HATCHES[index], edgecolor=PAPER, linewidth=0.5)
        axes.text(0.03 * values[0][1], index, f"{value:,.0f}", va="center", fontsize=9, color=INK,
                  bbox={"facecolor": PAPER, "edgecolor": "none", "pad": 1.5, "alpha": 0.9})
    axes.set_yticks(range(len(values)), [what for what, _ in values])
    axes.set_ylim(len(values) - 0.5, -0.5)
    axes.grid(axis="y", visible=False)
    axes.xaxis.set_major_locator(pyplot().MaxNLocator(3))
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
    axes.set_xlabel(f"tokens/s, {point.run['model']}, packs of {short(point.run['tokens'])}", fontsize=9)
    axes.set_title("Packing", fontsize=10, loc="left")
    return "; ".join(f"{what} {value:,.0f} tokens/s" for what, value in values)


def label_of(series):
    return f"{series.name}, {short(series.tokens)}"


def ratio_panel(axes, found, rows_of, ideal, title, what, label):
    """Medians over the ranks (`what`), relative to the fewest ranks. rows_of(series): (ranks, value)."""
    from matplotlib.ticker import NullLocator
    ranks = sorted({n for series in found for n, _ in rows_of(series)})
    axes.plot(ranks, [ideal(n / ranks[0]) for n in ranks], color=INK, linewidth=1, linestyle=(0, (6, 3)), label="ideal")
    words = []
    for index, series in enumerate(found):
        rows = rows_of(series)
        axes.plot([n for n, _ in rows], [value for _, value in rows], label=label_of(series), **style(index))
        words.append(f"{label_of(series)}: " + ", ".join(f"{value:.2f} on {n}" for n, value in rows))
    for axis, set_scale in ((axes.xaxis, axes.set_xscale), (axes.yaxis, axes.set_yscale)):
        set_scale("log", base=2)
        axis.set_major_formatter(lambda value, _: f"{value:g}")
        axis.set_minor_locator(NullLocator())
    axes.set_xticks(ranks, [str(n) for n in ranks])
    axes.set_xlabel(what, fontsize=9)
    axes.set_ylabel(f"{label}, relative to {ranks[0]} {what[:-1] if ranks[0] == 1 else what}", fontsize=9)
    axes.set_title(title, fontsize=10, loc="left")
    return "; ".join(words)


def speed_up_rows(series):
    """Without the points at which ranks share cores: they cannot show more speed."""
    return [(ranks, median) for point, (ranks, median, _, _) in zip(series.points, series.speed_ups())
            if not shares_cores(point.run)]


def memory_rows(series):
    first = series.points[0].median("memory_bytes")
    return [(point.run["ranks"], point.median("memory_bytes") / first) for point in series.points]


def overview_picture(results):
    name, title = "overview", "What Causeway is for"
    part = best_device(results)
    found = [series for series in series_of(part, "strong") if speed_up_rows(series)
             and series.points[0].run["layout"] in ("", "contiguous")
             and series.points[0].run["shard"] in ("", "optimizer")][:MOST]
    packed = [point for point in step_points(part) if point.median("padded_tokens_per_s")]
    if not found:
        return Picture(name, title, WITHOUT + "steps of one pack on two numbers of ranks or more.")
    plt = pyplot()
    figure, panels = plt.subplots(1, 3 if packed else 2, figsize=(9.2, 3.4))
    panels, words, rows = list(panels), [], []
    if packed:
        words.append("Packing: " + packing_panel(panels.pop(0), packed[0]))
    what = "GPUs" if part.tables["runs"][0]["device"] == "cuda" else "ranks"
    words.append("Speed-up: " + ratio_panel(panels[0], found, speed_up_rows, lambda n: n, "Speed of one sequence", what,
                                            "tokens/s"))
    words.append("Memory: " + ratio_panel(panels[1], found, memory_rows, lambda n: 1 / n, "Memory of a rank", what,
                                          "memory"))
    for text in panels[1].legend(loc="lower left", fontsize=7).get_texts():
        text.set_text(wrapped(text.get_text(), 20))
    for series in found:
        speed_ups = dict(speed_up_rows(series))
        for ranks, memory in memory_rows(series):
            speed = f"{speed_ups[ranks]:.2f}" if ranks in speed_ups else "-"
            rows.append([label_of(series), ranks, speed, f"{memory:.3f}"])
    picture = Picture(name, title, f"Whole training steps on {machine_of(part)}. Medians; both axes of the curves are "
                      "logarithmic. Spread and tables are in the pictures below.", figure, ". ".join(words) + ".",
                      ["series", "ranks", "speed-up", "memory over that of the fewest"], rows)
    picture.wide = True
    return picture
