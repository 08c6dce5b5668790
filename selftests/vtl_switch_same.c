// SPDX-License-Identifier: GPL-2.0
/*
 * Random programs of VTL0 and VTL1, switched by the kernel, by userspace, and by both
 * in random order: each way has the same result in memory and registers, and the
 * paravisor sees the same exits, except those of the switches themselves.
 * SWITCH_PROGRAMS is the number of programs, 40 by default.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "irq_guest.h"
#include "vtl_harness.h"
#include "vtl_pair.h"

#define VECTOR 0x41
#define OFFLOAD (MSHV_VTL_OFFLOAD_INTR_INJECT | MSHV_VTL_OFFLOAD_X2APIC)
/* RCX of a VMCALL that asks the paravisor to send VTL0 an interrupt. */
#define CODE_ASK 0x99
#define OPS 60
/* In the part of memory of each VTL, after the contents of vtl_pair.c. */
#define AT_PROGRAM(vm) (0x16000 + 0x2000 * (vm))
#define AT_TRACE(vm) (0x1a000 + 0x2000 * (vm))
#define TRACE_SIZE 0x2000
#define MOST_EVENTS 256
/* More exits than any program has, to detect one that does not end. */
#define MOST_RUNS 100000

/* A program that is being generated. */
struct program {
	struct vtl_pair *pair;
	uint64_t dice;
	uint32_t at, trace; /* offsets in the part */
	int vm;
};

static uint64_t roll(uint64_t *dice)
{
	*dice = *dice * 6364136223846793005ULL + 1442695040888963407ULL;
	return *dice >> 33 | *dice << 31;
}

static void put(struct program *program, unsigned int count, uint64_t bytes)
{
	for (; count--; bytes >>= 8)
		program->pair->part[program->at++] = bytes;
}

/* An access relative to RIP: @opcode is 0x89 to store @gpr and 0x8b to load it. */
static void reach(struct program *program, unsigned int opcode,
		  unsigned int gpr, uint32_t offset)
{
	put(program, 3,
	    (gpr >= 8 ? 0x4c : 0x48) | opcode << 8 | (gpr % 8 * 8 + 5) << 16);
	put(program, 4, offset - (program->at + 4));
}

static void set(struct program *program, unsigned int gpr, uint64_t value)
{
	put(program, 2, (gpr >= 8 ? 0x49 : 0x48) | (0xb8 + gpr % 8) << 8);
	put(program, 8, value);
}

static void trace(struct program *program, unsigned int gpr)
{
	reach(program, 0x89, gpr, program->trace);
	program->trace += 8;
}

/* VMCALL with @rax and @rcx. */
static void vmcall(struct program *program, uint64_t rax, uint64_t rcx)
{
	set(program, RAX, rax);
	set(program, RCX, rcx);
	put(program, 3, 0xc1010f);
	trace(program, RAX);
	trace(program, RCX);
}

static void put_switch(struct program *program)
{
	const uint32_t assist = program->pair->assist - program->pair->part;
	const uint64_t fast = roll(&program->dice) % 2;

	if (program->vm == 1) {
		vmcall(program, 0, CODE_CALL);
		return;
	}
	if (!fast) {
		set(program, RAX, roll(&program->dice));
		reach(program, 0x89, RAX, assist + ASSIST_RAX);
		reach(program, 0x89, RAX, assist + ASSIST_RCX);
	}
	vmcall(program, fast, CODE_RETURN);
}

/* VMCALL that is neither a call nor a return. */
static void put_bad_call(struct program *program)
{
	static const uint64_t bad[][2][2] = {
		{ { 1, CODE_CALL }, { 0, CODE_CALL } },
		{ { 0, CODE_CALL | 1 << 16 }, { 2, CODE_RETURN } },
		{ { 1ULL << 63, CODE_CALL }, { 1, CODE_RETURN | 1ULL << 63 } },
		{ { 0, CODE_RETURN }, { 1ULL << 32, CODE_RETURN } },
		{ { 1, CODE_RETURN }, { 1, CODE_CALL } },
	};
	const uint64_t *one =
		bad[roll(&program->dice) % ARRAY_SIZE(bad)][program->vm - 1];

	vmcall(program, one[0], one[1]);
}

static void put_flags(struct program *program)
{
	/* CF, PF, AF, ZF, SF, DF, OF */
	put(program, 1, 0x68);
	put(program, 4, (roll(&program->dice) & 0xcd5) | 2);
	put(program, 1, 0x9d);
	put(program, 2, 0x589c);
	trace(program, RAX);
}

static void put_msr(struct program *program)
{
	static const struct {
		uint32_t msr, upper;
	} msrs[] = {
		{ 0xc0000081, 0x12345678 }, { 0xc0000082, 0xffffffff },
		{ 0xc0000084, 0 },	    { 0xc0000102, 0x7abc },
		{ 0xc0000103, 0 },
	};
	const unsigned int which = roll(&program->dice) % ARRAY_SIZE(msrs);

	set(program, RCX, msrs[which].msr);
	if (roll(&program->dice) % 2) {
		set(program, RAX, (uint32_t)roll(&program->dice) | 0x80000000);
		set(program, RDX, msrs[which].upper);
		put(program, 2, 0x300f);
	}
	put(program, 2, 0x320f);
	trace(program, RAX);
	trace(program, RDX);
}

static void put_vector(struct program *program)
{
	const uint64_t xmm = roll(&program->dice) % 8;

	if (roll(&program->dice) % 2)
		put(program, 5, 0xc06e0f4866ULL | xmm << 35);
	put(program, 5, 0xc07e0f4866ULL | xmm << 35);
	trace(program, RAX);
}

static void put_cr2(struct program *program)
{
	if (roll(&program->dice) % 2)
		put(program, 3, 0xd0220f);
	put(program, 3, 0xd0200f);
	trace(program, RAX);
}

static void put_ask(struct program *program)
{
	vmcall(program, 0, CODE_ASK);
}

/* VTL1 halts. VTL0 accepts interrupts, and reads their number. */
static void put_wait(struct program *program)
{
	if (program->vm == 2) {
		put(program, 1, 0xf4);
		return;
	}
	put(program, 3, 0xfa90fb);
	reach(program, 0x8b, RAX,
	      (volatile uint8_t *)&program->pair->data[0]->taken -
		      program->pair->part);
	trace(program, RAX);
}

/* RSP is private to a VTL; RBP is used by the interrupt handler. */
static void put_gpr(struct program *program)
{
	const unsigned int gpr = roll(&program->dice) % 16;

	if (gpr != RSP && gpr != RBP && roll(&program->dice) % 2)
		set(program, gpr, roll(&program->dice));
	if (gpr == RSP)
		put(program, 1, 0x50); /* PUSH RAX */
	trace(program, gpr);
}

static void put_op(struct program *program)
{
	static void (*const ops[])(struct program *program) = {
		put_switch, put_switch,	  put_switch, put_switch,
		put_switch, put_bad_call, put_flags,  put_msr,
		put_msr,    put_vector,	  put_cr2,    put_ask,
		put_wait,   put_gpr,	  put_gpr,    put_gpr,
	};

	ops[roll(&program->dice) % ARRAY_SIZE(ops)](program);
}

/* Returns the offset of the end, where VTL0 halts and VTL1 begins again. */
static uint32_t put_program(struct vtl_pair *pair, int vm, uint64_t seed)
{
	struct program program = { .pair = pair,
				   .dice = seed * 2 + vm,
				   .at = AT_PROGRAM(vm),
				   .trace = AT_TRACE(vm),
				   .vm = vm };
	unsigned int i;
	uint32_t end;

	for (i = 0; i < OPS; i++)
		put_op(&program);
	if (vm == 2)
		put_switch(&program);
	end = program.at;
	put(&program, 1, vm == 1 ? 0xf4 : 0xe9);
	put(&program, 4, AT_PROGRAM(vm) - (program.at + 4));
	return end;
}

/* Who carries out switches. */
enum way { BY_KERNEL, BY_USERSPACE, BY_BOTH, WAYS };

/* State at the end of a program. */
struct outcome {
	uint8_t traces[2][TRACE_SIZE];
	uint8_t assist[0x20], taken, requested, vm;
	uint64_t gpr[16], rip, rflags, rvi, live[7];
	struct mshv_vtl_parked parked;
	/* Exits except switches: VM, reason, RIP, RAX, RCX. */
	uint64_t events[MOST_EVENTS][5];
	unsigned int num_events;
};

static struct outcome outcomes[WAYS];

static void note(struct outcome *outcome, struct vtl_pair *pair)
{
	volatile struct mshv_tdx_l2_enter_guest_state *state =
		&pair->guest.run->tdx.l2_enter_guest_state;
	uint64_t *event = outcome->events[outcome->num_events % MOST_EVENTS];

	event[0] = pair_vm(pair);
	event[1] = vtl_exit_reason(&pair->guest);
	event[2] = state->rip;
	event[3] = state->gpr[RAX];
	event[4] = state->gpr[RCX];
	outcome->num_events++;
}

/* The switch by userspace; returns false if the exit is not a call or return. */
static bool exchange(struct vtl_pair *pair)
{
	volatile __u64 *gpr = pair->guest.run->tdx.l2_enter_guest_state.gpr;
	const bool is_call = pair_vm(pair) == 1;
	const bool is_normal = !is_call && !gpr[RAX];

	if (gpr[RCX] != (is_call ? CODE_CALL : CODE_RETURN) ||
	    gpr[RAX] > (is_call ? 0 : 1))
		return false;
	vtl_step_over(&pair->guest);
	if (is_call)
		*(volatile uint32_t *)(pair->assist + ASSIST_ENTRY_REASON) = 1;
	pair_exchange(pair);
	if (is_normal) {
		gpr[RAX] = *(volatile uint64_t *)(pair->assist + ASSIST_RAX);
		gpr[RCX] = *(volatile uint64_t *)(pair->assist + ASSIST_RCX);
	}
	return true;
}

/* Posts interrupts for VTL0 to its APIC while VTL1 runs. */
static void take_for_vtl0(struct vtl_pair *pair)
{
	volatile struct mshv_vtl_run *run = pair->guest.run;

	run->scan_proxy_irr = 0;
	run->proxy_irr[VECTOR / 32] = 0;
	pair->vapic[0x200 + VECTOR / 32 * 16 + VECTOR % 32 / 8] |=
		1 << VECTOR % 8;
	pair->page->parked[0].rvi = VECTOR;
}

/* Handles one exit; returns an error message, or NULL. */
static const char *handle(struct vtl_pair *pair, struct outcome *outcome)
{
	volatile struct mshv_vtl_run *run = pair->guest.run;

	switch (vtl_exit_reason(&pair->guest)) {
	case EXIT_VMCALL:
		if (exchange(pair))
			return NULL;
		note(outcome, pair);
		if (run->tdx.l2_enter_guest_state.gpr[RCX] == CODE_ASK)
			irq_proxy(run, VECTOR);
		break;
	case EXIT_HLT:
		note(outcome, pair);
		break;
	default:
		return "an exit that no program has";
	}
	vtl_step_over(&pair->guest);
	return NULL;
}

static uint32_t enabled(enum way way, uint64_t *dice)
{
	const uint32_t all = MSHV_VTL_SWITCH_CALL | MSHV_VTL_SWITCH_RETURN |
			     MSHV_VTL_SWITCH_PROXY;

	switch (way) {
	case BY_KERNEL:
		return all;
	case BY_USERSPACE:
		return 0;
	default:
		return roll(dice) & all;
	}
}

/* Runs until VTL0 halts at @end. Returns an error message, or NULL. */
static const char *run_to_end(struct vtl_pair *pair, enum way way,
			      uint64_t seed, uint64_t end,
			      struct outcome *outcome)
{
	volatile struct mshv_vtl_run *run = pair->guest.run;
	uint64_t dice = seed;
	const char *why = NULL;
	unsigned int runs;
	int result;

	for (runs = 0; !why && runs < MOST_RUNS; runs++) {
		pair->page->enable = enabled(way, &dice);
		result = vtl_enter(&pair->guest);
		if (result == -EINTR) {
			if (run->scan_proxy_irr && pair_vm(pair) == 2)
				take_for_vtl0(pair);
		} else if (result) {
			why = strerror(-result);
		} else if (!(run->tdx.exit_info.rax >> 32)) {
			if (pair_vm(pair) == 1 &&
			    run->tdx.l2_enter_guest_state.rip == end)
				return NULL;
			why = handle(pair, outcome);
		}
	}
	return why ? why : "the program does not end";
}

static void keep(struct outcome *outcome, struct vtl_pair *pair)
{
	volatile struct mshv_tdx_vp_context *tdx = &pair->guest.run->tdx;
	unsigned int i;

	memcpy(outcome->traces, (void *)(pair->part + AT_TRACE(1)),
	       sizeof(outcome->traces));
	memcpy(outcome->assist, (void *)pair->assist, sizeof(outcome->assist));
	outcome->taken = pair->data[0]->taken;
	outcome->requested =
		pair->vapic[0x200 + VECTOR / 32 * 16 + VECTOR % 32 / 8];
	outcome->vm = pair_vm(pair);
	for (i = 0; i < 16; i++)
		outcome->gpr[i] = tdx->l2_enter_guest_state.gpr[i];
	outcome->rip = tdx->l2_enter_guest_state.rip;
	outcome->rflags = tdx->l2_enter_guest_state.rflags;
	outcome->rvi = tdx->l2_enter_guest_state.rvi;
	outcome->live[0] = tdx->vp_state.msr_kernel_gs_base;
	outcome->live[1] = tdx->vp_state.msr_star;
	outcome->live[2] = tdx->vp_state.msr_lstar;
	outcome->live[3] = tdx->vp_state.msr_sfmask;
	outcome->live[4] = tdx->vp_state.msr_xss;
	outcome->live[5] = tdx->vp_state.msr_tsc_aux;
	outcome->live[6] = tdx->vp_state.cr2;
	memcpy(&outcome->parked, (void *)&pair->page->parked[1],
	       sizeof(outcome->parked));
}

/*
 * Runs both VTLs from a fixed state, switched by @way, into outcomes[way]. Returns an
 * error message, or NULL.
 */
static const char *run_program(struct vtl_pair *pair, enum way way,
			       uint64_t seed)
{
	volatile struct mshv_vtl_run *run = pair->guest.run;
	struct outcome *outcome = &outcomes[way];
	const char *why;
	uint32_t end;

	if (pair_start(pair, pair_code, pair_code) || pair_deliver(pair) ||
	    pair_let_live_msrs_through(pair))
		return pair->guest.why;
	end = put_program(pair, 1, seed);
	put_program(pair, 2, seed);
	run->tdx.l2_enter_guest_state.rip = pair->memory + AT_PROGRAM(1);
	pair->page->parked[1].rip = pair->memory + AT_PROGRAM(2);
	run->offload_flags = OFFLOAD;
	memset(outcome, 0, sizeof(*outcome));
	why = run_to_end(pair, way, seed, pair->memory + end, outcome);
	keep(outcome, pair);
	return why;
}

/* Returns the offset of the first byte that differs, for the log. */
static long first_difference(const struct outcome *a, const struct outcome *b)
{
	const uint8_t *bytes_a = (const uint8_t *)a;
	const uint8_t *bytes_b = (const uint8_t *)b;
	size_t i;

	for (i = 0; i < sizeof(*a); i++)
		if (bytes_a[i] != bytes_b[i])
			return i;
	return -1;
}

FIXTURE(same)
{
	struct vtl_pair pair;
	unsigned int programs;
};

FIXTURE_SETUP(same)
{
	const char *programs = getenv("SWITCH_PROGRAMS");
	uint64_t base, size;

	if (!vtl_memory(&base, &size))
		SKIP(return, "no vtl0_mem= on the kernel command line");
	self->programs = programs ? atoi(programs) : 40;
	ASSERT_EQ(0, pair_open(&self->pair, 0))
	{
		TH_LOG("%s", self->pair.guest.why);
	}
	ASSERT_EQ(0, pair_set_up(&self->pair, self->pair.assist));
}

FIXTURE_TEARDOWN(same)
{
	pair_close(&self->pair);
}

TEST_F(same, whoever_switches_leaves_the_same)
{
	uint64_t calls[WAYS] = {}, taken = 0, events = 0;
	unsigned int seed;
	enum way way;

	for (seed = 1; seed <= self->programs; seed++) {
		for (way = 0; way < WAYS; way++) {
			const uint64_t before =
				pair_stats(&self->pair).vtl_calls;
			const char *why = run_program(&self->pair, way, seed);

			ASSERT_EQ(NULL, why)
			{
				TH_LOG("program %u, way %d: %s", seed, way,
				       why);
			}
			calls[way] +=
				pair_stats(&self->pair).vtl_calls - before;
			ASSERT_EQ(-1, first_difference(&outcomes[0],
						       &outcomes[way]))
			{
				TH_LOG("program %u, way %d", seed, way);
			}
		}
		taken += outcomes[0].taken;
		events += outcomes[0].num_events;
	}
	/* The kernel made all switches, none, or some of them, as the way says. */
	TH_LOG("%lu calls, %lu of them by either, %lu interrupts, %lu exits",
	       calls[BY_KERNEL], calls[BY_BOTH], taken, events);
	EXPECT_LT(self->programs, calls[BY_KERNEL]);
	EXPECT_EQ(0, calls[BY_USERSPACE]);
	EXPECT_LT(0, calls[BY_BOTH]);
	EXPECT_GT(calls[BY_KERNEL], calls[BY_BOTH]);
	EXPECT_LT(0, taken);
	EXPECT_LT(0, events);
}

TEST_HARNESS_MAIN
