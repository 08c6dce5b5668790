# SPDX-License-Identifier: GPL-2.0
"""Sphinx configuration: plain reST, no extension, warnings are errors."""

project = "mshv_vtl_tdx"
author = "mshv_vtl_tdx maintainers"
master_doc = "index"
html_theme = "alabaster"
html_theme_options = {
    "description": "Lower VTLs of a TDX trust domain",
    "page_width": "72em",
    "sidebar_width": "16em",
    "fixed_sidebar": True,
    # 100 columns of a block fit into a page (scripts/docs-width.py).
    "code_font_size": "0.8em",
}
# A block is text unless it says what else: diagrams and sessions are no Python.
highlight_language = "none"
html_show_sourcelink = False
html_copy_source = False
