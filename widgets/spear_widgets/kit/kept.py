"""What a saved notebook shows of a widget whose kernel is gone: its picture, and a way to run the notebook again.

JupyterLab prefers a stored widget view to a picture beside it, and then says that there is no such model. So a widget
is shown as three outputs: a short script, the view, and what stands for it. While the view lives, the script's style
sheet hides the last one; where the view fails, or its kernel was restarted, it hides the view. Readers that know
neither widgets nor scripts show what stands for the view.
"""

from typing import Any

from IPython.display import display

VIEW = "application/vnd.jupyter.widget-view+json"

# An output whose view has failed holds words only; one that was restarted, a broken link.
SCRIPT = """<script>(() => {
const area = document.currentScript.closest(".jp-OutputArea");
if (!area) return;
const view = '[data-mime-type="application/vnd.jupyter.widget-view+json"]';
const child = ".jp-OutputArea-child", has = `:has(> ${view})`;
const gone = `:has(> ${view}:is(.jupyter-widgets:not(:has(*)), :has(.jupyter-widgets-disconnected)))`;
const lost = child + gone, alive = `${child}${has}:not(${gone})`;
const style = document.createElement("style");
style.textContent = `${lost}, ${alive} + ${child}, .jp-OutputArea:has(> ${alive}) .spear-run {display: none}`;
const button = document.createElement("button");
button.className = "spear-run jp-mod-styled jp-mod-accept";
button.textContent = "Run this notebook";
button.onclick = () => document.querySelector('[data-command="notebook:restart-run-all"]')?.click();
document.currentScript.replaceWith(style, button);
})()</script>"""


class Kept:
    """A widget that shows itself with what stands for it; `_repr_mimebundle_` must hold both."""

    def _repr_mimebundle_(self, **kwargs: Any) -> Any:
        return super()._repr_mimebundle_(**kwargs)  # type: ignore[misc]

    def _ipython_display_(self) -> None:
        bundle = self._repr_mimebundle_()
        data, metadata = bundle if isinstance(bundle, tuple) else (bundle, {})
        words = {"text/plain": data["text/plain"]}
        view = {VIEW: data[VIEW]} | words
        rest = {kind: content for kind, content in data.items() if kind != VIEW}
        display({"text/html": SCRIPT, "text/plain": ""}, raw=True)
        display(view, raw=True)
        display(rest, metadata=metadata, raw=True)
