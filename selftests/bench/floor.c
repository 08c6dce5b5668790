// SPDX-License-Identifier: GPL-2.0
/*
 * The benchmark's floor: TDG.VP.ENTER in a kernel loop with nothing around it.
 *
 * A separate test module, never shipped. The benchmark program prepares the
 * lower VTL through mshv_vtl_tdx as usual, then writes a struct floor_request
 * to /dev/vtl_floor; the guest has to execute CPUID in a loop.
 */
#include <linux/fs.h>
#include <linux/gfp.h>
#include <linux/io.h>
#include <linux/irqflags.h>
#include <linux/miscdevice.h>
#include <linux/module.h>
#include <linux/sched/signal.h>
#include <linux/uaccess.h>
#include "run/vp_enter.h"

#define GUEST_STATE_SIZE 160
#define GUEST_STATE_RIP 0x88
#define MAX_ROUNDS 100000

/* Completion codes, the high half of RAX. */
#define TDX_SUCCESS 0x0
#define TDX_L2_EXIT_HOST_ROUTED_ASYNC 0x1100
#define TDX_L2_EXIT_PENDING_INTERRUPT 0x1102
#define TDX_PENDING_INTERRUPT 0x1120

#define EXIT_REASON_CPUID 10

/* Markers of tools/checks/insn_count: path 0 begins, path 0 ended. */
static __always_inline void floor_begin(void)
{
	asm volatile(".byte 0x0f, 0x1f, 0x84, 0x00, 1, 0, 0x54, 0x56" ::
			     : "memory");
}

static __always_inline void floor_end(void)
{
	asm volatile(".byte 0x0f, 0x1f, 0x84, 0x00, 2, 0, 0x54, 0x56" ::
			     : "memory");
}

/* What the benchmark program writes to the device. */
struct floor_request {
	u64 entry_rcx;
	u64 rounds;
	u8 guest_state[GUEST_STATE_SIZE];
};

/* One entry that ends in a CPUID exit; the guest's RIP is moved past it. */
static int floor_round(u64 entry_rcx, u8 *guest_state)
{
	struct vtl_enter_operands operands = {
		.rcx = entry_rcx,
		.guest_state_gpa = virt_to_phys(guest_state),
	};
	const struct mshv_tdx_exit_info *exit = &operands.exit;
	unsigned long flags;

	for (;;) {
		local_irq_save(flags);
		floor_begin();
		vtl_vp_enter(&operands);
		floor_end();
		local_irq_restore(flags);

		switch (exit->rax >> 32) {
		case TDX_SUCCESS:
			if ((exit->rax & 0xffff) != EXIT_REASON_CPUID)
				return -EIO;
			*(u64 *)(guest_state + GUEST_STATE_RIP) += exit->r11 >>
								   32;
			return 0;
		case TDX_L2_EXIT_HOST_ROUTED_ASYNC:
		case TDX_L2_EXIT_PENDING_INTERRUPT:
		case TDX_PENDING_INTERRUPT:
			break;
		default:
			pr_err("TDG.VP.ENTER answered %#llx\n", exit->rax);
			return -EIO;
		}
		if (signal_pending(current))
			return -EINTR;
	}
}

static ssize_t floor_write(struct file *file, const char __user *buffer,
			   size_t size, loff_t *pos)
{
	struct floor_request request;
	u8 *guest_state;
	int ret = 0;

	if (size != sizeof(request))
		return -EINVAL;
	if (copy_from_user(&request, buffer, sizeof(request)))
		return -EFAULT;
	if (request.rounds > MAX_ROUNDS)
		return -EINVAL;
	/*
	 * A page, which is more than the 256-byte alignment that the leaf
	 * needs.
	 */
	guest_state = (u8 *)get_zeroed_page(GFP_KERNEL);
	if (!guest_state)
		return -ENOMEM;
	memcpy(guest_state, request.guest_state, GUEST_STATE_SIZE);
	while (!ret && request.rounds--)
		ret = floor_round(request.entry_rcx, guest_state);
	free_page((unsigned long)guest_state);
	return ret ? ret : size;
}

static const struct file_operations floor_fops = {
	.owner = THIS_MODULE,
	.write = floor_write,
};

static struct miscdevice floor_device = {
	.minor = MISC_DYNAMIC_MINOR,
	.name = "vtl_floor",
	.fops = &floor_fops,
	.mode = 0600,
};

module_misc_device(floor_device);
MODULE_DESCRIPTION("Benchmark floor of mshv_vtl_tdx");
MODULE_LICENSE("GPL");
