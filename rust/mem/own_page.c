// SPDX-License-Identifier: GPL-2.0
/*
 * Finds and pins a page of the caller by its physical address; own_page.rs says
 * why.
 *
 * Stays C: folios, locks of an address space and its VMAs are inline functions.
 */
#include <linux/memory_hotplug.h>
#include <linux/mm.h>
#include <linux/page-flags.h>
#include <linux/pagemap.h>
#include <linux/sched.h>
#include <linux/uaccess.h>

#include "helpers.h"

/* What the page itself tells about its mapping: only a hint. */
struct hint {
	struct address_space *mapping; /* NULL if anonymous */
	pgoff_t offset;
};

static bool look_at(struct page *page, struct hint *hint)
{
	struct folio *folio = page_folio(page);
	bool is_anonymous, is_same;

	if (!folio_try_get(folio))
		return false;
	is_same = page_folio(page) == folio;
	is_anonymous = folio_test_anon(folio);
	hint->mapping = is_anonymous ? NULL : folio->mapping;
	hint->offset = page_pgoff(folio, page);
	folio_put(folio);
	/* A page of the kernel itself has no mapping. */
	return is_same && (is_anonymous || hint->mapping);
}

/* Address of the page in a VMA; 0 if it can't be there. */
static unsigned long address_in(const struct vm_area_struct *vma,
				const struct hint *hint)
{
	if (hint->mapping) {
		if (!vma->vm_file || vma->vm_file->f_mapping != hint->mapping)
			return 0;
	} else if (!vma->anon_vma) {
		return 0;
	}
	if (!(vma->vm_flags & VM_WRITE) || hint->offset < vma->vm_pgoff ||
	    hint->offset - vma->vm_pgoff >= vma_pages(vma))
		return 0;
	return vma->vm_start + ((hint->offset - vma->vm_pgoff) << PAGE_SHIFT);
}

/*
 * Pins the page at a physical address if the current process has it mapped
 * writable; returns NULL if not. The hint may be wrong or stale: what counts is
 * which page is pinned in the end.
 */
struct page *vtl_pin_own_page(u64 gpa)
{
	struct page *page = pfn_to_online_page(PHYS_PFN(gpa));
	struct mm_struct *mm = current->mm;
	struct vm_area_struct *vma;
	struct hint hint;
	bool is_pinned = false;

	VMA_ITERATOR(areas, mm, 0);

	if (!page || !mm || !look_at(page, &hint))
		return NULL;
	mmap_read_lock(mm);
	for_each_vma(areas, vma) {
		unsigned long address = address_in(vma, &hint);
		struct page *found;

		if (!address ||
		    pin_user_pages(address, 1, FOLL_WRITE | FOLL_LONGTERM,
				   &found) != 1)
			continue;
		is_pinned = found == page;
		if (is_pinned)
			break;
		unpin_user_page(found);
	}
	mmap_read_unlock(mm);
	return is_pinned ? page : NULL;
}

/* The TDX module may have written to the page, so it is dirty. */
void vtl_unpin_page(struct page *page)
{
	unpin_user_pages_dirty_lock(&page, 1, true);
}

/* Reads a byte of a pinned page, which its process may write to at any time. */
u8 vtl_read_pinned(u64 gpa, size_t offset)
{
	u8 byte = 0;

	copy_from_kernel_nofault(&byte, __va(gpa + offset), sizeof(byte));
	return byte;
}
