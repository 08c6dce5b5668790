// SPDX-License-Identifier: GPL-2.0
/*
 * What a kernel leaves with the host and the TDX module, as a file for tests:
 * reading vtl_left_behind in debugfs shows for each CPU the registers of its
 * SynIC and the virtual-APIC addresses of all VMs. Writing a page's address to
 * it leaves that behind on each CPU, as a crashing kernel does.
 */
#include <linux/cpu.h>
#include <linux/debugfs.h>
#include <linux/module.h>
#include <linux/seq_file.h>
#include <linux/smp.h>
#include <linux/uaccess.h>
#include <asm/msr.h>

#define MSR_SCONTROL 0x40000080
#define MSR_SIEFP 0x40000082
#define MSR_SIMP 0x40000083
#define ENABLED 1

#define TDG_VP_RD 9
#define TDG_VP_WR 10
/* Of VM 1, 2 and 3. */
#define APIC_ADDRESS(vm) (0x1c24000300002012ULL + ((u64)(vm) << 59))
#define NUM_VMS 3

struct left {
	u64 simp, siefp, scontrol;
	u64 apic[NUM_VMS];
};

static struct dentry *left_file;

/* R8 is the answer of TDG.VP.RD. */
static u64 tdcall(u64 leaf, u64 field, u64 value, u64 mask, u64 *answer)
{
	register u64 r8 asm("r8") = value;
	register u64 r9 asm("r9") = mask;
	register u64 r10 asm("r10") = 0;
	register u64 r11 asm("r11") = 0;
	u64 rcx = 0;

	asm volatile(".byte 0x66, 0x0f, 0x01, 0xcc"
		     : "+a"(leaf), "+c"(rcx), "+d"(field), "+r"(r8), "+r"(r9),
		       "+r"(r10), "+r"(r11)
		     :
		     : "memory", "cc");
	if (answer)
		*answer = leaf ? ~0ULL : r8;
	return leaf;
}

static void look(void *argument)
{
	struct left *left = argument;
	int vm;

	rdmsrq_safe(MSR_SIMP, &left->simp);
	rdmsrq_safe(MSR_SIEFP, &left->siefp);
	rdmsrq_safe(MSR_SCONTROL, &left->scontrol);
	for (vm = 1; vm <= NUM_VMS; vm++)
		tdcall(TDG_VP_RD, APIC_ADDRESS(vm), 0, 0, &left->apic[vm - 1]);
}

static int left_show(struct seq_file *file, void *unused)
{
	struct left left;
	int cpu;

	cpus_read_lock();
	for_each_online_cpu(cpu) {
		memset(&left, 0, sizeof(left));
		smp_call_function_single(cpu, look, &left, 1);
		seq_printf(
			file,
			"cpu %d simp %llx siefp %llx scontrol %llx vm1 %llx vm2 %llx vm3 %llx\n",
			cpu, left.simp, left.siefp, left.scontrol, left.apic[0],
			left.apic[1], left.apic[2]);
	}
	cpus_read_unlock();
	return 0;
}

static void leave(void *argument)
{
	u64 gpa = *(u64 *)argument;
	int vm;

	wrmsrq_safe(MSR_SIMP, gpa | ENABLED);
	wrmsrq_safe(MSR_SIEFP, gpa | ENABLED);
	wrmsrq_safe(MSR_SCONTROL, ENABLED);
	for (vm = 1; vm <= NUM_VMS; vm++)
		tdcall(TDG_VP_WR, APIC_ADDRESS(vm), gpa, ~0ULL, NULL);
}

static ssize_t left_write(struct file *file, const char __user *from,
			  size_t size, loff_t *offset)
{
	u64 gpa;
	int err = kstrtou64_from_user(from, size, 16, &gpa);

	if (err)
		return err;
	on_each_cpu(leave, &gpa, 1);
	return size;
}

static int left_open(struct inode *inode, struct file *file)
{
	return single_open(file, left_show, NULL);
}

static const struct file_operations left_operations = {
	.owner = THIS_MODULE,
	.open = left_open,
	.read = seq_read,
	.write = left_write,
	.llseek = seq_lseek,
	.release = single_release,
};

static int __init left_init(void)
{
	left_file = debugfs_create_file("vtl_left_behind", 0600, NULL, NULL,
					&left_operations);
	return PTR_ERR_OR_ZERO(left_file);
}
module_init(left_init);

static void __exit left_exit(void)
{
	debugfs_remove(left_file);
}
module_exit(left_exit);

MODULE_LICENSE("GPL");
MODULE_DESCRIPTION(
	"What a kernel leaves with the host and the TDX module, for tests");
