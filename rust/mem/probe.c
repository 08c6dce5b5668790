// SPDX-License-Identifier: GPL-2.0
/*
 * Whether the host gives the shared page that a lower VTL's address stands for.
 * Nobody but the host knows, and the access to a page that it does not give
 * raises a #VE, which for a program ends in SIGSEGV and for the kernel's own
 * copying may be the end. So the access is made here first, where it may fail.
 *
 * Stays C: an entry in the exception table, which Rust's asm cannot make.
 */
#include <linux/io.h>
#include <linux/mm.h>
#include <linux/sched.h>
#include <asm/asm.h>
#include <asm/pgtable.h>

#include "helpers.h"

/*
 * Reads a byte by MOVS: the one instruction of those that only read that the
 * kernel's handler of #VE neither carries out as access to a device, which the
 * host could answer as it likes, nor warns about.
 */
static bool can_be_read(const void *at)
{
	unsigned char byte, *to = &byte;
	int result = 0;

	asm volatile("1: movsb\n\t"
		     "movl $1, %[result]\n"
		     "2:\n" _ASM_EXTABLE(1b, 2b)
		     : [result] "+r"(result), "+S"(at), "+D"(to)
		     :
		     : "memory");
	return result;
}

/* ioremap() maps what firmware describes in some ways by its private alias. */
static bool is_mapped_shared(unsigned long address)
{
	unsigned int level;
	pte_t *entry = lookup_address(address, &level);

	return entry && pte_val(*entry) == cc_mkdec(pte_val(*entry));
}

/*
 * Looks at each page of a range that is not System RAM. Where it can't look, by
 * the private alias, nothing is there: to believe it would have the kernel's own
 * access tell.
 */
enum vtl_presence vtl_shared_look(u64 start, u64 len_bytes)
{
	enum vtl_presence found = VTL_ABSENT;
	void *memory = (__force void *)ioremap_cache(start, len_bytes);
	u64 offset;

	if (!memory)
		return VTL_UNKNOWN;
	if (is_mapped_shared((unsigned long)memory)) {
		found = VTL_PRESENT;
		for (offset = 0; offset < len_bytes; offset += PAGE_SIZE) {
			if (!can_be_read(memory + offset)) {
				found = VTL_ABSENT;
				break;
			}
			cond_resched();
		}
	}
	iounmap((__force void __iomem *)memory);
	return found;
}
