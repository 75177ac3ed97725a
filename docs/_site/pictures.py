"""The drawn pictures of README and site: `python docs/_site/pictures.py` writes docs/images/*.svg.

Plain SVG, a few hundred bytes per element, in the Okabe-Ito palette (told apart with any colour vision).
"""

from __future__ import annotations

from collections.abc import Callable
from html import escape
from pathlib import Path

IMAGES = Path(__file__).resolve().parents[1] / "images"
BLUE, ORANGE, GREEN, RED, PURPLE, GREY = "#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#5F6B73"
DEVICE, GATEWAY, SERVER, DATA = "#DCEBF5", "#E3F3EC", "#FBEBD0", "#EEF0F2"


class Picture:
    """An SVG that grows element by element; y points down, units are pixels."""

    def __init__(self, width: int, height: int, alt: str) -> None:
        self.size, self.alt, self.parts = (width, height), alt, [""]

    def text(self, x: float, y: float, text: str, size: int = 14, color: str = "#222", anchor: str = "middle",
             bold: bool = False) -> None:  # fmt: skip
        for i, line in enumerate(text.split("\n")):
            weight = ' font-weight="bold"' if bold and i == 0 else ""
            self.parts.append(
                f'<text x="{x:g}" y="{y + i * size * 1.3:g}" font-size="{size}" fill="{color}" text-anchor="{anchor}"'
                f"{weight}>{escape(line)}</text>"
            )

    def box(self, x: float, y: float, w: float, h: float, text: str = "", fill: str = DATA, line: str = GREY,
            size: int = 14, bold: bool = True) -> None:  # fmt: skip
        self.parts.append(
            f'<rect x="{x:g}" y="{y:g}" width="{w:g}" height="{h:g}" rx="6" fill="{fill}" stroke="{line}"/>'
        )
        lines = text.count("\n") + 1
        self.text(x + w / 2, y + h / 2 + size * 0.35 - (lines - 1) * size * 0.65, text, size, bold=bold)

    def arrow(self, x1: float, y1: float, x2: float, y2: float, text: str = "", color: str = GREY, dashed: bool = False,
              shift: float = -6, size: int = 12) -> None:  # fmt: skip
        dash = ' stroke-dasharray="6 4"' if dashed else ""
        head = f"h{color[1:]}"
        if head not in self.parts[0]:
            self.parts[0] += (
                f'<marker id="{head}" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" '
                f'orient="auto"><path d="M0 0L8 4L0 8z" fill="{color}"/></marker>'
            )
        self.parts.append(
            f'<path d="M{x1:g} {y1:g}L{x2:g} {y2:g}" stroke="{color}" stroke-width="1.8" fill="none"{dash} '
            f'marker-end="url(#{head})"/>'
        )
        if text:
            self.text((x1 + x2) / 2, (y1 + y2) / 2 + shift, text, size, color)

    def queue(self, x: float, y: float, filled: int, places: int = 5, color: str = BLUE) -> None:
        for i in range(places):
            fill = color if i >= places - filled else "#fff"
            self.parts.append(
                f'<rect x="{x + 11 * i:g}" y="{y:g}" width="9" height="14" fill="{fill}" stroke="{GREY}"/>'
            )

    def line(self, x1: float, y1: float, x2: float, y2: float, color: str = GREY, width: float = 1.5) -> None:
        self.parts.append(
            f'<path d="M{x1:g} {y1:g}L{x2:g} {y2:g}" stroke="{color}" stroke-width="{width:g}" fill="none"/>'
        )

    def svg(self) -> str:
        w, h = self.size
        defs = f"<defs>{self.parts[0]}</defs>" if self.parts[0] else ""
        body = "\n".join(self.parts[1:])
        return (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {w} {h}" width="{w}" height="{h}" role="img" '
            f'font-family="system-ui, Helvetica, Arial, sans-serif">\n<title>{escape(self.alt)}</title>\n'
            f'<rect width="{w}" height="{h}" fill="#fff"/>{defs}\n{body}\n</svg>\n'
        )


def network() -> Picture:
    p = Picture(760, 300, "Devices that see their own row only, one edge server, one broadcast price")
    for i, filled in enumerate((2, 4, 1)):
        y = 20 + 78 * i
        p.box(20, y, 250, 60, "", DEVICE)
        name = ("device_0", "device_1", "device_K-1")[i]
        p.text(32, y + 22, name, 14, anchor="start", bold=True)
        p.text(32, y + 45, "own queue, own channel", 12, GREY, "start")
        p.queue(198, y + 10, filled)
        p.arrow(270, y + 30, 520, 100 + 16 * i, color=BLUE)
    p.text(20, 268, "each decides: how fast to compute, what to send", 13, GREY, "start")
    p.text(395, 40, "the part of a task that is left", 13, BLUE)
    p.box(525, 70, 210, 90, "", SERVER)
    p.text(630, 96, "server", 14, bold=True)
    p.queue(600, 108, 3, color=ORANGE)
    p.text(630, 148, "own CPU rate, own queue", 12, GREY)
    p.arrow(525, 152, 276, 215, color=RED, dashed=True)
    p.text(430, 216, "one price for all, 4 bytes", 13, RED)
    p.text(380, 292, "Nobody sees everything. What does that cost? What does the price save?", 14, bold=True)
    return p


def rows() -> Picture:
    p = Picture(760, 260, "An agent sees its row of the observations; a central controller sees all rows")
    for side, (x, title, mark) in enumerate(
        ((30, "decentralized: own row (+ what is told to it)", BLUE), (400, "centralized: every row", ORANGE))
    ):
        p.text(x + 160, 24, title, 14, bold=True)
        for r, agent in enumerate(("device_0", "device_1", "device_2", "server")):
            seen = side == 1 or r == 1
            y = 44 + 42 * r
            p.text(x + 70, y + 21, agent, 13, anchor="end")
            for c, entry in enumerate(("queue", "channel", "arrivals")):
                p.box(
                    x + 80 + 76 * c,
                    y,
                    72,
                    30,
                    entry,
                    DEVICE if seen else "#fff",
                    mark if seen else "#C8CED2",
                    12,
                    False,
                )
    p.text(20, 232, "device_1 acts on this alone; bytes: what it is told", 12, GREY, "start")
    p.text(740, 232, "bytes in every slot: all rows up, all decisions down", 12, GREY, "end")
    return p


def trace() -> Picture:
    p = Picture(760, 250, "One trace holds all randomness and is replayed under every controller")
    p.box(20, 70, 190, 110, "trace\nchannels, arrivals, ..\ndrawn beforehand,\nor measured", DATA)
    for i, (name, color) in enumerate((("random", GREY), ("a learned policy", BLUE), ("the reference", GREEN))):
        y = 30 + 72 * i
        p.arrow(210, 125, 318, y + 25, color=GREY)
        p.box(322, y, 160, 50, name, "#fff", color)
        p.arrow(482, y + 25, 560, 125 + 12 * (i - 1), color=color)
    p.box(566, 85, 174, 80, "costs on the same\nchannels and arrivals:\npaired differences", DATA, size=13)
    p.text(380, 240, "a step is a pure function: same trace, same decisions, same costs", 13, GREY)
    return p


def ledger() -> Picture:
    p = Picture(760, 250, "The ledger books a cost on every agent; its sum is the objective")
    heights = (60, 95, 45, 30, 110)
    names = ("device_0", "device_1", "device_2", "device_3", "server")
    for i, (name, h) in enumerate(zip(names, heights, strict=True)):
        x, fill = 40 + 84 * i, (SERVER if name == "server" else DEVICE)
        p.box(x, 170 - h, 60, h, "", fill)
        p.text(x + 30, 190, name, 12)
    p.line(30, 170, 450, 170)
    p.text(240, 220, "ledger of a slot: what each agent costs (queue, energy, drops)", 13, GREY)
    p.text(470, 60, "sum of the bars = objective (cost)", 14, anchor="start", bold=True)
    p.text(470, 95, "reward=local: minus the own bar", 13, BLUE, "start")
    p.text(470, 120, "reward=team: minus the sum", 13, ORANGE, "start")
    p.text(470, 145, "between: coupled, group, difference", 13, GREEN, "start")
    p.text(
        470, 180, "who learns from its own bar alone brings\nload to others and pays nothing for it", 12, GREY, "start"
    )
    return p


def price() -> Picture:
    p = Picture(760, 270, "A price makes a device count the waiting that it brings to all others")
    p.line(60, 220, 420, 220)
    p.line(60, 220, 60, 30)
    p.text(240, 245, "work that this device sends", 13, GREY)
    p.text(66, 26, "cost", 13, GREY, "start")
    p.parts.append(f'<path d="M80 90 Q 250 240 410 150" stroke="{BLUE}" stroke-width="2.2" fill="none"/>')
    p.parts.append(f'<path d="M80 86 Q 170 190 300 95 T 410 20" stroke="{ORANGE}" stroke-width="2.2" fill="none"/>')
    p.text(415, 165, "its own", 13, BLUE, "start")
    p.text(415, 30, "everybody's", 13, ORANGE, "start")
    p.parts.append(f'<circle cx="292" cy="181" r="5" fill="{BLUE}"/><circle cx="176" cy="136" r="5" fill="{ORANGE}"/>')
    p.text(292, 204, "selfish", 12, BLUE)
    p.text(176, 122, "best for all", 12, ORANGE)
    p.arrow(282, 178, 188, 142, color=RED)
    p.text(500, 90, "price = what one more unit of load\ncosts all others, at the server", 13, RED, "start")
    p.text(500, 145, "broadcast once per slot (4 bytes);\nown cost + price x load follows\neverybody's cost, so "
           "deciding for\noneself is deciding for all", 13, GREY, "start")  # fmt: skip
    return p


def reference() -> Picture:
    p = Picture(
        760, 200, "Bound, reference, controllers and baseline on one line of costs; the share of the gap that is closed"
    )
    p.arrow(40, 100, 735, 100)
    p.text(735, 88, "cost", 12, GREY, "end")
    for x, name, color, up in (
        (90, "bound\nnobody can be below", GREY, True), (190, "reference\ncomputed, near the optimum", GREEN, False),
        (330, "a controller", BLUE, True), (620, "baseline\n(random)", RED, False),
    ):  # fmt: skip
        p.line(x, 88, x, 112, color, 3)
        p.text(x, 52 if up else 132, name, 13, color)
    p.line(190, 160 + 18, 620, 160 + 18, "#C8CED2", 8)
    p.line(330, 178, 620, 178, BLUE, 8)
    p.text(475, 170, "gap closed: 67 %", 13, BLUE)
    return p


def _star(p: Picture, names: tuple[str, ...], x: float, note: str) -> None:
    for i, name in enumerate(names):
        y = 24 + 62 * i
        p.box(x, y, 170, 46, "", DEVICE)
        p.text(x + 10, y + 19, name, 13, anchor="start", bold=True)
        p.text(x + 10, y + 37, note, 11, GREY, "start")
        p.queue(x + 108, y + 6, (3, 1, 4)[i])


def sequential_offloading() -> Picture:
    p = Picture(760, 230, "Devices finish part of a task and send the rest to one server")
    _star(p, ("device_0", "device_1", "device_19"), 20, "queue of tasks, CPU rate")
    for i in range(3):
        p.arrow(190, 47 + 62 * i, 540, 90 + 12 * i, color=BLUE)
    p.text(370, 40, "residual r of the task that is part done", 13, BLUE)
    p.text(370, 172, "own band each; power grows as 2^r", 12, GREY)
    p.box(545, 60, 195, 84, "", SERVER)
    p.text(642, 86, "server", 14, bold=True)
    p.queue(612, 96, 3, color=ORANGE)
    p.text(642, 132, "one queue for all, CPU rate", 12, GREY)
    p.text(380, 216, "decide: how much to compute, how much to send.  pay: queued tasks and joules", 13)
    return p


def sampling_rate() -> Picture:
    p = Picture(760, 230, "Devices choose how much data to sample and where to infer, under accuracy targets")
    _star(p, ("device_0", "device_1", "device_9"), 20, "rate 1/4 .. 1, here or there")
    for i in range(3):
        p.arrow(190, 47 + 62 * i, 470, 62 + 46 * (i > 1), color=BLUE)
    p.text(325, 34, "sampled data over an equal band", 13, BLUE)
    p.box(475, 30, 265, 130, "", SERVER)
    p.text(607, 52, "server: CPU split over services", 13, bold=True)
    for j in range(2):
        p.box(490, 62 + 46 * j, 110, 36, f"service {j + 1}", "#fff", ORANGE, 12)
        p.queue(612, 73 + 46 * j, 2 + j, color=ORANGE)
        p.text(674, 85 + 46 * j, f"deficit Z{j + 1}", 12, RED, "start")
    p.text(380, 216, "decide: sampling rate and place.  pay: delay, while each service keeps its mean accuracy", 13)
    return p


def model_partitioning() -> Picture:
    p = Picture(760, 230, "Each device cuts its network: first layers run on it, the others at the edge")
    for i, cut in enumerate((2, 4)):
        y = 30 + 80 * i
        p.text(20, y - 6, f"device_{i}: {('AlexNet', 'ResNet18')[i]}", 13, anchor="start", bold=True)
        for layer in range(7):
            p.box(20 + 40 * layer, y, 34, 34, "", DEVICE if layer < cut else SERVER)
        x = 17 + 40 * cut
        p.line(x, y - 4, x, y + 40, RED, 3)
        p.text(x, y + 54, "cut", 12, RED)
        p.arrow(306, y + 17, 470, 82 + 18 * i, color=BLUE)
    p.text(395, 34, "feature map,", 12, BLUE)
    p.text(395, 50, "share of the band", 12, BLUE)
    p.box(475, 50, 265, 90, "edge server\nshares of one CPU", SERVER)
    p.text(608, 165, "broadcasts: how many offload, two prices", 12, RED)
    p.text(380, 216, "decide: where to cut.  pay: delay, beside long-run budgets of energy and memory", 13)
    return p


def model_pruning() -> Picture:
    p = Picture(
        760, 240, "Sensors with critical tasks, gateways with pruned networks, a server that is split over gateways"
    )
    for g in range(3):
        y = 20 + 62 * g
        for s in range(3):
            p.box(20 + 50 * s, y + 6, 40, 34, ("low", "mid", "high")[s], DEVICE, size=11)
        p.arrow(170, y + 23, 250, y + 23, color=BLUE)
        p.box(255, y, 190, 46, f"gateway_{g}\npruned network p", GATEWAY, size=12)
        p.arrow(445, y + 23, 560, 96 + 10 * g, color=BLUE)
    p.box(565, 66, 175, 80, "server\nfull network,\nshares of it", SERVER, size=13)
    p.text(95, 218, "sensors: level = deadline", 12, GREY)
    p.text(350, 218, "which pruned network", 12, GREY)
    p.text(650, 168, "how the compute is split", 12, GREY)
    p.text(380, 236, "decide: send or not, which network, which split.  lose: tasks that miss deadline or accuracy", 13)
    return p


def model_placement() -> Picture:
    p = Picture(760, 240, "Devices, gateways with caches, an edge server with a cache, a cloud that holds all models")
    for g in range(2):
        y = 30 + 90 * g
        for s in range(3):
            p.box(20 + 46 * s, y + 14, 38, 34, "task", DEVICE, size=11)
        p.arrow(158, y + 31, 216, y + 31, color=BLUE)
        p.box(220, y, 190, 62, f"gateway_{g}\ncache: light, heavy\nband, CPU", GATEWAY, size=12)
        p.arrow(410, y + 31, 486, 98 + 14 * g, color=BLUE)
    p.box(490, 70, 140, 70, "edge server\ncache, CPU", SERVER, size=13)
    p.arrow(690, 105, 634, 105, color=PURPLE)
    p.box(692, 75, 60, 60, "cloud", "#F6E8F0", PURPLE, size=12)
    p.text(600, 164, "a missing model is fetched,", 12, PURPLE)
    p.text(600, 180, "if it still comes in time", 12, PURPLE)
    p.text(
        380,
        230,
        "decide: where to run, light or heavy, shares, what stays cached.  gain: accuracy of tasks in time",
        13,
    )
    return p


PICTURES: tuple[Callable[[], Picture], ...] = (
    network, rows, trace, ledger, price, reference, sequential_offloading, sampling_rate, model_partitioning,
    model_pruning, model_placement,
)  # fmt: skip

if __name__ == "__main__":
    for draw in PICTURES:
        (IMAGES / f"{draw.__name__}.svg").write_text(draw().svg(), encoding="utf-8")
