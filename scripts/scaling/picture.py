"""One picture of the report: figure, title, caption, description, table. And the look that all of them share."""

import io
import re

COLOURS = ["#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9"]  # Okabe and Ito
LINES = ["-", "--", "-.", ":"]
MARKERS = ["o", "s", "^", "D", "v", "P", "X"]
HATCHES = ["", "////", "\\\\\\\\", "xxxx", "||||", "----"]  # dots would take 250 KB of SVG each
INK, PAPER, GRID = "#1a1a1b", "#fefefd", "#d8d8d9"  # in the page these become its own colours, also in dark mode
WIDTH, HEIGHT = 4.6, 3.5  # inches: on a phone text is still readable


def pyplot():
    import matplotlib
    matplotlib.use("Agg")
    import matplotlib.pyplot as plt
    plt.rcParams.update({
        "font.size": 10, "axes.labelsize": 10, "xtick.labelsize": 9, "ytick.labelsize": 9, "legend.fontsize": 9,
        "axes.spines.top": False, "axes.spines.right": False, "axes.grid": True, "grid.color": GRID,
        "grid.linewidth": 0.6, "axes.axisbelow": True, "legend.frameon": False, "lines.linewidth": 1.6,
        "text.color": INK, "axes.labelcolor": INK, "xtick.color": INK, "ytick.color": INK, "axes.edgecolor": INK,
        "figure.facecolor": PAPER, "axes.facecolor": PAPER, "savefig.facecolor": PAPER, "hatch.linewidth": 0.7,
        "figure.constrained_layout.use": True, "svg.hashsalt": "causeway", "svg.fonttype": "none",
        "figure.max_open_warning": 0})
    return plt


def style(index):
    return {"color": COLOURS[index % len(COLOURS)], "linestyle": LINES[index % len(LINES)],
            "marker": MARKERS[index % len(MARKERS)], "markersize": 5}


class Picture:
    """`figure` None: there are no measurements for it, and `caption` says which are missing."""

    def __init__(self, name, title, caption, figure=None, description="", header=(), rows=()):
        self.name, self.title, self.caption, self.figure = name, title, caption, figure
        self.text = None
        self.section, self.wide = "", False  # wide: for two columns of the page, and not for a phone
        self.description, self.header, self.rows = description, list(header), [list(row) for row in rows]

    def svg(self):
        if self.text is None:  # drawing takes half a second
            file = io.StringIO()
            self.figure.savefig(file, format="svg", metadata={"Date": None, "Title": self.title,
                                                              "Description": self.description})
            self.text = file.getvalue()
        return self.text

    def write_png(self, path, dpi):
        self.figure.savefig(path, format="png", dpi=dpi)

    def inline_svg(self):
        """For the page: without prologue and metadata, with the page's colours, with ids that are unique in the page,
        and with the description as its alternative text."""
        from html import escape
        text = self.svg()
        text = re.sub(r"<metadata>.*?</metadata>", "", text[text.index("<svg"):], flags=re.DOTALL)
        text = re.sub(r"<title>.*?</title>\s*", "", text, count=1, flags=re.DOTALL)
        for colour, variable in ((INK, "--ink"), (PAPER, "--paper"), (GRID, "--grid")):
            text = re.sub(re.escape(colour), f"var({variable})", text, flags=re.IGNORECASE)
        text = re.sub(r'\bid="', f'id="{self.name}-', text)
        text = re.sub(r'(xlink:href="#|url\(#)', rf"\g<1>{self.name}-", text)
        names = f'role="img" aria-labelledby="{self.name}-title {self.name}-description"'
        inside = (f'<title id="{self.name}-title">{escape(self.title)}</title>'
                  f'<desc id="{self.name}-description">{escape(self.description)}</desc>')
        opening = re.match(r"<svg[^>]*>", text).group(0)
        fluid = re.sub(r'\s(width|height)="[^"]*"', "", opening)
        return fluid[:-1] + f" {names}>" + inside + text[len(opening):]
