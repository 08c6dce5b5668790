// SPDX-License-Identifier: GPL-2.0
/*
 * Makes a range of the lower VTLs' memory that this kernel does not use a busy
 * resource: drivers can't request it, System RAM can't be hotplugged there, and
 * /dev/mem refuses access.
 *
 * Stays C: requests and walks resources without a device, by macros.
 */
#include <linux/ioport.h>
#include <linux/list.h>
#include <linux/mutex.h>
#include <linux/sizes.h>
#include <linux/slab.h>
#include <linux/sysfs.h>

#include "helpers.h"

/*
 * What is claimed: pieces of ranges, split where firmware's memory map splits.
 */
struct vtl_piece {
	struct list_head list;
	u64 start, len_bytes;
};

static LIST_HEAD(vtl_pieces);

/* The ranges themselves, for sysfs. */
static DEFINE_MUTEX(vtl_shown_lock);
static struct {
	u64 start, len_bytes;
} vtl_shown[VTL_MAX_RANGES];
static unsigned int vtl_num_shown;

static const char vtl_name[] = "Lower VTL memory";

static int found(struct resource *resource, void *arg)
{
	return 1;
}

/*
 * Reserved memory below 1 MiB is a busy resource from boot on. Its only
 * children are ROMs, which the kernel probed earlier.
 */
static int claim_low(u64 start, u64 len_bytes)
{
	if (start + len_bytes > SZ_1M)
		return -EBUSY;
	return walk_iomem_res_desc(IORES_DESC_NONE,
				   IORESOURCE_MEM | IORESOURCE_READONLY, start,
				   start + len_bytes - 1, NULL, found) == 1 ?
		       -EBUSY :
		       0;
}

/*
 * Claims addresses that no resource overlaps, or that lie within one reserved
 * entry of firmware's map in which nothing overlaps them. A resource that is
 * not busy, such as a bus window, would accept the claim as its child.
 */
static int claim(u64 start, u64 len_bytes)
{
	struct vtl_piece *piece = kzalloc_obj(*piece);
	struct resource *resource;

	if (!piece)
		return -ENOMEM;
	resource = __request_region(&iomem_resource, start, len_bytes, vtl_name,
				    0);
	if (resource && resource->parent != &iomem_resource &&
	    resource->parent->desc != IORES_DESC_RESERVED) {
		__release_region(&iomem_resource, start, len_bytes);
		resource = NULL;
	}
	if (!resource) {
		kfree(piece);
		return -EBUSY;
	}
	piece->start = start;
	piece->len_bytes = len_bytes;
	list_add(&piece->list, &vtl_pieces);
	return 0;
}

struct vtl_walk {
	u64 at; /* what lies below is claimed */
	int error;
};

static int claim_reserved(struct resource *reserved, void *arg)
{
	struct vtl_walk *walk = arg;
	u64 size = resource_size(reserved);

	if (reserved->start > walk->at)
		walk->error = claim(walk->at, reserved->start - walk->at);
	if (!walk->error)
		walk->error = reserved->flags & IORESOURCE_BUSY ?
				      claim_low(reserved->start, size) :
				      claim(reserved->start, size);
	walk->at = reserved->end + 1;
	return walk->error;
}

static int claim_all(u64 start, u64 len_bytes)
{
	struct vtl_walk walk = { .at = start };
	u64 end = start + len_bytes;

	walk_iomem_res_desc(IORES_DESC_RESERVED, IORESOURCE_MEM, start, end - 1,
			    &walk, claim_reserved);
	if (!walk.error && walk.at < end)
		walk.error = claim(walk.at, end - walk.at);
	return walk.error;
}

/*
 * Claims a range, or logs why it can't belong to a lower VTL. On an error the
 * caller releases all earlier claims.
 */
int vtl_range_claim(u64 start, u64 len_bytes)
{
	const char *what = vtl_find_use(start, start + len_bytes);
	int error = what ? -EBUSY : claim_all(start, len_bytes);

	if (error == -EBUSY) {
		pr_err("mshv_vtl_tdx: not loaded: vtl0_mem=: %#llx,%#llx collides with %s\n",
		       start, len_bytes,
		       what ?: "a device, a ROM or a driver: see /proc/iomem");
		return -EINVAL;
	}
	if (error)
		return error;
	mutex_lock(&vtl_shown_lock);
	vtl_shown[vtl_num_shown].start = start;
	vtl_shown[vtl_num_shown].len_bytes = len_bytes;
	vtl_num_shown++;
	mutex_unlock(&vtl_shown_lock);
	return 0;
}

void vtl_ranges_release(void)
{
	struct vtl_piece *piece, *next;

	list_for_each_entry_safe(piece, next, &vtl_pieces, list) {
		__release_region(&iomem_resource, piece->start,
				 piece->len_bytes);
		list_del(&piece->list);
		kfree(piece);
	}
}

/* Shows the list in use, in the form of the parameter. */
int vtl_ranges_show(char *buffer)
{
	int length = 0;
	unsigned int i;

	mutex_lock(&vtl_shown_lock);
	for (i = 0; i < vtl_num_shown; i++)
		length += sysfs_emit_at(buffer, length, "%s%#llx,%#llx",
					i ? "," : "", vtl_shown[i].start,
					vtl_shown[i].len_bytes);
	mutex_unlock(&vtl_shown_lock);
	return length + sysfs_emit_at(buffer, length, "\n");
}
