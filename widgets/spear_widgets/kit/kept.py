"""What a saved notebook shows of a widget whose kernel is gone: its picture, and a way to run the notebook again.

JupyterLab prefers a stored widget view to a picture beside it, and then says that there is no such model. So a widget
is shown as three outputs: a button with a style sheet, the view, and what stands for it. While the view lives, the
style sheet hides the other two; where it does not, it hides the view. It is plain CSS, since a notebook that nobody has
trusted yet loses scripts and style sheets, but keeps the button and shows no views. Elsewhere (GitHub, an HTML
page, print) what stands for the view is shown, and no button, which could do nothing there.
"""

from typing import Any

from IPython.display import display

VIEW = "application/vnd.jupyter.widget-view+json"

# The output after the button's is the view; the one after that, what stands for it. A view that lives has elements, one
# that loads or has failed has words only, and one whose kernel was restarted shows broken links. Beside a view that
# loads the others wait, or they would be seen in each run.
BUTTON = """<style>
.kept-run:not(.jp-NotebookPanel *) {display: none !important}
.jp-NotebookPanel .jp-OutputArea-child:has(.kept-run) {
    & + :not(:has(.jp-OutputArea-output *)), & + :has(.jupyter-widgets-disconnected),
    &:has(+ * .jupyter-widgets > *):not(:has(+ * .jupyter-widgets-disconnected)),
    & + :has(.jupyter-widgets > *):not(:has(.jupyter-widgets-disconnected)) + * {display: none}
    &:not(:has(+ * :is(.jupyter-widgets, pre))), & + :not(:has(.jp-OutputArea-output *, .jupyter-widgets)) + *
        {max-height: 0; overflow: hidden; animation: kept-late 0s 4s forwards}
}
@keyframes kept-late {to {max-height: none}}
</style>
<button class="kept-run jp-mod-styled jp-mod-accept" data-commandlinker-command="notebook:run-all-cells">\
Run this notebook</button>"""
BUTTON_TEXT = "Run this notebook, and what follows has controls."


class Kept:
    """A widget that shows itself with what stands for it; `_repr_mimebundle_` must hold both.

    Attributes:
        title: what the view is, in a few words.
    """

    title = ""

    def _repr_mimebundle_(self, **kwargs: Any) -> Any:
        return super()._repr_mimebundle_(**kwargs)  # type: ignore[misc]

    def _ipython_display_(self) -> None:
        bundle = self._repr_mimebundle_()
        data, metadata = bundle if isinstance(bundle, tuple) else (bundle, {})
        rest = {kind: content for kind, content in data.items() if kind != VIEW}
        display({"text/html": BUTTON, "text/plain": BUTTON_TEXT}, raw=True)
        display({VIEW: data[VIEW], "text/plain": f"With controls: {self.title}"}, raw=True)
        display(rest, metadata=metadata, raw=True)
