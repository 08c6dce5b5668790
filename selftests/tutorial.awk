# SPDX-License-Identifier: GPL-2.0
#
# What is typed in the tutorial, and what it says that follows, as lines of a script for tutorial.sh:
#   awk -f tutorial.awk ../Documentation/tutorial.rst
# In a block, a line that begins with a prompt is typed, the others are its output.

function quoted(text) {
	gsub(/'/, "'\\''", text)
	return "'" text "'"
}

/^\t# / { print "typed " quoted(substr($0, 4)); is_block = 1; next }
/^\t/ && is_block && $1 != "..." { print "says " quoted(substr($0, 2)) }
!/^\t/ { is_block = 0 }
