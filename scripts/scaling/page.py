"""The HTML page of the report: one file, no script, nothing from a network."""

from html import escape

STYLE = """
:root { color-scheme: light dark; --ink: #1a1a1b; --paper: #fefefd; --grid: #d8d8d9; --soft: #f2f2f0; --link: #0b5cad; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e6e6e3; --paper: #17181a; --grid: #3d3f42; --soft: #222427; --link: #8ab8f0; } }
@media print {
  :root { color-scheme: light; --ink: #000; --paper: #fff; --grid: #ccc; --soft: #fff; --link: #000; }
  figure { break-inside: avoid; } main { display: block !important; } }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 1rem; max-width: 76rem; background: var(--paper); color: var(--ink);
  font: 1rem/1.5 system-ui, sans-serif; overflow-wrap: anywhere; }
h1 { font-size: 1.5rem; line-height: 1.25; } h2 { font-size: 1.05rem; margin: 0 0 .5rem; }
main { display: grid; gap: 2rem 2.5rem; grid-template-columns: repeat(auto-fit, minmax(min(100%, 30rem), 1fr)); }
figure { margin: 0; min-width: 0; } figure > svg { display: block; width: 100%; height: auto; max-width: 40rem; }
figcaption { margin: .5rem 0; max-width: 40rem; }
.note { border-left: .3rem solid var(--ink); padding: .25rem .75rem; background: var(--soft); }
.missing { color: var(--ink); font-style: italic; }
.table { overflow-x: auto; overflow-wrap: normal; }
table { border-collapse: collapse; font-size: .85rem; font-variant-numeric: tabular-nums; }
th, td { text-align: left; padding: .15rem .75rem .15rem 0; border-bottom: 1px solid var(--grid); white-space: nowrap; }
td.number { text-align: right; }
dl { display: grid; grid-template-columns: max-content minmax(0, 1fr); gap: .1rem 1rem; } dt { font-weight: 600; }
dd { margin: 0; } summary { cursor: pointer; color: var(--link); } a { color: var(--link); }
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
    if picture.figure is None:
        return (f'<figure id="{picture.name}"><h2>{escape(picture.title)}</h2>\n'
                f'<p class="missing">{escape(picture.caption)}</p></figure>')
    return (f'<figure id="{picture.name}"><h2>{escape(picture.title)}</h2>\n{picture.inline_svg()}\n'
            f"<figcaption>{escape(picture.caption)}</figcaption>\n<details><summary>Table</summary>\n"
            f"{table(picture.header, picture.rows, picture.title)}\n</details></figure>")


def listed(values):
    return ", ".join(sorted({str(value) for value in values if value not in ("", None)}))


def notes(runs):
    """What a reader must know before the figures."""
    found = []
    shared = [run for run in runs if run["device"] == "cpu" and run["ranks"] * max(run["threads"], 1) > run["cores"]]
    if shared:
        cores = listed(run["cores"] for run in shared)
        ranks = ", ".join(str(n) for n in sorted({run["ranks"] for run in shared}))
        found.append(f"The machine has {cores} cores. With {ranks} ranks the ranks share cores: these runs show "
                     "memory, bytes and the cost of more cuts, and cannot show more speed.")
    loads = [run["load"] / run["cores"] for run in runs if run["load"] is not None and run["cores"]]
    if loads and max(loads) > 2:
        found.append(f"The load average was up to {max(loads):.1f} a core when a run started, the sweep's own ranks "
                     "included: times of such runs may be too long.")
    failed = [run for run in runs if run["exit"] != 0]
    if failed:
        found.append(f"{len(failed)} of {len(runs)} runs failed and are in no picture. The first, {failed[0]['topic']} "
                     f"on {failed[0]['ranks']} ranks: {failed[0]['error']}")
    return found


def html_page(results, pictures, source):
    runs = results.tables["runs"]
    started = [run["started"] for run in runs]
    facts = [("processor", listed(run["processor"] for run in runs)), ("device", listed(run["device"] for run in runs)),
             ("cores", listed(run["cores"] for run in runs)), ("hosts", listed(run["host"] for run in runs)),
             ("program", listed(run["program"] for run in runs)),
             ("threads a rank", listed(run["threads"] or "the program's choice" for run in runs)),
             ("runs", f"{len(runs)}, {sum(run['wall_s'] or 0 for run in runs):,.0f} s in all, in random order with "
                      f"seed {results.seed}"),
             ("measured", " to ".join(sorted({min(started), max(started)}))),
             ("file", source)]
    description = "".join(f"<dt>{escape(name)}</dt><dd>{escape(value)}</dd>\n" for name, value in facts)
    remarks = "".join(f'<p class="note">{escape(text)}</p>\n' for text in notes(runs))
    contents = " · ".join(f'<a href="#{picture.name}">{escape(picture.title)}</a>' for picture in pictures)
    return f"""<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Causeway: scaling</title>
<link rel="icon" href="data:,">
<style>{STYLE}</style></head>
<body>
<header><h1>How Causeway scales on this machine</h1>
<dl>{description}</dl>
{remarks}<nav aria-label="Pictures"><p>{contents}</p></nav></header>
<main>
{chr(10).join(figure(picture) for picture in pictures)}
</main>
</body></html>
"""
