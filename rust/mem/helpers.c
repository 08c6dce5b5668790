// SPDX-License-Identifier: GPL-2.0
/*
 * Kernel inline functions and macros that mappings of lower-VTL memory need.
 */
#include <linux/align.h>
#include <linux/mm.h>
#include <linux/pgtable.h>
#include <asm/e820/api.h>

#include "helpers.h"

static_assert(VTL_PMD_ORDER == PMD_ORDER);
static_assert(VTL_PUD_ORDER == PUD_ORDER);

/*
 * Pages without struct page are inserted as special ones, pages with one are
 * counted: an area of mixed pages takes both. The encryption attribute belongs
 * to the area; insertions and mprotect() keep it.
 */
void vtl_low_prepare(struct vm_area_struct *vma, bool is_shared)
{
	vm_flags_set(vma, VM_MIXEDMAP);
	if (is_shared)
		vma->vm_page_prot = pgprot_decrypted(vma->vm_page_prot);
}

/* Whether firmware's memory map names every page of the range. */
bool vtl_is_listed_memory(u64 start, u64 len_bytes)
{
	u64 end = start + len_bytes;
	u64 page;

	for (page = ALIGN_DOWN(start, PAGE_SIZE); page < end; page += PAGE_SIZE)
		if (!e820__mapped_any(page, page + PAGE_SIZE, 0))
			return false;
	return true;
}
