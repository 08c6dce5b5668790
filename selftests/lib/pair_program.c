// SPDX-License-Identifier: GPL-2.0
/*
 * Generates random programs for VTL0 and VTL1.
 */
#include "kselftest.h"
#include "pair_program.h"

#define OPS 60

/* A program that is being generated. */
struct program {
	struct vtl_pair *pair;
	uint64_t dice;
	uint32_t at, trace; /* offsets in the part */
	int vm;
};

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
	const uint64_t fast = vtl_roll(&program->dice) % 2;

	if (program->vm == 1) {
		vmcall(program, 0, CODE_CALL);
		return;
	}
	if (!fast) {
		set(program, RAX, vtl_roll(&program->dice));
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
		bad[vtl_roll(&program->dice) % ARRAY_SIZE(bad)][program->vm - 1];

	vmcall(program, one[0], one[1]);
}

static void put_flags(struct program *program)
{
	/* CF, PF, AF, ZF, SF, DF, OF */
	put(program, 1, 0x68);
	put(program, 4, (vtl_roll(&program->dice) & 0xcd5) | 2);
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
	const unsigned int which = vtl_roll(&program->dice) % ARRAY_SIZE(msrs);

	set(program, RCX, msrs[which].msr);
	if (vtl_roll(&program->dice) % 2) {
		set(program, RAX,
		    (uint32_t)vtl_roll(&program->dice) | 0x80000000);
		set(program, RDX, msrs[which].upper);
		put(program, 2, 0x300f);
	}
	put(program, 2, 0x320f);
	trace(program, RAX);
	trace(program, RDX);
}

static void put_vector(struct program *program)
{
	const uint64_t xmm = vtl_roll(&program->dice) % 8;

	if (vtl_roll(&program->dice) % 2)
		put(program, 5, 0xc06e0f4866ULL | xmm << 35);
	put(program, 5, 0xc07e0f4866ULL | xmm << 35);
	trace(program, RAX);
}

static void put_cr2(struct program *program)
{
	if (vtl_roll(&program->dice) % 2)
		put(program, 3, 0xd0220f);
	put(program, 3, 0xd0200f);
	trace(program, RAX);
}

static void put_ask(struct program *program)
{
	vmcall(program, 0, CODE_ASK);
}

static void trace_taken(struct program *program)
{
	reach(program, 0x8b, RAX,
	      (volatile uint8_t *)&program->pair->data[0]->taken -
		      program->pair->part);
	trace(program, RAX);
}

/* What VTL1 has in place of these actions of VTL0. */
static bool is_halt_of_vtl1(struct program *program)
{
	if (program->vm == 2)
		put(program, 1, 0xf4);
	return program->vm == 2;
}

/* VTL0 accepts interrupts, and reads their number. */
static void put_wait(struct program *program)
{
	if (is_halt_of_vtl1(program))
		return;
	put(program, 3, 0xfa90fb);
	trace_taken(program);
}

/*
 * VTL0 halts until an interrupt arrives that is pending, or that the paravisor sends
 * later. No earlier one is pending.
 */
static void put_halt(struct program *program)
{
	if (is_halt_of_vtl1(program))
		return;
	put(program, 3, 0xfa90fb);
	vmcall(program, 0,
	       vtl_roll(&program->dice) % 2 ? CODE_ASK : CODE_LATER);
	put(program, 3, 0xfaf4fb);
	trace_taken(program);
}

/*
 * As if VTL0 had halted, and an interrupt for VTL1 had come: VTL1 runs, and its return
 * ends in the halt. STI blocks the interrupt until VMCALL, and for an instruction after
 * the return.
 */
static void put_sleep(struct program *program)
{
	if (is_halt_of_vtl1(program))
		return;
	set(program, RAX, 0);
	set(program, RCX, CODE_SLEEP);
	/* STI, VMCALL, NOP, CLI */
	put(program, 6, 0xfa90c1010ffbULL);
	trace(program, RAX);
	trace(program, RCX);
	trace_taken(program);
}

/* RSP is private to a VTL; RBP is used by the interrupt handler. */
static void put_gpr(struct program *program)
{
	const unsigned int gpr = vtl_roll(&program->dice) % 16;

	if (gpr != RSP && gpr != RBP && vtl_roll(&program->dice) % 2)
		set(program, gpr, vtl_roll(&program->dice));
	if (gpr == RSP)
		put(program, 1, 0x50); /* PUSH RAX */
	trace(program, gpr);
}

static void put_op(struct program *program)
{
	static void (*const ops[])(struct program *program) = {
		put_switch,   put_switch, put_switch, put_switch, put_switch,
		put_bad_call, put_flags,  put_msr,    put_msr,	  put_vector,
		put_cr2,      put_ask,	  put_wait,   put_halt,	  put_sleep,
		put_gpr,      put_gpr,	  put_gpr,
	};

	ops[vtl_roll(&program->dice) % ARRAY_SIZE(ops)](program);
}

uint32_t put_program(struct vtl_pair *pair, int vm, uint64_t seed)
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
