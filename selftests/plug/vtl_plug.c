// SPDX-License-Identifier: GPL-2.0
/*
 * Another user of physical addresses, for tests: with memory=0 a driver that
 * claims them while it is loaded, with memory=1 one that hotplugs System RAM
 * there. Loading fails with the kernel's error. With forget=1 it leaks memory,
 * for the test of leak detection.
 */
#include <linux/ioport.h>
#include <linux/memory_hotplug.h>
#include <linux/module.h>
#include <linux/sizes.h>
#include <linux/slab.h>

static unsigned long long start, length;
static bool memory, forget;
static struct resource *claim;

module_param(start, ullong, 0);
module_param(length, ullong, 0);
module_param(memory, bool, 0);
module_param(forget, bool, 0);

/*
 * Several: a stale copy of the last pointer may be somewhere. And large: what
 * the slab allocator has handed out stays in its arrays for a while. The name
 * of a function that is freed after loading would be in no report.
 */
static noinline int leak(void)
{
	int i;

	for (i = 0; i < 8; i++)
		if (!kzalloc(SZ_64K, GFP_KERNEL))
			return -ENOMEM;
	return 0;
}

static int __init plug_init(void)
{
	if (forget)
		return leak();
	if (memory) {
		int error = add_memory(0, start, length, MHP_NONE);

		/* The loader of modules would make EBUSY of it. */
		return error == -EEXIST ? -EADDRINUSE : error;
	}
	claim = request_mem_region(start, length, "vtl_plug");
	return claim ? 0 : -EBUSY;
}
module_init(plug_init);

static void __exit plug_exit(void)
{
	if (claim)
		release_mem_region(start, length);
}
module_exit(plug_exit);

MODULE_LICENSE("GPL");
MODULE_DESCRIPTION("Another user of physical addresses, for tests");
