"""What the repository says in words, taken from where it is written: a section of a document, the citation."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml  # type: ignore[import-untyped]
from markdown_it import MarkdownIt
from markdown_it.token import Token
from markupsafe import Markup

from paper_repro.report.experiments import minus


def html(markdown: str, folder: str = "") -> Markup:
    """Markdown as HTML, to stand in a section of a page.

    Headings go down by a rank, tables scroll in a box, minus signs are real ones (lines do not break at them), and links into
    the repository, which the page may have left, are plain words.

    Args:
        markdown: the text; HTML comments are left out.
        folder: where its images are, seen from the page; empty: they are left out.
    """
    renderer = MarkdownIt("commonmark", {"html": False}).enable("table")
    tokens = renderer.parse(re.sub(r"<!--.*?-->", "", markdown, flags=re.DOTALL))
    for token in tokens:
        if token.type.startswith("heading"):
            token.tag = f"h{min(int(token.tag[1]) + 1, 6)}"
        token.children = list(_shown(token.children or [], folder))
    made = renderer.renderer.render(tokens, renderer.options, {})
    return Markup(made.replace("<table>", '<div class="wide"><table>').replace("</table>", "</table></div>"))


def _shown(children: list[Token], folder: str) -> Iterator[Token]:
    outside = True  # of a link into the repository
    for child in children:
        if child.type == "link_open":
            outside = str(child.attrs["href"]).startswith(("https://", "http://"))
        if child.type == "text":
            child.content = minus(child.content)
        if child.type == "image":
            if folder:
                child.attrs["src"] = f"{folder}/{child.attrs['src']}"
                yield child
        elif outside or child.type not in ("link_open", "link_close"):
            yield child


def section(title: str, *paths: Path) -> str | None:
    """The Markdown below the heading that begins with this title, to the next one of its rank; None if no file has it.

    Args:
        title: of the heading; empty: the first one.
        paths: files to look in, in this order; those that are not there are passed over.
    """
    for path in paths:
        lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
        for i, line in enumerate(lines):
            if match := re.match(rf"(#+) {re.escape(title)}", line):
                ends = (k for k in range(i + 1, len(lines)) if re.match(rf"#{{1,{len(match[1])}}} ", lines[k]))
                return "\n".join(lines[i + 1 : next(ends, len(lines))]).strip()
    return None


def citation(path: Path) -> dict[str, str] | None:
    """How to cite this software and the paper, from CITATION.cff: "text" and "bibtex"; None if the file is not there.

    Raises:
        ValueError: the file lacks what a citation needs.
    """
    if not path.exists():
        return None
    try:
        known: dict[str, Any] = yaml.safe_load(path.read_text(encoding="utf-8"))
        paper = known["references"][0]
        number = paper["identifiers"][0]["value"].removeprefix("arXiv:")
        text = f"{_names(known, '; ')}. {known['title']}, version {known['version']}. {known['license']}."
        text += f"\n{_names(paper, '; ')} ({paper['year']}). {paper['title']}. arXiv:{number}."
        software = {"author": f"{{{_names(known, ' and ')}}}", "title": f"{{{known['title']}}}", "version": known["version"]}
        if "url" in known or "repository-code" in known:
            software["url"] = known.get("url") or known["repository-code"]
        article = {"author": _names(paper, " and "), "title": f"{{{paper['title']}}}", "year": paper["year"]}
        article |= {"eprint": number, "archiveprefix": "arXiv", "url": paper["url"]}
    except (yaml.YAMLError, KeyError, IndexError, TypeError, AttributeError) as error:
        raise ValueError(f"{path} lacks what a citation needs: {error!r}") from error
    return {"text": text, "bibtex": _bibtex("software", "scala-adapt", software) + "\n\n" + _bibtex("misc", "scala", article)}


def _names(entry: dict[str, Any], between: str) -> str:
    people = (a.get("name") or f"{a['family-names']}, {a['given-names']}" for a in entry["authors"])
    return between.join(people)


def _bibtex(kind: str, key: str, fields: dict[str, Any]) -> str:
    width = max(map(len, fields))
    return f"@{kind}{{{key},\n" + ",\n".join(f"  {name:{width}} = {{{value}}}" for name, value in fields.items()) + "\n}"
