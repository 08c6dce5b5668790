/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Input of bindgen. Only declarations of our own headers, and the functions
 * that Kbuild lists, become Rust; kernel types come from the kernel's bindings
 * crate.
 */
#include <linux/anon_inodes.h>
#include <linux/cpuhotplug.h>
#include <linux/entry-virt.h>
#include <linux/eventfd.h>
#include <linux/gfp.h>
#include <linux/sched/clock.h>
#include <asm/fpu/api.h>

#include "cpu/helpers.h"
#include "glue/helpers.h"
#include "glue/version.h"
#include "hv/helpers.h"
#include "mem/helpers.h"
#include "nodes/helpers.h"
#include "observe/helpers.h"
#include "observe/vtl_trace.h"
#include "run/vp_enter.h"

/* bindgen can't evaluate _IOC(), but exports every enumerator. */
enum {
	VTL_COMMAND_CHECK_EXTENSION = MSHV_CHECK_EXTENSION,
	VTL_COMMAND_CREATE_VTL = MSHV_CREATE_VTL,
	VTL_COMMAND_VTL_INFO = MSHV_VTL_INFO,
	VTL_COMMAND_VTL_POLICY = MSHV_VTL_POLICY,
	VTL_COMMAND_RETURN_TO_LOWER_VTL = MSHV_RETURN_TO_LOWER_VTL,
	VTL_COMMAND_GET_VP_REGISTERS = MSHV_GET_VP_REGISTERS,
	VTL_COMMAND_SET_VP_REGISTERS = MSHV_SET_VP_REGISTERS,
	VTL_COMMAND_VTL_XSAVE_GET = MSHV_VTL_XSAVE_GET,
	VTL_COMMAND_VTL_XSAVE_SET = MSHV_VTL_XSAVE_SET,
	VTL_COMMAND_VTL_SWITCH_SETUP = MSHV_VTL_SWITCH_SETUP,
	VTL_COMMAND_VTL_RESET = MSHV_VTL_RESET,
	VTL_COMMAND_SET_POLL_FILE = MSHV_SET_POLL_FILE,
	VTL_COMMAND_KICK_CPUS = MSHV_KICK_CPUS,
	VTL_COMMAND_MAP_REDIRECTED_DEVICE_INTERRUPT =
		MSHV_MAP_REDIRECTED_DEVICE_INTERRUPT,
	VTL_COMMAND_ADD_VTL0_MEMORY = MSHV_ADD_VTL0_MEMORY,
	VTL_COMMAND_RESTORE_PARTITION_TIME = MSHV_RESTORE_PARTITION_TIME,
	VTL_COMMAND_READ_VMX_CR4_FIXED1 = MSHV_READ_VMX_CR4_FIXED1,
	VTL_COMMAND_TDCALL = MSHV_TDCALL,
	VTL_COMMAND_VTL_STATS = MSHV_VTL_STATS,
	VTL_COMMAND_HVCALL_SETUP = MSHV_HVCALL_SETUP,
	VTL_COMMAND_HVCALL = MSHV_HVCALL,
	VTL_COMMAND_SINT_SIGNAL_EVENT = MSHV_SINT_SIGNAL_EVENT,
	VTL_COMMAND_SINT_POST_MESSAGE = MSHV_SINT_POST_MESSAGE,
	VTL_COMMAND_SINT_SET_EVENTFD = MSHV_SINT_SET_EVENTFD,
	VTL_COMMAND_SINT_PAUSE_MESSAGE_STREAM = MSHV_SINT_PAUSE_MESSAGE_STREAM,
};
