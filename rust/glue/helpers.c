// SPDX-License-Identifier: GPL-2.0
/*
 * Functions of the kernel that several folders of the module use.
 *
 * Stays C: they are inline functions and macros, which Rust can't call.
 */
#include <linux/cpuhotplug.h>
#include <linux/entry-virt.h>
#include <linux/eventfd.h>
#include <linux/interrupt.h>
#include <linux/ioport.h>
#include <linux/jiffies.h>
#include <linux/kvm_host.h>
#include <linux/minmax.h>
#include <linux/mm.h>
#include <linux/module.h>
#include <linux/preempt.h>
#include <linux/random.h>
#include <linux/rcupdate.h>
#include <linux/sched.h>
#include <linux/uaccess.h>
#include <crypto/sha2.h>
#include <asm/coco.h>
#include <asm/cpufeature.h>
#include <asm/debugreg.h>
#include <asm/msr.h>
#include <asm/processor.h>
#include <asm/smp.h>
#include <asm/tsc.h>

#include "helpers.h"
#include "version.h"

/* module! has no version. */
MODULE_VERSION(VTL_VERSION);

/*
 * Softirqs wait for the end of the section in which the registers are the lower
 * VTL's. With PREEMPT_RT they run in a thread of their own, and ending the section
 * would not help them: the scheduler decides when that thread runs.
 */
static bool vtl_softirq_waits(void)
{
	return !IS_ENABLED(CONFIG_PREEMPT_RT) && local_softirq_pending();
}

/* With interrupts on: work that is raised later is seen by vtl_irq_off_for_guest(). */
notrace bool vtl_has_guest_work(void)
{
	return __xfer_to_guest_mode_work_pending();
}

/*
 * With interrupts on. Disables them and returns true, unless the task, or a softirq, has
 * work to do before it may enter a guest: then they stay on.
 *
 * Reports a quiescent state to RCU, at most once a jiffy; @noted is the last jiffy in
 * which it did. That is often enough, because a grace period takes several: one that
 * waits for this CPU makes the tick raise a softirq or set NEED_RESCHED.
 */
notrace bool vtl_irq_off_for_guest(unsigned long *noted)
{
	unsigned long now;

	local_irq_disable();
	xfer_to_guest_mode_prepare();
	if (likely(!xfer_to_guest_mode_work_pending() &&
		   !vtl_softirq_waits())) {
		now = READ_ONCE(jiffies);
		if (unlikely(*noted != now)) {
			*noted = now;
			rcu_virt_note_context_switch();
		}
		return true;
	}
	local_irq_enable();
	return false;
}

void vtl_irq_off(void)
{
	local_irq_disable();
}

notrace void vtl_irq_on(void)
{
	local_irq_enable();
}

/* Returns where the task now can't be preempted, and who it is. */
notrace struct vtl_here vtl_preempt_disable(void)
{
	preempt_disable();
	return (struct vtl_here){
		.cpu = raw_smp_processor_id(),
		.thread = current->pid,
		.process = current->tgid,
	};
}

notrace void vtl_preempt_enable(void)
{
	preempt_enable();
}

/* Returns the CPU that the task now stays on. */
u32 vtl_migrate_disable(void)
{
	migrate_disable();
	return raw_smp_processor_id();
}

void vtl_migrate_enable(void)
{
	migrate_enable();
}

/* Returns true if the affinity of the thread is a single CPU. */
bool vtl_is_bound_to_cpu(void)
{
	return current->nr_cpus_allowed == 1;
}

/* Returns true if tasks may use U_CET and PL3_SSP. */
bool vtl_has_user_shadow_stacks(void)
{
	return cpu_feature_enabled(X86_FEATURE_USER_SHSTK);
}

/* For registers that the TDX module may refuse. */
int vtl_rdmsr_safe(u32 msr, u64 *value)
{
	return rdmsrq_safe(msr, value);
}

/* For values that the processor may refuse. */
int vtl_wrmsr_safe(u32 msr, u64 value)
{
	return wrmsrq_safe(msr, value);
}

/*
 * Accesses to the memory of the current process that serve no fault: in any context
 * of a task. Each returns 0, or what was read, or -EFAULT.
 */
int vtl_user_write_u32(u64 address, u32 value)
{
	int result;

	pagefault_disable();
	result = put_user(value, (u32 __user *)address);
	pagefault_enable();
	return result;
}

int vtl_user_write_u8(u64 address, u8 value)
{
	int result;

	pagefault_disable();
	result = put_user(value, (u8 __user *)address);
	pagefault_enable();
	return result;
}

int vtl_user_read_u8(u64 address)
{
	int result;
	u8 byte;

	pagefault_disable();
	result = get_user(byte, (u8 __user *)address);
	pagefault_enable();
	return result ?: byte;
}

/* Two neighbours. */
int vtl_user_read_pair(u64 *first, u64 *second, u64 address)
{
	u64 __user *from = (u64 __user *)address;
	int result;

	pagefault_disable();
	result = get_user(*first, from) ?: get_user(*second, from + 1);
	pagefault_enable();
	return result;
}

/* True for 0 as well. */
bool vtl_is_user_page(u64 address)
{
	return PAGE_ALIGNED(address) &&
	       access_ok((void __user *)address, PAGE_SIZE);
}

u32 vtl_tsc_khz(void)
{
	return tsc_khz;
}

u32 vtl_apic_id(u32 cpu)
{
	return cpu_possible(cpu) ? cpu_physical_id(cpu) : BAD_APICID;
}

/* With interrupts off. */
void vtl_breakpoints_stop(struct vtl_breakpoints *own)
{
	own->dr7 = local_db_save();
	get_debugreg(own->address[0], 0);
	get_debugreg(own->address[1], 1);
	get_debugreg(own->address[2], 2);
	get_debugreg(own->address[3], 3);
}

/* Likewise. */
void vtl_breakpoints_resume(struct vtl_breakpoints *own)
{
	set_debugreg(own->address[0], 0);
	set_debugreg(own->address[1], 1);
	set_debugreg(own->address[2], 2);
	set_debugreg(own->address[3], 3);
	local_db_restore(own->dr7);
	own->dr7 = 0;
}

/* Clears the registers in which VTL2 has no breakpoint. */
void vtl_debug_forget(void)
{
	unsigned long flags, armed;

	/* An interrupt may set a breakpoint. */
	local_irq_save(flags);
	armed = this_cpu_read(cpu_dr7);
	if (!(armed & (DR_GLOBAL_ENABLE | DR_LOCAL_ENABLE) << 0))
		set_debugreg(0, 0);
	if (!(armed & (DR_GLOBAL_ENABLE | DR_LOCAL_ENABLE) << 2))
		set_debugreg(0, 1);
	if (!(armed & (DR_GLOBAL_ENABLE | DR_LOCAL_ENABLE) << 4))
		set_debugreg(0, 2);
	if (!(armed & (DR_GLOBAL_ENABLE | DR_LOCAL_ENABLE) << 6))
		set_debugreg(0, 3);
	local_irq_restore(flags);
}

void *vtl_page_address(struct page *page)
{
	return page_address(page);
}

u64 vtl_page_phys(struct page *page)
{
	return page_to_phys(page);
}

/* Returns true if any byte of the range is memory that this Linux uses. */
bool vtl_is_system_ram(u64 start, u64 len_bytes)
{
	return region_intersects(start, len_bytes, IORESOURCE_SYSTEM_RAM,
				 IORES_DESC_NONE) != REGION_DISJOINT;
}

int vtl_cpuhp_setup(int (*online)(unsigned int cpu),
		    int (*offline)(unsigned int cpu))
{
	return cpuhp_setup_state(CPUHP_AP_ONLINE_DYN, "mshv_vtl_tdx:online",
				 online, offline);
}

/* Returns the private alias of an address. */
u64 vtl_without_shared(u64 gpa)
{
	return gpa & ~cc_mkdec(0);
}

void vtl_eventfd_signal(struct eventfd_ctx *eventfd)
{
	eventfd_signal(eventfd);
}

/* @hash has room for 32 bytes. */
void vtl_sha256(const struct vtl_bytes *bytes, u8 *hash)
{
	sha256(bytes->start, bytes->len, hash);
}

/* @digest has room for 48 bytes. */
void vtl_sha384(const struct vtl_bytes *bytes, u8 *digest)
{
	sha384(bytes->start, bytes->len, digest);
}

/* Of what of the range is in the page. */
void vtl_page_sha256(struct page *page, u32 offset, u32 len, u8 *hash)
{
	offset = min_t(u32, offset, PAGE_SIZE);
	len = min_t(u32, len, PAGE_SIZE - offset);
	sha256(page_address(page) + offset, len, hash);
}

/* 32 bytes. */
void vtl_random(u8 *bytes)
{
	get_random_bytes(bytes, 32);
}
