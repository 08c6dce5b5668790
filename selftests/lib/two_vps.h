/* SPDX-License-Identifier: GPL-2.0 */
/* A pair of VTLs on each of two VPs, each run by a thread of its own. */
#ifndef TWO_VPS_H
#define TWO_VPS_H

#include <unistd.h>

#include "vtl_harness.h"
#include "vtl_pair.h"

#define VPS 2

/* The thread of a VP: runs it until there is an exit, or the test has stopped it. */
struct runner {
	struct vtl_pair pair;
	pthread_t thread;
	int result;
	volatile bool is_over;
};

FIXTURE(two)
{
	struct runner vps[VPS];
};

FIXTURE_SETUP(two)
{
	uint64_t base, size;
	int cpu;

	if (!vtl_memory(&base, &size) || size < 4 * VTL_LARGE_SIZE)
		SKIP(return, "no vtl0_mem= of 8 MiB or more");
	if (sysconf(_SC_NPROCESSORS_ONLN) < VPS)
		SKIP(return, "needs two CPUs");
	for (cpu = VPS - 1; cpu >= 0; cpu--) {
		struct vtl_pair *pair = &self->vps[cpu].pair;

		ASSERT_EQ(0, pair_open(pair, cpu))
		{
			TH_LOG("%s", pair->guest.why);
		}
		ASSERT_EQ(0, pair_set_up(pair, pair->assist));
	}
}

FIXTURE_TEARDOWN(two)
{
	int cpu;

	for (cpu = 0; cpu < VPS; cpu++) {
		vtl_pin(cpu);
		pair_close(&self->vps[cpu].pair);
	}
}

/* Fields of a VP can only be written on its CPU. */
static inline int start(struct runner *vp, const unsigned char *vtl0,
			const unsigned char *vtl1)
{
	return vtl_pin(vp->pair.guest.cpu) || pair_start(&vp->pair, vtl0, vtl1);
}

static void *run_it(void *argument)
{
	struct runner *vp = argument;

	do {
		vp->result = vtl_run(&vp->pair.guest);
	} while (vp->result == -EINTR && !vp->pair.guest.run->cancel &&
		 !vp->pair.guest.run->scan_proxy_irr);
	vp->is_over = true;
	return NULL;
}

static inline int begin(struct runner *vp)
{
	vp->is_over = false;
	return vtl_thread_on(&vp->thread, vp->pair.guest.cpu, run_it, vp);
}

/* Waits until VTL0 has counted, or VTL1 has in its place. */
static inline void wait_for_turns(const struct runner *vp, uint64_t more)
{
	const uint64_t from = vp->pair.data[0]->turns;

	while (vp->pair.data[0]->turns < from + more && !vp->is_over)
		usleep(100);
}

static inline void stop(struct runner *vp)
{
	vtl_kick(&vp->pair.guest, MSHV_KICK_CANCEL);
	pthread_join(vp->thread, NULL);
	vp->pair.guest.run->cancel = 0;
}

#endif /* TWO_VPS_H */
