# SPDX-License-Identifier: GPL-2.0
#
# Checks the call paths in Documentation/overview.rst against the code. A line of a path is a
# file and functions in it, which are called by the last line before it that is indented less.
# Fails if a file does not exist or lacks a function, or is in a layer above its caller's.

BEGIN {
	count = split("nodes run vp hv mem observe cpu glue pure tdxemu tdx_model svm", layer, " ")
	for (i = 1; i <= count; i++)
		rank[layer[i]] = i
}

function complain(what) {
	print FILENAME ":" FNR ": " what > "/dev/stderr"
	failed = 1
}

function layer_of(path) {
	sub(/^(rust|tools)\//, "", path)
	sub(/[\/.].*/, "", path)
	return path
}

# Returns the contents of a file; empty if there is none.
function content(path, line, all) {
	if (path in known)
		return known[path]
	while ((getline line < path) > 0)
		all = all line "\n"
	close(path)
	known[path] = all
	return all
}

function has(path, name) {
	if (path ~ /\.rs$/)
		return content(path) ~ ("fn " name "[(<]")
	if (path ~ /\.c$/)
		return content(path) ~ ("[ *]" name "[(]")
	return content(path) ~ ("[^a-z0-9_]" name "[^a-z0-9_]")
}

/^Five call paths$/ { inside = 1; next }
inside && /^=+$/ && seen++ { inside = 0 }

inside && /^    +(rust|tools)\// {
	lines++
	match($0, /^ +/)
	depth = (RLENGTH - 4) / 2
	path = $1
	own = rank[layer_of(path)]
	if (!own)
		complain(path " is in no layer")
	if (content(path) == "")
		complain("there is no " path)
	if (depth > 0 && own < above[depth - 1])
		complain(path " is in a layer above its caller's")
	above[depth] = own
	for (i = 2; i <= NF; i++) {
		name = $i
		sub(/,$/, "", name)
		if (content(path) != "" && !has(path, name))
			complain(path " has no " name)
	}
}

END {
	if (!failed && lines < 50) {
		print "Documentation/overview.rst: the call paths are missing" > "/dev/stderr"
		failed = 1
	}
	exit failed
}
