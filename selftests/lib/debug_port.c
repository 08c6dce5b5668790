// SPDX-License-Identifier: GPL-2.0
/* The debug port of the emulated host, through the module of debug_port/. */
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "debug_port.h"

#define PORT "/sys/kernel/debug/vtl_debug_port"

/* Requests an action of the host; returns its answer. */
int debug_port(unsigned int action, uint64_t operand)
{
	unsigned int answer = ANSWER_NONE;
	char text[64] = { 0 };
	int length = snprintf(text, sizeof(text), "%x %llx", action,
			      (unsigned long long)operand);
	int fd = open(PORT, O_RDWR);

	if (fd < 0)
		return ANSWER_NONE;
	if (write(fd, text, length) == length &&
	    pread(fd, text, sizeof(text) - 1, 0) > 0)
		sscanf(text, "%x", &answer);
	close(fd);
	return answer;
}
