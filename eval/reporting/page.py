"""Pages out of templates: everything is escaped, and a name that a template misses is an error.

Enters: the path of a Jinja template. Leaves: the template, whose `cell` filter writes a table's
cells as `text_table` does.
"""

from pathlib import Path
from typing import TYPE_CHECKING

from eval.reporting.tables import format_cell

if TYPE_CHECKING:
    import jinja2


def page_template(path: Path) -> "jinja2.Template":
    """The template in the file `path`."""
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(path.parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["cell"] = format_cell
    return environment.get_template(path.name)
