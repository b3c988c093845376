"""Tables for notebooks."""

import html
from collections.abc import Iterable


def table(caption: str, head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """A table in HTML; the first cell of every row is its heading."""
    cells = "".join(f"<th>{html.escape(cell)}</th>" for cell in head)
    return (
        f"<table><caption>{html.escape(caption)}</caption>"
        f"<tr>{cells}</tr>{''.join(map(_row, rows))}</table>"
    )


def _row(cells: Iterable[str]) -> str:
    heading, *rest = map(html.escape, cells)
    return f"<tr><th>{heading}</th>{''.join(f'<td>{cell}</td>' for cell in rest)}</tr>"


def of_maps(caption: str, rows: Iterable[Iterable[str]]) -> str:
    """A table of the maps: a row for each camera, and in it a cell for each scale."""
    named = [[f"camera {k}", *row] for k, row in enumerate(rows)]
    scales = len(named[0]) - 1 if named else 0
    return table(caption, ["", *(f"scale {s}" for s in range(scales))], named)
