// SPDX-License-Identifier: GPL-2.0
/*
 * Vectors of this kernel for devices of a lower VTL: an interrupt domain below
 * the kernel's own vector domain. When a device sends such a vector to a CPU,
 * the handler runs there in hard interrupt context.
 *
 * Stays C: the kernel crate has no abstraction for interrupt domains, and its
 * interrupt handlers belong to a device.
 */
#include <linux/cpumask.h>
#include <linux/interrupt.h>
#include <linux/irq.h>
#include <linux/irqdomain.h>
#include <linux/slab.h>
#include <linux/smp.h>
#include <linux/workqueue.h>
#include <asm/apic.h>
#include <asm/hw_irq.h>
#include <asm/irqdomain.h>

#include "helpers.h"

#define VTL_REDIRECT_NAME "mshv_vtl_tdx-redirect"

/* Resources of the kernel for a redirected interrupt. */
struct vtl_redirect {
	u32 irq;
	u32 vector;
	u32 cpu;
	void *route;
};

static struct fwnode_handle *redirect_node;
static struct irq_domain *redirect_domain;

/*
 * An interrupt may arrive while its vector is being freed by the parent: see
 * redirect_unwire().
 */
static void redirect_ack(struct irq_data *unused)
{
	apic->eoi();
}

static struct irq_chip redirect_chip = {
	.name = VTL_REDIRECT_NAME,
	.irq_ack = redirect_ack,
	.irq_set_affinity = irq_chip_set_affinity_parent,
	.irq_retrigger = irq_chip_retrigger_hierarchy,
};

/*
 * The parent's part puts the vector into the table of its CPU. The host may
 * already be sending it, for a mapping that was removed.
 */
static int redirect_alloc(struct irq_domain *domain, unsigned int irq,
			  unsigned int count, void *info)
{
	irq_domain_set_info(domain, irq, irq, &redirect_chip, NULL,
			    handle_edge_irq, NULL, "edge");
	return irq_domain_alloc_irqs_parent(domain, irq, count, info);
}

static const struct irq_domain_ops redirect_operations = {
	.alloc = redirect_alloc,
	.free = irq_domain_free_irqs_common,
};

/* Called once, before the first interrupt is requested. */
int vtl_redirect_init(void)
{
	struct irq_domain_info info = {
		.hwirq_max = ~0UL,
		.ops = &redirect_operations,
		.parent = x86_vector_domain,
	};

	/* A kernel that uses no local APIC has no vector domain. */
	if (!x86_vector_domain)
		return 0;
	redirect_node = irq_domain_alloc_named_fwnode(VTL_REDIRECT_NAME);
	if (!redirect_node)
		return -ENOMEM;
	info.fwnode = redirect_node;
	redirect_domain = irq_domain_instantiate(&info);
	if (IS_ERR(redirect_domain)) {
		irq_domain_free_fwnode(redirect_node);
		return PTR_ERR(redirect_domain);
	}
	return 0;
}

/* Called after every interrupt has been freed. */
void vtl_redirect_exit(void)
{
	if (!redirect_domain)
		return;
	irq_domain_remove(redirect_domain);
	irq_domain_free_fwnode(redirect_node);
	redirect_domain = NULL;
}

/*
 * Allocates an interrupt with a vector on one CPU; returns an error otherwise.
 * It is not migrated.
 */
static int redirect_get(u32 cpu)
{
	struct irq_affinity_desc affinity = { .is_managed = 0 };
	struct irq_alloc_info info = { .mask = cpumask_of(cpu) };
	int irq;

	cpumask_set_cpu(cpu, &affinity.mask);
	irq = __irq_domain_alloc_irqs(redirect_domain, -1, 1, cpu_to_node(cpu),
				      &info, false, &affinity);
	if (irq <= 0)
		return irq ?: -ENOSPC;
	irq_set_status_flags(irq, IRQ_NO_BALANCING | IRQ_NOPROBE);
	return irq;
}

/* Gives @redirect, whose CPU and route are set, its interrupt. */
static int redirect_fill(struct vtl_redirect *redirect, irq_handler_t handler)
{
	struct irq_cfg *config;
	int error, irq = redirect_get(redirect->cpu);

	if (irq < 0)
		return irq;
	error = request_irq(irq, handler, IRQF_NO_THREAD | IRQF_NOBALANCING,
			    VTL_REDIRECT_NAME, redirect->route);
	if (error)
		goto free_irq;
	/* The vector exists after request_irq(). */
	config = irqd_cfg(irq_get_irq_data(irq));
	if (!config || !config->vector) {
		free_irq(irq, redirect->route);
		error = -ENOSPC;
		goto free_irq;
	}
	redirect->irq = irq;
	redirect->vector = config->vector;
	return 0;

free_irq:
	irq_domain_free_irqs(irq, 1);
	return error;
}

struct redirect_request {
	struct work_struct work;
	struct vtl_redirect *redirect;
	irq_handler_t handler;
	int error;
};

static void redirect_work(struct work_struct *work)
{
	struct redirect_request *request =
		container_of(work, struct redirect_request, work);

	request->error = redirect_fill(request->redirect, request->handler);
}

/*
 * The kernel ignores that it could not make a file of an interrupt in /proc, and
 * warns when it removes that file. So a worker makes them: an allocation that
 * fails for a process alone, because it is being killed, is none of these.
 */
static int redirect_fill_by_worker(struct vtl_redirect *redirect,
				   irq_handler_t handler)
{
	struct redirect_request request = {
		.redirect = redirect,
		.handler = handler,
	};

	INIT_WORK_ONSTACK(&request.work, redirect_work);
	queue_work(system_dfl_wq, &request.work);
	flush_work(&request.work);
	destroy_work_on_stack(&request.work);
	return request.error;
}

/* Calls @handler with @route whenever the interrupt arrives. */
struct vtl_redirect *vtl_redirect_new(u32 cpu, irq_handler_t handler,
				      void *route)
{
	struct vtl_redirect *redirect;
	int error;

	if (!redirect_domain || !cpu_online(cpu))
		return ERR_PTR(-ENXIO);
	redirect = kzalloc_obj(*redirect);
	if (!redirect)
		return ERR_PTR(-ENOMEM);
	redirect->cpu = cpu;
	redirect->route = route;
	error = redirect_fill_by_worker(redirect, handler);
	if (error) {
		kfree(redirect);
		return ERR_PTR(error);
	}
	return redirect;
}

u32 vtl_redirect_vector(const struct vtl_redirect *redirect)
{
	return redirect->vector;
}

static void redirect_nothing(void *unused)
{
}

/*
 * irq_domain_free_irqs() removes the flow handler first and the vector last: an
 * interrupt of the host in between would be reported as an unexpected trap. So
 * remove the vector first. When this returns, no CPU is between reading its
 * vector table and the flow handler. The parent's own free then finds no
 * vector.
 */
static void redirect_unwire(u32 irq, u32 cpu)
{
	irq_domain_free_irqs_parent(redirect_domain, irq, 1);
	smp_call_function_single(cpu, redirect_nothing, NULL, 1);
}

/* Undoes vtl_redirect_new(). On return its @route is not used any more. */
void vtl_redirect_free(struct vtl_redirect *redirect)
{
	free_irq(redirect->irq, redirect->route);
	redirect_unwire(redirect->irq, redirect->cpu);
	irq_domain_free_irqs(redirect->irq, 1);
	kfree(redirect);
}
