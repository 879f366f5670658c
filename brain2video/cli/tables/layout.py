"""How a table is brought to the width of a screen: no header and no value is cut, or broken inside a word.

A table that is too wide has its cells wrapped at blanks; where that is not enough, its columns are split into several
tables, each of which begins with the first column; and where not even two columns have room, each row becomes a block
of lines. A table that goes into a file or a pipe is as wide as it is.
"""

import re
from collections.abc import Iterator, Sequence
from typing import TypeAlias

from rich.console import RenderableType
from rich.table import Column, Table
from rich.text import Text

Widths: TypeAlias = list[int]
UNBROKEN = re.compile(r"\[[^\]\n]*\]|\S+")
"""What is never broken: an interval, or a word."""


def text_of(cell: RenderableType) -> Text:
    """Return a cell, or a header, as text without its markup."""
    return cell if isinstance(cell, Text) else Text.from_markup(str(cell))


def laid_out(table: Table, width: int) -> list[Table]:
    """Return a table as one or more that fit `width` columns; empty where not even two of its columns fit together.

    The table's title and caption are not part of the width: they are lines of their own.
    """
    least, most = _widths(table)
    if _total(table, most) <= width:
        return [table]
    if _total(table, least) <= width:
        return [_fixed(table, range(len(least)), least, most, width)]
    if not table.show_header:
        return []
    parts, first = list[list[int]](), [0]
    for index in range(1, len(least)):
        if _total(table, [least[0], least[index]]) > width:
            return []
        if _total(table, [least[place] for place in (*first, index)]) > width:
            parts.append(first)
            first = [0]
        first.append(index)
    return [_fixed(table, part, least, most, width) for part in (*parts, first)]


def blocks(table: Table, width: int) -> Iterator[Text]:
    """Yield each row as lines: the first cell, and indented below it the others, after their headers if it has any."""
    headers = [text_of(column.header) for column in table.columns]
    for cells in zip(*(column.cells for column in table.columns), strict=True):
        first, *others = (text_of(cell) for cell in cells)
        yield from wrapped(Text(first.plain.replace("\n", " "), style="bold"), width)
        for header, cell in zip(headers[1:], others, strict=True):
            name = " ".join(header.plain.split()) if table.show_header else ""
            flat = Text(" ").join(cell.split("\n")) if "\n" in cell.plain else cell
            if flat.plain.strip():
                yield from wrapped(Text.assemble(f"{name}: " if name else "", flat), width, indent=2)


def natural_width(table: Table) -> int:
    """Return how many columns a table takes where nothing is wrapped."""
    return _total(table, _widths(table)[1])


def wrapped(text: Text, width: int, indent: int = 0) -> Iterator[Text]:
    """Yield a text's lines, broken at blanks; a word that is longer than the width, such as a path, stays whole."""
    line = Text(" " * indent, style=text.style)
    for word in text.split(" "):
        if line.plain.strip() and line.cell_len + 1 + word.cell_len > width:
            yield line
            line = Text(" " * indent, style=text.style)
        line.append_text(Text(" ") if line.plain.strip() else Text()).append_text(word)
    yield line


def _widths(table: Table) -> tuple[Widths, Widths]:
    """Return the width of each column's longest word, and of its longest line."""
    least, most = [], []
    for column in table.columns:
        cells = [text_of(cell) for cell in (*([column.header] if table.show_header else []), *column.cells)]
        lines = [line.cell_len for cell in cells for line in cell.split("\n")] or [0]
        words = [Text(word).cell_len for cell in cells for word in UNBROKEN.findall(cell.plain)] or [0]
        most.append(max(lines))
        least.append(max(lines) if column.no_wrap else max(words))
    return least, most


def _total(table: Table, widths: Sequence[int]) -> int:
    """Return the width of a table, or of some of its columns: with padding and borders."""
    _, right, _, left = table.padding
    padding = len(widths) * (left + right) - (0 if table.pad_edge else left + right)
    borders = (len(widths) + 1 if table.show_edge else len(widths) - 1) if table.box else 0
    return sum(widths) + padding + borders


def _fixed(table: Table, which: Sequence[int], least: Widths, most: Widths, width: int) -> Table:
    """Return a table of some columns, each as wide as its words need and wider while there is room."""
    some = [least[index] for index in which]
    room = width - _total(table, some)
    order = sorted(range(len(some)), key=lambda place: most[which[place]] - some[place])
    for done, place in enumerate(order):
        more = min(most[which[place]] - some[place], room // (len(some) - done))
        some[place] += more
        room -= more
    part = Table(
        box=table.box,
        show_header=table.show_header,
        show_edge=table.show_edge,
        show_lines=table.show_lines,
        padding=table.padding,
        pad_edge=table.pad_edge,
    )
    columns = [table.columns[index] for index in which]
    for column, wide in zip(columns, some, strict=True):
        part.add_column(column.header, justify=column.justify, style=column.style, width=wide)
    for row, cells in zip(table.rows, zip(*map(_cells, columns), strict=True), strict=True):
        part.add_row(*cells, end_section=row.end_section)
    return part


def _cells(column: Column) -> list[RenderableType]:
    return list(column.cells)
