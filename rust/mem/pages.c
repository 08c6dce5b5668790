// SPDX-License-Identifier: GPL-2.0
/*
 * Struct pages, and an entry in the direct map, for private memory of a lower
 * VTL. registered.rs says for how long.
 *
 * Stays C: dev_pagemap and hotpluggable memory have no abstraction in the
 * kernel crate.
 */
#include <linux/memory_hotplug.h>
#include <linux/memremap.h>
#include <linux/mm.h>
#include <linux/module.h>
#include <linux/sizes.h>
#include <linux/slab.h>
#include <linux/workqueue.h>

#include "helpers.h"

/* memremap_pages() warns when it refuses a range, and checks only its ends. */
static int probe(const struct range *range)
{
	const struct range allowed = mhp_get_pluggable_range(true);
	struct dev_pagemap *map;
	u64 at;

	if (range->start < allowed.start || range->end > allowed.end)
		return -EINVAL;
	for (at = range->start; at < range->end; at += PMD_SIZE) {
		map = get_dev_pagemap(PHYS_PFN(at));
		if (map) {
			put_dev_pagemap(map);
			return -EBUSY;
		}
	}
	return 0;
}

/* Pages that hold the struct pages of a folio; most can be one and the same. */
static u64 vmemmap_pages(struct dev_pagemap *map)
{
#ifdef VMEMMAP_RESERVE_NR
	if (vmemmap_can_optimize(NULL, map))
		return VMEMMAP_RESERVE_NR;
#endif
	return PHYS_PFN((1UL << PMD_ORDER) * sizeof(struct page));
}

/*
 * The kernel warns when it finds no memory for struct pages, so look before it
 * does. Some is left for others, who may want it at the same time.
 */
static bool has_room(struct dev_pagemap *map, u64 len_bytes)
{
	u64 needed = len_bytes / PMD_SIZE * vmemmap_pages(map);

	return si_mem_available() >=
	       (long)(needed + needed / 8 + PHYS_PFN(SZ_4M));
}

/*
 * Both ends are multiples of 2 MiB; each 2 MiB becomes one folio. Returns
 * -EBUSY if some of it has struct pages from another driver.
 *
 * Memory shared with the host can't be registered: of all kinds of device
 * memory the kernel maps only MEMORY_DEVICE_FS_DAX decrypted, and long-term
 * pins of such pages are never released unless the file belongs to a file
 * system.
 */
struct dev_pagemap *vtl_pages_make(u64 start, u64 len_bytes)
{
	struct dev_pagemap *map;
	void *address;
	int error;

	map = kzalloc_obj(*map);
	if (!map)
		return ERR_PTR(-ENOMEM);
	map->type = MEMORY_DEVICE_GENERIC;
	map->vmemmap_shift = PMD_ORDER;
	map->nr_range = 1;
	map->range.start = start;
	map->range.end = start + len_bytes - 1;
	error = probe(&map->range);
	if (!error && !has_room(map, len_bytes))
		error = -ENOMEM;
	address = error ? ERR_PTR(error) : memremap_pages(map, NUMA_NO_NODE);
	if (IS_ERR(address)) {
		kfree(map);
		return ERR_CAST(address);
	}
	return map;
}

/* Returns true if any page has a reference besides that of the range itself. */
bool vtl_pages_are_held(const struct dev_pagemap *map)
{
	const struct range *range = &map->range;
	unsigned long frame;

	for (frame = PHYS_PFN(range->start); frame <= PHYS_PFN(range->end);
	     frame += 1UL << PMD_ORDER)
		if (folio_ref_count(page_folio(pfn_to_page(frame))) != 1)
			return true;
	return false;
}

/* Removes what vtl_pages_make() made, after waiting until no page is held. */
void vtl_pages_remove(struct dev_pagemap *map)
{
	memunmap_pages(map);
	kfree(map);
}

/* Nothing tells when a page is released, so this polls. */
static void (*retry)(void);

static void do_retry(struct work_struct *work)
{
	READ_ONCE(retry)();
}

static DECLARE_DELAYED_WORK(retry_work, do_retry);

/* Calls @function after a while. All calls pass the same one. */
void vtl_pages_retry_later(void (*function)(void))
{
	WRITE_ONCE(retry, function);
	schedule_delayed_work(&retry_work, HZ / 4);
}

/* On return the function does not run, and will not run again. */
void vtl_pages_retry_never(void)
{
	cancel_delayed_work_sync(&retry_work);
}

/*
 * Takes a reference to the module; the caller is in a system call on one of
 * its files.
 */
void vtl_module_keep(void)
{
	__module_get(THIS_MODULE);
}

void vtl_module_let_go(void)
{
	module_put(THIS_MODULE);
}
