# SPDX-License-Identifier: GPL-2.0
"""Names lines of blocks that a page of the HTML documents would cut off:
docs-width.py FOLDER COLUMNS
"""

import html
import pathlib
import re
import sys

folder, columns = pathlib.Path(sys.argv[1]), int(sys.argv[2])
pages = sorted(folder.glob("*.html"))
found = [
    f"{page.name}: over {columns} columns: {line}"
    for page in pages
    for block in re.findall(r"<pre>(.*?)</pre>", page.read_text(), re.DOTALL)
    for line in html.unescape(re.sub(r"<[^>]*>", "", block)).expandtabs(8).splitlines()
    if len(line) > columns
]
print("\n".join(found) if pages else f"no pages in {folder}")
sys.exit(bool(found) or not pages)
