"""HTML as a browser parses it."""

import re
from html.parser import HTMLParser

VOID = ("meta", "img", "br", "input", "wbr")


class Page(HTMLParser):
    """The content of a page; fails on elements closed out of order and on event handlers."""

    def __init__(self, html):
        super().__init__()
        self.open, self.texts = [], []
        self.tags, self.ids, self.alts, self.addresses = [], [], [], []
        self.feed(html)
        assert not self.open, self.open
        self.text = re.sub(r"\s+", " ", "".join(self.texts))

    def handle_starttag(self, tag, attrs):
        if tag not in VOID:
            self.open.append(tag)
        self.tags.append(tag)
        for name, value in attrs:
            assert not name.startswith("on"), name
            if name in ("src", "href", "srcset", "action", "data", "poster", "background"):
                self.addresses.append(value)
            elif name == "alt":
                self.alts.append(value)
            elif name == "id":
                self.ids.append(value)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag, f"</{tag}> closes another element"

    def handle_data(self, data):
        if self.open[-1:] != ["style"]:
            self.texts.append(data)
