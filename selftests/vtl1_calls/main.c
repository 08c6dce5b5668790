// SPDX-License-Identifier: GPL-2.0
/*
 * VTL calls that the driver at VTL0 never makes: with addresses of VTL1's memory
 * (vtl1=), on a processor without VTL1 (other=), and for pages that VTL0 can't
 * write to any more afterwards. Loading prints a line for each case, and fails if
 * one has; the memory that is protected then is VTL1's to keep.
 */
#include <linux/gfp.h>
#include <linux/io.h>
#include <linux/module.h>
#include <linux/smp.h>
#include "around.h"

#define MAGIC 0x314c5456 /* "VTL1" */
#define SIGN 2
#define PROTECT 6
#define DONE 0
#define BAD_ADDRESS 1
#define BAD_RANGE 4
#define NO_HYPERCALL (-1000L)
#define ORDER 4

static unsigned long vtl1;
static int other = -1;

module_param(vtl1, ulong, 0);
module_param(other, int, 0);

struct request {
	u32 magic, command;
	u64 input, input_len, output, output_len, zero[3];
};

struct call {
	u64 request;
	long rax;
	unsigned long rcx;
};

static u8 *memory;
static int failures;

static void check(bool good, const char *name)
{
	pr_info("vtl1_calls: %s %s\n", good ? "ok" : "not ok", name);
	failures += !good;
}

static void vmcall(void *about)
{
	struct call *call = about;

	call->rax = 0;
	call->rcx = 0x11;
	asm volatile("vmcall"
		     : "+a"(call->rax), "+c"(call->rcx)
		     : "D"(call->request)
		     : "memory");
}

static struct call vtl_call(int cpu, u64 request)
{
	struct call call = { .request = request };

	if (smp_call_function_single(cpu, vmcall, &call, 1))
		call.rax = -1;
	return call;
}

/* The request is in the first page, its input in the second, room for the output in the third. */
static long ask(u32 command, u64 input, u64 input_len, u64 output,
		u64 output_len)
{
	struct request *request = (void *)memory;

	*request = (struct request){
		.magic = MAGIC,
		.command = command,
		.input = input,
		.input_len = input_len,
		.output = output,
		.output_len = output_len,
	};
	return vtl_call(0, virt_to_phys(memory)).rax;
}

static void addresses_of_vtl1(u64 input, u64 output)
{
	check(vtl_call(0, vtl1 + 0x1000).rax == BAD_ADDRESS,
	      "a_request_in_vtl1s_memory_is_refused");
	check(ask(SIGN, vtl1, 64, output, 32) == BAD_RANGE,
	      "an_input_in_vtl1s_memory_is_refused");
	check(ask(SIGN, vtl1 - 32, 64, output, 32) == BAD_RANGE,
	      "an_input_that_reaches_into_vtl1s_memory_is_refused");
	check(ask(SIGN, input, 64, vtl1 + 0x2000, 32) == BAD_RANGE,
	      "an_output_in_vtl1s_memory_is_refused");
	check(ask(SIGN, input, 64, output, 32) == DONE,
	      "the_same_request_in_vtl0s_memory_is_carried_out");
}

static void processor_without_vtl1(void)
{
	struct call call = vtl_call(other, virt_to_phys(memory));

	check(call.rax == NO_HYPERCALL && call.rcx == 0x11,
	      "a_vtl_call_on_another_processor_is_an_unknown_hypercall");
}

static void protected_page(u64 input, u64 output)
{
	u8 *page = memory + 3 * PAGE_SIZE;
	u64 *list = (u64 *)(memory + PAGE_SIZE);
	u8 *target = memory + 4 * PAGE_SIZE;

	check(!write_faults(page), "a_page_is_writable_first");
	make_tables((u64 *)(memory + 5 * PAGE_SIZE), (u64 *)page, target);
	list[0] = virt_to_phys(page);
	list[1] = 1;
	check(ask(PROTECT, input, 16, 0, 0) == DONE, "the_page_is_protected");
	check(write_faults(page + 7), "a_write_to_it_is_an_exception_of_vtl0");
	check(READ_ONCE(*page) == 1, "it_can_be_read");
	check(!write_faults(page - 1) && !write_faults(page + PAGE_SIZE),
	      "its_neighbours_are_writable");
	check(ask(SIGN, input, 64, virt_to_phys(page), 32) == BAD_RANGE,
	      "vtl1_does_not_write_to_it_either");
	check(device_moves_to(page + 1) && !page[1],
	      "a_string_move_of_a_device_to_it_is_an_exception_of_vtl0");
	check(table_is_kept(page, false), "the_processor_marks_no_entry_in_it");
	check(table_is_kept(page, true),
	      "neither_does_a_string_move_of_a_device");
	check(!device_moves_to(target) && *target == device_byte(),
	      "a_string_of_a_device_is_moved_to_other_pages");
	check(random_fills(target + 8) && !random_fills(page + 8) && !page[8],
	      "a_device_writes_to_other_pages_only");
}

static int __init vtl1_calls_init(void)
{
	u64 input, output;

	memory = (u8 *)__get_free_pages(GFP_KERNEL | __GFP_ZERO, ORDER);
	if (!memory)
		return -ENOMEM;
	input = virt_to_phys(memory) + PAGE_SIZE;
	output = input + PAGE_SIZE;
	addresses_of_vtl1(input, output);
	if (other >= 0)
		processor_without_vtl1();
	protected_page(input, output);
	return failures ? -EINVAL : 0;
}
module_init(vtl1_calls_init);

static void __exit vtl1_calls_exit(void)
{
}
module_exit(vtl1_calls_exit);

MODULE_LICENSE("GPL");
MODULE_DESCRIPTION("VTL calls that the driver never makes, for tests");
