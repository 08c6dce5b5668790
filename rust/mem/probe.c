// SPDX-License-Identifier: GPL-2.0
/*
 * Finds out if the host provides a shared page of a lower VTL. Only the host
 * knows. Accessing a page that it does not provide raises a #VE, which is a
 * SIGSEGV for a program and may be fatal for the kernel's own copying. So the
 * first access happens here, where it may fail.
 *
 * Stays C: needs an entry in the exception table, which Rust's asm can't make.
 */
#include <linux/io.h>
#include <linux/mm.h>
#include <linux/sched.h>
#include <asm/asm.h>
#include <asm/pgtable.h>

#include "helpers.h"

/*
 * Reads a byte by MOVS. Of all instructions that only read, it is the one that
 * the kernel's #VE handler neither emulates as MMIO, which the host could
 * answer as it likes, nor warns about.
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

/*
 * Depending on what firmware describes there, ioremap() may use the private
 * alias.
 */
static bool is_mapped_shared(unsigned long address)
{
	unsigned int level;
	pte_t *entry = lookup_address(address, &level);

	return entry && pte_val(*entry) == cc_mkdec(pte_val(*entry));
}

/*
 * Probes each page of a range that is not System RAM. If a page can only be
 * mapped by its private alias, it counts as absent; the alternative would be to
 * let the kernel's own access find out.
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
