// SPDX-License-Identifier: GPL-2.0
/*
 * Kernel inline functions and macros that mappings of lower-VTL memory need.
 *
 * Stays C: entries, folios and the flags of a VMA are inline functions and macros.
 */
#include <linux/mm.h>
#include <linux/pgtable.h>

#include "helpers.h"

static_assert(VTL_PMD_ORDER == PMD_ORDER);

/*
 * Decides for good whether an area is of pages or of frames: VM_MIXEDMAP, which
 * takes both, is only right for entries of 4 KiB. The kernel hands out a struct
 * page for a larger one without struct pages, and when it splits one with struct
 * pages it forgets their reference and the process's counters.
 *
 * VM_PFNMAP: no struct page is ever looked up, whatever is registered later.
 * Neither flag: ordinary pages of a file, except that nobody but a fault maps
 * them. Their large entries are not subject to the policy for memory that the
 * kernel allocates.
 *
 * The encryption attribute belongs to the area; insertions and mprotect() keep it.
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
 * Whether a large entry may be made at the address of a fault. A kernel without huge
 * pages (PREEMPT_RT has none) never asks.
 *
 * No existing entry is made writable: the kernel would compare its frame with ours,
 * and warn if it is a page table by now. Neither is one made that the kernel would
 * want to make writable later, which is so where userspace tracks writes by soft
 * dirty bits. The kernel splits what there is, and makes small entries writable by
 * itself.
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
 * Maps 1 << @order frames at the address of a fault, as the area is of pages
 * or of frames.
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
