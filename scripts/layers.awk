# SPDX-License-Identifier: GPL-2.0
#
# Prints and checks the dependencies between the folders of rust/. Reads the module's C
# files, then its Rust files, prints a line `folder -> folder ...` for each folder, in the
# order of the layers, and fails if a folder imports from a folder above, or calls a C
# function there. A file of the root belongs to the folder of its name.

BEGIN {
	count = split("nodes run vp hv mem observe cpu glue pure", layer, " ")
	for (i = 1; i <= count; i++)
		rank[layer[i]] = i
}

FNR == 1 {
	own = FILENAME
	sub(/^rust\//, "", own)
	sub(/[\/.].*/, "", own)
}

# The root knows every folder.
own == "mshv_vtl_tdx_main" { next }

!(own in rank) {
	print FILENAME ": in no folder of the layers" > "/dev/stderr"
	failed = 1
	nextfile
}

FILENAME ~ /\.c$/ {
	if (/^[a-z].*vtl_[a-z0-9_]+\(/ && !/^static /) {
		match($0, /vtl_[a-z0-9_]+\(/)
		home[substr($0, RSTART, RLENGTH - 1)] = own
	}
	next
}

/^[ \t]*\/\// { next }

{
	line = $0
	while (match(line, /vtl_[a-z0-9_]+/)) {
		name = substr(line, RSTART, RLENGTH)
		line = substr(line, RSTART + RLENGTH)
		if (name in home && rank[home[name]] < rank[own]) {
			print FILENAME ":" FNR ": an arrow up, from " own " to " name "() of " home[name] > "/dev/stderr"
			failed = 1
		}
	}
}

{
	line = $0
	if (line ~ /crate::\{/) {
		print FILENAME ":" FNR ": import by name, one path a line" > "/dev/stderr"
		failed = 1
	}
	while (match(line, /crate::[a-z_]+/)) {
		other = substr(line, RSTART + 7, RLENGTH - 7)
		line = substr(line, RSTART + RLENGTH)
		if (!(other in rank) || other == own)
			continue
		arrow[own, other] = 1
		if (rank[other] < rank[own]) {
			print FILENAME ":" FNR ": an arrow up, from " own " to " other > "/dev/stderr"
			failed = 1
		}
	}
}

END {
	for (i = 1; i <= count; i++) {
		text = ""
		for (j = 1; j <= count; j++)
			if ((layer[i], layer[j]) in arrow)
				text = text " " layer[j]
		print layer[i] " ->" text
	}
	exit failed
}
