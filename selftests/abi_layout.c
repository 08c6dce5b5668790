// SPDX-License-Identifier: GPL-2.0
/*
 * The numbers of the ABI, written by hand, and those of the module's Rust side:
 * sizes, offsets and commands of the header must be these, because userspace
 * compiled elsewhere relies on them.
 */
#include "vtl_harness.h"
#include "vtl_util.h"

#define RUN(field) offsetof(struct mshv_vtl_run, field)

struct number {
	const char *name;
	unsigned long long found, expected;
};

#define NUMBER(expression, value) { #expression, expression, value }

static const struct number commands[] = {
	NUMBER(MSHV_CHECK_EXTENSION, 0x4004b800),
	NUMBER(MSHV_CREATE_VTL, 0x8001b81d),
	NUMBER(MSHV_RETURN_TO_LOWER_VTL, 0x0000b827),
	NUMBER(MSHV_TDCALL, 0xc038b832),
	NUMBER(MSHV_SINT_SIGNAL_EVENT, 0x4008b822),
	NUMBER(MSHV_SINT_POST_MESSAGE, 0x4018b823),
	NUMBER(MSHV_SINT_SET_EVENTFD, 0x4008b824),
	NUMBER(MSHV_SINT_PAUSE_MESSAGE_STREAM, 0x4008b825),
	NUMBER(sizeof(struct mshv_vtl_signal_event), 8),
	NUMBER(offsetof(struct mshv_vtl_signal_event, flag), 4),
	NUMBER(sizeof(struct mshv_vtl_sint_post_msg), 24),
	NUMBER(offsetof(struct mshv_vtl_sint_post_msg, connection_id), 8),
	NUMBER(offsetof(struct mshv_vtl_sint_post_msg, payload_size), 12),
	NUMBER(offsetof(struct mshv_vtl_sint_post_msg, payload_ptr), 16),
	NUMBER(sizeof(struct mshv_vtl_set_eventfd), 8),
	NUMBER(offsetof(struct mshv_vtl_set_eventfd, flag), 4),
	NUMBER(sizeof(struct mshv_sint_mask), 8),
	NUMBER(MSHV_HVCALL_SETUP, 0x4010b81e),
	NUMBER(MSHV_HVCALL, 0xc030b81f),
	NUMBER(sizeof(struct mshv_vtl_hvcall_setup), 16),
	NUMBER(offsetof(struct mshv_vtl_hvcall_setup, allow_bitmap_ptr), 8),
	NUMBER(sizeof(struct mshv_vtl_hvcall), 48),
	NUMBER(offsetof(struct mshv_vtl_hvcall, input_size), 8),
	NUMBER(offsetof(struct mshv_vtl_hvcall, input_ptr), 16),
	NUMBER(offsetof(struct mshv_vtl_hvcall, status), 24),
	NUMBER(offsetof(struct mshv_vtl_hvcall, output_size), 32),
	NUMBER(offsetof(struct mshv_vtl_hvcall, output_ptr), 40),
	NUMBER(MSHV_ADD_VTL0_MEMORY, 0x4010b821),
	NUMBER(MSHV_RESTORE_PARTITION_TIME, 0x4018b813),
	NUMBER(MSHV_READ_VMX_CR4_FIXED1, 0x8008b833),
	NUMBER(sizeof(struct mshv_vtl_ram_disposition), 16),
	NUMBER(offsetof(struct mshv_vtl_ram_disposition, start_pfn), 0),
	NUMBER(offsetof(struct mshv_vtl_ram_disposition, last_pfn), 8),
	NUMBER(sizeof(struct mshv_vtl_partition_time), 24),
	NUMBER(MSHV_VTL_RAM_SHARED, 1ULL << 51),
	NUMBER(MSHV_VTL_INFO, 0xc008b860),
	NUMBER(MSHV_VTL_STATS, 0xc008b861),
	NUMBER(MSHV_CAP_CORE_API_STABLE, 0),
	NUMBER(MSHV_CAP_REGISTER_PAGE, 1),
	NUMBER(MSHV_CAP_VTL_RETURN_ACTION, 2),
	NUMBER(MSHV_CAP_DR6_SHARED, 3),
	NUMBER(MSHV_CAP_LOWER_VTL_TIMER_VIRT, 4),
	NUMBER(MSHV_CAP_INFO, 0x100),
	NUMBER(MSHV_CAP_STATS, 0x101),
	NUMBER(MSHV_CAP_AUDIT_RING, 0x102),
	NUMBER(MSHV_CAP_POLICY, 0x103),
	NUMBER(MSHV_CAP_XSAVE, 0x104),
	NUMBER(MSHV_CAP_VTL_SWITCH, 0x105),
	NUMBER(MSHV_CAP_ATTEST, 0x106),
	NUMBER(MSHV_CAP_RESET, 0x108),
	NUMBER(MSHV_CAP_TIMER, 0x109),
	NUMBER(MSHV_CAP_AUDIT_NOTE, 0x10a),
	NUMBER(MSHV_VTL_AUDIT_CHECKPOINT, 0xc008b866),
	NUMBER(MSHV_VTL_AUDIT_EVENT, 0xc008b867),
	NUMBER(MSHV_VTL_AUDIT_NOTE, 0x4008b869),
	NUMBER(MSHV_VTL_XSAVE_GET, 0xc018b863),
	NUMBER(MSHV_VTL_XSAVE_SET, 0x4018b864),
	NUMBER(MSHV_VTL_SWITCH_SETUP, 0x4008b865),
	NUMBER(MSHV_VTL_RESET, 0x4008b868),
	NUMBER(MSHV_VTL_POLICY, 0xc008b862),
	NUMBER(MSHV_VTL_POLICY_HVCALLS, 0x80000000),
	NUMBER(MSHV_VTL_STORM_EXITS, 1024),
	NUMBER(MSHV_VTL_MMAP_PGOFF(MSHV_VTL_MMAP_AUDIT_RING, 5), 0x100005),
	NUMBER(MSHV_VTL_MMAP_PGOFF(MSHV_VTL_MMAP_SWITCH_PAGE, 5), 0x110005),
	NUMBER(MSHV_VTL_MMAP_PGOFF(MSHV_VTL_MMAP_LEAVES, 5), 0x120005),
	NUMBER(MSHV_VTL_MMAP_PGOFF(MSHV_VTL_MMAP_CONTROL_RING, 0), 0x130000),
	NUMBER(MSHV_VTL_MMAP_PGOFF(MSHV_VTL_MMAP_CONTROL_LEAVES, 0), 0x140000),
	NUMBER(MSHV_VTL_CHECKPOINT_KICK, 1),
	NUMBER(MSHV_VTL_ATTEST_OPEN, 1),
	NUMBER(MSHV_VTL_ATTEST_BROKEN, 2),
	NUMBER(MSHV_VTL_ATTEST_CLOSED, 3),
	NUMBER(MSHV_VTL_CONTROL_LOAD, 1),
	NUMBER(MSHV_VTL_CONTROL_CREATE_VTL, 2),
	NUMBER(MSHV_VTL_CONTROL_PAGE_ATTR_WR, 3),
	NUMBER(MSHV_VTL_CONTROL_TDCALL_REFUSED, 4),
	NUMBER(MSHV_VTL_CONTROL_HVCALL_REFUSED, 5),
	NUMBER(MSHV_VTL_CONTROL_NOTE, 6),
	NUMBER(MSHV_VTL_CONTROL_STREAM, 0xffff),
	NUMBER(MSHV_VTL_MMAP_PGOFF(MSHV_VTL_MMAP_RUN_PAGE, 5), 5),
	NUMBER(MSHV_VTL_MMAP_PGOFF(MSHV_VTL_MMAP_VAPIC_PAGE, 5), 0x30005),
	NUMBER(MSHV_VTL_LOW_SHARED, 1ULL << 63),
	NUMBER(MSHV_TDX_ENTRY_INVD_MASK, 3),
	NUMBER(MSHV_TDX_ENTRY_VM_SHIFT, 52),
	NUMBER(MSHV_VTL_RUN_HALTED, 1),
	NUMBER(MSHV_GET_VP_REGISTERS, 0xc010b805),
	NUMBER(MSHV_SET_VP_REGISTERS, 0x4010b806),
	NUMBER(MSHV_KICK_WAIT, 1),
	NUMBER(MSHV_KICK_CANCEL, 2),
	NUMBER(MSHV_SET_POLL_FILE, 0x4008b825),
	NUMBER(MSHV_KICK_CPUS, 0x4018b838),
	NUMBER(MSHV_MAP_REDIRECTED_DEVICE_INTERRUPT, 0xc010b839),
};

static const struct number names[] = {
	NUMBER(MSHV_IOCTL, 0xb8),
	NUMBER(MSHV_VP_MAX_REGISTERS, 128),
	NUMBER(MSHV_REGISTER_XFEM, 0x40005),
	NUMBER(MSHV_REGISTER_DR0, 0x50000),
	NUMBER(MSHV_REGISTER_DR1, 0x50001),
	NUMBER(MSHV_REGISTER_DR2, 0x50002),
	NUMBER(MSHV_REGISTER_DR3, 0x50003),
	NUMBER(MSHV_REGISTER_DR6, 0x50004),
	NUMBER(MSHV_REGISTER_MTRR_CAP, 0x8000d),
	NUMBER(MSHV_REGISTER_MTRR_DEF_TYPE, 0x8000e),
	NUMBER(MSHV_REGISTER_MTRR_PHYS_BASE0, 0x80010),
	NUMBER(MSHV_REGISTER_MTRR_PHYS_MASK0, 0x80040),
	NUMBER(MSHV_REGISTER_MTRR_FIX64K_00000, 0x80070),
	NUMBER(MSHV_REGISTER_MTRR_FIX16K_80000, 0x80071),
	NUMBER(MSHV_REGISTER_MTRR_FIX4K_C0000, 0x80073),
	NUMBER(MSHV_VTL_EXIT_KINDS, 104),
	NUMBER(MSHV_VTL_MMAP_KIND_SHIFT, 16),
	NUMBER(MSHV_VTL_AUDIT_HAS_RUN, 1),
	NUMBER(MSHV_VTL_AUDIT_EVENT_CUT_OFF, 2),
	NUMBER(MSHV_VTL_AUDIT_INVALIDATED, 4),
	NUMBER(MSHV_TDX_VP_WBINVD, 1),
	NUMBER(MSHV_TDX_VP_WBNOINVD, 2),
	NUMBER(MSHV_TDX_ENTRY_VM_MASK, 3ULL << 52),
	NUMBER(MSHV_VTL_OFFLOAD_INTR_INJECT, 1),
	NUMBER(MSHV_VTL_OFFLOAD_X2APIC, 2),
	NUMBER(MSHV_VTL_HALT_OTHER, 0x20),
	NUMBER(MSHV_VTL_HALT_HLT, 0x40),
	NUMBER(MSHV_VTL_HALT_IDLE, 0x80),
	NUMBER(sizeof(struct mshv_vtl_head), 8),
	NUMBER(sizeof(struct mshv_vtl_policy), 176),
	NUMBER(sizeof(struct mshv_vtl_exit_stats), 24),
	NUMBER(sizeof(struct mshv_vtl_xsave), 24),
	NUMBER(offsetof(struct mshv_vtl_xsave, size), 0),
	NUMBER(offsetof(struct mshv_vtl_xsave, flags), 4),
	NUMBER(offsetof(struct mshv_vtl_xsave, xfeatures), 8),
	NUMBER(offsetof(struct mshv_vtl_xsave, image), 16),
	NUMBER(sizeof(struct mshv_vp_registers), 16),
	NUMBER(offsetof(struct mshv_vp_registers, count), 0),
	NUMBER(offsetof(struct mshv_vp_registers, failed), 4),
	NUMBER(offsetof(struct mshv_vp_registers, registers), 8),
	NUMBER(sizeof(struct mshv_register), 32),
	NUMBER(offsetof(struct mshv_register, name), 0),
	NUMBER(offsetof(struct mshv_register, reserved), 4),
	NUMBER(offsetof(struct mshv_register, value), 16),
	NUMBER(sizeof(struct mshv_set_poll_file), 8),
	NUMBER(offsetof(struct mshv_set_poll_file, cpu), 0),
	NUMBER(offsetof(struct mshv_set_poll_file, fd), 4),
	NUMBER(sizeof(struct mshv_map_device_intr), 16),
	NUMBER(offsetof(struct mshv_map_device_intr, vector), 0),
	NUMBER(offsetof(struct mshv_map_device_intr, apic_id), 4),
	NUMBER(offsetof(struct mshv_map_device_intr, create_mapping), 8),
	NUMBER(offsetof(struct mshv_map_device_intr, padding), 9),
	NUMBER(sizeof(struct mshv_kick_cpus), 24),
	NUMBER(offsetof(struct mshv_kick_cpus, len_bits), 0),
	NUMBER(offsetof(struct mshv_kick_cpus, cpu_mask), 8),
	NUMBER(offsetof(struct mshv_kick_cpus, flags), 16),
	NUMBER(offsetof(struct mshv_vtl_partition_time, tsc_sequence), 0),
	NUMBER(offsetof(struct mshv_vtl_partition_time, reference_time_100ns),
	       8),
	NUMBER(offsetof(struct mshv_vtl_partition_time, tsc), 16),
	NUMBER(sizeof(struct mshv_vtl_hvcall_setup), 16),
	NUMBER(sizeof(struct mshv_vtl_hvcall), 48),
	NUMBER(sizeof(struct mshv_tdx_exit_info), 88),
	NUMBER(sizeof(struct mshv_tdx_vp_state), 64),
	NUMBER(sizeof(struct mshv_tdx_l2_enter_guest_state), 160),
	NUMBER(sizeof(struct mshv_tdx_l2_tsc_deadline), 16),
	NUMBER(sizeof(struct mshv_tdx_vp_context), 1024),
	NUMBER(sizeof(struct mshv_vtl_run), 1656),
};

static const struct number tdcall[] = {
	NUMBER(sizeof(struct mshv_tdcall), 56),
	NUMBER(offsetof(struct mshv_tdcall, rax), 0),
	NUMBER(offsetof(struct mshv_tdcall, rcx), 8),
	NUMBER(offsetof(struct mshv_tdcall, rdx), 16),
	NUMBER(offsetof(struct mshv_tdcall, r8), 24),
	NUMBER(offsetof(struct mshv_tdcall, r9), 32),
	NUMBER(offsetof(struct mshv_tdcall, r10_out), 40),
	NUMBER(offsetof(struct mshv_tdcall, r11_out), 48),
};

#define OFFSET(type, field) offsetof(struct mshv_vtl_##type, field)

static const struct number telling[] = {
	NUMBER(sizeof(struct mshv_vtl_info), 72),
	NUMBER(OFFSET(info, head.size), 0),
	NUMBER(OFFSET(info, head.selector), 4),
	NUMBER(OFFSET(info, version), 8),
	NUMBER(OFFSET(info, capabilities), 16),
	NUMBER(OFFSET(info, tdx_features0), 24),
	NUMBER(OFFSET(info, attributes), 32),
	NUMBER(OFFSET(info, xfam), 40),
	NUMBER(OFFSET(info, tsc_khz), 48),
	NUMBER(OFFSET(info, num_l2_vms), 56),
	NUMBER(OFFSET(info, num_cpus), 60),
	NUMBER(OFFSET(info, audit_records), 64),
	NUMBER(OFFSET(info, exit_kinds), 68),
	NUMBER(sizeof(struct mshv_vtl_stats), 2656),
	NUMBER(OFFSET(stats, refused), 8),
	NUMBER(OFFSET(stats, exit_kinds), 64),
	NUMBER(OFFSET(stats, exits), 72),
	NUMBER(OFFSET(stats, exits[1].count), 96),
	NUMBER(OFFSET(stats, exits[1].handled), 104),
	NUMBER(OFFSET(stats, exits[1].cycles), 112),
	NUMBER(OFFSET(stats, refused_hvcalls), 2568),
	NUMBER(OFFSET(stats, stalls), 2576),
	NUMBER(OFFSET(stats, exit_storms), 2584),
	NUMBER(OFFSET(stats, storm_ticks), 2592),
	NUMBER(OFFSET(stats, shortest_storm_ticks), 2600),
	NUMBER(OFFSET(stats, vtl_calls), 2608),
	NUMBER(OFFSET(stats, vtl_returns), 2616),
	NUMBER(OFFSET(stats, vtl_fast_returns), 2624),
	NUMBER(OFFSET(stats, vtl_left), 2632),
	NUMBER(OFFSET(stats, vtl_flushes), 2640),
	NUMBER(OFFSET(stats, vtl_proxied), 2648),
	NUMBER(MSHV_VTL_EXIT_HOST_ROUTED, 96),
	NUMBER(MSHV_VTL_EXIT_INTERRUPTED, 97),
	NUMBER(MSHV_VTL_EXIT_NOT_ENTERED, 98),
	NUMBER(MSHV_VTL_EXIT_REFUSED, 99),
	NUMBER(MSHV_VTL_EXIT_OTHER, 100),
	NUMBER(MSHV_VTL_REFUSED_EINTR, 0),
	NUMBER(MSHV_VTL_REFUSED_EBUSY, 1),
	NUMBER(MSHV_VTL_REFUSED_EINVAL, 2),
	NUMBER(MSHV_VTL_REFUSED_EOPNOTSUPP, 3),
	NUMBER(MSHV_VTL_REFUSED_EIO, 4),
	NUMBER(MSHV_VTL_REFUSED_OTHER, 5),
	NUMBER(MSHV_VTL_REFUSED_TDCALL, 6),
	NUMBER(sizeof(struct mshv_vtl_audit_record), 64),
	NUMBER(OFFSET(audit_record, sequence), 0),
	NUMBER(OFFSET(audit_record, entry_tsc), 8),
	NUMBER(OFFSET(audit_record, cycles), 16),
	NUMBER(OFFSET(audit_record, status), 24),
	NUMBER(OFFSET(audit_record, qualification), 32),
	NUMBER(OFFSET(audit_record, rip), 40),
	NUMBER(OFFSET(audit_record, thread), 48),
	NUMBER(OFFSET(audit_record, vp), 52),
	NUMBER(OFFSET(audit_record, vm), 54),
	NUMBER(OFFSET(audit_record, entry_reason), 55),
	NUMBER(OFFSET(audit_record, exit_kind), 56),
	NUMBER(OFFSET(audit_record, flags), 57),
	NUMBER(sizeof(struct mshv_vtl_control_record), 64),
	NUMBER(OFFSET(control_record, tsc), 8),
	NUMBER(OFFSET(control_record, result), 16),
	NUMBER(OFFSET(control_record, operands), 24),
	NUMBER(OFFSET(control_record, process), 48),
	NUMBER(OFFSET(control_record, op), 52),
	NUMBER(OFFSET(control_record, user), 56),
	NUMBER(sizeof(struct mshv_vtl_audit_leaf), 64),
	NUMBER(OFFSET(audit_leaf, segment), 0),
	NUMBER(OFFSET(audit_leaf, first), 8),
	NUMBER(OFFSET(audit_leaf, count), 16),
	NUMBER(OFFSET(audit_leaf, stream), 20),
	NUMBER(OFFSET(audit_leaf, leaf), 32),
	NUMBER(sizeof(struct mshv_vtl_audit_checkpoint), 56),
	NUMBER(OFFSET(audit_checkpoint, nonce), 8),
	NUMBER(OFFSET(audit_checkpoint, flags), 40),
	NUMBER(OFFSET(audit_checkpoint, number), 48),
	NUMBER(sizeof(struct mshv_vtl_audit_event), 72),
	NUMBER(OFFSET(audit_event, number), 8),
	NUMBER(OFFSET(audit_event, buffer), 16),
	NUMBER(OFFSET(audit_event, size), 24),
	NUMBER(OFFSET(audit_event, state), 28),
	NUMBER(OFFSET(audit_event, first), 32),
	NUMBER(OFFSET(audit_event, next), 40),
	NUMBER(OFFSET(audit_event, mode), 48),
	NUMBER(OFFSET(audit_event, rtmr), 52),
	NUMBER(OFFSET(audit_event, streams), 56),
	NUMBER(OFFSET(audit_event, leaves), 60),
	NUMBER(OFFSET(audit_event, interval), 64),
	NUMBER(OFFSET(audit_event, batch), 68),
	NUMBER(sizeof(struct mshv_vtl_audit_note), 32),
	NUMBER(OFFSET(audit_note, words), 8),
};

static const struct number switching[] = {
	NUMBER(sizeof(struct mshv_vtl_switch), 24),
	NUMBER(OFFSET(switch, head), 0),
	NUMBER(OFFSET(switch, assist), 8),
	NUMBER(OFFSET(switch, flags), 16),
	NUMBER(sizeof(struct mshv_vtl_parked), 128),
	NUMBER(OFFSET(parked, rsp), 0),
	NUMBER(OFFSET(parked, rip), 8),
	NUMBER(OFFSET(parked, rflags), 16),
	NUMBER(OFFSET(parked, ssp), 24),
	NUMBER(OFFSET(parked, rvi), 32),
	NUMBER(OFFSET(parked, svi), 33),
	NUMBER(OFFSET(parked, halt), 34),
	NUMBER(OFFSET(parked, reserved1), 35),
	NUMBER(OFFSET(parked, msr_kernel_gs_base), 40),
	NUMBER(OFFSET(parked, msr_star), 48),
	NUMBER(OFFSET(parked, msr_lstar), 56),
	NUMBER(OFFSET(parked, msr_sfmask), 64),
	NUMBER(OFFSET(parked, msr_xss), 72),
	NUMBER(OFFSET(parked, msr_tsc_aux), 80),
	NUMBER(OFFSET(parked, reserved2), 88),
	NUMBER(sizeof(struct mshv_vtl_switch_page), 512),
	NUMBER(OFFSET(switch_page, enable), 0),
	NUMBER(OFFSET(switch_page, active_vm), 8),
	NUMBER(OFFSET(switch_page, left), 12),
	NUMBER(OFFSET(switch_page, flush), 16),
	NUMBER(OFFSET(switch_page, flushed), 48),
	NUMBER(OFFSET(switch_page, parked[0]), 256),
	NUMBER(OFFSET(switch_page, parked[1]), 384),
	NUMBER(MSHV_VTL_SWITCH_CALL, 1),
	NUMBER(MSHV_VTL_SWITCH_RETURN, 2),
	NUMBER(MSHV_VTL_SWITCH_PROXY, 4),
	NUMBER(MSHV_VTL_SWITCH_VINA, 8),
	NUMBER(MSHV_VTL_SWITCH_VINA_AUTO_RESET, 16),
	NUMBER(MSHV_VTL_LEFT_DISABLED, 1),
	NUMBER(MSHV_VTL_LEFT_MODE, 2),
	NUMBER(MSHV_VTL_LEFT_OPERANDS, 3),
	NUMBER(MSHV_VTL_LEFT_HALTED, 4),
	NUMBER(MSHV_VTL_LEFT_NOT_ENTERABLE, 5),
	NUMBER(MSHV_VTL_LEFT_NOTICE, 6),
	NUMBER(MSHV_VTL_LEFT_ASSIST, 7),
};

static const struct number run_page[] = {
	NUMBER(RUN(cancel), 0),
	NUMBER(RUN(vtl_ret_action_size), 4),
	NUMBER(RUN(flags), 8),
	NUMBER(RUN(scan_proxy_irr), 12),
	NUMBER(RUN(offload_flags), 13),
	NUMBER(RUN(enter_mode), 15),
	NUMBER(RUN(exit_message), 16),
	NUMBER(RUN(tdx), 272),
	NUMBER(RUN(tdx.exit_info.rax), 272),
	NUMBER(RUN(tdx.exit_info.rcx), 280),
	NUMBER(RUN(tdx.exit_info.rdx), 288),
	NUMBER(RUN(tdx.exit_info.rsi), 296),
	NUMBER(RUN(tdx.exit_info.rdi), 304),
	NUMBER(RUN(tdx.exit_info.r8), 312),
	NUMBER(RUN(tdx.exit_info.r9), 320),
	NUMBER(RUN(tdx.exit_info.r10), 328),
	NUMBER(RUN(tdx.exit_info.r11), 336),
	NUMBER(RUN(tdx.exit_info.r12), 344),
	NUMBER(RUN(tdx.exit_info.r13), 352),
	NUMBER(RUN(tdx.vp_state.msr_kernel_gs_base), 408),
	NUMBER(RUN(tdx.vp_state.msr_star), 416),
	NUMBER(RUN(tdx.vp_state.msr_lstar), 424),
	NUMBER(RUN(tdx.vp_state.msr_sfmask), 432),
	NUMBER(RUN(tdx.vp_state.msr_xss), 440),
	NUMBER(RUN(tdx.vp_state.cr2), 448),
	NUMBER(RUN(tdx.vp_state.msr_tsc_aux), 456),
	NUMBER(RUN(tdx.vp_state.flags), 464),
	NUMBER(RUN(tdx.entry_rcx), 504),
	NUMBER(RUN(tdx.l2_enter_guest_state), 512),
	NUMBER(RUN(tdx.l2_enter_guest_state.rflags), 640),
	NUMBER(RUN(tdx.l2_enter_guest_state.rip), 648),
	NUMBER(RUN(tdx.l2_enter_guest_state.ssp), 656),
	NUMBER(RUN(tdx.l2_enter_guest_state.rvi), 664),
	NUMBER(RUN(tdx.l2_enter_guest_state.svi), 665),
	NUMBER(RUN(tdx.l2_tsc_deadline.deadline), 672),
	NUMBER(RUN(tdx.l2_tsc_deadline.update), 680),
	NUMBER(RUN(tdx.fx_state), 768),
	NUMBER(RUN(vtl_ret_actions), 1296),
	NUMBER(RUN(proxy_irr), 1552),
	NUMBER(RUN(target_vtl), 1584),
	NUMBER(RUN(proxy_irr_blocked), 1588),
	NUMBER(RUN(proxy_irr_exit_mask), 1620),
	NUMBER(RUN(proxy_irr_exit_mask) + 32, 1652),
	NUMBER(MSHV_VTL_RUN_TIMER, 4080),
	NUMBER(offsetof(struct mshv_vtl_timer, deadline), 0),
	NUMBER(offsetof(struct mshv_vtl_timer, vector), 8),
	NUMBER(sizeof(struct mshv_vtl_timer), 16),
};

#define EXPECT_NUMBERS(table)                                          \
	do {                                                           \
		size_t _i;                                             \
		for (_i = 0; _i < ARRAY_SIZE(table); _i++) {           \
			EXPECT_EQ(table[_i].expected, table[_i].found) \
			TH_LOG("%s", table[_i].name);                  \
		}                                                      \
	} while (0)

/* What the Rust side of the module has: abi_rust.awk extracts it. */
#define RUST(expression, value) NUMBER(expression, value),
static const struct number rust[] = {
#include "abi_rust.h"
};

TEST(numbers_of_the_rust_side)
{
	EXPECT_LT(100, ARRAY_SIZE(rust));
	EXPECT_NUMBERS(rust);
}

TEST(command_numbers)
{
	EXPECT_NUMBERS(commands);
}

TEST(names_and_sizes)
{
	EXPECT_NUMBERS(names);
}

TEST(structures_that_tell)
{
	EXPECT_NUMBERS(telling);
}

TEST(tdcall_operand)
{
	EXPECT_NUMBERS(tdcall);
}

TEST(switch_page_fields)
{
	EXPECT_NUMBERS(switching);
	EXPECT_GE(VTL_PAGE_SIZE, sizeof(struct mshv_vtl_switch_page));
}

TEST(run_page_fields)
{
	EXPECT_NUMBERS(run_page);
	EXPECT_GE(VTL_PAGE_SIZE, sizeof(struct mshv_vtl_run));
}

TEST_HARNESS_MAIN
