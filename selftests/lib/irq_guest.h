/* SPDX-License-Identifier: GPL-2.0 */
/*
 * A guest that takes interrupts through its virtual x2APIC, counts them by
 * vector, and is started at one of several places.
 */
#ifndef IRQ_GUEST_H
#define IRQ_GUEST_H

#include "vtl_util.h"

#define EXIT_TIMER 52

#define RFLAGS_TF 0x100
#define RFLAGS_IF 0x200

/* Where the guest begins: see lib/irq_guest_code.S. */
extern const unsigned char irq_guest[], irq_guest_end[];
extern const unsigned char irq_guest_halt[], irq_guest_halt_cli[],
	irq_guest_halt_once[], irq_guest_rdmsr[], irq_guest_wrmsr[],
	irq_guest_spin[], irq_guest_sleep[], irq_guest_storm[],
	irq_guest_tick[], irq_guest_late[], irq_guest_bench_icr[],
	irq_guest_bench_hlt[], irq_guest_busy[];

/* What the guest and the test share. */
struct irq_data {
	uint32_t taken[256]; /* interrupts, by vector */
	uint32_t spins;
	/* Of the storm: */
	uint32_t peer; /* address of the other guest's struct */
	uint32_t peer_apic_id;
	uint32_t sent_peer;
	uint32_t sent_self;
	uint32_t stop;
};

#define STORM_PEER_VECTOR 0x61
#define STORM_SELF_VECTOR 0x71

struct irq_guest {
	struct vtl_guest guest;
	volatile uint8_t *part; /* its part of VTL0's memory */
	volatile struct irq_data *data; /* in it */
	volatile uint8_t *vapic;
	uint64_t memory; /* guest-physical address of the part */
};

int irq_guest_open(struct irq_guest *irq, int cpu);
int irq_guest_start(struct irq_guest *irq, const unsigned char *entry);
void irq_guest_close(struct irq_guest *irq);
uint64_t irq_guest_address(const struct irq_guest *irq,
			   const unsigned char *label);

void irq_proxy(volatile struct mshv_vtl_run *run, unsigned int vector);
/* Returns true if the IRR in a virtual-APIC page has it. */
bool irq_is_requested(const volatile uint8_t *vapic, unsigned int vector);
/* Userspace's own way to request an interrupt while the guest does not run. */
void irq_request(volatile uint8_t *vapic, volatile uint8_t *rvi,
		 unsigned int vector);
/* Requests what the kernel has left, as a client does. */
void irq_take_proxied(volatile struct mshv_vtl_run *run,
		      volatile uint8_t *vapic, volatile uint8_t *rvi);
int irq_kick(const struct irq_guest *irq, uint64_t flags);
uint32_t irq_apic_id(unsigned int cpu);
uint64_t irq_tsc(void);

#endif /* IRQ_GUEST_H */
