"""Which exercises are solved: a map for the first notebook, and the same as text for the command line.

`python -m spear_widgets.progress [folder]` prints it for the folder with the notebooks.
"""

import html
import sys
from dataclasses import dataclass
from pathlib import Path

from spear_widgets import course
from spear_widgets.kit import answers
from spear_widgets.kit.verdict import MARKS

SOLVED, TRIED, OPEN = MARKS


@dataclass(frozen=True)
class Progress:
    """The answers that were found, beside the exercises that there are.

    Attributes:
        kept: what `progress.json` holds.
        fault: what is wrong with that file, in words.
    """

    kept: answers.Answers
    fault: str = ""

    def state(self, name: str) -> str:
        """Of one exercise."""
        entry = self.kept.get(name)
        return OPEN if entry is None else SOLVED if entry.get("solved") else TRIED

    def __repr__(self) -> str:
        lines = [self._total()]
        for chapter in course.chapters():
            marks = [
                f"{MARKS[self.state(one.name)][0]} {_short(one.name)}" for one in chapter.exercises.values()
            ]
            lines.append(f"{chapter.file[:2]} {chapter.title:<20} {'  '.join(marks)}  {self._left(chapter)}")
        return "\n".join([*lines, self.fault] if self.fault else lines)

    def _repr_html_(self) -> str:
        cell = "style='padding:2px 14px 2px 0;text-align:left;vertical-align:top;background:none'"
        heads = "".join(f"<th scope='col' {cell}>{title}</th>" for title in ("Notebook", "Exercises", "Left"))
        rows = ""
        for chapter in course.chapters():
            link = f"<a href='{chapter.file}'>{chapter.file[:2]} · {chapter.title}</a>"
            marks = "".join(self._mark(one.name) for one in chapter.exercises.values())
            rows += (
                f"<tr style='background:none'><th scope='row' {cell}>{link}</th><td {cell}>{marks}</td>"
                f"<td {cell}>{self._left(chapter)}</td></tr>"
            )
        legend = ", ".join(f"{mark} {state}" for state, (mark, _) in MARKS.items())
        fault = f"<p>{html.escape(self.fault)}</p>" if self.fault else ""
        return (
            f"<table style='border:0'><caption style='text-align:left'>{self._total()} ({legend})</caption>"
            f"<thead><tr>{heads}</tr></thead><tbody>{rows}</tbody></table>{fault}"
        )

    def _mark(self, name: str) -> str:
        mark, colour = MARKS[self.state(name)]
        return f"<span style='margin-right:14px'><b style='color:{colour}'>{mark}</b> {_short(name)}</span> "

    def _total(self) -> str:
        every = [one for chapter in course.chapters() for one in chapter.exercises.values()]
        solved = [one for one in every if self.state(one.name) == SOLVED]
        left = sum(one.minutes for one in every) - sum(one.minutes for one in solved)
        return (
            f"{len(solved)} of {len(every)} exercises solved; {_time(left)} left."
            if left
            else "All exercises solved."
        )

    def _left(self, chapter: course.Chapter) -> str:
        left = sum(one.minutes for one in chapter.exercises.values() if self.state(one.name) != SOLVED)
        return _time(left) if left else "done"


def _short(name: str) -> str:
    return name.partition("/")[2].replace("_", " ")


def _time(minutes: int) -> str:
    hours, rest = divmod(minutes, 60)
    return f"{hours} h {rest} min" if hours else f"{rest} min"


def show() -> Progress:
    """The map, for a notebook that stands beside the others."""
    return Progress(*answers.read(answers.place()))


def report(folder: str | Path = ".") -> str:
    """The map as text, for the notebooks in a folder."""
    return repr(Progress(*answers.read(Path(folder) / answers.NAME)))


if __name__ == "__main__":
    sys.stdout.write(report(*sys.argv[1:2]) + "\n")
