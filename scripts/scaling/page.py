"""The HTML page of the report: one file, no script, nothing from a network."""

from html import escape

from summary import shares_cores

STYLE = """
:root { color-scheme: light dark; --ink: #1a1a1b; --paper: #fefefd; --grid: #d8d8d9; --soft: #f2f2f0; --link: #0b5cad; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e6e6e3; --paper: #17181a; --grid: #3d3f42; --soft: #222427; --link: #8ab8f0; } }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 1rem; max-width: 76rem; background: var(--paper); color: var(--ink);
  font: 1rem/1.5 system-ui, sans-serif; overflow-wrap: anywhere; }
h1 { font-size: 1.5rem; line-height: 1.25; } h2 { font-size: 1.25rem; margin: 2.5rem 0 1rem; }
h3 { font-size: 1.05rem; margin: 0 0 .5rem; }
section { display: grid; gap: 2rem 2.5rem; grid-template-columns: repeat(auto-fit, minmax(min(100%, 30rem), 1fr)); }
section > h2, section > p, figure.wide { grid-column: 1 / -1; } section > h2, section > p { margin-bottom: 0; }
figure { margin: 0; min-width: 0; } figure > svg { display: block; width: 100%; height: auto; max-width: 40rem; }
figure.wide > svg { max-width: none; } figure.wide > figcaption { max-width: none; }
figcaption { margin: .5rem 0; max-width: 40rem; }
@media screen and (max-width: 44rem) { figure.wide > svg { display: none; } }
.note { border-left: .3rem solid var(--ink); padding: .25rem .75rem; background: var(--soft); }
.missing { font-style: italic; }
.table { overflow-x: auto; overflow-wrap: normal; }
table { border-collapse: collapse; font-size: .85rem; font-variant-numeric: tabular-nums; }
th, td { text-align: left; padding: .15rem .75rem .15rem 0; border-bottom: 1px solid var(--grid); white-space: nowrap; }
td.number { text-align: right; }
dl { display: grid; grid-template-columns: max-content minmax(0, 1fr); gap: .1rem 1rem; } dt { font-weight: 600; }
dd { margin: 0; } pre { overflow-x: auto; font-size: .8rem; }
summary { cursor: pointer; color: var(--link); } a { color: var(--link); }
@media print {
  :root { color-scheme: light; --ink: #000; --paper: #fff; --grid: #ccc; --soft: #fff; --link: #000; }
  figure { break-inside: avoid; } section { grid-template-columns: 1fr 1fr; gap: 1rem 1.5rem; }
  body, table, pre { font-size: .75rem; } h3 { font-size: .9rem; } nav, details { display: none; }
  .table { overflow: visible; } th, td { white-space: normal !important; } }
"""


def table(header, rows, caption):
    def cell(value):
        text = str(value)
        number = text[:1].isdigit() or text in ("-", "nan")
        return f'<td class="number">{escape(text)}</td>' if number else f"<td>{escape(text)}</td>"
    head = "".join(f'<th scope="col">{escape(name)}</th>' for name in header)
    body = "".join("<tr>" + "".join(cell(value) for value in row) + "</tr>\n" for row in rows)
    return (f'<div class="table" tabindex="0" role="region" aria-label="{escape(caption)}"><table><thead><tr>'
            f"{head}</tr></thead><tbody>\n{body}</tbody></table></div>")


def figure(picture):
    wide = ' class="wide"' if picture.wide else ""
    return (f'<figure id="{picture.name}"{wide}><h3>{escape(picture.title)}</h3>\n{picture.inline_svg()}\n'
            f"<figcaption>{escape(picture.caption)}</figcaption>\n<details><summary>Table</summary>\n"
            f"{table(picture.header, picture.rows, picture.title)}\n</details></figure>")


def listed(values):
    return ", ".join(sorted({str(value) for value in values if value not in ("", None)}))


def numbers(values):
    return ", ".join(f"{value:,}" for value in sorted(set(values)) if value)


def notes(runs):
    """What a reader must know before the figures."""
    found = []
    shared = [run for run in runs if shares_cores(run)]
    if shared:
        found.append(f"The machine has {listed(run['cores'] for run in shared)} cores. With "
                     f"{numbers(run['ranks'] for run in shared)} ranks the ranks share cores: these runs show "
                     "memory, bytes and the cost of more cuts, and cannot show more speed.")
    used = sorted(run["elsewhere"] for run in runs if run.get("elsewhere") is not None)
    if used and used[-1] > 0.1:
        found.append(f"Other programs used up to {used[-1]:.1f} cores of the machine during a run, in half of the runs "
                     f"at least {used[len(used) // 2]:.2f}: times of such runs may be too long.")
    loads = [run["load"] / run["cores"] for run in runs if run["load"] is not None and run["cores"]]
    if not used and loads and max(loads) > 2:
        found.append(f"The load average was up to {max(loads):.1f} a core when a run started, the sweep's own ranks "
                     "included: times of such runs may be too long.")
    failed = [run for run in runs if run["exit"] != 0]
    if failed:
        found.append(f"{len(failed)} of {len(runs)} runs failed and are in no picture. The first, {failed[0]['topic']} "
                     f"on {failed[0]['ranks']} ranks: {failed[0]['error']}")
    return found


def period(times):
    """Of "2026-11-30T19:28:42Z" and the like: from the first to the last, without seconds."""
    first, last = min(times), max(times)
    until = last[:10] * (last[:10] != first[:10]) + " " + last[11:16]
    return f"{first[:10]} {first[11:16]} to {until.strip()} UTC"


def machines(runs):
    """A table: which machines measured, with which program."""
    groups = {}
    for run in runs:
        memory = run.get("machine_memory")
        program = " ".join(word for word in (run["program"], run.get("revision")) if word)
        key = (run["host"], run["processor"], run["cores"], f"{memory / 2**30:.0f} GiB" if memory else "-",
               run.get("accelerator") or "-", program)
        groups.setdefault(key, []).append(run)
    rows = []
    for key, found in groups.items():
        rows.append([*key, len(found), period([run["started"] for run in found])])
    return table(["host", "processor", "cores", "memory", "GPUs", "program, commit", "runs", "measured"], rows,
                 "Machines and programs")


def facts(results, source):
    runs = results.tables["runs"]
    operators = listed(run["operator"] for run in runs if run["topic"] == "strategies")
    found = [("ranks", numbers(run["ranks"] for run in runs)), ("tokens", numbers(run["tokens"] for run in runs)),
             ("models", listed(run["model"] for run in runs)), ("operators", operators),
             ("strategies", listed(run["strategy"] for run in runs)),
             ("layouts", listed(run["layout"] for run in runs)),
             ("sharding", listed(run["shard"] for run in runs)),
             ("threads a rank", listed(run["threads"] or "the program's choice" for run in runs)),
             ("runs", f"{len(runs)}, {sum(run['wall_s'] or 0 for run in runs):,.0f} s in all, in random order with "
                      f"seed {results.seed}"), ("file", source)]
    return "".join(f"<dt>{escape(name)}</dt><dd>{escape(value)}</dd>\n" for name, value in found if value)


def how(results):
    """The commands, and what failed."""
    failed = [[run["topic"], run["model"] or run["operator"], run["ranks"], f"{run['tokens']:,}", run["exit"],
               run["error"]] for run in results.tables["runs"] if run["exit"] != 0]
    found = ""
    if results.commands:
        commands = "\n".join(escape(command) for command in results.commands)
        found += f"<details><summary>Commands</summary><pre>{commands}</pre></details>\n"
    if failed:
        header = ["topic", "model or operator", "ranks", "tokens", "exit code", "message"]
        found += ("<details><summary>Runs that failed</summary>"
                  f"{table(header, failed, 'Runs that failed')}</details>\n")
    return found


def sections(pictures):
    """A section for every device; what was not measured there is named at its end."""
    found = ""
    for name in dict.fromkeys(picture.section for picture in pictures):
        own = [picture for picture in pictures if picture.section == name]
        drawn = "\n".join(figure(picture) for picture in own if picture.figure is not None)
        missing = "\n".join(f'<p class="missing" id="{picture.name}">{escape(picture.title)}. '
                            f"{escape(picture.caption)}</p>" for picture in own if picture.figure is None)
        heading = f"<h2>{escape(name)}</h2>\n" if name else ""
        found += f"<section>{heading}{drawn}\n{missing}</section>\n"
    return found


def contents(pictures):
    found = ""
    for name in dict.fromkeys(picture.section for picture in pictures):
        links = " · ".join(f'<a href="#{picture.name}">{escape(picture.title)}</a>' for picture in pictures
                           if picture.section == name and picture.figure is not None)
        found += f"<p>{escape(name) + ': ' if name else ''}{links}</p>" if links else ""
    return found


def html_page(results, pictures, source):
    runs = results.tables["runs"]
    remarks = "".join(f'<p class="note">{escape(text)}</p>\n' for text in notes(runs))
    return f"""<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Causeway: scaling</title>
<link rel="icon" href="data:,">
<style>{STYLE}</style></head>
<body>
<header><h1>How Causeway scales</h1>
{machines(runs)}
<dl>{facts(results, source)}</dl>
{how(results)}{remarks}<nav aria-label="Pictures">{contents(pictures)}</nav></header>
<main>
{sections(pictures)}</main>
</body></html>
"""
