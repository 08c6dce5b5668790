// SPDX-License-Identifier: GPL-2.0
/*
 * Somebody else who extends run-time measurement registers, for tests: writing the
 * index of one to vtl_extend in debugfs extends it by a digest of no meaning.
 */
#include <linux/debugfs.h>
#include <linux/module.h>
#include <linux/slab.h>
#include <linux/uaccess.h>
#include <asm/tdx.h>

#define DIGEST_BYTES 64

static struct dentry *extend_file;

static ssize_t extend_write(struct file *file, const char __user *from,
			    size_t size, loff_t *offset)
{
	u8 index, *digest;
	int err = kstrtou8_from_user(from, size, 10, &index);

	if (err)
		return err;
	/* Aligned to its size. */
	digest = kzalloc(DIGEST_BYTES, GFP_KERNEL);
	if (!digest)
		return -ENOMEM;
	memset(digest, 0x5a, DIGEST_BYTES);
	err = tdx_mcall_extend_rtmr(index, digest);
	kfree(digest);
	return err ?: size;
}

static const struct file_operations extend_operations = {
	.owner = THIS_MODULE,
	.write = extend_write,
};

static int __init extend_init(void)
{
	extend_file = debugfs_create_file("vtl_extend", 0200, NULL, NULL,
					  &extend_operations);
	return PTR_ERR_OR_ZERO(extend_file);
}
module_init(extend_init);

static void __exit extend_exit(void)
{
	debugfs_remove(extend_file);
}
module_exit(extend_exit);

MODULE_LICENSE("GPL");
MODULE_DESCRIPTION("Extends run-time measurement registers, for tests");
