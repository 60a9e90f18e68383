"""The filter in two stages: a few rows first, all rows for those that pass."""

from spear_core.spear.sparsity import FIRST_ROWS, FIRST_ZEROS
from spear_core.study import theory
from spear_core.study.candidates import two_stages
from spear_widgets.kit import base, controls, drawing
from spear_widgets.kit.canvas import Canvas
from spear_widgets.kit.ribbon import Ribbon
from spear_widgets.kit.scene import scene
from spear_widgets.kit.words import chance
from spear_widgets.sampling.candidate import CANDIDATES, candidates

STAGE_BATCH, STAGE_WIDTH = 8, 200


class StageExplorer(base.Explorer):
    """How many rows should the first stage look at, and how many zeros should it ask for?

    Attributes:
        stage: client and server of the batch.
        state: cost and losses of the present choice.
    """

    name = "stages"
    title = "Two stages: a few rows first, all rows for those that pass"
    ribbon = Ribbon()
    description = (
        "Bars for the share of right candidates lost, the share of wrong ones that pass, and the entries of L q "
        "computed for each draw with two stages, against all entries with one stage."
    )

    def __init__(self) -> None:
        self.stage = scene("photos", STAGE_BATCH, STAGE_WIDTH)
        self.candidates = candidates(self.stage, CANDIDATES)
        self._canvas = Canvas(drawing.WIDTH, 200)
        self._draw_frame()
        super().__init__(
            {
                "rows": controls.slider("rows of the first stage", FIRST_ROWS, 4, 64, track=14),
                "zeros": controls.slider("zeros wanted among them", FIRST_ZEROS, 0, 16, track=14),
            }
        )
        self.refresh()

    def _draw_frame(self) -> None:
        self._bars, self._texts = [], []
        names = ["right candidates lost", "wrong candidates passed", "entries computed per draw"]
        axes = self._canvas.axes(0.25, 0.2, 0.72, 0.76)
        for line, (name, tint, hatch) in enumerate(
            zip(names, (drawing.ORANGE, drawing.BLUE, drawing.GREEN), ("//", "..", ""))
        ):
            (bar,) = axes.barh([line], [0.0], height=0.55, color=tint, hatch=hatch, edgecolor="white")
            self._bars.append(bar)
            self._texts.append(axes.text(0.01, line, "", va="center", fontsize=11))
            axes.text(-0.01, line, name, ha="right", va="center", fontsize=11)
        axes.axvline(1, color=drawing.INK, linestyle="--", linewidth=1)
        axes.text(1.005, -0.45, "one stage", fontsize=9, va="top")
        axes.set(xlim=(0, 1.15), ylim=(2.5, -0.5), yticks=[], xticks=[0, 0.25, 0.5, 0.75, 1])
        axes.set_xticklabels(["0", "25 %", "50 %", "75 %", "100 %"])
        self._canvas.moving(*self._bars, *self._texts)

    def update(self) -> None:
        """Draw the present setting."""
        rows = self.values["rows"]
        with self.quietly():  # more zeros than rows cannot be asked for
            self.control["zeros"].max = min(16, rows)
        zeros = self.control["zeros"].value
        self.state = two_stages(self.candidates, rows, zeros)
        lengths = [self.state.lost, self.state.passed, self.state.entries / STAGE_WIDTH]
        words = [
            chance(self.state.lost),
            chance(self.state.passed),
            f"{self.state.entries:.0f} of {STAGE_WIDTH}",
        ]
        for bar, text, length, word in zip(self._bars, self._texts, lengths, words):
            bar.set_width(min(length, 1.12))
            text.set_text(word)
            text.set_x(min(length, 1.0) + 0.01)
        self.show("picture", self._canvas.image())
        factor = STAGE_WIDTH / self.state.entries
        saved = f"{factor:.1f} times less work" if factor >= 1.05 else "nothing saved"
        self.say(
            f"{rows} rows, {zeros} zero{'' if zeros == 1 else 's'} wanted: "
            f"<b>{saved}</b>, compared with all {STAGE_WIDTH} rows; "
            f"right candidates lost: {chance(self.state.lost)} (in theory, if half of the entries are zero: "
            f"{chance(theory.false_rejection(rows, zeros / rows))})."
        )
