"""Pictures of operators: bytes against formula, which strategy is fastest where, roofline, share of the ceiling."""

from formula import bytes_sent
from picture import COLOURS, HATCHES, HEIGHT, INK, MARKERS, PAPER, WIDTH, Picture, pyplot
from step_pictures import WITHOUT, legend_below, short
from summary import Point, fastest, of_run, shares_cores, strategy_medians, successful_runs


def bytes_picture(results):
    name, title = "bytes", "Bytes sent: measured against the formula"
    found = []
    for (_, operator, ranks, tokens, documents), cases in strategy_medians(results).items():
        for (strategy, variant), point in cases.items():
            run = point.run
            if run["layout"] not in ("", "contiguous"):
                continue
            expected = bytes_sent(operator, strategy, variant, ranks, tokens, run["channels"], run["dtype"])
            if documents == 1 and expected is not None:
                found.append((operator, strategy, variant, ranks, tokens, expected, point.median("bytes_sent")))
    if not found:
        return Picture(name, title, WITHOUT + "strategies of an operator (sweep --topics strategies).")
    plt = pyplot()
    figure, axes = plt.subplots(figsize=(WIDTH, HEIGHT + 0.3))
    operators = list(dict.fromkeys(row[0] for row in found))
    ends = [min(row[5] for row in found) / 2, max(row[5] for row in found) * 2]
    axes.plot(ends, ends, color=INK, linewidth=1, linestyle=(0, (6, 3)), label="formula")
    for index, operator in enumerate(operators):
        rows = [row for row in found if row[0] == operator]
        axes.plot([row[5] for row in rows], [row[6] for row in rows], linestyle="none", label=operator, markersize=6,
                  marker=MARKERS[index % len(MARKERS)], color=COLOURS[index % len(COLOURS)], fillstyle="none",
                  markeredgewidth=1.5)
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.minorticks_off()
    axes.set_xlabel("bytes by the formula")
    axes.set_ylabel("bytes measured")
    legend_below(axes, ncol=2)
    equal = sum(row[5] == row[6] for row in found)
    return Picture(name, title, f"Both passes of an operator on one document, of the rank that sends most: {equal} of "
                   f"{len(found)} are equal. The formulas are those of parallel/strategies/README.md.", figure,
                   f"Measured bytes over bytes by the formula, logarithmic: {equal} of {len(found)} points are on the "
                   "diagonal.",
                   ["operator", "strategy", "ranks", "tokens", "formula (bytes)", "measured (bytes)", "ratio"],
                   [[operator, f"{strategy} {variant}".strip(), ranks, f"{tokens:,}", f"{expected:,}",
                     f"{measured:,.0f}", f"{measured / expected:.4g}"]
                    for operator, strategy, variant, ranks, tokens, expected, measured in found])


def crossover_pictures(results):
    cases = strategy_medians(results)
    if not cases:
        return [Picture("crossover", "Which strategy is fastest",
                        WITHOUT + "strategies of an operator (sweep --topics strategies).")]
    # A pack of several documents has another number of them at every length: "one" and "several" are two maps.
    maps = {}
    for (where, operator, ranks, tokens, documents), points in cases.items():
        maps.setdefault((where, operator), {}).setdefault(documents > 1, {})[(ranks, tokens)] = points
    return [crossover_picture(*key, found) for key, found in sorted(maps.items())]


def slug(where):
    """For names of files: nothing for the type that a CPU has by default, and for contiguous shards."""
    words = where.split(", ")
    kind = "" if words[0] == "cpu f32" else "-" + words[0].replace(" ", "-")
    return kind + "".join(f"-{word}" for word in words[1:] if word == "zigzag")


def without_device(where):
    """For titles: the section of the page says it."""
    return where.split(" ", 1)[1]


def choice_of_auto(points):
    """The strategy that --strategy auto takes by its estimates; None where the program printed none."""
    estimates = {key: point.median("estimate_ms") for key, point in points.items()}
    estimates = {key: value for key, value in estimates.items() if value is not None}
    return min(estimates, key=estimates.get) if estimates else None


def crossover_picture(where, operator, maps):
    channels = next(iter(next(iter(maps[min(maps)].values())).values())).run["channels"]
    plt = pyplot()
    strategies = sorted({strategy for cells in maps.values() for points in cells.values() for strategy, _ in points})
    heights = [len({tokens for _, tokens in cells}) for _, cells in sorted(maps.items())]
    figure, all_axes = plt.subplots(len(maps), 1, squeeze=False, height_ratios=heights,
                                    figsize=(WIDTH, 0.6 + 0.9 * len(maps) + 0.55 * sum(heights)))
    rows, words, lost = [], [], []
    for axes, (several, cells) in zip(all_axes[:, 0], sorted(maps.items())):
        crossover_map(axes, cells, strategies)
        documents = "documents of about 646 tokens" if several else "one document"
        axes.set_title(documents, fontsize=9, loc="left")
        for (n, tokens), points in sorted(cells.items()):
            best, ms = fastest(points)
            chosen = choice_of_auto(points)
            if chosen and not shares_cores(points[chosen].run):  # else times are those of the system's scheduler
                lost.append(points[chosen].median("ms") / ms)
            for each, point in points.items():
                low, high = point.spread("ms")
                note = " and ".join(["fastest"] * (each == best) + ["choice of auto"] * (each == chosen))
                rows.append([documents, n, f"{tokens:,}", " ".join(each).strip(), f"{point.median('ms'):.3f}",
                             f"{low:.3f} to {high:.3f}", f"{point.median('estimate_ms') or float('nan'):.3f}", note])
            words.append(f"{documents}, {short(tokens)} tokens on {n}: {' '.join(best)}".strip())
    all_axes[-1, 0].set_xlabel("ranks")
    shared = len(lost) < sum(len(cells) for cells in maps.values())
    caption = ("Forward and backward pass, median of the repeats; of each strategy its fastest variant. Differences "
               "below the spread of the repeats (in the table) mean nothing.")
    if lost:
        close, where_cores = sum(each <= 1.03 for each in lost), " in which no ranks share cores" if shared else ""
        caption += (f" --strategy auto takes the fastest, or one within 3\u00a0%, in {close} of {len(lost)} "
                    f"cells{where_cores}; at worst its choice takes {max(lost):.2f} times as long.")
    return Picture(f"crossover-{operator}{slug(where)}-{channels}",
                   f"Fastest strategy: {operator} ({without_device(where)})", caption, figure,
                   "Map of the fastest strategy. " + "; ".join(words) + ".",
                   ["documents", "ranks", "tokens", "strategy", "ms", "repeats (ms)", "estimate (ms)", ""], rows)


def crossover_map(axes, cells, strategies):
    """cells: {(ranks, tokens): {(strategy, variant): Point}}."""
    plt = pyplot()
    ranks, lengths = sorted({n for n, _ in cells}), sorted({tokens for _, tokens in cells})
    for (n, tokens), points in cells.items():
        (best, _), ms = fastest(points)
        index, x, y = strategies.index(best), ranks.index(n), lengths.index(tokens)
        axes.add_patch(plt.Rectangle((x - 0.5, y - 0.5), 1, 1, facecolor=COLOURS[index % len(COLOURS)], alpha=0.35,
                                     hatch=HATCHES[index % len(HATCHES)], edgecolor=PAPER, linewidth=1.5))
        axes.text(x, y, f"{best.replace('_', ' ')}\n{ms:.3g} ms", ha="center", va="center", fontsize=8,
                  bbox={"facecolor": PAPER, "edgecolor": "none", "pad": 1.5, "alpha": 0.85})
    axes.set_xlim(-0.5, len(ranks) - 0.5)
    axes.set_ylim(-0.5, len(lengths) - 0.5)
    axes.set_xticks(range(len(ranks)), ranks)
    axes.set_yticks(range(len(lengths)), [short(tokens) for tokens in lengths])
    axes.grid(False)
    axes.set_ylabel("tokens")


def rate_text(billions, unit):
    """4.25 TB/s, 67 GB/s: of a rate in billions a second."""
    return f"{billions / 1000:.3g} T{unit}" if billions >= 1000 else f"{billions:.3g} G{unit}"


def runs_on(results, where):
    return {key: run for key, run in successful_runs(results, "operators").items() if of_run(run) == where}


def ceiling_pictures(results):
    """A roofline and shares of the ceilings for every device and type."""
    found = sorted({of_run(run) for run in successful_runs(results, "operators").values()}) or ["cpu f32"]
    return [picture(results, where) for where in found for picture in (roofline_picture, ceiling_picture)]


def operator_points(results, where):
    """(name, shape, documents): Point, and the run of each."""
    runs, groups = runs_on(results, where), {}
    for row in results.tables["operators"]:
        if row["run"] in runs:
            groups.setdefault((row["name"], row["shape"], row["documents"]), []).append(row)
    return {key: Point(runs[rows[0]["run"]], rows) for key, rows in groups.items()}


def median_ceilings(results, where):
    runs = runs_on(results, where)
    point = Point(None, [row for row in results.tables["ceilings"] if row["run"] in runs])
    return point.median("gigabytes_per_second"), point.median("gigaflops"), point.median("giga_exponentials_per_second")


def roofline_picture(results, where):
    name, title = f"roofline{slug(where)}", f"Roofline of the operators ({without_device(where)})"
    points = {key: point for key, point in operator_points(results, where).items() if point.median("flops")}
    if not points:
        return Picture(name, title, WITHOUT + "operators with matrix products (sweep --topics operators).")
    copy, gemm, _ = median_ceilings(results, where)
    plt = pyplot()
    figure, axes = plt.subplots(figsize=(WIDTH, HEIGHT + 1.0))
    families = list(dict.fromkeys(family_of(key[0]) for key in points))
    rows, intensities = [], []
    for (operator, shape, documents), point in points.items():
        family = families.index(family_of(operator))
        intensity = point.median("flops") / point.median("bytes")
        rate = point.median("flops") / point.median("ms") / 1e6
        intensities.append(intensity)
        forward = "backward" not in operator
        axes.plot(intensity, rate, linestyle="none", marker=MARKERS[family % len(MARKERS)], markersize=6,
                  color=COLOURS[family % len(COLOURS)], fillstyle="full" if forward else "none", markeredgewidth=1.3)
        rows.append([operator, shape, documents or "-", f"{intensity:.3g}", f"{rate:.3g}",
                     f"{100 * rate / min(gemm, copy * intensity):.0f} %"])
    ends = [min(intensities) / 2, max(max(intensities) * 2, 4 * gemm / copy)]
    axes.plot([ends[0], gemm / copy, ends[1]], [copy * ends[0], gemm, gemm], color=INK, linewidth=1.2)
    middle = (ends[0] * gemm / copy) ** 0.5
    axes.annotate(f"copy\n{rate_text(copy, 'B/s')}", (middle, copy * middle), fontsize=8, ha="right", va="bottom",
                  xytext=(-6, 2), textcoords="offset points")
    axes.annotate(f"matrix product {rate_text(gemm, 'FLOP/s')}", (ends[1], gemm), fontsize=8, ha="right", va="bottom",
                  xytext=(0, 3), textcoords="offset points")
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.minorticks_off()
    axes.set_xlabel("FLOP a byte that must be moved")
    axes.set_ylabel("GFLOP/s")
    handles = [plt.Line2D([], [], linestyle="none", marker=MARKERS[i % len(MARKERS)], color=COLOURS[i % len(COLOURS)],
                          label=family) for i, family in enumerate(families)]
    handles += [plt.Line2D([], [], linestyle="none", marker="o", color=INK, fillstyle=fill, label=what)
                for fill, what in (("full", "forward"), ("none", "backward"))]
    legend_below(axes, handles=handles, ncol=2)
    return Picture(name, title, "One rank: operators with matrix products, at the least operations and bytes that "
                   "they need. The lines are rates that this machine reached when it "
                   "only copied and only multiplied.", figure,
                   f"Roofline: {len(rows)} operators under a copy of {rate_text(copy, 'B/s')} and a product of "
                   f"{rate_text(gemm, 'FLOP/s')}.",
                   ["operator", "shape", "documents", "FLOP a byte", "GFLOP/s", "of the roof"], rows)


def family_of(operator):
    return operator.replace(" forward", "").replace(" backward", "").split("/")[0].split(" ")[0]


def ceiling_picture(results, where, most=24):
    """Every operator once, at its largest size: those of one name differ only in shape."""
    name, title = f"ceilings{slug(where)}", f"Operators against their ceilings ({without_device(where)})"
    largest = {}
    for (operator, shape, documents), point in operator_points(results, where).items():
        if operator not in largest or point.median("bytes") > largest[operator][1].median("bytes"):
            largest[operator] = (shape, point, documents)
    if not largest:
        return Picture(name, title, WITHOUT + "operators (sweep --topics operators).")
    copy, gemm, exponentials = median_ceilings(results, where)
    rates = {"copy": f"copy, {rate_text(copy, 'B/s')}", "gemm": f"matrix product, {rate_text(gemm, 'FLOP/s')}",
             "exp2": f"exponentials, {rate_text(exponentials, '/s')}"}
    ordered = sorted(largest.items(), key=lambda item: -item[1][1].median("ms"))
    plt = pyplot()
    shown = ordered[:most]
    figure, axes = plt.subplots(figsize=(WIDTH, 1.7 + 0.2 * len(shown)))
    ceilings = list(rates)
    for index, (_, (_, point, _)) in enumerate(shown):
        which = ceilings.index(point.rows[0]["ceiling"])
        axes.plot(100 * point.median("part_of_ceiling"), index, linestyle="none", marker=MARKERS[which], markersize=6,
                  color=COLOURS[which])
    axes.axvline(100, color=INK, linewidth=1, linestyle=(0, (6, 3)))
    axes.set_yticks(range(len(shown)), [operator for operator, _ in shown], fontsize=8)
    axes.set_ylim(len(shown) - 0.5, -0.5)
    axes.set_xlim(left=0)
    axes.set_xlabel("share of the ceiling (%)")
    used = {point.rows[0]["ceiling"] for _, (_, point, _) in shown}
    legend_below(axes, handles=[plt.Line2D([], [], linestyle="none", marker=MARKERS[i], color=COLOURS[i],
                                           label=f"bound by {rates[key]}") for i, key in enumerate(ceilings)
                                if key in used])
    if len(shown) < 8:
        figure.set_figheight(2.6)
    rows = [[operator, shape, documents or "-", f"{point.median('ms'):.4g}", point.rows[0]["ceiling"],
             f"{100 * point.median('part_of_ceiling'):.0f} %"] for operator, (shape, point, documents) in ordered]
    caption = "The least time under the ceiling that binds over the measured time, at the operator's largest size."
    caption += f" The {most} that take longest; the table has all." if len(ordered) > most else ""
    caption += " More than 100 %: its data stayed in the caches, or its exponentials were cheaper than the ceiling's."
    return Picture(name, title, caption, figure,
                   "Share of the ceiling: " + ", ".join(f"{row[0]} {row[5]}" for row in rows[:most]) + ".",
                   ["operator", "shape", "documents", "ms", "ceiling", "share"], rows)
