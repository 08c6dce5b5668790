/* SPDX-License-Identifier: GPL-2.0 */
/* The debug port of the emulated host, see Documentation/host.rst. */
#ifndef VTL_DEBUG_PORT_H
#define VTL_DEBUG_PORT_H

#include <stdint.h>

#define ACTION_INTERRUPT 1
#define ACTION_TAKE 2
#define ACTION_EVENT 3
#define ACTION_MESSAGE 4
#define ACTION_PROXY 7
#define ACTION_FLUSHES 9
#define ACTION_CONVERSIONS 11
#define ACTION_BUSY_RTMRS 12
#define ACTION_EXTENDS 13
#define ACTION_BUSY_PAGES 14
#define ACTION_INTERRUPTED_CALLS 15
#define ACTION_PROMOTE 16

#define ANSWER_OFF 3
#define ANSWER_FULL 4
/* The file of the port is missing, or gives no answer. */
#define ANSWER_NONE 254

int debug_port(unsigned int action, uint64_t operand);

#endif /* VTL_DEBUG_PORT_H */
