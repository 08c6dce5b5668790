// SPDX-License-Identifier: GPL-2.0
/*
 * Ways around VTL0's own rights to a page, by page tables and devices.
 */
#include <linux/delay.h>
#include <linux/io.h>
#include <linux/irqflags.h>
#include <linux/mm.h>
#include <linux/scatterlist.h>
#include <linux/virtio.h>
#include <linux/virtio_config.h>
#include <linux/virtio_ids.h>
#include <asm/asm.h>
#include <asm/special_insns.h>
#include "around.h"

/* Its identifier, which is below 16, is one byte that does not change when it is read. */
#define IO_APIC 0xfec00000
#define ENTRY 8
#define MARKED (_PAGE_PRESENT | _PAGE_RW | _PAGE_ACCESSED)

static unsigned long root, linear;
static u64 entry;

void make_tables(u64 *upper, u64 *last, void *target)
{
	int levels = pgtable_l5_enabled() ? 5 : 4,
	    shift = 12 + 9 * (levels - 1);
	u64 *table = upper;

	root = virt_to_phys(upper);
	/* The kernel's half is everybody's; the other one has an entry of ours alone. */
	memcpy(table, __va(read_cr3_pa()), PAGE_SIZE);
	memset(table, 0, PAGE_SIZE / 2);
	linear = (1UL << shift) | (ENTRY << PAGE_SHIFT);
	for (; shift > PAGE_SHIFT; shift -= 9) {
		u64 *next = shift == PMD_SHIFT ? last : table + PTRS_PER_PTE;

		table[(linear >> shift) & (PTRS_PER_PTE - 1)] =
			virt_to_phys(next) | MARKED;
		table = next;
	}
	entry = virt_to_phys(target) | _PAGE_PRESENT | _PAGE_RW;
	last[ENTRY] = entry;
}

static void __iomem *device;

/* Returns true if that was an exception, and nothing was counted as moved. */
static bool moves(void *to)
{
	const void *from = (const void __force *)device;
	unsigned long left = 1;
	int fault = 1;

	asm volatile("1: rep movsb\n"
		     "   xorl %0, %0\n"
		     "2:\n" _ASM_EXTABLE(1b, 2b)
		     : "+r"(fault), "+S"(from), "+D"(to), "+c"(left)
		     :
		     : "memory");
	return fault && left == 1;
}

bool write_faults(u8 *at)
{
	int fault = 1;

	asm volatile("1: movb $1, %1\n"
		     "   xorl %0, %0\n"
		     "2:\n" _ASM_EXTABLE(1b, 2b)
		     : "+r"(fault), "+m"(*at));
	return fault;
}

bool device_moves_to(u8 *to)
{
	bool fault = true;

	device = ioremap(IO_APIC, PAGE_SIZE);
	if (device)
		fault = moves(to);
	iounmap(device);
	return fault;
}

u8 device_byte(void)
{
	u8 byte = 0;

	device = ioremap(IO_APIC, PAGE_SIZE);
	if (device)
		byte = readb(device);
	iounmap(device);
	return byte;
}

bool table_is_kept(const void *last, bool from_device)
{
	unsigned long flags, before;
	bool fault = false;

	device = ioremap(IO_APIC, PAGE_SIZE);
	if (!device)
		return false;
	local_irq_save(flags);
	before = __native_read_cr3();
	native_write_cr3(root);
	fault = from_device ? moves((void *)linear) :
			      write_faults((u8 *)linear);
	native_write_cr3(before);
	local_irq_restore(flags);
	iounmap(device);
	return fault && READ_ONCE(((const u64 *)last)[ENTRY]) == entry;
}

static void *wanted;
static bool is_filled;

static int random_probe(struct virtio_device *vdev)
{
	struct virtqueue *queue = virtio_find_single_vq(vdev, NULL, "random");
	struct scatterlist list;
	unsigned int len;
	int turns = 0;

	if (IS_ERR(queue))
		return PTR_ERR(queue);
	virtio_device_ready(vdev);
	sg_init_one(&list, wanted, 32);
	if (!virtqueue_add_inbuf(queue, &list, 1, wanted, GFP_KERNEL))
		virtqueue_kick(queue);
	/* The device has served the queue when the notification is over. */
	while (!virtqueue_get_buf(queue, &len) && turns++ < 10)
		usleep_range(1000, 2000);
	is_filled = turns <= 10 && len == 32;
	return 0;
}

static void random_remove(struct virtio_device *vdev)
{
	virtio_reset_device(vdev);
	vdev->config->del_vqs(vdev);
}

static const struct virtio_device_id ids[] = { { VIRTIO_ID_RNG,
						 VIRTIO_DEV_ANY_ID },
					       {} };

static struct virtio_driver driver = {
	.driver.name = "vtl1_calls",
	.id_table = ids,
	.probe = random_probe,
	.remove = random_remove,
};

bool random_fills(void *to)
{
	wanted = to;
	is_filled = false;
	if (register_virtio_driver(&driver))
		return false;
	unregister_virtio_driver(&driver);
	return is_filled && memchr_inv(to, 0, 32);
}
