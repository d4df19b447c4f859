#!/usr/bin/env python3
"""Draws the pictures of the documentation, each as an SVG, and as the definition of a Markdown link that holds it.

A page shows a picture by `![..][name.svg]`, and ends with `[name.svg]: pictures/name.svg` for those who read the Markdown
itself. rustdoc is given `name.md` before the page, and the first definition counts: the picture is in the page, also on
docs.rs. The picture of the comparison has its figures from tests/compare/comparison.md.

    runtime/src/guide/pictures/draw.py
"""

import re
from pathlib import Path
from urllib.parse import quote
from xml.sax.saxutils import escape

STYLE = """
text{font:13px system-ui,sans-serif;fill:#1f2328}
.small{font-size:11px}.faint{fill:#57606a}.code{font-family:ui-monospace,monospace;font-size:12px}
.title{font-weight:600}.mid{text-anchor:middle}.end{text-anchor:end}
.back{fill:#fff}.line{stroke:#8c959f;fill:none}.dash{stroke-dasharray:4 3}.tip{fill:#8c959f}
.box{fill:#f6f8fa;stroke:#8c959f}.blue{fill:#b6dcfe;stroke:#0969da}.green{fill:#bfe8c5;stroke:#1a7f37}
.amber{fill:#fbe3a1;stroke:#9a6700}.red{fill:#ffcfc9;stroke:#cf222e}.violet{fill:#e3d3fb;stroke:#8250df}
@media(prefers-color-scheme:dark){
text{fill:#e6edf3}.faint{fill:#9da7b3}.back{fill:#0d1117}.line{stroke:#7d8590}.tip{fill:#7d8590}
.box{fill:#161b22;stroke:#7d8590}.blue{fill:#0c3a6b;stroke:#58a6ff}.green{fill:#12401f;stroke:#3fb950}
.amber{fill:#4b3507;stroke:#d29922}.red{fill:#5c1a1b;stroke:#f85149}.violet{fill:#3a2166;stroke:#a371f7}
}""".replace("\n", "")


class Picture:
    def __init__(self, name, title, width, height):
        self.name, self.parts = name, []
        self.head = (
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" '
            f'viewBox="0 0 {width} {height}" role="img"><title>{escape(title)}</title><style>{STYLE}</style>'
        )
        self.parts.append(f'<rect class="back" width="{width}" height="{height}" rx="6"/>')

    def box(self, x, y, width, height, kind="box", *lines, align="mid"):
        self.parts.append(f'<rect class="{kind}" x="{x}" y="{y}" width="{width}" height="{height}" rx="3"/>')
        at = x + width / 2 if align == "mid" else x + 8
        first = y + height / 2 + 4.5 - 8 * (len(lines) - 1)
        for number, line in enumerate(lines):
            self.text(at, first + 16 * number, line, align)

    def text(self, x, y, text, *kinds):
        kind = f' class="{" ".join(kinds)}"' if kinds else ""
        self.parts.append(f'<text x="{x:g}" y="{y:g}"{kind}>{escape(text)}</text>')

    def line(self, x1, y1, x2, y2, *kinds):
        self.parts.append(f'<path class="{" ".join(("line",) + kinds)}" d="M{x1:g} {y1:g}L{x2:g} {y2:g}"/>')

    def arrow(self, x1, y1, x2, y2, *kinds):
        self.line(x1, y1, x2, y2, *kinds)
        length = ((x2 - x1) ** 2 + (y2 - y1) ** 2) ** 0.5
        across, along = (x2 - x1) / length, (y2 - y1) / length
        points = [(x2 - 7 * across + side * along * 3.5, y2 - 7 * along - side * across * 3.5) for side in (1, -1)]
        path = "".join(f"L{x:.1f} {y:.1f}" for x, y in points)
        self.parts.append(f'<path class="tip" d="M{x2:g} {y2:g}{path}z"/>')

    def write(self):
        svg = self.head + "\n" + "\n".join(self.parts) + "\n</svg>\n"
        folder = Path(__file__).parent
        (folder / f"{self.name}.svg").write_text(svg)
        url = quote(svg.replace("\n", ""), safe=" '=:/,;.()!*{}@")
        (folder / f"{self.name}.md").write_text(f"[{self.name}.svg]: <data:image/svg+xml,{url}>\n\n")


def server():
    p = Picture("server", "A supervisor, its main context, workers and an extra, and who holds the sockets", 720, 330)
    p.box(16, 16, 688, 112)
    p.text(28, 36, "supervisor", "title")
    p.text(116, 36, "signals, restarts, deadlines, the log of failures", "faint", "small")
    p.box(28, 50, 180, 64, "violet", "main context", "one value for all workers")
    p.text(228, 62, "listening sockets, one for each worker:", "small", "faint")
    for index in range(4):
        p.box(228 + 118 * index, 72, 106, 42, "amber", f":8888, no. {index}")
    for index in range(4):
        x = 228 + 118 * index
        p.arrow(x + 53, 114, x + 53, 166)
        p.arrow(x + 24, 142, x + 24, 166, "dash")
        p.box(x, 168, 106, 84, "blue", f"worker {index}", "event loop,", "connections")
        p.arrow(x + 53, 290, x + 53, 254)
    p.text(228, 308, "clients: the kernel spreads new connections over the sockets", "small", "faint")
    p.line(118, 142, 606, 142, "dash")
    p.box(28, 168, 180, 84, "green", "extra", "event loop of its own,", "metrics for example")
    p.arrow(118, 114, 118, 166, "dash")
    p.text(28, 274, "thread: all in one process", "small")
    p.text(28, 290, "process: the program started again", "small")
    p.text(28, 306, "for each worker and extra", "small")
    return p


def stop():
    p = Picture("stop", "The timeline of a stop", 720, 312)
    left, right = 128, 692
    at = {"term": left, "delay": 258, "drained": 470, "extras": 540, "main": 604}
    p.text(left, 24, "SIGTERM", "title")
    p.text(at["delay"], 24, "drain_delay over", "title")
    p.text(at["main"], 24, "exit", "title", "mid")
    p.text(right, 24, "deadline", "title", "end")
    for x in (at["term"], at["delay"], at["drained"], at["extras"], at["main"]):
        p.line(x, 32, x, 262, "dash")
    p.line(right, 32, right, 262)
    rows = [
        ("sockets", [("term", "delay", "green", "accept"), ("delay", "main", "box", "closed: new clients are refused")]),
        ("connections", [("term", "delay", "green", "served"), ("delay", "drained", "blue", "drain: begun ones end")]),
        ("workers", [("term", "delay", "green", "is_going"), ("delay", "drained", "blue", "tasks, teardowns")]),
        ("extras", [("term", "drained", "green", "run on"), ("drained", "extras", "blue", "stop")]),
        ("main context", [("term", "extras", "green", "is there for all of them"), ("extras", "main", "violet", "teardown")]),
        ("/readyz", [("term", "main", "red", "503: no load balancer sends anybody here")]),
        ("systemd", [("term", "main", "amber", "STOPPING=1")]),
    ]
    for number, (name, bars) in enumerate(rows):
        y = 42 + 32 * number
        p.text(left - 10, y + 17, name, "end")
        for start, end, kind, label in bars:
            p.box(at[start] + 1, y, at[end] - at[start] - 2, 24, kind)
            p.text((at[start] + at[end]) / 2, y + 16, label, "mid", "small")
    p.arrow(at["term"], 284, right, 284)
    p.text((left + right) / 2, 302, "shutdown_timeout: what is left at its end is cut, and the exit code is 3", "mid", "small")
    return p


def roll():
    p = Picture("roll", "A rolling restart of three workers", 720, 262)
    left = 104
    p.text(left, 24, "SIGHUP", "title")
    p.line(left + 26, 32, left + 26, 216, "dash")
    starts = [left + 26, left + 150, left + 274]
    for index, start in enumerate(starts):
        y = 42 + 60 * index
        ready = start + 118
        p.text(left - 12, y + 17, f"worker {index}, old", "end", "small")
        p.text(left - 12, y + 43, "new", "end", "small")
        p.box(left, y, ready - left, 24, "green")
        p.text((left + ready) / 2, y + 16, "accepts", "mid", "small")
        p.box(ready + 1, y, 180 - 20 * index, 24, "blue")
        p.text(ready + 90 - 10 * index, y + 16, "drains, and ends", "mid", "small")
        p.box(start, y + 27, 117, 24, "amber")
        p.text(start + 59, y + 43, "starts", "mid", "small")
        p.box(ready + 1, y + 27, 700 - ready, 24, "green")
        p.text((ready + 700) / 2, y + 43, "accepts from the same socket", "mid", "small")
        if index < 2:
            p.arrow(ready + 3, y + 51, ready + 3, y + 84)
    p.text(left, 238, "The next worker's turn comes when a successor is ready; the old ones drain side by side.", "small")
    p.text(left, 254, "A successor that doesn't become ready ends the restart, and its predecessor stays.", "small", "faint")
    return p


def overlap():
    p = Picture("overlap", "Ticks of 250 ms with an interval of 100 ms, by overlap policy", 720, 350)
    left, scale = 96, 0.56
    x = lambda ms: left + ms * scale
    for ms in range(0, 1001, 100):
        p.line(x(ms), 30, x(ms), 306, "dash")
        p.text(x(ms), 22, str(ms), "mid", "small", "faint")
    p.text(left - 12, 22, "due at, ms", "end", "small", "faint")
    # The start of each tick, as the table of `#[timer]` has it, and the due time that it is of.
    rows = [
        ("skip", [[(0, 0), (300, 300), (600, 600), (900, 900)]]),
        ("allow(2)", [[(0, 0), (300, 300), (600, 600), (900, 900)], [(100, 100), (400, 400), (700, 700)]]),
        ("wait", [WAIT]),
        ("queue(2)", [QUEUE]),
        ("cancel", [[(ms, ms) for ms in range(0, 1000, 100)]]),
    ]
    y = 40
    for name, lanes in rows:
        p.text(left - 12, y + 16, name, "end", "code")
        for lane in lanes:
            for start, due in lane:
                end = min(start + (100 if name == "cancel" and start < 900 else 250), 1000)
                cut = name == "cancel" or start + 250 > 1000
                p.box(round(x(start), 1), y, round((end - start) * scale - 2, 1), 22, "red" if cut else "blue")
                p.text(x(start) + 5, y + 15, str(due), "small")
            y += 28
        y += 20
    p.text(left, 326, "A tick takes 250 ms, and the number in it is the due time that it is of; the timer is stopped at 1000.", "small")
    p.text(left, 342, "Red ticks are cancelled.", "small", "faint")
    return p


WAIT = [(0, 0), (250, 200), (500, 400), (750, 700)]
QUEUE = [(0, 0), (250, 100), (500, 200), (750, 300)]


def places():
    p = Picture("places", "Places, and the order of teardowns", 720, 282)
    p.box(16, 16, 360, 250)
    p.text(28, 36, "a task", "title")
    p.text(80, 36, "is a place", "small", "faint")
    p.box(28, 46, 336, 30, "violet", "let _pool = pool().await", align="code")
    p.box(28, 84, 336, 172, "violet")
    p.text(36, 104, "session().with(..).await", "code")
    p.box(44, 114, 304, 62, "blue")
    p.text(52, 130, "the function of `session` is a place inside it", "small")
    p.box(56, 138, 280, 28, "amber", "let _lock = lock().await", align="code")
    p.box(44, 184, 304, 62, "blue")
    p.text(52, 200, "so is the body of its `with`", "small")
    p.box(56, 208, 280, 28, "amber", "let _order = order().await", align="code")
    p.text(400, 36, "the task is aborted, and torn down are", "title")
    rows = [
        ("order", "inside the session, dropped first"),
        ("session", "after what is inside it"),
        ("lock", "dropped at the end of its function"),
        ("pool", "entered before the session"),
    ]
    for index, (name, why) in enumerate(rows):
        y = 50 + 34 * index
        p.box(400, y, 26, 26, "green", str(index + 1))
        p.text(436, y + 17, name)
        p.text(500, y + 17, why, "small", "faint")
    for index, line in enumerate(
        [
            "What is awaited, `exit()` or the end of a `with`, waits",
            "for what is inside it alone, and for no sibling.",
            "`exit_as` of an error waits for all that was dropped.",
            "Another task has places of its own.",
        ]
    ):
        p.text(400, 208 + 17 * index, line, "small")
    return p


def comparison():
    page = (Path(__file__).parents[4] / "tests/compare/comparison.md").read_text()
    # Heading, which figure of the rows, what the panel is called, and which rows it has.
    panels = [
        ("Context, enter and exit", "Context, enter and exit, ns", ["boxed async-trait hooks", "aioxide guard", "a task per context", "aiotools, uvloop"]),
        ("Group of 1000, enter and exit", "1,000 contexts at once, µs", ["join_all of boxed hooks", "aioxide group", "aiotools, uvloop"]),
        ("Echo on persistent connections, 2 workers", "Echo, CPU per request, µs", ["bare threads", "aioxide threads", "aioxide processes", "actix-server", "aiotools, uvloop"]),
        ("Echo on fresh connections, 2 workers", "Echo, CPU per connection, µs", ["bare threads", "aioxide threads", "aioxide processes", "actix-server", "aiotools, uvloop"]),
    ]
    p = Picture("comparison", "Medians of aioxide beside its peers", 720, 332)
    lowest = [30, 30]
    for index, (heading, name, rows) in enumerate(panels):
        column = index % 2
        x, y = 16 + 356 * column, lowest[column]
        section = page.split(f"## {heading}\n")[1].split("\n## ")[0]
        figures = dict(re.findall(r"^\| ([^|]+) \| ([\d.]+)", section, re.M))
        most = max(float(figures[row]) for row in rows)
        p.text(x, y, name, "title")
        for number, row in enumerate(rows):
            top = y + 12 + 22 * number
            p.text(x + 150, top + 13, row, "end", "small")
            width = max(round(130 * float(figures[row]) / most, 1), 1)
            p.box(x + 158, top, width, 16, "amber" if row.startswith("aioxide") else "box")
            p.text(x + 164 + width, top + 13, figures[row], "small")
        lowest[column] = y + 12 + 22 * max(len(rows), len(panels[index ^ 1][2])) + 40
    p.text(16, 324, "Medians on one machine of 2 cores; less is better. Only ratios count elsewhere.", "small", "faint")
    return p


for picture in (server(), stop(), roll(), overlap(), places(), comparison()):
    picture.write()
