# SPDX-License-Identifier: GPL-2.0
#
# The examples of the ABI's page, each as a function of a C file that is only compiled:
#   awk -f examples.awk ../Documentation/abi.rst
# What they use without declaring it is in lib/examples.h.

BEGIN { print "#include \"examples.h\"\n" }

function finish() {
	if (is_example)
		print "}\n"
	is_example = 0
}

/::$/ && !/^\.\. / { is_next = 1; next }
is_next && /^\t/ {
	printf "void example_%d(void)\n{\n#line %d \"%s\"\n", ++count, FNR, FILENAME
	is_example = 1
	is_next = 0
}
is_example && /^\t/ { print; next }
/^$/ { finish(); next }
{ finish(); is_next = 0 }
END { finish() }
