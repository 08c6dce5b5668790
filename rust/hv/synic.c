// SPDX-License-Identifier: GPL-2.0
/*
 * The synthetic interrupt controller (SynIC) of a Hyper-V host.
 *
 * The kernel lets only its own Hyper-V drivers use a vector, but calls a second
 * handler on that vector: that of the root partition's driver. A TD is never a
 * root partition, so this handler is free, and setting it needs no symbol that
 * is exported to particular modules.
 *
 * Stays C: per-CPU variables, irq_work, and MSRs that are macros.
 */
#include <linux/cpu.h>
#include <linux/irq_work.h>
#include <linux/percpu.h>
#include <linux/platform_device.h>
#include <linux/rcupdate.h>
#include <linux/smp.h>
#include <asm/mshyperv.h>

#include "helpers.h"

#if IS_ENABLED(CONFIG_HYPERV)

static void (*synic_interrupt)(const void *argument);
static void (*synic_deferred)(const void *argument);
static const void *synic_argument;
static DEFINE_PER_CPU(struct irq_work, synic_work);
/* vtl_synic_on() has enabled the SynIC of this CPU. */
static DEFINE_PER_CPU(bool, synic_is_on);

static void synic_handle(void)
{
	synic_interrupt(synic_argument);
}

static void synic_work_run(struct irq_work *unused)
{
	synic_deferred(synic_argument);
}

/*
 * @interrupt runs in hard interrupt context, where it may only take locks of
 * the kernel's core; @deferred runs after it on the same CPU if @interrupt has
 * called vtl_synic_defer().
 */
void vtl_synic_start(void (*interrupt)(const void *argument),
		     void (*deferred)(const void *argument),
		     const void *argument)
{
	unsigned int cpu;

	for_each_possible_cpu(cpu)
		init_irq_work(per_cpu_ptr(&synic_work, cpu), synic_work_run);
	synic_interrupt = interrupt;
	synic_deferred = deferred;
	synic_argument = argument;
	hv_setup_mshv_handler(synic_handle);
}

/* Called with interrupts disabled. Work that is already pending runs once. */
void vtl_synic_defer(void)
{
	irq_work_queue(this_cpu_ptr(&synic_work));
}

/* Every SINT is masked before. Afterwards no CPU runs either handler. */
void vtl_synic_stop(void)
{
	unsigned int cpu;

	hv_setup_mshv_handler(NULL);
	/*
	 * The handler runs with interrupts disabled, which is an RCU read-side
	 * section.
	 */
	synchronize_rcu();
	for_each_possible_cpu(cpu)
		irq_work_sync(per_cpu_ptr(&synic_work, cpu));
}

/*
 * Finds out if this driver may use the SynIC. The VMBus driver stays registered
 * only if it has found a VMBus, and then uses the SynIC. A message page that is
 * enabled without that driver was left behind by a kernel that crashed.
 */
enum vtl_synic vtl_synic_find(void)
{
	u64 messages;

	if (rdmsrq_safe(HV_MSR_SIMP, &messages))
		return VTL_SYNIC_NONE;
	return driver_find("vmbus", &platform_bus_type) ? VTL_SYNIC_TAKEN :
							  VTL_SYNIC_FREE;
}

/*
 * The host may refuse any of its MSRs, which the kernel must not warn about. If
 * it does, it merely can't send anything.
 */
static void synic_write(u32 msr, u64 value)
{
	wrmsrq_safe(msr, value);
}

static void synic_set_source(u32 sint, bool masked)
{
	union hv_synic_sint source = {
		.vector = HYPERVISOR_CALLBACK_VECTOR,
		.masked = masked,
		.auto_eoi = hv_recommend_using_aeoi(),
	};

	synic_write(HV_MSR_SINT0 + sint, source.as_uint64);
}

/* Enables the SynIC of this CPU. @masked only applies to the SINT of VMBus. */
void vtl_synic_on(u64 messages_phys, u64 events_phys, bool masked)
{
	this_cpu_write(synic_is_on, true);
	synic_write(HV_MSR_SIMP, messages_phys | HV_SYNIC_SIMP_ENABLE);
	synic_write(HV_MSR_SIEFP, events_phys | HV_SYNIC_SIEFP_ENABLE);
	synic_set_source(VTL_SINT_INTERCEPTION, false);
	synic_set_source(VTL_SINT_VMBUS, masked);
	synic_write(HV_MSR_SCONTROL, HV_SYNIC_CONTROL_ENABLE);
}

/* Disables the SynIC of this CPU. */
void vtl_synic_off(void)
{
	synic_set_source(VTL_SINT_VMBUS, true);
	synic_set_source(VTL_SINT_INTERCEPTION, true);
	synic_write(HV_MSR_SCONTROL, 0);
	synic_write(HV_MSR_SIEFP, 0);
	synic_write(HV_MSR_SIMP, 0);
	this_cpu_write(synic_is_on, false);
}

static void synic_mask(void *masked)
{
	/* A SynIC that was disabled stays masked. */
	if (this_cpu_read(synic_is_on))
		synic_set_source(VTL_SINT_VMBUS, *(bool *)masked);
}

/* Masks or unmasks the SINT of VMBus on every online CPU. */
void vtl_synic_mask_all(bool masked)
{
	cpus_read_lock();
	on_each_cpu(synic_mask, &masked, 1);
	cpus_read_unlock();
}

/* A message slot of this CPU is free again. */
void vtl_synic_eom(void)
{
	synic_write(HV_MSR_EOM, 0);
}

static void synic_eom(void *unused)
{
	vtl_synic_eom();
}

/*
 * A message slot of that CPU is free again. If the CPU is offline, nothing
 * waits.
 */
void vtl_synic_eom_on(u32 cpu)
{
	smp_call_function_single(cpu, synic_eom, NULL, 1);
}

#else /* A kernel that never finds itself on Hyper-V. */

void vtl_synic_start(void (*interrupt)(const void *argument),
		     void (*deferred)(const void *argument),
		     const void *argument)
{
}

void vtl_synic_defer(void)
{
}

void vtl_synic_stop(void)
{
}

enum vtl_synic vtl_synic_find(void)
{
	return VTL_SYNIC_NONE;
}

void vtl_synic_on(u64 messages_phys, u64 events_phys, bool masked)
{
}

void vtl_synic_off(void)
{
}

void vtl_synic_mask_all(bool masked)
{
}

void vtl_synic_eom(void)
{
}

void vtl_synic_eom_on(u32 cpu)
{
}

#endif
