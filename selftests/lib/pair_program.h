/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Random programs for VTL0 and VTL1, which trace what they find in their registers.
 */
#ifndef PAIR_PROGRAM_H
#define PAIR_PROGRAM_H

#include "vtl_pair.h"

/* RCX of VMCALLs of VTL0 for the paravisor: to send it an interrupt now, */
#define CODE_ASK 0x99
/* to send it one when it has halted, */
#define CODE_LATER 0x9a
/* and to send it one, halt it, and enter VTL1 as for an interrupt. */
#define CODE_SLEEP 0x9b

/* In the part of memory of each VTL, after the contents of vtl_pair.c. */
#define AT_PROGRAM(vm) (0x16000 + 0x2000 * (vm))
#define AT_TRACE(vm) (0x1a000 + 0x2000 * (vm))
#define TRACE_SIZE 0x2000

/* The next number of a sequence. */
/* Returns the offset of the end, where VTL0 halts and VTL1 begins again. */
uint32_t put_program(struct vtl_pair *pair, int vm, uint64_t seed);

#endif /* PAIR_PROGRAM_H */
