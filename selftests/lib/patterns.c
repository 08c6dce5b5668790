// SPDX-License-Identifier: GPL-2.0
/* VTL2's own registers, full of patterns around a system call. */
#include <asm/prctl.h>
#include <sched.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "patterns.h"

struct registers {
	uint8_t ymm[16][32];
	uint64_t x87[8];
};

void pattern_fill(void *start, size_t size, unsigned int seed)
{
	uint8_t *at = start;
	size_t i;

	for (i = 0; i < size; i++)
		at[i] = seed + i * 7 + (i >> 5) * 31;
}

/* System call @number with registers from @before; what it leaves in them. */
static long call_with(long number, long first, long second,
		      const struct registers *before, struct registers *after)
{
	register const struct registers *from __asm__("r12") = before;
	register struct registers *to __asm__("r13") = after;
	long result = number;

	__asm__ volatile(".irp n,0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15\n\t"
			 "vmovups 32*\\n(%%r12), %%ymm\\n\n\t"
			 ".endr\n\t"
			 ".irp n,0,1,2,3,4,5,6,7\n\t"
			 "movq 512+8*\\n(%%r12), %%mm\\n\n\t"
			 ".endr\n\t"
			 "syscall\n\t"
			 ".irp n,0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15\n\t"
			 "vmovups %%ymm\\n, 32*\\n(%%r13)\n\t"
			 ".endr\n\t"
			 ".irp n,0,1,2,3,4,5,6,7\n\t"
			 "movq %%mm\\n, 512+8*\\n(%%r13)\n\t"
			 ".endr\n\t"
			 "emms\n\t"
			 "vzeroupper"
			 : "+a"(result)
			 : "D"(first), "S"(second), "r"(from), "r"(to)
			 : "rcx", "r11", "memory", "xmm0", "xmm1", "xmm2",
			   "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8",
			   "xmm9", "xmm10", "xmm11", "xmm12", "xmm13", "xmm14",
			   "xmm15", "mm0", "mm1", "mm2", "mm3", "mm4", "mm5",
			   "mm6", "mm7", "st", "st(1)", "st(2)", "st(3)",
			   "st(4)", "st(5)", "st(6)", "st(7)");
	return result;
}

static uint32_t read_pkru(void)
{
	uint32_t value, high;

	__asm__ volatile("rdpkru" : "=a"(value), "=d"(high) : "c"(0));
	return value;
}

static void write_pkru(uint32_t value)
{
	__asm__ volatile("wrpkru" : : "a"(value), "c"(0), "d"(0));
}

bool pattern_is_kept(long number, long first, long second, unsigned int seed,
		     long *result)
{
	/* All memory has key 0, which has to stay open. */
	uint32_t old_pkru = read_pkru(), pkru = seed * 0x01010100, new_pkru;
	unsigned long old_gs = 0, gs = 0, own_gs = 0x10000000UL + seed;
	struct registers before, after;
	unsigned int aux, cpu = sched_getcpu();

	pattern_fill(&before, sizeof(before), seed);
	memset(&after, 0, sizeof(after));
	syscall(SYS_arch_prctl, ARCH_GET_GS, &old_gs);
	syscall(SYS_arch_prctl, ARCH_SET_GS, own_gs);
	write_pkru(pkru);
	*result = call_with(number, first, second, &before, &after);
	new_pkru = read_pkru();
	write_pkru(old_pkru);
	syscall(SYS_arch_prctl, ARCH_GET_GS, &gs);
	syscall(SYS_arch_prctl, ARCH_SET_GS, old_gs);
	__builtin_ia32_rdtscp(&aux);
	return !memcmp(&before, &after, sizeof(before)) && gs == own_gs &&
	       (aux & 0xfff) == cpu && new_pkru == pkru;
}
