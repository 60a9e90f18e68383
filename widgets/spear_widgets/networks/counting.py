"""Counting equations: how many numbers about a batch pass each value of a network, beside the unknowns."""

from dataclasses import dataclass, replace
from functools import lru_cache, partial

from PIL import Image, ImageDraw

from spear_core.front.bound import Bound, Exactness, bound
from spear_core.front.part import front_of
from spear_core.model.reading import choose, read
from spear_widgets.kit import base, controls, drawing
from spear_widgets.kit.ribbon import Ribbon
from spear_widgets.networks.designs import FLOWER, POOLS, Design, network

CHANNELS = (2, 4, 6, 8, 12, 16, 24, 32)
MORE_CHANNELS = (4, 8, 16, 32, 64)
BATCHES = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096)
REACH = 2.0  # unknowns that the scale shows; longer bars are cut
ROW, LEFT, RIGHT = 34, 250, 620  # pixels: height of a row, ends of its bar
WORDS = {
    "conv": "convolution",
    "relu": "ReLU",
    "pool": "pool",
    "linear": "linear layer",
    "linear_": "output layer",
}
MARKS = {Exactness.CANNOT: "✗", Exactness.CAN: "✓", Exactness.UNKNOWN: "?"}


@lru_cache(maxsize=64)
def counted(design: Design, *, look: bool = False) -> Bound:
    """What `spear_core` says of a network at b = 1, with `look` also the rank at a random picture."""
    model = network(design)
    sizes = {
        name: parameter.detach() for name, parameter in model.named_parameters()
    }  # a gradient has its shape
    reading = read(model, sizes)
    front = front_of(reading, choose(reading, "hidden")[0], design.shape, sizes["hidden.weight"])
    found = bound(reading.traced, front, sizes, 1, look=look)
    assert found is not None
    return found


@dataclass(frozen=True)
class Row:
    """Values that let the same numbers through.

    Attributes:
        names: of the values, in words.
        each: numbers of one sample.
        before: entries of the gradients before them.
        narrowest: whether the fewest numbers about the batch pass here.
    """

    names: str
    each: int
    before: int
    narrowest: bool

    def most(self, b: int) -> int:
        """Numbers about b samples."""
        return b * self.each + self.before


def rows(found: Bound) -> list[Row]:
    """The cuts of a bound, those that are alike in one row."""
    joined: dict[tuple[int, int], list[str]] = {}
    for cut in found.cuts:
        if cut.name != "flatten":  # changes the shape only
            joined.setdefault((cut.numbers, cut.before), []).append(_in_words(cut.name))
    least = found.narrowest
    return [
        Row(", ".join(dict.fromkeys(names)), *cut, cut == (least.numbers, least.before))
        for cut, names in joined.items()
    ]


def _in_words(name: str) -> str:
    kind = name.rstrip("0123456789")
    number = name.removeprefix(kind) if kind in ("conv", "pool") else ""
    return f"{WORDS.get(kind, name)} {number}".strip()


def picture(found: Bound) -> Image.Image:
    """One bar for each row of a bound, and the unknowns as a line."""
    b, n, table = found.batch_size, found.unknowns, rows(found)
    sheet = drawing.sheet(drawing.WIDTH, 64 + ROW * len(table))
    draw, one = ImageDraw.Draw(sheet), (RIGHT - LEFT) / REACH
    box = partial(_box, draw)
    for at, row in enumerate(table):
        top = 52 + ROW * at
        along = min(REACH, b * row.each / (b * n)) * one
        end = min(REACH, row.most(b) / (b * n)) * one
        box(LEFT, top, LEFT + along, top + 20, drawing.BLUE)
        box(LEFT + along, top, LEFT + end, top + 20, drawing.YELLOW)
        place = f"▸ {row.names}" if row.narrowest else row.names
        drawing.write(sheet, (LEFT - 10, top + 16), place, 14, anchor="rs", bold=row.narrowest)
        sent = f" + {row.before:,}" if row.before else ""
        sums = f"{row.before:,}" if not row.each else f"{b:,} × {row.each:,}{sent} = {row.most(b):,}"
        more = "… " if row.most(b) > REACH * b * n else ""
        drawing.write(sheet, (RIGHT + 12, top + 16), f"{more}{sums}", 14, bold=row.narrowest)
    line = LEFT + one
    box(line - 1, 40, line + 1, 60 + ROW * len(table), drawing.INK)
    unknowns = f"{b:,} × {n:,} = {b * n:,} unknowns" if b > 1 else f"{n:,} unknowns"
    drawing.write(sheet, (line, 34), unknowns, 14, anchor="ms", bold=True)
    for left, colour, words in ((8, drawing.BLUE, "b · d"), (84, drawing.YELLOW, "P")):
        box(left, 20, left + 16, 34, colour)
        drawing.write(sheet, (left + 22, 33), words, 14)
    return sheet


def _box(
    draw: ImageDraw.ImageDraw, left: float, top: float, right: float, bottom: float, colour: str
) -> None:
    ends = [round(drawing.SCALE * end) for end in (left, top, right, bottom)]
    if ends[2] > ends[0]:
        draw.rectangle((ends[0], ends[1], ends[2] - 1, ends[3] - 1), fill=drawing.tint(colour))


class CountExplorer(base.Explorer):
    """A network of the reader's own, and how many numbers about a batch pass each of its values.

    Attributes:
        bound: what `spear_core` says of it; None of a network that no picture passes.
    """

    name = "counting"
    ribbon = Ribbon()
    title = "How many numbers pass"
    description = (
        "One bar for each value of a network that everything passes through: how many numbers about a batch pass it "
        "at most, beside a line at the number of unknowns; the narrowest is marked, and the verdict is given in words."
    )

    def __init__(self) -> None:
        self.bound: Bound | None = None
        first = FLOWER
        padding = [("as large as before", True), ("none", False)]
        super().__init__(
            {
                "b": controls.stops("batch size b", BATCHES, 1),
                "side": controls.stops("pixels a side", (16, 20, 24, 28, 32), first.side, track=6),
                "colours": controls.dropdown(
                    "colours", [("grey", 1), ("red, green, blue", 3)], first.colours
                ),
                "first": controls.stops("channels 1", CHANNELS, first.first, track=6),
                "second": controls.stops("channels 2", MORE_CHANNELS, first.second, track=6),
                "kernel": controls.dropdown("kernel", [("3 × 3", 3), ("5 × 5", 5)], first.kernel),
                "stride": controls.dropdown("stride", (1, 2), first.stride),
                "padded": controls.dropdown("padding", padding, first.padded),
                "pool": controls.dropdown("pools", tuple(POOLS), first.pool),
            },
            buttons=[look := self.button("Ask for the rank", self.look)],
        )
        look.tooltip = "Whether the features determine a random picture; takes a second or two"
        self.refresh()

    @property
    def design(self) -> Design:
        """The network at present."""
        chosen = self.values
        chosen.pop("b")
        return Design(units=FLOWER.units, **chosen)

    def update(self) -> None:
        """Count, draw, and say what follows."""
        self._draw(look=False)

    def look(self) -> None:
        """Ask for the rank as well, which takes longer."""
        with base.one_thread(), drawing.on_page():
            self._draw(look=True)

    def _draw(self, *, look: bool) -> None:
        try:
            found = counted(self.design, look=look)
        except ValueError as error:
            self.bound = None
            self.say(str(error))
            self.show("picture", drawing.paragraph(str(error)))
            return
        self.bound = replace(found, batch_size=self.values["b"])
        self.show("picture", picture(self.bound))
        words = str(self.bound)
        said = f"<b>{MARKS[self.bound.exactness]} {words[0].upper()}{words[1:].partition(':')[0]}</b>"
        self.say(f"{said}:{words.partition(':')[2]}.")
