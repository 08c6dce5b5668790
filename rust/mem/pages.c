// SPDX-License-Identifier: GPL-2.0
/*
 * Struct pages, and a place in the direct map, for private memory of a lower
 * VTL. registered.rs says for how long.
 *
 * Stays C: dev_pagemap and pluggable memory have no abstraction in the kernel crate.
 */
#include <linux/memory_hotplug.h>
#include <linux/memremap.h>
#include <linux/mm.h>
#include <linux/module.h>
#include <linux/slab.h>
#include <linux/workqueue.h>

#include "helpers.h"

/* memremap_pages() warns about what it does not take, and looks at the ends only. */
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

/*
 * Both ends are multiples of 2 MiB, each of which becomes one folio. -EBUSY: some
 * of it has struct pages from another driver.
 *
 * There is none of this for memory that is shared with the host: of all kinds of
 * device memory the kernel maps only that of file systems decrypted
 * (MEMORY_DEVICE_FS_DAX), and to pin a page of that for long in a file that is no
 * file system's never ends.
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
	address = error ? ERR_PTR(error) : memremap_pages(map, NUMA_NO_NODE);
	if (IS_ERR(address)) {
		kfree(map);
		return ERR_CAST(address);
	}
	return map;
}

/* Whether anybody but the range itself holds a page of it. */
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

/* Takes back what vtl_pages_make() made; no page is held, nor can be any more. */
void vtl_pages_remove(struct dev_pagemap *map)
{
	memunmap_pages(map);
	kfree(map);
}

/* The kernel tells nobody when a page is let go, so who waits for it asks again. */
static void (*retry)(void);

static void do_retry(struct work_struct *work)
{
	READ_ONCE(retry)();
}

static DECLARE_DELAYED_WORK(retry_work, do_retry);

/* Calls @function in a while. It is the same one each time. */
void vtl_pages_retry_later(void (*function)(void))
{
	WRITE_ONCE(retry, function);
	schedule_delayed_work(&retry_work, HZ / 4);
}

/* Returns when the function does not run, and will not. */
void vtl_pages_retry_never(void)
{
	cancel_delayed_work_sync(&retry_work);
}

/* Keeps the module; the caller is in a system call on a file of it. */
void vtl_module_keep(void)
{
	__module_get(THIS_MODULE);
}

void vtl_module_let_go(void)
{
	module_put(THIS_MODULE);
}
