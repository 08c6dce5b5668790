// SPDX-License-Identifier: GPL-2.0
/*
 * Sleeping and letting others run. rust/vp/wake.rs says who wakes whom, and why no
 * wake-up is lost.
 *
 * Stays C: rcuwait is a macro, and the timer is on the stack and has slack.
 */
#include <linux/hrtimer.h>
#include <linux/rcuwait.h>
#include <linux/sched/signal.h>
#include <linux/smp.h>
#include <trace/events/ipi.h>

#include "helpers.h"

/*
 * Ends a sleep. Lives on the stack of the sleeping task. The timer is pinned: it fires
 * on the CPU where it was started, while the task wakes up on any CPU that it may use.
 */
struct vtl_alarm {
	struct hrtimer timer;
	struct rcuwait *sleeper;
	bool is_over;
};

static enum hrtimer_restart vtl_alarm(struct hrtimer *timer)
{
	struct vtl_alarm *alarm = container_of(timer, struct vtl_alarm, timer);

	/* The barrier in rcuwait_wake_up() follows the store. */
	WRITE_ONCE(alarm->is_over, true);
	rcuwait_wake_up(alarm->sleeper);
	return HRTIMER_NORESTART;
}

/*
 * Returns 0 if is_awake() returned true, or after @most_ns and up to @slack_ns more;
 * returns -EINTR for a signal.
 */
int vtl_sleep(struct rcuwait *sleeper, bool (*is_awake)(void *argument),
	      void *argument, u64 most_ns, u64 slack_ns)
{
	struct vtl_alarm alarm = { .sleeper = sleeper };
	int result;

	/*
	 * Hard: with PREEMPT_RT a thread of low priority would run vtl_alarm(), and
	 * one of higher priority could keep this task asleep.
	 */
	hrtimer_setup_on_stack(&alarm.timer, vtl_alarm, CLOCK_MONOTONIC,
			       HRTIMER_MODE_REL_PINNED_HARD);
	hrtimer_start_range_ns(&alarm.timer, ns_to_ktime(most_ns), slack_ns,
			       HRTIMER_MODE_REL_PINNED_HARD);
	result = rcuwait_wait_event(
		sleeper, is_awake(argument) || READ_ONCE(alarm.is_over),
		TASK_INTERRUPTIBLE);
	hrtimer_cancel(&alarm.timer);
	destroy_hrtimer_on_stack(&alarm.timer);
	return result;
}

/* Sends that CPU an interrupt that has no further effect. */
void vtl_send_reschedule(u32 cpu)
{
	if (cpu < nr_cpu_ids && cpu_online(cpu))
		smp_send_reschedule(cpu);
}

bool vtl_need_resched(void)
{
	return need_resched();
}

/* Returns false if the task was killed. */
bool vtl_yield(void)
{
	cond_resched();
	return !fatal_signal_pending(current);
}
