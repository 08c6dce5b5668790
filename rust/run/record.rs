// SPDX-License-Identifier: GPL-2.0
//! Before and after each entry: writes the switch to the audit ring, counts it, and fires the
//! tracepoints.

use crate::glue::ffi;
use crate::observe::audit::Switches;
use crate::observe::event;
use crate::observe::trace;
use crate::pure::audit::{EntryReason, ExitKind, SwitchRecord, Who};
use crate::pure::exit::Exit;
use crate::pure::vp_enter::EntryRcx;
use crate::vp::operands::Operands;
use crate::vp::Vp;

/// A switch that has begun.
#[must_use]
pub(crate) struct Entering {
    reason: EntryReason,
    entry_tsc: u64,
}

impl Entering {
    /// To be called immediately before the entry.
    #[inline(always)]
    pub(crate) fn new(vp: &Vp, entry_rcx: EntryRcx, reason: EntryReason) -> Self {
        let rip = || vp.run_page.read_rip();
        trace::vtl_enter(entry_rcx.vm().get(), reason.number(), rip);
        Self {
            reason,
            entry_tsc: ffi::tsc(),
        }
    }

    /// To be called immediately after the exit, with its `class`. Returns its kind.
    #[inline(always)]
    pub(crate) fn record(
        self,
        vp: &Vp,
        switches: &mut Switches,
        who: Who,
        class: Exit,
        operands: &Operands,
    ) -> ExitKind {
        let Operands {
            exit,
            rcx: entry_rcx,
            ..
        } = operands;
        let kind = ExitKind::new(class, exit);
        let exit_tsc = ffi::tsc();
        let switch = SwitchRecord {
            entry_tsc: self.entry_tsc,
            cycles: exit_tsc.wrapping_sub(self.entry_tsc),
            rip: vp.run_page.read_rip(),
            who,
            entry_rcx: *entry_rcx,
            reason: self.reason,
            exit,
            class,
            kind,
        };
        vp.ring.record(switches, &switch);
        let storm = vp.stats.count(self.reason, kind, switch.cycles, exit_tsc);
        if let Some(ticks) = storm {
            event::exit_storm(vp.cpu, kind, who.thread(), ticks);
        }
        trace::vtl_exit(entry_rcx.vm().get(), exit, switch.rip, switch.cycles);
        kind
    }
}
