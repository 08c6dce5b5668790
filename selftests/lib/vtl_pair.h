/* SPDX-License-Identifier: GPL-2.0 */
/*
 * VTL0 and VTL1 of one VP, as VM 1 and VM 2 in 64-bit mode, each with its own page
 * tables, stack and interrupt table. Each begins at a label of lib/vtl_pair_code.S.
 */
#ifndef VTL_PAIR_H
#define VTL_PAIR_H

#include "vtl_util.h"

#include "vtl_assist.h"

#define PAIR_CODE(name) extern const unsigned char name[]
PAIR_CODE(pair_code);
PAIR_CODE(pair_code_end);
PAIR_CODE(pair_vmcall);
PAIR_CODE(pair_halt);
PAIR_CODE(pair_return_fast);
PAIR_CODE(pair_return);
PAIR_CODE(pair_call);
PAIR_CODE(pair_call_sti);
PAIR_CODE(pair_sti_call);
PAIR_CODE(pair_mov_ss_call);
PAIR_CODE(pair_long_call);
PAIR_CODE(pair_call_forever);
PAIR_CODE(pair_store_call);
PAIR_CODE(pair_store_spin);
PAIR_CODE(pair_wrmsr_call);
PAIR_CODE(pair_spin);
PAIR_CODE(pair_wait);
PAIR_CODE(pair_sti);
PAIR_CODE(pair_sti_hlt);
PAIR_CODE(pair_store);
PAIR_CODE(pair_live_vtl0);
PAIR_CODE(pair_live_vtl1);
PAIR_CODE(pair_kept_vtl0);
PAIR_CODE(pair_kept_vtl1);
PAIR_CODE(pair_shared_vtl0);
PAIR_CODE(pair_shared_vtl1);
PAIR_CODE(pair_all_vtl0);
PAIR_CODE(pair_all_vtl1);
PAIR_CODE(pair_tables_vtl0);
PAIR_CODE(pair_tables_vtl1);
PAIR_CODE(pair_storm_vtl0);
PAIR_CODE(pair_storm_vtl1);
PAIR_CODE(pair_storm_irq_peer);
PAIR_CODE(pair_storm_irq_self);
PAIR_CODE(pair_storm_irq_timer);
PAIR_CODE(pair_storm_irq_proxy);
PAIR_CODE(pair_storm_irq_level);
PAIR_CODE(pair_storm_irq_vtl1);
PAIR_CODE(pair_bench_user);
PAIR_CODE(pair_bench);

/* Offset in their memory of the virtual-APIC page of VM 2. */
#define PAIR_APIC_VM2 0x5000

/* Shared by a guest and the test; one for each VTL. */
struct pair_data {
	uint64_t turns;
	uint64_t taken; /* interrupts */
	uint64_t word;
	uint64_t pad[5];
	uint64_t loaded[12];
	uint64_t to_load[12];
};

struct vtl_pair {
	struct vtl_guest guest;
	volatile struct mshv_vtl_switch_page *page;
	volatile uint8_t *vapic; /* of VM 1 */
	volatile uint8_t *part; /* their memory */
	uint64_t memory; /* its guest-physical address */
	volatile uint8_t *assist; /* VTL1's VP assist page, in it */
	volatile struct pair_data *data[2]; /* of VM 1 and VM 2 */
};

int pair_open(struct vtl_pair *pair, int cpu);
int pair_start(struct vtl_pair *pair, const unsigned char *vtl0,
	       const unsigned char *vtl1);
void pair_close(struct vtl_pair *pair);
/* MSHV_VTL_SWITCH_SETUP; returns 0 or the negative errno. */
int pair_set_up(struct vtl_pair *pair, volatile void *assist);
uint64_t pair_address(const struct vtl_pair *pair, const unsigned char *label);
/* Sets the handler of one vector of VM @vm; before, all have the same. */
void pair_set_gate(struct vtl_pair *pair, int vm, unsigned int vector,
		   const unsigned char *handler);
/* Returns the guest-physical address of an object in the VTLs' memory. */
uint64_t pair_gpa(const struct vtl_pair *pair, volatile void *at);
/* Returns the VM whose state is in the run page. */
unsigned int pair_vm(const struct vtl_pair *pair);
/* Exchanges the states, as a paravisor does that switches by itself. */
void pair_exchange(struct vtl_pair *pair);
/* Counters of the processor. */
struct mshv_vtl_stats pair_stats(struct vtl_pair *pair);
/* What the kernel knows of the timer of VTL0's APIC. */
volatile struct mshv_vtl_timer *pair_timer(const struct vtl_pair *pair);
/* VTL0's memory is user mode's as well. */
void pair_let_users(struct vtl_pair *pair);
/* VTL0 receives interrupts from its virtual-APIC page. */
int pair_deliver(struct vtl_pair *pair);
/*
 * Lets both VMs access STAR, LSTAR, SFMASK, KERNEL_GS_BASE and TSC_AUX without an
 * exit.
 */
int pair_let_live_msrs_through(struct vtl_pair *pair);
/* Writes a field of VM @vm; the field ID is that of VM 1. */
int pair_write_field(struct vtl_pair *pair, int vm, uint64_t id, uint64_t value,
		     uint64_t mask);

#endif /* VTL_PAIR_H */
