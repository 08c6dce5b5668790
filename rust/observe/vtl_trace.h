/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Tracepoints mshv_vtl_tdx:*. trace.rs fires them, trace.c defines them.
 * Documentation/audit.rst describes the fields.
 */
#undef TRACE_SYSTEM
#define TRACE_SYSTEM mshv_vtl_tdx

#if !defined(_MSHV_VTL_TDX_TRACE_H) || defined(TRACE_HEADER_MULTI_READ)
#define _MSHV_VTL_TDX_TRACE_H

#include <linux/tracepoint.h>
#include <asm/vmx.h>

TRACE_EVENT(vtl_enter, TP_PROTO(u8 vm, u8 reason, u64 rip),
	    TP_ARGS(vm, reason, rip),
	    TP_STRUCT__entry(__field(u64, rip) __field(u8, vm)
				     __field(u8, reason)),
	    TP_fast_assign(__entry->rip = rip; __entry->vm = vm;
			   __entry->reason = reason;),
	    TP_printk("vm=%u reason=%u rip=%#llx", __entry->vm, __entry->reason,
		      __entry->rip));

TRACE_EVENT(
	vtl_exit,
	TP_PROTO(u8 vm, u64 rax, u64 qualification, u64 rip, u64 cycles),
	TP_ARGS(vm, rax, qualification, rip, cycles),
	TP_STRUCT__entry(__field(u64, rax) __field(u64, qualification)
				 __field(u64, rip) __field(u64, cycles)
					 __field(u8, vm)),
	TP_fast_assign(__entry->rax = rax;
		       __entry->qualification = qualification;
		       __entry->rip = rip; __entry->cycles = cycles;
		       __entry->vm = vm;),
	TP_printk(
		"vm=%u status=%s reason=%s qualification=%#llx rip=%#llx cycles=%llu",
		__entry->vm,
		__print_symbolic(__entry->rax >> 32, { 0, "SUCCESS" },
				 { 0x1100, "L2_EXIT_HOST_ROUTED_ASYNC" },
				 { 0x1101, "L2_EXIT_HOST_ROUTED_TDVMCALL" },
				 { 0x1102, "L2_EXIT_PENDING_INTERRUPT" },
				 { 0x80001103, "L2_VM_ENTRY_FAILED" }),
		__print_symbolic(__entry->rax & 0xffff, VMX_EXIT_REASONS),
		__entry->qualification, __entry->rip, __entry->cycles));

TRACE_EVENT(vtl_refused, TP_PROTO(u32 command, u64 operand, u64 answer),
	    TP_ARGS(command, operand, answer),
	    TP_STRUCT__entry(__field(u64, operand) __field(u64, answer)
				     __field(u32, command)),
	    TP_fast_assign(__entry->operand = operand; __entry->answer = answer;
			   __entry->command = command;),
	    TP_printk("command=%#x operand=%#llx answer=%#llx",
		      __entry->command, __entry->operand, __entry->answer));

#endif

#undef TRACE_INCLUDE_PATH
#define TRACE_INCLUDE_PATH observe
#undef TRACE_INCLUDE_FILE
#define TRACE_INCLUDE_FILE vtl_trace
#include <trace/define_trace.h>
