"""HTML pages from the templates in `templates`: one file each, complete in itself, read without script."""

from base64 import b64encode
from collections.abc import Mapping
from datetime import datetime
from functools import cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from jinja2 import Environment


def render_page(template_name: str, *, title: str, facts: Mapping[str, object], **values: object) -> str:
    """The text of a page, made by a template that extends `base.html`; values are escaped.

    Args:
        template_name: a file in `templates`.
        facts: what stands below the title, by name; the date follows them.
        values: what the template names.

    Raises:
        jinja2.UndefinedError: the template names a value that is not given.
    """
    date = f"{datetime.now().astimezone():%Y-%m-%d %H:%M}"
    values |= {"title": title, "facts": {**facts, "made": date}, "date": date}
    return _environment().get_template(template_name).render(values)


def render_part(template_name: str, **values: object) -> str:
    """The text of a part of a page, made by a template; values are escaped.

    Raises:
        jinja2.UndefinedError: the template names a value that is not given.
    """
    return _environment().get_template(template_name).render(values)


@cache
def _environment() -> "Environment":
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("ossnet.output"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters["data_uri"] = _data_uri
    environment.filters["cell"] = _cell
    return environment


def _data_uri(png: bytes) -> str:
    return f"data:image/png;base64,{b64encode(png).decode()}"


def _cell(value: object) -> str:
    """A table's cell: four digits of a float, nothing for None."""
    if value is None:
        return ""
    return f"{value:.4g}" if isinstance(value, float) else str(value)
