/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Interface of vp_enter.S, for C, for bindgen and for the stub itself, and of the
 * frame around it (enter.c).
 *
 * The offsets are those of struct vtl_enter_operands, as enter.c asserts.
 * They are numbers, so that the stub needs no generated file and can be linked
 * into other modules unchanged.
 */
#ifndef _MSHV_VTL_TDX_VP_ENTER_H
#define _MSHV_VTL_TDX_VP_ENTER_H

/* Leaf number of TDG.VP.ENTER. */
#define VTL_TDG_VP_ENTER 25

/* Speculation defences of the stub: Scrub in pure/mitigation.rs. */
#define VTL_SCRUB_RETURNS (1 << 0)
#define VTL_SCRUB_BRANCHES (1 << 1)
#define VTL_SCRUB_BUFFERS (1 << 2)
#define VTL_SCRUB_SPEC_CTRL (1 << 3)
#define VTL_SCRUB_TARGETS (1 << 4)
#define VTL_SCRUB_SPEC_CTRL_STEADY (1 << 5)
/* Two taken branches per turn: more than the longest branch history. */
#define VTL_BHB_ROUNDS 12
#define VTL_BHB_TURNS 9

#define VTL_EXIT_RAX 0
#define VTL_EXIT_RCX 8
#define VTL_EXIT_RDX 16
#define VTL_EXIT_RSI 24
#define VTL_EXIT_RDI 32
#define VTL_EXIT_R8 40
#define VTL_EXIT_R9 48
#define VTL_EXIT_R10 56
#define VTL_EXIT_R11 64
#define VTL_EXIT_R12 72
#define VTL_EXIT_R13 80
#define VTL_ENTER_CR2 88
#define VTL_ENTER_SPEC_CTRL 96
#define VTL_ENTER_RCX 104
#define VTL_ENTER_GUEST_STATE 112
#define VTL_ENTER_SCRUB 120

#ifndef __ASSEMBLER__
#include <linux/mshv_vtl_tdx.h>

/* Operands and results of TDG.VP.ENTER. */
struct vtl_enter_operands {
	/* Results; only rax changes if the entry did not happen. */
	struct mshv_tdx_exit_info exit;
	/* Loaded and saved; IA32_SPEC_CTRL only with VTL_SCRUB_SPEC_CTRL. */
	__u64 cr2;
	__u64 spec_ctrl;
	/* RCX: VM and invalidation. */
	__u64 rcx;
	__u64 guest_state_gpa;
	/* VTL_SCRUB_* */
	__u32 scrub;
};

void vtl_vp_enter(struct vtl_enter_operands *operands);

void vtl_guest_enter(struct vtl_enter_operands *operands);
#endif

#endif
