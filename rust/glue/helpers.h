/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Kernel inline functions and macros that Rust can't see, as functions.
 */
#ifndef _MSHV_VTL_TDX_HELPERS_H
#define _MSHV_VTL_TDX_HELPERS_H

#include <linux/types.h>
#include <linux/mshv_vtl_tdx.h>
#include <asm/extable_fixup_types.h>

struct eventfd_ctx;
struct page;
struct rcuwait;

/* A CPU, and IDs of the thread on it and of its process. */
struct vtl_here {
	u32 cpu;
	u32 thread;
	u64 process;
};

bool vtl_has_guest_work(void);
bool vtl_irq_off_for_guest(unsigned long *noted);
void vtl_irq_on(void);
void vtl_irq_off(void);
struct vtl_here vtl_preempt_disable(void);
void vtl_preempt_enable(void);
u32 vtl_migrate_disable(void);
void vtl_migrate_enable(void);
bool vtl_is_bound_to_cpu(void);

/* What the exception table says of an RDMSR or WRMSR that may fault. */
enum vtl_fixup {
	VTL_FIXUP_RDMSR = EX_TYPE_RDMSR,
	VTL_FIXUP_WRMSR = EX_TYPE_WRMSR,
};

bool vtl_has_user_shadow_stacks(void);
int vtl_rdmsr_safe(u32 msr, u64 *value);
int vtl_wrmsr_safe(u32 msr, u64 value);
int vtl_user_write_u32(u64 address, u32 value);
int vtl_user_write_u8(u64 address, u8 value);
int vtl_user_read_u8(u64 address);
int vtl_user_read_pair(u64 *first, u64 *second, u64 address);
bool vtl_is_user_page(u64 address);
u32 vtl_apic_id(u32 cpu);
u32 vtl_tsc_khz(void);
/* Breakpoints of VTL2 that are disabled; dr7 is zero if there are none. */
struct vtl_breakpoints {
	u64 address[4];
	u64 dr7;
};

void vtl_breakpoints_stop(struct vtl_breakpoints *own);
void vtl_breakpoints_resume(struct vtl_breakpoints *own);
void vtl_debug_forget(void);

void *vtl_page_address(struct page *page);
u64 vtl_page_phys(struct page *page);

bool vtl_is_system_ram(u64 start, u64 len_bytes);

/* Bytes of the caller's. */
struct vtl_bytes {
	const u8 *start;
	size_t len;
};

void vtl_sha256(const struct vtl_bytes *bytes, u8 *hash);
void vtl_sha384(const struct vtl_bytes *bytes, u8 *digest);
void vtl_page_sha256(struct page *page, u32 offset, u32 len, u8 *hash);
void vtl_random(u8 *bytes);

int vtl_cpuhp_setup(int (*online)(unsigned int cpu),
		    int (*offline)(unsigned int cpu));

u64 vtl_without_shared(u64 gpa);
void vtl_eventfd_signal(struct eventfd_ctx *eventfd);

/* sleep.c */
int vtl_sleep(struct rcuwait *sleeper, bool (*is_awake)(void *argument),
	      void *argument, u64 most_ns, u64 slack_ns);
void vtl_send_reschedule(u32 cpu);
bool vtl_need_resched(void);
bool vtl_yield(void);

#endif
