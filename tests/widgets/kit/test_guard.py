"""What a reader's function does to the notebook: nothing that lasts, and each harm gets its own words."""

import signal
import threading
import time
from dataclasses import replace

import pytest
import torch

from spear_widgets.kit.exercise import Exercise, Mistake
from spear_widgets.kit.guard import PRINTED, TimeUp, run, time_limit

DOUBLE = Exercise(
    task="Write `double(x)`.",
    reference=lambda x: 2 * x,
    cases=lambda: [(f"{n} numbers", (torch.arange(1.0, n + 1, dtype=torch.float64),)) for n in (2, 3, 5)],
    mistakes=(Mistake(lambda x: x**2, "That is the square."),),
    hints=("Once more.", "Twice.", "2 * x"),
    seconds=0.3,
)


def exits(x):
    raise SystemExit(1)


def quits(x):
    quit()


def loops(x):
    while True:
        x = x + 1


def loops_and_prints(x):
    while True:
        print("still here")


def loops_and_catches(x):
    while True:
        try:
            time.sleep(0.01)
        except BaseException:
            if x.sum() > 0:
                x.zero_()  # the first alarm is caught, the second ends it
                continue
            raise


def recurs(x):
    return recurs(x)


def fills(x):
    return [0] * 10**14


def fills_a_tensor(x):
    return torch.zeros(10**14)


def mixes(x):
    return torch.linalg.solve(torch.eye(len(x)), x)


def prints(x):
    print(2 * x)


def forgets(x):
    y = 2 * x
    if y.sum() < 0:
        return y


def half_given(x):
    return 2 * x if len(x) < 3 else None


def wrong_arguments(x, y):
    return x + y


def misspells(x):
    return 2 * z  # noqa: F821


def placeholder(x):
    raise NotImplementedError


HARM = [
    (exits, "ended the program", "`exit` gives nothing back"),
    (quits, "ended the program", "`exit` gives nothing back"),
    (loops, "did not end within 0.3 seconds", "must change with each turn"),
    (loops_and_prints, "did not end within 0.3 seconds", "must change with each turn"),
    (loops_and_catches, "did not end within 0.3 seconds", "must change with each turn"),
    (recurs, "calls itself without end", "case in which it does not call itself"),
    (fills, "raised MemoryError", "product of all its dimensions"),
    (fills_a_tensor, "raised RuntimeError", "product of all its dimensions"),
    (mixes, "raised RuntimeError", "32 and 64 bits do not mix"),
    (prints, "returned nothing", "`return` it"),
    (forgets, "returned nothing", "Does every way"),
    (half_given, "returned nothing", "Does every way"),
    (wrong_arguments, "raised TypeError", "as they were given"),
    (misspells, "raised NameError", "name 'z' is not defined"),
    (placeholder, "Not answered yet", "run this cell again"),
]


@pytest.mark.parametrize(
    ("function", "words", "hint"), HARM, ids=[function.__name__ for function, *_ in HARM]
)
def test_harm_ends_in_a_hint(function, words: str, hint: str):
    verdict = DOUBLE.verdict(function)
    assert not verdict.passed and words in verdict.words and hint in verdict.hint, verdict
    assert DOUBLE.verdict(lambda x: x + x).passed


def test_the_line_in_which_it_hung_is_shown():
    assert dict(DOUBLE.verdict(loops).details)["your line"].endswith(("while True:", "x = x + 1"))


def test_prints_are_shown_with_the_verdict():
    def looks(x):
        print("sum", float(x.sum()))
        return x

    assert dict(DOUBLE.verdict(looks).details)["printed"] == "sum 3.0"
    ran = run(lambda: [print("x" * 100) for _ in range(1000)], (), 5)
    assert len(ran.printed) == PRINTED


def test_the_reader_s_own_interrupt_gets_through():
    def interrupted(x):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        DOUBLE.verdict(interrupted)


def test_a_right_answer_that_writes_into_its_arguments_is_told():
    verdict = DOUBLE.verdict(lambda x: x.mul_(2))
    assert verdict.passed and "writes into `x`" in verdict.hint
    assert "Note: " in repr(verdict) and "<b>Note.</b>" in verdict._repr_html_()


def test_lists_dictionaries_generators_and_models_are_copied():
    generator = torch.Generator().manual_seed(1)
    model = torch.nn.Linear(2, 2)
    given = ([1, [2]], {"a": 1}, generator, model)

    def spoils(numbers, table, generator, model):
        numbers[1].append(3)
        table["b"] = 2
        model.weight.data.zero_()
        return torch.randn(1, generator=generator)

    first, second = run(spoils, given, 5), run(spoils, given, 5)
    assert torch.equal(first.value, second.value)
    assert first.changed == (0, 1)
    assert given[:2] == ([1, [2]], {"a": 1}) and model.weight.any()


def test_in_a_thread_there_is_a_limit_too():
    """Where the system has no alarms, as on Windows."""
    verdicts = []
    thread = threading.Thread(target=lambda: verdicts.extend(map(DOUBLE.verdict, (loops, lambda x: 2 * x))))
    thread.start()
    thread.join(60)
    assert "did not end" in verdicts[0].words and verdicts[1].passed


def test_without_alarms_the_main_thread_is_watched(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delattr(signal, "setitimer")
    assert "did not end" in DOUBLE.verdict(loops).words
    assert DOUBLE.verdict(lambda x: 2 * x).passed


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="needs alarms, which Windows has not")
def test_somebody_else_s_alarm_goes_on():
    rung = []
    before = signal.signal(signal.SIGALRM, lambda *_: rung.append(time.monotonic()))
    left = signal.setitimer(signal.ITIMER_REAL, 0.6)
    try:
        with pytest.raises(TimeUp), time_limit(0.2):
            while True:
                pass
        assert not rung
        deadline = time.monotonic() + 20
        while not rung and time.monotonic() < deadline:
            time.sleep(0.05)
        assert rung
    finally:
        signal.setitimer(signal.ITIMER_REAL, *left)
        signal.signal(signal.SIGALRM, before)


def test_a_judge_decides_where_many_answers_are_right():
    even = replace(
        DOUBLE, judge=lambda arguments, yours: "" if yours % 2 == 0 else f"{yours} is odd.", mistakes=()
    )
    even = replace(even, reference=lambda x: 2 * len(x))
    assert even.verdict(lambda x: 4).passed and even.verdict(even.reference).passed
    verdict = even.verdict(lambda x: 5)
    assert not verdict.passed and verdict.hint == "5 is odd." and "wanted" not in dict(verdict.details)
    assert "right type and shape" in even.verdict(lambda x: "text").hint
