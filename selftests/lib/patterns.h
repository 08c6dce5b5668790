/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Registers full of patterns, at VTL2 and in vtl_guest_patterns of guests.S.
 */
#ifndef VTL_PATTERNS_H
#define VTL_PATTERNS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define NUM_PATTERN_MSRS 5

/* Registers that the guest checks. */
struct guest_registers {
	uint8_t ymm[8][32];
	uint64_t msrs[NUM_PATTERN_MSRS];
	uint64_t x87[8]; /* the mantissas, also known as MMX registers */
	uint32_t dr[4];
	uint32_t pkru;
	uint8_t reserved[0x84];
};

/* What it works on. */
struct guest_patterns {
	struct guest_registers found, own, seen;
};

_Static_assert(sizeof(struct guest_registers) == 0x200, "as in guests.S");
_Static_assert(offsetof(struct guest_registers, x87) == 0x128,
	       "as in guests.S");
_Static_assert(offsetof(struct guest_registers, dr) == 0x168, "as in guests.S");
_Static_assert(offsetof(struct guest_registers, pkru) == 0x178,
	       "as in guests.S");

/* Bytes that are others for each seed and each register. */
void pattern_fill(void *start, size_t size, unsigned int seed);

/*
 * Makes system call @number with VTL2's registers full of patterns: AVX, x87,
 * PKRU, GS base. Returns false if any has changed; checks TSC_AUX, too.
 */
bool pattern_is_kept(long number, long first, long second, unsigned int seed,
		     long *result);

#endif /* VTL_PATTERNS_H */
