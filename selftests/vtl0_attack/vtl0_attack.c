// SPDX-License-Identifier: GPL-2.0
/*
 * What an intruder in the kernel at VTL0 does, one step per load (step=), so that
 * the monitor at VTL2 has something to find. After wait_ms= everything is as it was.
 */
#include <linux/delay.h>
#include <linux/kprobes.h>
#include <linux/mm.h>
#include <linux/module.h>
#include <linux/set_memory.h>
#include <linux/string.h>
#include <asm/desc.h>
#include <asm/msr.h>
#include <asm/special_insns.h>
#include <asm/tlbflush.h>

static char *step = "";
static unsigned int wait_ms = 1000;

module_param(step, charp, 0);
module_param(wait_ms, uint, 0);

/* Where a function is that the kernel does not export. The probe is never armed. */
static unsigned long address_of(const char *name)
{
	struct kprobe probe = {
		.symbol_name = name,
		.flags = KPROBE_FLAG_DISABLED,
	};
	unsigned long address;

	if (register_kprobe(&probe))
		return 0;
	address = (unsigned long)probe.addr;
	unregister_kprobe(&probe);
	return address;
}

static u64 *entry_of(unsigned long address, unsigned int *level)
{
	pgd_t *table = __va(read_cr3_pa());
	p4d_t *p4d = p4d_offset(table + pgd_index(address), address);
	pud_t *pud = pud_offset(p4d, address);
	pmd_t *pmd = pmd_offset(pud, address);

	*level = 2;
	if (pmd_leaf(*pmd))
		return (u64 *)pmd;
	*level = 1;
	return (u64 *)pte_offset_kernel(pmd, address);
}

static void flush(unsigned long address)
{
	asm volatile("invlpg (%0)" : : "r"(address) : "memory");
}

/* Sets or clears a right of the page at an address. */
static void change(unsigned long address, u64 set, u64 clear)
{
	unsigned int level;
	u64 *entry = entry_of(address, &level);

	WRITE_ONCE(*entry, (*entry | set) & ~clear);
	flush(address);
}

/* Where something leads to that ought to lead to the kernel's text. */
static void stub(void)
{
}

static void other_lstar(void)
{
	u64 before;

	preempt_disable();
	rdmsrq(MSR_LSTAR, before);
	wrmsrq(MSR_LSTAR, (unsigned long)stub);
	mdelay(wait_ms);
	wrmsrq(MSR_LSTAR, before);
	preempt_enable();
}

static int other_text(void)
{
	unsigned long at = address_of("do_sys_open");
	u8 before;

	if (!at)
		return -ENOENT;
	/* Behind ENDBR, as probes are: the last byte of it, or of the NOP in its place. */
	at--;
	change(at, _PAGE_RW, 0);
	before = *(u8 *)at;
	WRITE_ONCE(*(u8 *)at, before ^ 1);
	change(at, 0, _PAGE_RW);
	msleep(wait_ms);
	change(at, _PAGE_RW, 0);
	WRITE_ONCE(*(u8 *)at, before);
	change(at, 0, _PAGE_RW);
	return 0;
}

static int writable_text(void)
{
	unsigned long at = address_of("do_sys_open");

	if (!at)
		return -ENOENT;
	change(at, _PAGE_RW, 0);
	msleep(wait_ms);
	change(at, 0, _PAGE_RW);
	return 0;
}

/* A gate that no device uses. */
static void other_gate(void)
{
	struct desc_ptr table;
	gate_desc *gate, before;
	unsigned long frame;

	store_idt(&table);
	gate = (gate_desc *)table.address + 0xf1;
	before = *gate;
	frame = (unsigned long)gate & PAGE_MASK;
	change(frame, _PAGE_RW, 0);
	pack_gate(gate, GATE_INTERRUPT, (unsigned long)stub, 0, 0, __KERNEL_CS);
	change(frame, 0, _PAGE_RW);
	msleep(wait_ms);
	change(frame, _PAGE_RW, 0);
	*gate = before;
	change(frame, 0, _PAGE_RW);
}

static int executable_data(void)
{
	unsigned long page = __get_free_page(GFP_KERNEL);

	if (!page)
		return -ENOMEM;
	change(page, 0, _PAGE_NX);
	msleep(wait_ms);
	change(page, _PAGE_NX, 0);
	free_page(page);
	return 0;
}

static void clear_smep(void)
{
	unsigned long cr4;

	preempt_disable();
	cr4 = native_read_cr4();
	asm volatile("mov %0, %%cr4" : : "r"(cr4 & ~X86_CR4_SMEP) : "memory");
	mdelay(wait_ms);
	asm volatile("mov %0, %%cr4" : : "r"(cr4) : "memory");
	preempt_enable();
}

static int __init vtl0_attack_init(void)
{
	pr_info("vtl0_attack: %s\n", step);
	if (!strcmp(step, "lstar"))
		other_lstar();
	else if (!strcmp(step, "text"))
		return other_text();
	else if (!strcmp(step, "gate"))
		other_gate();
	else if (!strcmp(step, "writable"))
		return writable_text();
	else if (!strcmp(step, "executable"))
		return executable_data();
	else if (!strcmp(step, "smep"))
		clear_smep();
	else
		return -EINVAL;
	return 0;
}
module_init(vtl0_attack_init);

static void __exit vtl0_attack_exit(void)
{
}
module_exit(vtl0_attack_exit);

MODULE_LICENSE("GPL");
MODULE_DESCRIPTION(
	"What an intruder in the kernel does, for tests of the monitor");
