"""The reader's answers, kept in a small file beside the notebooks, so that they survive a restart.

`progress.json` holds for each exercise the last answer, or the last right one, with its verdict and time, and when it
was solved first. It is written where a notebook runs, or where SPEAR_PROGRESS says (empty: nowhere). What goes wrong
with it is said in words.
"""

import json
import os
import tempfile
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

from spear_widgets.kit.verdict import Verdict

NAME = "progress.json"
Answers = dict[str, dict[str, Any]]


def place() -> Path | None:
    """Where answers are kept: beside the notebook that runs; None outside notebooks."""
    if "SPEAR_PROGRESS" in os.environ:
        return Path(os.environ["SPEAR_PROGRESS"]) if os.environ["SPEAR_PROGRESS"] else None
    from IPython.core.getipython import get_ipython

    return Path.cwd() / NAME if get_ipython() is not None else None


def read(path: Path | None) -> tuple[Answers, str]:
    """All answers, and what is wrong with the file, in words; neither, if there is none."""
    if path is None:
        return {}, ""
    try:
        kept = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}, ""
    except OSError as error:
        return {}, f"{path.name} cannot be read: {error.strerror}."
    except ValueError as error:
        return {}, f"{path.name} is damaged ({error})."
    if not (isinstance(kept, dict) and all(_is_entry(entry) for entry in kept.values())):
        return {}, f"{path.name} is damaged (it must hold an entry for each exercise)."
    return kept, ""


def _is_entry(entry: Any) -> bool:
    return (
        isinstance(entry, dict)
        and isinstance(entry.get("solved", ""), str)
        and all(isinstance(entry.get(key), str) for key in ("time", "verdict"))
        and isinstance(entry.get("answer"), list)
        and all(isinstance(line, str) for line in entry["answer"])
    )


def keep(name: str, answer: str, verdict: Verdict) -> Verdict:
    """Note an answer; the verdict, with a line more if it could not be kept."""
    path = place()
    if path is None or not name:
        return verdict
    kept, fault = read(path)
    now = datetime.now().isoformat(" ", "seconds")
    solved = kept.get(name, {}).get("solved", now if verdict.passed else "")
    if solved and not verdict.passed:  # a right answer is not lost by trying another
        return verdict
    kept[name] = {
        **({"solved": solved} if solved else {}),
        "time": now,
        "verdict": verdict.words,
        "answer": answer.rstrip().splitlines(),
    }
    try:
        if fault and path.is_file():  # somebody may want to mend it
            os.replace(path, path.with_suffix(".damaged.json"))
            fault += " It is now called progress.damaged.json, and a new one is begun."
        _write(path, json.dumps(kept, indent=1, ensure_ascii=False) + "\n")
    except OSError as error:
        fault = f"{path.name} cannot be written: {error.strerror}. This answer is not kept."
    return replace(verdict, details=(*verdict.details, ("progress", fault))) if fault else verdict


def _write(path: Path, text: str) -> None:
    """All or nothing: a crash in between leaves the old file."""
    handle, new = tempfile.mkstemp(dir=path.parent, prefix=".progress-")
    try:
        with open(handle, "w", encoding="utf-8") as file:
            file.write(text)
        os.replace(new, path)
    except BaseException:
        Path(new).unlink(missing_ok=True)
        raise


def last(name: str) -> tuple[str, str] | None:
    """The last answer to an exercise and what to call it; None if there is none."""
    entry = read(place())[0].get(name)
    if entry is None or not entry["answer"]:
        return None
    return f"Your answer of {entry['time'][:16]}: {entry['verdict']}", "\n".join(entry["answer"])
