// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! The tests, by name, and what they share.

mod chipset;
mod controls;
mod dma;
mod events;
mod exits;
mod host_actions;
mod hyperv;
mod interrupts;
mod leaks;
mod memory;
pub mod modes;
mod processors;
mod second;
pub mod smp;
pub mod stale;
mod td;
mod vapic;
mod virtio;

use crate::cpu::{gate, guest, peek32, poke};
use crate::vm::{Outcome, Vm};

/// A test: a VM 1 without state, and spare memory.
pub type Test = fn(&mut Vm, &Memory) -> Outcome;

/// Memory set apart for VTL0, pending at first.
pub struct Memory {
    /// Start, a multiple of 2 MiB.
    pub start: u64,
}

impl Memory {
    /// Looks for `vtl0_mem=0x` in the command line of the zero page.
    ///
    /// # Panics
    ///
    /// When the emulator did not put it there.
    pub fn find(boot_params: u64) -> Self {
        let digits = find_word(boot_params, b"vtl0_mem=0x").expect("vtl0_mem= is missing");
        let digits = (digits..).map(|at| char::from(byte(at)).to_digit(16));
        let start = digits
            .map_while(core::convert::identity)
            .fold(0, |value, digit| (value << 4) | u64::from(digit));
        Self { start }
    }
}

fn byte(at: u64) -> u8 {
    peek32(at) as u8 // CAST: the low byte
}

/// Address of the command line after `word`.
pub fn find_word(boot_params: u64, word: &[u8]) -> Option<u64> {
    const CMD_LINE_PTR: u64 = 0x228;
    const CMD_LINE_BYTES: u64 = 2047;
    let line = u64::from(peek32(boot_params + CMD_LINE_PTR));
    let is_word = |at: &u64| word.iter().zip(*at..).all(|(want, at)| byte(at) == *want);
    let found = (line..line + CMD_LINE_BYTES).find(is_word)?;
    Some(found + word.len() as u64)
}

/// Returns true if a name begins with the word at this address, which ends with a blank or a zero.
pub fn begins_with(name: &str, word: u64) -> bool {
    let mut word = (word..).map(byte).take_while(|b| !matches!(b, 0 | b' '));
    let mut name = name.bytes();
    word.all(|wanted| name.next() == Some(wanted))
}

/// Fills the tables that the L2 VMs share, and gives VM 1 the pages of this program.
pub fn prepare() {
    for vector in 0..256 {
        let dpl = if matches!(vector, 3 | 0x80) { 3 } else { 0 };
        let words = gate(guest::l2_vectors() + 16 * vector, 24, dpl);
        poke(guest::l2_idt() + 16 * vector, words[0]);
        poke(guest::l2_idt() + 16 * vector + 8, words[1]);
    }
    let task = guest::l2_task();
    let low = 0x67 | ((task & 0xff_ffff) << 16) | (0x8b << 40) | (((task >> 24) & 0xff) << 56);
    poke(guest::l2_tss_descriptor(), low);
    poke(guest::l2_tss_descriptor() + 8, task >> 32);
    // RSP0: events from user mode.
    poke(task + 4, guest::l2_stack_top() - 2048);
}

macro_rules! tests {
    ($list:ident: $($module:ident { $($name:ident)+ })+) => {
        /// Tests in the order they run.
        pub const $list: &[(&str, Test)] =
            &[$($((concat!(stringify!($module), ".", stringify!($name)), $module::$name),)+)+];
    };
}

tests! { ALL:
    td {
        entry_without_virtual_apic_is_refused
        entry_operands_are_checked_in_order
    }
    modes {
        real_mode_to_long_mode
        user_mode_is_reported
        efer_is_written_by_the_module
        loaded_segments_are_accessed_and_the_task_is_busy
        bad_guest_state_fails_the_entry
        triple_fault_leaves
    }
    exits {
        unconditional_exits
        io_exits_carry_their_qualification
        exits_as_controlled
        table_instructions_name_themselves
        vmx_instructions_leave
        nothing_leaves_without_control
        cr_accesses_carry_their_register
        msr_bitmap_decides
        forbidden_msrs_fault_in_the_l2
        tdcall_leaves_to_l1
    }
    controls {
        cr0_mask_and_shadow
        cr4_mask_and_shadow
        cr8_is_the_task_priority
        exception_bitmap
        page_fault_filter
        trap_flag_steps
    }
    events {
        exceptions_reach_the_l2
        injected_exception_has_its_error_code
        injected_software_interrupt_returns_behind
        injected_interrupt
        injected_nmi_blocks_until_iret
        interrupt_window
        exit_behind_mov_ss_can_be_entered_again
        interrupted_delivery_is_reported
        interrupted_injection_is_reported
    }
    interrupts {
        delivered_when_enabled
        higher_class_first_and_eoi_exit
        task_priority_holds_back
        self_ipi
        tpr_threshold
        deadline_ends_a_spin
        deadline_in_the_past_ends_at_once
        pending_interrupt_refuses_entry
        interrupt_while_in_l2
        one_that_meets_an_interrupt_window_is_not_lost
    }
    vapic {
        same_class_waits_for_the_eoi
        higher_class_nests_and_its_eoi_uncovers_the_lower
        eoi_without_an_interrupt_in_service
        two_in_one_class_end_one_by_one
        priority_is_the_higher_of_task_and_service
        task_priority_by_msr_lets_an_interrupt_in
        class_zero_is_never_delivered
        request_without_rvi_is_not_seen
    }
    memory {
        page_without_rights
        read_only_page
        missing_page_is_fetched_from
        pending_page
        large_page_then_small
        rights_are_per_vm
        invalidations_are_accepted
        invalidation_ends_at_the_edge_of_the_canonical_addresses
        shared_address_goes_to_the_host
        shared_page_is_reached_through_the_hosts_tables
        released_page_has_to_be_accepted_again
    }
    stale {
        a_page_is_read_until_invept
        a_page_is_written_until_invept
        a_violation_ends_it_for_the_page
        rights_given_again_are_not_old_ones
        removal_by_the_host_flushes_everything
        a_vm_that_has_not_run_since_its_flush_holds_nothing
    }
    td {
        l2_tdvmcall_goes_to_the_host_if_l1_says_so
        leaves_that_the_module_does_not_virtualize_are_ve
        host_resumes_l1_after_a_call_of_the_l2
        every_vm_runs
        each_vm_has_its_own_controls
        interrupts_of_vms_do_not_mix
        system_fields_come_as_a_list
        bad_control_fields_fail_the_entry
    }
    leaks {
        msrs_of_l1_are_found_by_the_l2
        msrs_of_the_l2_are_found_by_l1_and_other_vms
        debug_registers_leak_both_ways
        cr2_leaks_both_ways
        sse_registers_leak_both_ways
        avx_registers_and_xcr0_leak_both_ways
    }
    host_actions {
        answers_tell_what_became_of_an_action
        interrupt_is_posted
        runs_of_the_l2_are_taken_as_asked
        page_is_withdrawn_and_comes_back_pending
        registers_of_the_synic_are_refused_as_asked
        measurement_registers_are_busy_or_refused_as_asked
        synic_posts_messages_and_events
        hypercalls_use_shared_pages
        memory_of_devices_is_not_converted_and_a_mixed_range_is_refused
        entry_of_a_page_is_held_by_the_host
        long_calls_are_interrupted_and_go_on
    }
    hyperv {
        features_name_vsm_and_timers
        reference_counter_has_units_of_100_ns
        registers_of_the_partition_are_read_and_set_by_name
        timer_interrupts_once_when_it_is_due
        timer_that_is_stopped_does_not_interrupt
        periodic_timer_interrupts_until_it_is_stopped
        timers_without_direct_mode_are_refused_or_disabled
    }
    chipset {
        fw_cfg_does_not_reach_private_pages
        high_precision_timers_are_out_of_reach
        no_write_to_memory_space_is_an_interrupt
        registers_of_the_chipset_do_not_move
        no_port_makes_an_smi
    }
    dma {
        device_reaches_what_l1_shares
        device_does_not_write_to_private_pages
        device_does_not_read_private_pages
        device_loses_a_page_that_is_private_again
        device_does_not_reach_l1_nor_the_emulator
        l1_does_not_reach_the_unit
        interrupts_of_a_device_for_no_processor_are_dropped
    }
    virtio {
        disk_is_read_into_shared_memory
        disk_is_not_read_into_private_memory
    }
}

// On several processors (`tmk.do=smp`).
tests! { SMP:
    smp {
        every_processor_wakes_up
        interrupts_sent_before_the_start_wait_and_nmis_do_not
        every_processor_runs_its_l2_at_the_same_time
        every_l2_takes_its_own_interrupts
        nmi_reaches_l1_while_its_l2_runs
        interrupt_of_another_processor_ends_the_run
        rights_are_taken_on_every_processor
        a_processor_that_forgets_the_flush_keeps_the_right
        fpu_state_loads_of_one_processor_do_not_harm_another
    }
    processors {
        numbers_count_from_zero_wherever_they_are_read
        interrupts_reach_the_processors_they_name_and_no_other
        interrupts_of_devices_reach_the_processor_they_name
        every_nmi_reaches_l1_and_none_is_made_up
    }
}

// With a TDX module of the 2.0 line (`tmk.do=second`). The last one is for good.
tests! { SECOND:
    second {
        version_is_2_0
        categories_of_ve_are_told
        reduction_leaves_what_l1_asks_for
        failed_entries_say_whose_they_were
        key_follows_a_measurement_that_the_policy_names
        locked_controls_stay
    }
}
