#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
"""Where a path of `make bench` spends its instructions, by purpose and by function.

bench-profile.py addresses PATH JSON: the addresses that the plugin counted.
bench-profile.py report PATH JSON LOG LOG MODULE OUT: the LOGs (consoles) have the symbols of the
kernel that ran and of the module, MODULE is its mshv_vtl_tdx.ko with debugging information, by
which what was inlined is told apart. OUT gets each function.
"""
import bisect
import collections
import json
import re
import subprocess
import sys

MODULE_NAME = "mshv_vtl_tdx"

# Of the functions at an address, from the innermost outwards, the first that has a row here says
# what the instruction is for. "file: function" of the module, the name of the kernel's.
PURPOSES = [
    ("claim", r"vp/claim|vp/machine|vp/wake|cpu/guards|migrate_|preempt_|mutex|rcuwait|vtl_irq_o"),
    ("snapshot", r"run_page.*: .*(read_|take_|renew)|pure/controls|pure/vp_enter|pure/msr\.rs|snapshot"),
    ("MSRs", r"cpu/(msr|gs_base)|vtl_(rd|wr)msr|host_msrs"),
    ("FPU", r"cpu/fpu|pure/xsave|kernel_fpu|fpregs|fpu__|save_fpregs|restore_fpregs|switch_fpu|os_xsave"
            r"|fx_state|legacy_image"),
    ("debug registers", r"debug_regs|vtl_debug_|vtl_breakpoints_"),
    ("speculation, entry", r"cpu/mitigation|pure/mitigation|vtl_vp_enter"),
    ("audit", r"observe/|run/record|pure/audit|pure/storm"),
    ("decision", r"pure/(exit|next|handled|offload|icr|apic|stall|status)|run/offload|vp/vapic"
                 r"|run_page/interrupts|pure/tdcall|cpu/tdcall|run/deadline|pure/deadline|entry_check"),
    ("results", r"run_page.*: .*store_"),
    ("time, RCU", r"vtl_guest_enter|vtime_|context_tracking|rcu_|guest_(state|timing)|vtl_note_quiesc"),
    ("state of the switch", r"run/context|run/enter"),
    ("kick", r"nodes/kick"),
    ("run loop", r"rust/run\.rs|run/entries|: .*return_to_lower"),
    ("memory of the kernel", r"kmalloc|kfree|krealloc|slab|__check_object|usercopy|kvfree|_copy_from_user"
                             r"|vrealloc|kvrealloc|copy_from|UserSlice"),
    ("system call", r"syscall|entry_|do_vfs|ioctl|security_|fdget|fput|exit_to_user|bpf_lsm|nodes/|aa_"),
]
COMPILED = [(purpose, re.compile(pattern)) for purpose, pattern in PURPOSES]


def symbols(log):
    """Returns address, name, and True if it is in the module, of each function in a console log."""
    table, inside = [], False
    for line in open(log, errors="replace"):
        line = line.rstrip("\r\n")
        if line == "=== end of symbols":
            return table
        words = line.split()
        if inside and len(words) >= 3:
            is_module = len(words) > 3 and words[3] == f"[{MODULE_NAME}]"
            table.append((int(words[0], 16), words[2], is_module))
        inside = inside or line == "=== symbols"
    sys.exit(f"error: no symbols in {log}")


def sections(module):
    """Section and offset of each function of the module."""
    out = subprocess.run(["objdump", "-t", module], capture_output=True, text=True, check=True).stdout
    found = {}
    for line in out.splitlines():
        match = re.match(r"([0-9a-f]{16}) .{7} (\S+)\t[0-9a-f]+ (?:\.hidden )?(\S+)$", line)
        if match:
            found[match[3]] = (match[2], int(match[1], 16))
    return found


def inlined(module, section, offsets):
    """For each offset the functions there, the innermost first, each as "file: function"."""
    command = ["addr2line", "-e", module, "-j", section, "-i", "-f", "-C", "-a"]
    text = "\n".join(f"{offset:#x}" for offset in offsets)
    out = subprocess.run(command, input=text, capture_output=True, text=True, check=True).stdout
    chains, chain, function = {}, [], None
    for line in out.splitlines():
        if re.fullmatch(r"0x[0-9a-f]{16}", line):
            chain = chains[int(line, 16)] = []
        elif function is None:
            function = re.sub(r"::<.*|<.*>::", "", line)
        else:
            file = re.sub(r":[0-9?]+( .*)?$", "", line)
            file = re.sub(r".*/(?=rust/)", "", file)
            chain.append(f"{file}: {function}")
            function = None
    return chains


def purpose_of(chain):
    for frame in chain:
        for purpose, pattern in COMPILED:
            if pattern.search(frame):
                return purpose
    return "other"


def chains_of(counts, table, module):
    """Of each address the functions there."""
    starts = [address for address, _, _ in table]
    places = sections(module)
    chains, of_module = {}, collections.defaultdict(dict)
    for address in counts:
        start, name, is_module = table[bisect.bisect_right(starts, address) - 1]
        chains[address] = [name]
        if is_module and name in places:
            section, offset = places[name]
            of_module[section][offset + address - start] = address
    for section, offsets in of_module.items():
        for offset, chain in inlined(module, section, offsets).items():
            chains[offsets[offset]] = chain
    return chains


def profile_of(path, report):
    profiles = json.load(open(report)).get("profiles", {})
    if path not in profiles:
        sys.exit(f"error: no path {path}; there are: {' '.join(profiles)}")
    return {int(address, 16): count for address, count in profiles[path].items()}


def main():
    what, path, report, *files = sys.argv[1:]
    counts = profile_of(path, report)
    if what == "addresses":
        print("\n".join(f"{address:016x}" for address in sorted(counts)))
        return
    kernel_log, module_log, module, out = files
    table = sorted(symbols(kernel_log) + symbols(module_log))
    chains = chains_of(counts, table, module)
    purposes, functions = collections.Counter(), collections.Counter()
    for address, count in counts.items():
        purpose = purpose_of(chains[address])
        purposes[purpose] += count
        functions[purpose, chains[address][0]] += count
    total = sum(counts.values())
    print(f"{total:>6} instructions, by purpose:")
    for purpose, count in purposes.most_common():
        print(f"{count:>6}  {purpose}")
    with open(out, "w") as file:
        for (purpose, function), count in functions.most_common():
            file.write(f"{count:>6}  {purpose:<22} {function}\n")
        file.write("\n")
        for address in sorted(counts):
            file.write(f"{counts[address]:>6}  {address:x}  {' < '.join(chains[address])}\n")


main()
