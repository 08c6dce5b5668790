/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Memory of a VTL of lib/vtl_pair_storm.S that the test accesses, too, after its struct pair_data.
 */
#ifndef SWITCH_STORM_H
#define SWITCH_STORM_H

#define STORM_AT 0x200
#define STORM_TAKEN(number) (STORM_AT + 8 * (number))
#define STORM_SENT_PEER 0x230
#define STORM_SENT_SELF 0x238
#define STORM_SENT_TIMER 0x240
#define STORM_TURNS 0x248
#define STORM_ASKED 0x250
#define STORM_ERRORS 0x258
#define STORM_STOP 0x260
#define STORM_PEER 0x268
#define STORM_APIC_ID 0x270
#define STORM_TICKS 0x278
#define STORM_OWN 0x280

/* Indices of taken; VTL0 takes all but the last. */
#define TAKEN_PEER 0
#define TAKEN_SELF 1
#define TAKEN_TIMER 2
#define TAKEN_PROXY 3
#define TAKEN_LEVEL 4
#define TAKEN_VTL1 5
#define NUM_TAKEN 6

#define VECTOR_PEER 0x61
#define VECTOR_SELF 0x71

/* Bits of errors. 0 to 4: an MSR of its own is another's. */
#define NUM_MSRS 5
#define ERROR_FLAGS 0x20 /* RFLAGS is another's */
#define ERROR_ANSWER 0x40 /* a call is lost, or made twice */
#define ERROR_SHARED 0x80 /* a shared register has changed */

/* RCX of the VMCALL by which VTL0 ends. */
#define STORM_END 0x7777

#ifndef __ASSEMBLER__
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define VECTOR_PROXY 0x51
#define VECTOR_LEVEL 0x52 /* one of those that exit to userspace */

struct storm_data {
	uint64_t taken[NUM_TAKEN]; /* interrupts */
	uint64_t sent_peer, sent_self, sent_timer;
	uint64_t turns; /* calls that VTL0 has made, or VTL1 got */
	uint64_t asked; /* times that userspace has entered VTL1 */
	uint64_t errors;
	uint64_t stop;
	uint64_t peer; /* address of the other VTL0's struct pair_data */
	uint64_t peer_apic_id;
	uint64_t ticks; /* to the next deadline */
	uint64_t own[NUM_MSRS]; /* values in the MSRs */
};

#define STORM_CHECK(field, number)                           \
	_Static_assert(offsetof(struct storm_data, field) == \
			       (number) - STORM_AT,          \
		       #field)
STORM_CHECK(taken[0], STORM_TAKEN(0));
STORM_CHECK(sent_peer, STORM_SENT_PEER);
STORM_CHECK(sent_self, STORM_SENT_SELF);
STORM_CHECK(sent_timer, STORM_SENT_TIMER);
STORM_CHECK(turns, STORM_TURNS);
STORM_CHECK(asked, STORM_ASKED);
STORM_CHECK(errors, STORM_ERRORS);
STORM_CHECK(stop, STORM_STOP);
STORM_CHECK(peer, STORM_PEER);
STORM_CHECK(peer_apic_id, STORM_APIC_ID);
STORM_CHECK(ticks, STORM_TICKS);
STORM_CHECK(own[0], STORM_OWN);

/* A VP, as its thread and the one that sends it interrupts know it. */
struct storm_vp {
	struct vtl_pair *pair;
	uint64_t sent_proxy, sent_level;
	/* How often VTL1 was to be entered, and was. */
	volatile uint64_t wanted_vtl1, done;
	uint64_t entered_vtl1, injected;
	bool is_injecting;
	volatile bool is_stopped, is_over;
	volatile int failed; /* what the run ended with unexpectedly */
};

volatile struct storm_data *storm_data(const struct storm_vp *vp, int vm);
/* Both VTLs of the VP, on whose CPU the caller is afterwards, are about to begin. */
int storm_prepare(struct storm_vp *vp);
/* Its thread; the argument is a struct storm_vp. */
void *storm_run(void *argument);
#endif

#endif /* SWITCH_STORM_H */
