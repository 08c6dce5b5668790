// SPDX-License-Identifier: GPL-2.0
/*
 * Pages that have been shared with the host, and the address space by which all
 * mappings of lower-VTL memory are found, whatever node they came from.
 *
 * Stays C: a pseudo file system and a reader-writer semaphore have no
 * abstraction.
 */
#include <linux/fs.h>
#include <linux/fs_context.h>
#include <linux/mm.h>
#include <linux/mount.h>
#include <linux/pseudo_fs.h>
#include <linux/rwsem.h>
#include <linux/xarray.h>

#include "helpers.h"

static DECLARE_RWSEM(withdrawn_lock);
/* Indexed by page number; the values have no meaning. */
static DEFINE_XARRAY(withdrawn_pages);
static struct vfsmount *low_mount;
static struct inode *low_inode;

static int low_init_context(struct fs_context *context)
{
	return init_pseudo(context, 0x766c6f77) ? 0 : -ENOMEM;
}

/*
 * No owner: the module itself mounts it, and could otherwise never be
 * unloaded.
 */
static struct file_system_type low_type = {
	.name = "mshv_vtl_low",
	.init_fs_context = low_init_context,
	.kill_sb = kill_anon_super,
};

/* Called before the first file is opened. */
int vtl_withdrawn_init(void)
{
	low_mount = kern_mount(&low_type);
	if (IS_ERR(low_mount))
		return PTR_ERR(low_mount);
	low_inode = alloc_anon_inode(low_mount->mnt_sb);
	if (IS_ERR(low_inode)) {
		kern_unmount(low_mount);
		return PTR_ERR(low_inode);
	}
	return 0;
}

/* Called after the last file is closed. */
void vtl_withdrawn_exit(void)
{
	iput(low_inode);
	kern_unmount(low_mount);
	xa_destroy(&withdrawn_pages);
}

/*
 * Each inode has an address space of its own, so all files have to share one.
 */
void vtl_low_opened(struct file *file)
{
	file->f_mapping = low_inode->i_mapping;
}

void vtl_withdrawn_down_read(void)
{
	down_read(&withdrawn_lock);
}

void vtl_withdrawn_up_read(void)
{
	up_read(&withdrawn_lock);
}

int vtl_withdrawn_down_write(void)
{
	return down_write_killable(&withdrawn_lock);
}

void vtl_withdrawn_up_write(void)
{
	up_write(&withdrawn_lock);
}

/*
 * Returns true if any page of a range is recorded. The caller holds the lock.
 */
bool vtl_withdrawn_any(u64 first, u64 count)
{
	unsigned long page = first;

	return xa_find(&withdrawn_pages, &page, first + count - 1, XA_PRESENT);
}

/*
 * Returns 0, or -EBUSY if the page is recorded already. The caller holds the
 * lock for writing. The first page takes a reference to the module; the caller
 * is in a system call on one of its files.
 */
int vtl_withdrawn_add(u64 page)
{
	bool is_first = xa_empty(&withdrawn_pages);
	int error = xa_insert(&withdrawn_pages, page, xa_mk_value(0),
			      GFP_KERNEL_ACCOUNT);

	if (is_first && !error)
		vtl_module_keep();
	return error;
}

/* The caller holds the lock for writing, and keeps the module loaded. */
void vtl_withdrawn_remove(u64 page)
{
	if (xa_erase(&withdrawn_pages, page) && xa_empty(&withdrawn_pages))
		vtl_module_let_go();
}

/*
 * The first recorded page from @page on, or U64_MAX. The caller holds the
 * lock.
 */
u64 vtl_withdrawn_next(u64 page)
{
	unsigned long at = page;

	return xa_find(&withdrawn_pages, &at, ULONG_MAX, XA_PRESENT) ? at :
								       U64_MAX;
}

/* Unmaps pages everywhere; @offset is that of the first one in the file. */
void vtl_low_unmap(u64 offset, u64 count)
{
	unmap_mapping_pages(low_inode->i_mapping, offset, count, true);
}
