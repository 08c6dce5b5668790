// SPDX-License-Identifier: GPL-2.0
/*
 * The benchmark's paths that `vtlctl bench` has not: exits that the kernel deals
 * with, marked by the guest itself (irq_guest_code.S), a kick, and a round trip
 * of a thread whose AVX registers are in use. Prints nothing that is a figure:
 * tools/checks/insn_count counts. Status 0 when each path was passed as it should be.
 *
 * bench_paths [SETTING]: with the name of the defences the module was loaded with,
 * or of what the machine has, only the paths that it makes dearer, under that name.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "irq_guest.h"
#include "vtl_pair.h"

#define ROUNDS 200
#define HOST_ROUNDS 10
/* Switches of a VP between two pauses in which its records are hashed. */
#define TOGETHER 256
#define TIMES_TOGETHER 32
#define SELF_VECTOR 0x71
/* Command of the debug port: the host preempts that many runs of L2s. */
#define TAKE_ONE_RUN "2 1"

/* A marker of tools/checks/insn_count; both operands are part of the instruction. */
static inline void mark(int kind, int path)
{
	asm volatile(".byte 0x0f, 0x1f, 0x84, 0x00, %c0, %c1, 0x54, 0x56"
		     :
		     : "i"(kind), "i"(path)
		     : "memory");
}

static int complain(const char *what)
{
	fprintf(stderr, "bench_paths: %s\n", what);
	return -1;
}

/* Has the kernel deal with @turns of the guest's exits; the guest counts them. */
static int pass(struct irq_guest *irq, const unsigned char *entry,
		unsigned int turns)
{
	volatile struct mshv_vtl_run *run = irq->guest.run;
	uint32_t before = irq->data->taken[SELF_VECTOR];
	int result;

	if (irq_guest_start(irq, entry))
		return complain(irq->guest.why);
	run->offload_flags = MSHV_VTL_OFFLOAD_INTR_INJECT |
			     MSHV_VTL_OFFLOAD_X2APIC;
	/* Nothing to invalidate, which only the first of the passages would do. */
	run->tdx.entry_rcx &= ~3ULL;
	run->tdx.l2_enter_guest_state.gpr[RBX] = turns;
	do {
		result = vtl_run(&irq->guest);
	} while (result == -EINTR);
	if (result || vtl_exit_reason(&irq->guest) != EXIT_VMCALL)
		return complain("the guest did not come to its end");
	if (irq->data->taken[SELF_VECTOR] - before != turns)
		return complain("not every interrupt was taken");
	return 0;
}

/* A kick of a VP whose thread is outside: no interrupt is sent. */
static int kick(struct irq_guest *irq)
{
	unsigned int round;
	int result;

	for (round = 0; round < ROUNDS; round++) {
		mark(1, 6);
		result = irq_kick(irq, 0);
		mark(2, 6);
		if (result)
			return complain("MSHV_KICK_CPUS failed");
	}
	return 0;
}

/* The same with a mask of 1024 bits, whose bits of CPUs that do not exist are ignored. */
static int kick_1024(const struct irq_guest *irq)
{
	uint64_t mask[16] = { 1 };
	struct mshv_kick_cpus request = {
		.len_bits = 64 * 16,
		.cpu_mask = (uintptr_t)mask,
	};
	unsigned int round;
	int result;

	for (round = 0; round < ROUNDS; round++) {
		mark(1, 11);
		result = ioctl(irq->guest.fd, MSHV_KICK_CPUS, &request);
		mark(2, 11);
		if (result)
			return complain("MSHV_KICK_CPUS failed");
	}
	return 0;
}

static __attribute__((target("avx"))) void use_avx(void)
{
	asm volatile("vcmptrueps %%ymm15, %%ymm15, %%ymm15" ::: "xmm15");
}

/* To the guest's HLT and back: 1 when something else ended the run. */
static int round_trip(struct irq_guest *irq)
{
	int result = vtl_run(&irq->guest);

	if (result == -EINTR)
		return 1;
	if (result || vtl_exit_reason(&irq->guest) != EXIT_HLT)
		return complain("the guest did not halt");
	return 0;
}

/*
 * Has the guest halt once more. The first entry after a start checks the VMCS that
 * was written, which the entries after it do not: the callers do not count it.
 */
static int halts_again(struct irq_guest *irq)
{
	volatile struct mshv_vtl_run *run = irq->guest.run;

	run->tdx.l2_enter_guest_state.rip =
		irq_guest_address(irq, irq_guest_halt_cli);
	return round_trip(irq);
}

/* Until the guest has halted; negative when it does not. */
static int warm_up(struct irq_guest *irq)
{
	int result;

	if (irq_guest_start(irq, irq_guest_halt_cli))
		return complain(irq->guest.why);
	do {
		result = halts_again(irq);
	} while (result > 0);
	return result;
}

static int round_trips_avx(struct irq_guest *irq)
{
	unsigned int round;
	int result;

	if (!__builtin_cpu_supports("avx"))
		return complain("this processor has no AVX");
	if (warm_up(irq))
		return -1;
	for (round = 0; round < ROUNDS; round++) {
		use_avx();
		mark(1, 3);
		result = halts_again(irq);
		if (!result)
			mark(2, 3);
		if (result < 0)
			return result;
	}
	return 0;
}

/* Many as one, for what is done once for several. */
static int round_trips_together(struct irq_guest *irq)
{
	unsigned int times, round;
	int result;

	if (warm_up(irq))
		return -1;
	for (times = 0; times < TIMES_TOGETHER; times++) {
		mark(1, 10);
		for (round = 0; round < TOGETHER; round++) {
			do {
				result = halts_again(irq);
			} while (result > 0);
			if (result < 0)
				return result;
		}
		mark(2, 10);
	}
	return 0;
}

/*
 * The same as round_trips_avx(), but the host preempts the processor once before the
 * guest runs.
 */
static int round_trips_host_routed(struct irq_guest *irq, int port)
{
	const size_t length = strlen(TAKE_ONE_RUN);
	unsigned int round;
	int result;

	if (warm_up(irq))
		return -1;
	for (round = 0; round < ROUNDS; round++) {
		if (pwrite(port, TAKE_ONE_RUN, length, 0) != (ssize_t)length)
			return complain("the host was not asked");
		use_avx();
		mark(1, 7);
		result = halts_again(irq);
		if (!result)
			mark(2, 7);
		if (result < 0)
			return result;
	}
	return 0;
}

/* VTL0 calls VTL1, which returns: switched by userspace, or by the kernel. */
static int call_and_return(struct vtl_pair *pair, bool by_kernel)
{
	volatile struct mshv_tdx_vp_context *tdx = &pair->guest.run->tdx;
	int result;

	if (pair_start(pair, by_kernel ? pair_bench : pair_bench_user,
		       pair_return_fast) ||
	    pair_set_up(pair, by_kernel ? pair->assist : NULL))
		return complain(pair->guest.why);
	/* Nothing to invalidate, as between any two calls. */
	tdx->entry_rcx &= ~3ULL;
	tdx->l2_enter_guest_state.gpr[RBX] = ROUNDS;
	for (;;) {
		result = vtl_run(&pair->guest);
		if (result == -EINTR)
			continue;
		if (result)
			return complain("a VTL did not run");
		if (by_kernel || vtl_exit_reason(&pair->guest) != EXIT_VMCALL)
			break;
		tdx->l2_enter_guest_state.rip += 3;
		pair_exchange(pair);
	}
	if (vtl_exit_reason(&pair->guest) != EXIT_HLT || pair_vm(pair) != 1)
		return complain("VTL0 did not come to its end");
	return 0;
}

static int calls_and_returns(void)
{
	struct vtl_pair pair;
	int result;

	if (pair_open(&pair, 0))
		return complain(pair.guest.why);
	result = call_and_return(&pair, false) || call_and_return(&pair, true);
	pair_close(&pair);
	return result;
}

/* The places are those of SETTINGS in tools/checks/insn_count/src/marker.rs. */
static int mark_setting(const char *name)
{
	if (!strcmp(name, "off"))
		mark(3, 1);
	else if (!strcmp(name, "verw"))
		mark(3, 2);
	else if (!strcmp(name, "rsb"))
		mark(3, 3);
	else if (!strcmp(name, "ibpb-exit"))
		mark(3, 4);
	else if (!strcmp(name, "bhb"))
		mark(3, 5);
	else if (!strcmp(name, "ibpb"))
		mark(3, 6);
	else if (!strcmp(name, "auto"))
		mark(3, 7);
	else if (!strcmp(name, "full"))
		mark(3, 8);
	else if (!strcmp(name, "user"))
		mark(3, 9);
	else if (!strcmp(name, "extra_msrs"))
		mark(3, 10);
	else if (!strcmp(name, "attest"))
		mark(3, 11);
	else
		return complain("unknown setting");
	return 0;
}

static int pass_all(struct irq_guest *irq)
{
	int port = open("/sys/kernel/debug/vtl_debug_port", O_RDWR);
	int result;

	if (port < 0)
		return complain("no debug port");
	result = pass(irq, irq_guest_bench_icr, ROUNDS) ||
		 pass(irq, irq_guest_bench_hlt, ROUNDS) || kick(irq) ||
		 kick_1024(irq) || round_trips_avx(irq) ||
		 round_trips_host_routed(irq, port);
	close(port);
	return result;
}

int main(int argc, char *argv[])
{
	struct irq_guest irq = {};
	int result;

	if (argc > 1 && mark_setting(argv[1]))
		return 1;
	if (irq_guest_open(&irq, 0))
		return complain(irq.guest.why) ? 1 : 0;
	if (argc > 1)
		result = pass(&irq, irq_guest_bench_icr, ROUNDS) ||
			 round_trips_avx(&irq) ||
			 (!strcmp(argv[1], "attest") &&
			  round_trips_together(&irq));
	else
		result = pass_all(&irq);
	irq_guest_close(&irq);
	if (!result && argc == 1)
		result = calls_and_returns();
	return result;
}
