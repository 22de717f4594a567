"""The page: findings of one or more studies in, one HTML text out; only it uses Jinja.

Names, reasons and paths are untrusted text, so everything is escaped; the page needs no network, no
script and no other file.
"""

from __future__ import annotations

from collections.abc import Sequence

import jinja2
from markupsafe import Markup, escape

from fer_search.cost import cost_of
from fer_search.reporting import wording
from fer_search.reporting.chapter import chapter
from fer_search.reporting.findings import Findings
from fer_search.reporting.side_by_side import compare

_FILTERS = (
    "score",
    "interval",
    "share",
    "duration",
    "moment",
    "counted",
    "named",
    "brief",
    "percent",
    "capitalised",
)


def render(studies: Sequence[Findings]) -> str:
    """Render a report.

    Args:
        studies: Findings of one study, or of several to compare side by side.
    """
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("fer_search.reporting"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {name: getattr(wording, name) for name in _FILTERS}
    environment.filters["breakable"] = _breakable
    environment.globals["cost_of"] = cost_of
    page = environment.get_template("report.html").render(
        chapters=[chapter(each) for each in studies],
        comparison=compare(studies) if len(studies) > 1 else None,
    )
    return page.encode("utf-8", "replace").decode()  # file names may contain undecodable bytes


def _breakable(name: str) -> Markup:
    """Allow line breaks in a long name after its underscores, but not at its hyphens."""
    return escape(name).replace("_", Markup("_<wbr>")).replace("-", "\N{NON-BREAKING HYPHEN}")
