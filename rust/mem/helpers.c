// SPDX-License-Identifier: GPL-2.0
/*
 * Kernel inline functions and macros for mappings of lower-VTL memory.
 *
 * Stays C: page table entries, folios and VMA flags are inline functions and
 * macros.
 */
#include <linux/mm.h>
#include <linux/pgtable.h>

#include "helpers.h"

static_assert(VTL_PMD_ORDER == PMD_ORDER);

/*
 * Decides once whether a VMA maps pages or PFNs: VM_MIXEDMAP, which allows
 * both, is only safe for 4 KiB entries. For a larger entry without struct pages
 * the kernel would return a struct page, and when it splits one with struct
 * pages, it loses their references and the process's counters.
 *
 * VM_PFNMAP: the kernel never looks up a struct page, whatever is registered
 * later. Neither flag: ordinary file pages, except that only faults map them.
 * The THP policy does not apply to their large entries.
 *
 * The encryption attribute belongs to the VMA; insertions and mprotect() keep
 * it.
 */
void vtl_low_prepare(struct vm_area_struct *vma,
		     const struct vm_operations_struct *operations,
		     bool is_shared, bool has_pages)
{
	vma->vm_ops = operations;
	vm_flags_set(vma, has_pages ? VM_HUGEPAGE : VM_IO | VM_PFNMAP);
	if (is_shared)
		vma->vm_page_prot = pgprot_decrypted(vma->vm_page_prot);
}

/*
 * Returns true if a large entry may be made at the address of a fault. A kernel
 * without huge pages (such as PREEMPT_RT) never asks.
 *
 * No existing entry is made writable: the kernel would compare its frame with
 * ours, and warn if it has become a page table. Nor is an entry made that the
 * kernel would want to make writable later, as it does when userspace tracks
 * writes by soft-dirty bits. The kernel splits existing entries, and makes
 * small ones writable by itself.
 */
static bool may_be_large(const struct vm_fault *vmf, unsigned int order)
{
	const struct vm_area_struct *vma = vmf->vma;
	bool is_tracked = vma->vm_flags & VM_WRITE &&
			  !(pgprot_val(vma->vm_page_prot) & _PAGE_RW);

	return IS_ENABLED(CONFIG_TRANSPARENT_HUGEPAGE) && order == PMD_ORDER &&
	       !is_tracked && pmd_none(*vmf->pmd);
}

/*
 * Maps 1 << @order frames at the address of a fault, as pages or as PFNs,
 * according to the VMA.
 */
vm_fault_t vtl_low_insert(struct vm_fault *vmf, unsigned long frame,
			  unsigned int order)
{
	bool has_pages = !(vmf->vma->vm_flags & VM_PFNMAP);
	struct page *page;

	if (order && !may_be_large(vmf, order))
		return VM_FAULT_FALLBACK;
	if (!has_pages && order)
		return vmf_insert_pfn_pmd(vmf, frame, false);
	if (!has_pages)
		return vmf_insert_pfn(vmf->vma, vmf->address, frame);
	page = pfn_to_page(frame);
	if (order)
		return vmf_insert_folio_pmd(vmf, page_folio(page), false);
	return vmf_insert_page_mkwrite(vmf, page, false);
}
