// SPDX-License-Identifier: GPL-2.0
//! What `helpers.c` and `synic.c` offer to anybody, declared as safe: no argument can make these
//! functions touch memory that is not theirs, and what they tell the host it could find out or do
//! anyway, because it never reaches private memory. Those with a requirement are not here.

// UNSAFETY: declares C functions.
#![allow(unsafe_code)]

use crate::glue::abi::{self, safe_in_c};

safe_in_c! {
    /// Whether the host is Hyper-V.
    pub(crate) fn vtl_is_on_hyper_v() -> bool;
    /// Asks the host for something, with the addresses of two shared pages.
    pub(crate) fn vtl_hypercall(control: u64, input_phys: u64, output_phys: u64) -> u64;
    /// Whether the SynIC of this CPU is there for us.
    pub(crate) fn vtl_synic_find() -> abi::vtl_synic;
    /// Turns the SynIC of this CPU on.
    pub(crate) fn vtl_synic_on(messages_phys: u64, events_phys: u64, masked: bool);
    /// Turns the SynIC of this CPU off.
    pub(crate) fn vtl_synic_off();
    /// Masks or unmasks the source of VMBus on every CPU. Sleeps.
    pub(crate) fn vtl_synic_mask_all(masked: bool);
    /// Tells the host that a slot of this CPU is free.
    pub(crate) fn vtl_synic_eom();
    /// Tells the host that a slot of another CPU is free. With interrupts on.
    pub(crate) fn vtl_synic_eom_on(cpu: u32);
    /// Asks for the second half of an interrupt on this CPU.
    pub(crate) fn vtl_synic_defer();
}
