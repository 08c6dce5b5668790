// SPDX-License-Identifier: GPL-2.0
/*
 * Kernel inline functions and macros that mappings of lower-VTL memory need.
 */
#include <linux/memory_hotplug.h>
#include <linux/memremap.h>
#include <linux/mm.h>
#include <linux/pgtable.h>
#include <linux/slab.h>

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

/*
 * Of all kinds of device memory the kernel maps one decrypted, that of file
 * systems. Ours is none, and has its references counted as generic memory has.
 */
static void make_generic(struct dev_pagemap *map)
{
	unsigned long frame;

	map->type = MEMORY_DEVICE_GENERIC;
	for (frame = PHYS_PFN(map->range.start);
	     frame <= PHYS_PFN(map->range.end); frame += 1UL << PMD_ORDER)
		folio_set_count(page_folio(pfn_to_page(frame)), 1);
}

/*
 * Makes page structures and a place in the direct map for memory of a lower
 * VTL, there by its private or its shared alias. Both ends are multiples of
 * 2 MiB.
 */
struct dev_pagemap *vtl_pages_make(u64 start, u64 len_bytes, bool is_shared)
{
	const struct range allowed = mhp_get_pluggable_range(true);
	struct dev_pagemap *map;
	void *address;

	/* memremap_pages() warns about what it does not take. */
	if (start < allowed.start || start + len_bytes - 1 > allowed.end)
		return ERR_PTR(-EINVAL);
	map = kzalloc_obj(*map);
	if (!map)
		return ERR_PTR(-ENOMEM);
	map->type = is_shared ? MEMORY_DEVICE_FS_DAX : MEMORY_DEVICE_GENERIC;
	map->vmemmap_shift = PMD_ORDER;
	map->nr_range = 1;
	map->range.start = start;
	map->range.end = start + len_bytes - 1;
	address = memremap_pages(map, NUMA_NO_NODE);
	if (IS_ERR(address)) {
		kfree(map);
		return ERR_CAST(address);
	}
	if (is_shared)
		make_generic(map);
	return map;
}

/* Whether anybody but the range itself holds a page of it. */
static bool is_in_use(const struct range *range)
{
	unsigned long frame;

	for (frame = PHYS_PFN(range->start); frame <= PHYS_PFN(range->end);
	     frame += 1UL << PMD_ORDER)
		if (folio_ref_count(page_folio(pfn_to_page(frame))) != 1)
			return true;
	return false;
}

/* Takes back what vtl_pages_make() made, unless a page is still held. */
bool vtl_pages_remove(struct dev_pagemap *map)
{
	if (is_in_use(&map->range))
		return false;
	memunmap_pages(map);
	kfree(map);
	return true;
}

/*
 * Maps 1 << @order frames at the address of a fault. With structures they can
 * be pinned; one structure covers 2 MiB, so there is no mapping of 1 GiB then.
 */
vm_fault_t vtl_low_insert(struct vm_fault *vmf, unsigned long frame,
			  unsigned int order, bool has_structure)
{
	bool write = vmf->flags & FAULT_FLAG_WRITE;
	struct page *page;

	/* A kernel without huge pages (PREEMPT_RT has none) never asks. */
	if (order && !IS_ENABLED(CONFIG_TRANSPARENT_HUGEPAGE))
		return VM_FAULT_FALLBACK;
	if (!has_structure) {
		if (order == PMD_ORDER)
			return vmf_insert_pfn_pmd(vmf, frame, write);
		if (order == PUD_ORDER)
			return vmf_insert_pfn_pud(vmf, frame, write);
		return vmf_insert_mixed(vmf->vma, vmf->address, frame);
	}
	page = pfn_to_page(frame);
	if (order == PMD_ORDER)
		return vmf_insert_folio_pmd(vmf, page_folio(page), write);
	if (order)
		return VM_FAULT_FALLBACK;
	return vmf_insert_page_mkwrite(vmf, page, write);
}
