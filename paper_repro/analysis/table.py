"""A table of words and numbers, rendered where it leaves: as Markdown or LaTeX."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple


class Table(NamedTuple):
    """Head and rows, as many cells in each."""

    head: Sequence[str]
    rows: Sequence[Sequence[str]]

    def markdown(self, *, aligned: bool = True) -> str:
        """As Markdown, columns aligned for those who read the source, unless cells are long."""
        lines = [[cell.replace("|", "&#124;") for cell in line] for line in (self.head, *self.rows)]
        widths = [max(map(len, column)) if aligned else 0 for column in zip(*lines, strict=True)]
        shown = [f"| {' | '.join(map(str.ljust, line, widths))} |" for line in lines]
        shown.insert(1, f"|{'|'.join('-' * (width + 2 if aligned else 3) for width in widths)}|")
        return "\n".join(shown)

    def latex(self, caption: str) -> str:
        """As LaTeX (booktabs)."""
        head, *rows = (" & ".join(map(_escaped, line)) + r" \\" for line in (self.head, *self.rows))
        body = "\n".join(rows)
        return (
            f"\\begin{{table}}\n\\centering\n\\begin{{tabular}}{{l{'r' * (len(self.head) - 1)}}}\n\\toprule\n{head}\n"
            f"\\midrule\n{body}\n\\bottomrule\n\\end{{tabular}}\n\\caption{{{_escaped(caption)}}}\n\\end{{table}}\n"
        )


def _escaped(text: str) -> str:
    return re.sub(r"([&%$#_{}])", r"\\\1", text)
