/* SPDX-License-Identifier: GPL-2.0 */
/* VTLs that call each other for ever, and an assist page that the paravisor has for VTL1. */
#ifndef ENDLESS_CALLS_H
#define ENDLESS_CALLS_H

#include <errno.h>
#include <sys/mman.h>
#include <unistd.h>

#include "vtl_pair.h"

static inline void wait_for_calls(struct vtl_pair *pair)
{
	const uint64_t from = pair->data[0]->turns;

	while (pair->data[0]->turns < from + 10)
		usleep(100);
}

static inline unsigned char *own_page(void)
{
	unsigned char *page = mmap(NULL, VTL_PAGE_SIZE, PROT_READ | PROT_WRITE,
				   MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (page != MAP_FAILED)
		*page = 0;
	return page;
}

/* Ends endless calls, after some. */
static inline int go_on(struct vtl_pair *pair)
{
	const uint64_t from = pair->data[0]->turns;
	int result;

	vtl_catch_alarms();
	vtl_alarm_every_ms(100);
	do {
		result = vtl_enter(&pair->guest);
	} while (result == -EINTR && pair->data[0]->turns < from + 3);
	vtl_alarm_every_ms(0);
	return result;
}

#endif /* ENDLESS_CALLS_H */
