"""Sphinx configuration: make docs."""

from typing import Annotated, get_args, get_origin

import shiftgym
from shiftgym.basics import ranges

project = "shiftgym"
version = release = shiftgym.__version__
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
html_theme = "furo"
html_title = f"shiftgym {version}"
html_favicon = "favicon.svg"
html_show_copyright = html_show_sphinx = False
html_static_path = ["static"]
html_css_files = ["wide.css"]  # wide tables scroll within their own width
exclude_patterns = ["_build", "data"]
myst_heading_anchors = 3
autodoc_typehints = "description"
autodoc_typehints_description_target = "documented_params"  # what a docstring leaves out stays out
autodoc_type_aliases = {  # a range is told in words; the page names the type
    name: get_args(alias)[0].__name__
    for name, alias in vars(ranges).items()
    if get_origin(alias) is Annotated
}
autodoc_member_order = "bysource"
napoleon_google_docstring = True
napoleon_use_ivar = True  # attributes that are properties too are told once


def keep_colons(app, what, name, subject, options, lines):
    """Keep napoleon from taking what stands before a colon for the type of a property.

    It looks for a type in the first line of properties and attributes; here types are annotated.
    An empty comment is a first line without one.
    """
    if what in ("property", "attribute", "data") and lines:
        lines[:0] = ["..", ""]


def setup(app):
    """Run before napoleon (500)."""
    app.connect("autodoc-process-docstring", keep_colons, priority=400)
