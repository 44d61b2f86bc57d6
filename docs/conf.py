"""Sphinx configuration: make docs."""

import shiftgym

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
autodoc_member_order = "bysource"
napoleon_google_docstring = True
napoleon_use_ivar = True  # attributes that are properties too are told once
