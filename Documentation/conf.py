# SPDX-License-Identifier: GPL-2.0
"""Sphinx configuration: plain reST, no extension, warnings are errors."""

project = "mshv_vtl_tdx"
author = "mshv_vtl_tdx maintainers"
master_doc = "index"
html_theme = "alabaster"
html_theme_options = {"description": "Lower VTLs of a TDX trust domain"}
html_show_sourcelink = False
html_copy_source = False
