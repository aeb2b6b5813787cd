"""matplotlib's SVG made fit for a page: colours by CSS variable, no style attribute, names of its own.

matplotlib draws, for scales, ticks and layout are its trade, and a chart library of the browser would be
megabytes of script to allow. What it writes is changed so that one drawing serves dark, light and paper, and
so that the page's policy need not allow inline styles.
"""

from __future__ import annotations

import io
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING
from xml.etree import ElementTree

from openrlhf_rad.style import COLOURS

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_SVG = "{http://www.w3.org/2000/svg}"
_HREF = "{http://www.w3.org/1999/xlink}href"

#: The fill of a mark that is not seen and shows a value when pointed at.
POINTER = "#0000ff"
#: A group of matplotlib with the id `tip-3` gets text 3 of those given.
TIP = "tip-"

_VARIABLES = {colour: f"var(--{name})" for name, colour in COLOURS.items()}
_REFERENCE = re.compile(r"url\(#([^)]+)\)")
# All else that matplotlib writes, such as stroke-linejoin: miter, is the default or inherited.
_KEPT = {
    *("fill", "fill-opacity", "opacity", "stroke", "stroke-width", "stroke-opacity", "stroke-dasharray"),
    *("stroke-dashoffset", "stroke-linecap", "stroke-linejoin", "font-size", "font-weight", "text-anchor"),
}


def inline_svg(figure: Figure, name: str, title: str, description: str, tips: Sequence[str] = ()) -> str:
    """The figure as an `<svg>` element for a page.

    Args:
        name: begins every id of the drawing; must be unique in the page.
        title, description: what a screen reader says: what is drawn, and what is to be seen.
        tips: texts shown when a mark of id `tip-<index>` is pointed at.
    """
    import matplotlib as mpl  # noqa: PLC0415 - half a second that other commands need not wait

    buffer = io.BytesIO()
    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": "openrlhf-rad"}):
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    root = ElementTree.fromstring(buffer.getvalue())
    for element in root.findall(f"{_SVG}metadata"):
        root.remove(element)
    for parent in root.iter():
        for child in parent.findall(f"{_SVG}style"):
            parent.remove(child)
    for element in root.iter():
        _restyle(element)
        _add_tip(element, tips)
    _rename(root, name)
    box = root.get("viewBox", "")
    root.attrib.clear()
    root.attrib |= {"viewBox": box, "role": "img", "aria-labelledby": f"{name}-title {name}-text"}
    for place, (tag, text) in enumerate((("title", title), ("desc", description))):
        child = ElementTree.Element(tag, {"id": f"{name}-{'title' if tag == 'title' else 'text'}"})
        child.text = text
        root.insert(place, child)
    for element in root.iter():
        element.tag = element.tag.removeprefix(_SVG)
    return ElementTree.tostring(root, encoding="unicode", short_empty_elements=False)


def _restyle(element: ElementTree.Element) -> None:
    """Turn a style attribute into attributes of its own, and stand-in colours into variables."""
    for item in element.attrib.pop("style", "").split(";"):
        key, _, value = (part.strip() for part in item.partition(":"))
        if key == "font":
            size = re.search(r"([\d.]+)px", value)
            weight = re.search(r"\b(bold|\d00)\b", value)
            element.attrib |= {"font-size": size.group(1)} if size else {}
            element.attrib |= {"font-weight": weight.group(1)} if weight else {}
        elif key in _KEPT:
            element.set(key, value)
    for key in ("fill", "stroke"):
        value = element.get(key, "")
        if value == POINTER:
            element.set(key, "transparent")
        elif value in _VARIABLES:
            element.set(key, _VARIABLES[value])


def _add_tip(element: ElementTree.Element, tips: Sequence[str]) -> None:
    name = element.get("id", "")
    if name.startswith(TIP):
        title = ElementTree.Element("title")
        title.text = tips[int(name.removeprefix(TIP))]
        element.insert(0, title)


def _rename(root: ElementTree.Element, name: str) -> None:
    """Keep the ids that something refers to, and put the drawing's name before them."""
    used = set()
    for element in root.iter():
        target = element.attrib.pop(_HREF, element.get("href", "")).removeprefix("#")
        if target:
            used.add(target)
            element.set("href", f"#{name}-{target}")
        for key, value in element.attrib.items():
            used |= set(_REFERENCE.findall(value))
            element.set(key, _REFERENCE.sub(rf"url(#{name}-\1)", value))
    for element in root.iter():
        held = element.attrib.pop("id", None)
        if held in used:
            element.set("id", f"{name}-{held}")
