# SPDX-License-Identifier: GPL-2.0
#
# The numbers of the module's Rust side as lines of C, for abi_layout.c:
#   awk -f abi_rust.awk ../rust/pure/uapi.rs ../rust/glue/abi.rs ../rust/nodes/commands.rs
# The first file has the constants, the second says which field each is for, the third
# has the commands.

function fail(what) {
	print FILENAME ":" FNR ": " what >"/dev/stderr"
	failed = 1
	exit 1
}

# A sum of numbers and constants as one of numbers.
function value(expression,   terms, count, i, sum) {
	count = split(expression, terms, / *\+ */)
	for (i = 1; i <= count; i++) {
		if (terms[i] in constant)
			terms[i] = constant[terms[i]]
		if (terms[i] !~ /^(0x)?[0-9a-f]+$/)
			fail("what is " terms[i] "?")
		sum = sum (i > 1 ? " + " : "") terms[i]
	}
	return sum
}

function line(expression, number) {
	print "RUST(" expression ", " number ")"
	lines++
}

FNR == 1 { file++ }

# pub mod run { ... pub const CANCEL: usize = 0; ... }
file == 1 && /^pub mod / { module = $3 "::" }
file == 1 && /^}/ { module = "" }
file == 1 && /^ *pub const [A-Z_0-9]+: (u32|u64|usize) = (0x)?[0-9a-f_]+;/ {
	name = $3
	sub(/:/, "", name)
	number = $6
	gsub(/[_;]/, "", number)
	constant[module name] = number
}

# assert_offsets! { mshv_vtl_run: { cancel => run::CANCEL, ... } }
file == 2 && /^assert_offsets! \{/ { asserting = 1; next }
file == 2 && asserting && /^}/ { asserting = 0 }
file == 2 && asserting {
	text = $0
	if (match(text, /[a-z_0-9]+: \{/)) {
		type = substr(text, RSTART, RLENGTH - 3)
		text = substr(text, RSTART + RLENGTH)
	}
	count = split(text, fields, /,/)
	for (i = 1; i <= count; i++)
		if (split(fields[i], sides, / *=> */) == 2) {
			gsub(/ /, "", sides[1])
			line("offsetof(struct " type ", " sides[1] ")", value(sides[2]))
		}
}

# const _: () = assert!(size_of::<mshv_vtl_run>() == run::END + 4);
file == 2 && /assert!\(size_of::<mshv_/ {
	type = $0
	sub(/.*size_of::</, "", type)
	sub(/>.*/, "", type)
	size = $0
	sub(/.*== /, "", size)
	sub(/\);.*/, "", size)
	line("sizeof(struct " type ")", value(size))
}

# TDCALL = _IOWR::<mshv_tdcall>(TYPE, 0x32), VTL_COMMAND_TDCALL;
file == 3 && /^const TYPE: u32 = 0x[0-9a-f]+;/ {
	command_type = $5
	sub(/;/, "", command_type)
}
file == 3 && /^ +[A-Z_0-9]+ = _IO[WR]*/ {
	text = $3
	operand = ""
	if (match(text, /<[a-z_0-9]+>/)) {
		operand = substr(text, RSTART + 1, RLENGTH - 2)
		operand = ", " (operand ~ /^u[0-9]+$/ ? "__" : "struct ") operand
	}
	macro = text
	sub(/[:(].*/, "", macro)
	number = $4
	gsub(/[),]/, "", number)
	line("MSHV_" $1, macro "(" value(command_type) ", " value(number) operand ")")
	commands++
}

END {
	if (!failed && commands < 20)
		fail("only " commands + 0 " commands: the file has another form")
	if (!failed && lines < 100)
		fail("only " lines " numbers: the files have another form")
}
