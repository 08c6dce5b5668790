// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! Uses every command and every mapping of the devices once, on the running kernel.
//!
//! Prints KTAP; this is the crate's test in a trust domain. Each case says what it expects, and no
//! case depends on an earlier one.

mod memory;
mod nodes;
mod pair;
mod run;
mod state;

use vtl::{GpaRange, Info, LowerVtl, Mshv, Vm, Vtl};

/// Why a case failed, in words.
type Outcome = Result<(), Box<dyn std::error::Error>>;

/// What every case gets.
struct Bed {
    mshv: Mshv,
    info: Info,
    vtl: Vtl,
    vtl0: LowerVtl,
    /// Two MiB of the lower VTLs' memory, aligned.
    memory: GpaRange,
}

impl Bed {
    fn new() -> Result<Self, Box<dyn std::error::Error>> {
        let mshv = Mshv::open()?;
        let info = mshv.info()?;
        let vtl = mshv.create_vtl()?;
        let vtl0 = vtl.lower(Vm::VTL0);
        Ok(Self {
            mshv,
            info,
            vtl,
            vtl0,
            memory: memory::find()?,
        })
    }
}

/// A condition that has to hold.
macro_rules! ensure {
    ($condition:expr, $($text:tt)+) => {
        if !$condition {
            return Err(format!($($text)+).into());
        }
    };
}
use ensure;

/// A name, and what is done.
type Case = (&'static str, fn(&Bed) -> Outcome);

const CASES: &[Case] = &[
    ("facts_and_extensions_agree", nodes::facts),
    (
        "the_policy_has_lines_for_leaves_and_hypercalls",
        nodes::policy,
    ),
    ("nobody_sets_the_time_of_a_trust_domain", nodes::time),
    ("hypercalls_are_made_or_there_is_no_node", nodes::hypercalls),
    ("messages_are_read_or_there_is_no_node", nodes::messages),
    (
        "an_interrupt_is_redirected_and_taken_back",
        nodes::redirection,
    ),
    ("memory_is_accepted_and_given_rights", memory::rights),
    ("memory_is_zero_for_the_next_guest", memory::zeroed),
    ("memory_keeps_what_is_written", memory::contents),
    ("memory_is_registered_twice", memory::registration),
    (
        "a_page_is_released_or_the_tdx_module_has_no_leaf",
        memory::release,
    ),
    ("registers_come_back_as_they_were_set", state::registers),
    ("a_register_that_is_refused_is_named", state::refused),
    ("the_extended_state_comes_back", state::extended),
    ("fields_of_each_vm_are_its_own", state::fields),
    ("the_apic_page_keeps_what_is_written", state::apic),
    (
        "a_vm_gets_an_apic_page_and_no_other_address",
        state::own_apic,
    ),
    (
        "a_descriptor_that_is_no_vtl_file_is_refused",
        state::descriptor,
    ),
    ("binding_leaves_what_another_vm_needs", state::binding),
    ("a_guest_runs_to_its_exits", run::exits),
    (
        "the_shadow_of_sti_ends_with_a_halt_that_userspace_completes",
        run::shadow,
    ),
    (
        "the_shadow_of_mov_ss_ends_with_interrupts_disabled_too",
        run::shadow_of_ss,
    ),
    ("a_started_processor_leaves_by_rdpmc", run::rdpmc),
    ("a_renewal_forgets_translations", run::renewal),
    ("a_flush_reaches_a_vm_that_does_not_run", run::flush),
    ("an_entry_that_fails_leaves_no_event", run::failure),
    ("an_interrupt_waits_for_its_window", run::window),
    ("a_deadline_ends_a_guest_that_spins", run::deadline),
    ("a_kick_ends_a_guest_that_spins", run::kick),
    ("a_poll_file_ends_a_guest_that_spins", run::poll_file),
    (
        "an_interrupt_that_is_asked_for_is_taken_once",
        run::interrupt,
    ),
    ("a_pair_runs_alike_whoever_switches", pair::switched),
    ("an_invalid_vtl_call_is_an_exit", pair::refused),
    ("counters_and_audit_ring_tell_of_all_that", run::records),
];

fn main() -> std::process::ExitCode {
    println!("TAP version 13\n1..{}", CASES.len());
    let bed = match Bed::new() {
        Ok(bed) => bed,
        Err(error) => {
            println!("Bail out! {error}");
            return std::process::ExitCode::FAILURE;
        }
    };
    let mut failed = 0;
    for ((name, case), number) in CASES.iter().zip(1..) {
        match case(&bed) {
            Ok(()) => println!("ok {number} {name}"),
            Err(error) => {
                println!("# {error}\nnot ok {number} {name}");
                failed += 1;
            }
        }
    }
    std::process::ExitCode::from(u8::from(failed != 0))
}
