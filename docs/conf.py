"""Sphinx configuration: make docs."""

project = "shiftgym"
extensions = ["myst_parser"]
html_theme = "furo"
exclude_patterns = ["_build", "data"]
myst_heading_anchors = 3
