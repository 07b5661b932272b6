"""An executed notebook as one HTML file that asks nobody for anything."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from importlib import resources
from typing import TYPE_CHECKING, Any

import bleach
import jinja2
from bleach.css_sanitizer import ALLOWED_CSS_PROPERTIES, CSSSanitizer
from nbconvert.filters import markdown2html, strip_ansi
from plotly.offline import get_plotlyjs

from koodrive_nb.privacy import PSEUDONYM
from koodrive_nb.report import figures, switch, tables

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from nbformat import NotebookNode

CALL_LIST = "call-list"
REMOVED = "remove-cell"
_TAGS = frozenset(
    {"a", "abbr", "b", "blockquote", "br", "caption", "code", "col", "colgroup", "dd", "del", "div"}
    | {"dl", "dt", "em", "h1", "h2", "h3", "h4", "h5", "h6", "hr", "i", "li", "ol", "p", "pre"}
    | {"s", "small", "span", "strong", "sub", "sup", "table", "tbody", "td", "tfoot", "th"}
    | {"thead", "tr", "ul"}
)
_ATTRIBUTES = {"*": ["style", "title", "colspan", "rowspan", "scope", "lang", "dir"], "a": ["href"]}
_CSS = CSSSanitizer(
    allowed_css_properties=ALLOWED_CSS_PROPERTIES
    | {"border", "border-radius", "display", "gap", "grid-template-columns", "line-height"}
    | {"margin", "min-width", "opacity", "padding"}
)
_DROPPED = re.compile(
    r"<(style|script|template|iframe|object)\b.*?(?:</\1\s*>|\Z)|<a class=.anchor-link.*?</a>",
    re.IGNORECASE | re.DOTALL,
)
_SMALL_CELL = re.compile(r"(<td[^>]*>)\s*[1-4](?:\.0+)?\s*(</td>)")
_IMAGES = ("image/png", "image/jpeg")


def write(  # noqa: PLR0913 -- each is a question of its own, and keyword-only
    notebook: NotebookNode,
    *,
    title: str,
    footer: list[str],
    complete: bool,
    counts: bool,
    show_code: bool,
) -> str:
    """Write the page; with `counts`, outputs with pseudonyms and small counts are left out."""
    blocks = [block for cell in notebook.cells for block in _of_cell(cell, show_code, counts)]
    place = resources.files("koodrive_nb.report")
    scripts = [get_plotlyjs(), place.joinpath("page.js").read_text(encoding="utf-8")]
    is_drawn = any(block["kind"] == "figure" for block in blocks)
    scripts = scripts if is_drawn else []
    template = jinja2.Environment(autoescape=False).from_string(  # noqa: S701 -- each text has its filter
        place.joinpath("page.html.j2").read_text(encoding="utf-8")
    )
    return template.render(
        title=title,
        style=place.joinpath("page.css").read_text(encoding="utf-8"),
        policy=_policy(scripts),
        complete=complete,
        switches=any(len(block.get("tables", ())) > 1 for block in blocks),
        modules={"all": "All"} | dict(switch.MODULES),
        blocks=blocks,
        footer=footer,
        scripts=scripts,
    )


def title_of(notebook: NotebookNode, otherwise: str) -> str:
    """Give the first heading of a notebook."""
    for cell in notebook.cells:
        found = re.search(r"^#+\s+(.+?)\s*#*$", cell.source, re.MULTILINE)
        if cell.cell_type == "markdown" and found:
            return re.sub(r"[*_`]", "", found[1])
    return otherwise


def _policy(scripts: list[str]) -> str:
    hashes = [
        f"'sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}'"
        for script in scripts
    ]
    return (
        f"default-src 'none'; script-src {' '.join(hashes) or chr(39) + 'none' + chr(39)}; "
        "style-src 'unsafe-inline'; img-src data: blob:; base-uri 'none'; form-action 'none'"
    )


def _of_cell(cell: NotebookNode, show_code: bool, counts: bool) -> Iterator[dict[str, Any]]:  # noqa: FBT001 -- passed through
    tags = cell.metadata.get("tags", ())
    if REMOVED in tags:
        return
    if cell.cell_type == "markdown":
        yield {"kind": "prose", "html": _clean(markdown2html(cell.source))}
    if cell.cell_type != "code":
        return
    if show_code and cell.source.strip():
        yield {"kind": "text", "name": "code", "text": cell.source}
    for output in cell.outputs:
        if not counts:
            yield from _of_output(output)
        elif CALL_LIST in tags or PSEUDONYM.search(json.dumps(output)):
            yield _left_out("A list of users or devices is left out: this report has counts alone.")
        else:
            yield from map(_masked, _of_output(output))


def _left_out(why: str) -> dict[str, Any]:
    return {"kind": "text", "name": "left-out", "text": why}


def _masked(block: dict[str, Any]) -> dict[str, Any]:
    if block["kind"] == "html":
        return block | {"html": _SMALL_CELL.sub(r"\1&lt;5\2", block["html"])}
    if block["kind"] == "figure" and any(map(figures.has_few, block["drawn"].values())):
        return _left_out(f"A figure is left out, since it shows counts below 5: {block['alt']}")
    return block


def _of_output(output: NotebookNode) -> Iterator[dict[str, Any]]:
    if output.output_type in {"stream", "error"}:
        is_error = output.output_type == "error"
        text = f"{output.ename}: {output.evalue}" if is_error else output.text
        name = "stderr" if is_error or output.name == "stderr" else "stdout"
        yield {"kind": "text", "name": name, "text": strip_ansi(text).rstrip()}
        return
    data = output.data
    if tables.MIME in data:
        return
    if switch.PLOTLY in data:
        yield _figure({"all": data[switch.PLOTLY]} | dict(data.get(switch.MIME, {})))
    elif "text/html" in data:
        yield {"kind": "html", "html": _clean(_joined(data["text/html"]))}
    elif "text/markdown" in data:
        yield {"kind": "prose", "html": _clean(markdown2html(_joined(data["text/markdown"])))}
    elif image := next((mime for mime in _IMAGES if mime in data), None):
        alt = _joined(data.get("text/plain", "An image"))
        encoded = re.sub(r"[^A-Za-z0-9+/=]", "", _joined(data[image]))
        yield {"kind": "image", "mime": image, "data": encoded, "alt": alt}
    elif "text/plain" in data:
        text = _joined(data["text/plain"])
        yield {"kind": "text", "name": "table" if "\n" in text else "plain", "text": text}


def _figure(drawn: Mapping[str, Any]) -> dict[str, Any]:
    known = {name: drawn[name] for name in ("all", *switch.MODULES) if name in drawn}
    told = {
        name: {
            "data": one.get("data", []),
            "layout": one.get("layout", {}),
            "alt": figures.alt(one),
        }
        for name, one in known.items()
    }
    # A script ends where HTML says so, whatever the JSON in it means.
    text = json.dumps(told, separators=(",", ":"), ensure_ascii=False).replace("<", "\\u003c")
    parts = []
    for name, one in known.items():
        heads, rows, count = figures.table(one)
        parts.append({"module": name, "heads": heads, "rows": rows, "count": count})
    height = known["all"].get("layout", {}).get("height")
    return {
        "kind": "figure",
        "drawn": known,
        "alt": figures.alt(known["all"]),
        "height": int(height) if isinstance(height, int | float) else 450,
        "json": text,
        "tables": parts,
    }


def _clean(text: str) -> str:
    cleaned = bleach.clean(
        _DROPPED.sub("", text),
        tags=_TAGS,
        attributes=_ATTRIBUTES,
        protocols=["https", "mailto"],
        css_sanitizer=_CSS,
        strip=True,
    )
    return str(cleaned)


def _joined(text: Any) -> str:
    return "".join(text) if isinstance(text, list) else str(text)
