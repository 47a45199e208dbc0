"""Is a page whole, does it need nothing else, and does it lead where it says?"""

import re
from html.parser import HTMLParser


class HtmlChecker(HTMLParser):
    """Notes tags that are not closed in order, references that leave the page, images without text, ids, and links to pages beside it."""

    VOID = {"meta", "img", "br", "link", "input", "hr", "source"}  # noqa: RUF012

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.problems: list[str] = []
        self.ids: list[str] = []
        self.tags: list[str] = []
        self.anchors: list[str] = []
        self.pages: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        self.tags.append(tag)
        if tag not in self.VOID:
            self.open.append(tag)
        for name in ("src", "href", "xlink:href"):
            reference = given.get(name) or ""
            if reference.startswith("#"):
                self.anchors.append(reference[1:])
            elif tag == "a" and re.match(r"[\w-]+\.html", reference):
                self.pages.append(reference)
            elif reference and not reference.startswith("data:"):
                self.problems.append(f"{tag} refers to {reference}")
        if tag == "img" and not given.get("alt"):
            self.problems.append("image without text")
        if given.get("id"):
            self.ids.append(str(given["id"]))

    def handle_endtag(self, tag: str) -> None:
        if not self.open or self.open.pop() != tag:
            self.problems.append(f"</{tag}> closes another tag")
