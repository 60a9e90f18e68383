"""The answer key: every exercise with its reference solution, its hints and the slips that its checker knows."""

from spear_widgets import course
from spear_widgets.kit.exercise import Exercise, OpenQuestion
from teaching import pages
from teaching.capstone import CLIENTS


def level(task: Exercise | OpenQuestion) -> str:
    """How hard a task is, in words."""
    return task.level if isinstance(task, Exercise) else "open question"


def answer(task: Exercise | OpenQuestion) -> str:
    """A task with its answer, in HTML."""
    head = f"<section><h3><code>{task.name}</code> · {level(task)} · {task.minutes} minutes</h3>"
    if isinstance(task, OpenQuestion):
        return f"{head}{pages.as_html(task.text)}<blockquote>{pages.as_html(task.model_answer)}</blockquote></section>"
    slips = "\n".join(f"1. {mistake.hint}" for mistake in task.mistakes)
    hints = "\n".join(f"1. {hint}" for hint in task.hints)
    text = (
        f"{task.task}\n\n```python\n{task.solution}\n```\n\n**Hints, in this order**\n\n{hints}\n\n"
        f"**Slips that get a hint of their own**\n\n{slips}\n"
    )
    return f"{head}{pages.as_html(text)}</section>"


def page(points: dict[str, int]) -> str:
    """The whole key; `points` are those of the capstone's reference, by client."""
    chapters = course.chapters()
    found = [task for chapter in chapters for task in chapter.exercises.values()]
    rows = "\n".join(f"| `{task.name}` | {level(task)} | {task.minutes} |" for task in found)
    body = "<h1>Answer key</h1>" + pages.as_html(f"| exercise | kind | minutes |\n|---|---|---|\n{rows}\n")
    for chapter in chapters:
        body += f"<h2>{chapter.file[:2]} · {chapter.title}</h2>"
        body += "".join(answer(task) for task in chapter.exercises.values())
    clients = "\n".join(
        f"| `{name}` | {client.sends.__doc__} | {points[name]} |" for name, client in CLIENTS.items()
    )
    body += "<h2>Capstone</h2>" + pages.as_html(
        "The reference passes what is known of the client to `spear_core.invert`, hands in all rows, and claims those "
        "that are certified. A row that weighs as two is handed in twice, unclaimed.\n\n"
        f"| client | what it is there to show | points of the reference |\n|---|---|---|\n{clients}\n"
    )
    return pages.page("Answer key", body)
