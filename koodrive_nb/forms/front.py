"""What a form needs to have done in the browser itself."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import ipywidgets as widgets

# JupyterLab puts a figure on the page after plotly.js has drawn it, 700 pixels wide; plotly.js
# follows the window alone. And JupyterLab takes the keys that choose from a list for its own.
_SCRIPT = """
function render({ el }) {
  let width = 0;
  const observer = new ResizeObserver(() => {
    const form = el.closest(".koodrive-form");
    for (const list of form ? form.querySelectorAll("select") : []) {
      list.dataset.lmSuppressShortcuts = "true";
    }
    if (el.clientWidth && el.clientWidth !== width) {
      window.dispatchEvent(new Event("resize"));
    }
    width = el.clientWidth;
  });
  observer.observe(el);
  return () => observer.disconnect();
}
export default { render };
"""


def helpers() -> list[widgets.Widget]:
    """Make a widget without height that follows the form's width and keeps keys in its lists.

    There is none without anywidget, which FigureWidget needs too.
    """
    try:
        import anywidget  # noqa: PLC0415 -- a form works without it
    except ImportError:
        return []
    return [anywidget.AnyWidget(_esm=_SCRIPT)]
