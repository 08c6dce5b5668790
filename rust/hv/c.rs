// SPDX-License-Identifier: GPL-2.0
//! Functions of `helpers.c` and `synic.c` that are safe to call: no argument makes them access
//! memory that is not theirs, and the host can't gain anything from what they tell it, because it
//! never reaches private memory. Functions with requirements are not declared here.

// UNSAFETY: declares C functions.
#![allow(unsafe_code)]

use kernel::bindings;
use kernel::prelude::*;

use crate::glue::abi::{self, safe_in_c, Valid};

safe_in_c! {
    /// Returns true if the host is Hyper-V.
    pub(crate) fn vtl_is_on_hyper_v() -> bool;
    /// Makes a hypercall, with the addresses of two shared pages.
    pub(crate) fn vtl_hypercall(control: u64, input_phys: u64, output_phys: u64) -> u64;
    /// Converts a page to shared, and zeroes it. Returns a negative errno on failure.
    pub(crate) fn vtl_share_page(
        page: Valid<'_, bindings::page> as *mut bindings::page
    ) -> c_int;
    /// Converts a page back to private. Returns a negative errno on failure.
    pub(crate) fn vtl_unshare_page(
        page: Valid<'_, bindings::page> as *mut bindings::page
    ) -> c_int;
    /// Finds out if this driver may use the SynIC.
    pub(crate) fn vtl_synic_find() -> abi::vtl_synic;
    /// Enables the SynIC of this CPU.
    pub(crate) fn vtl_synic_on(messages_phys: u64, events_phys: u64, masked: bool);
    /// Disables the SynIC of this CPU.
    pub(crate) fn vtl_synic_off();
    /// Masks or unmasks the SINT of VMBus on every CPU. Sleeps.
    pub(crate) fn vtl_synic_mask_all(masked: bool);
    /// Tells the host that a message slot of this CPU is free.
    pub(crate) fn vtl_synic_eom();
    /// Tells the host that a message slot of another CPU is free. Needs interrupts enabled.
    pub(crate) fn vtl_synic_eom_on(cpu: u32);
    /// Schedules the deferred work of an interrupt on this CPU.
    pub(crate) fn vtl_synic_defer();
}
