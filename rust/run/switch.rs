// SPDX-License-Identifier: GPL-2.0
//! VTL calls and returns without userspace: VTL0 (VM 1) and VTL1 (VM 2) take turns on one processor.
//!
//! ```text
//! exit: VMCALL ──► validate ──► save ──► rights ──► load ──► clean up ──► TDG.VP.ENTER of the other
//!                     │
//!                     └── anything unusual: an exit for userspace, and nothing has changed
//! ```
//!
//! What can fail comes before the first change, so a switch is done as a whole or not at all, and
//! after it all is as if userspace had entered the other VTL. The private state of the VTL that does
//! not run is the kernel's copy from the first look at the run page to the end of the call.
//! `pure::vtl_switch` decides; `Documentation/vtl-switch.rst` is the protocol.

use kernel::prelude::*;

use super::context::Loaded;
use super::offload;
use crate::cpu::guards::IrqsOff;
use crate::cpu::tdcall;
use crate::pure::field::{FieldId, VmIndex};
use crate::pure::tdcall::{tdg_vp_rd, NOWHERE};
use crate::pure::vtl_switch::{
    self, decide, Decision, Direction, Enable, Left, Own, Parked, Switch,
};
use crate::vp::assist::{Assist, NotThere};
use crate::vp::claim::Pinned;
use crate::vp::vapic::VirtualApic;
use crate::vp::Vp;

/// What a run knows of the VTL that does not run. Only one in which the kernel switches has it.
pub(super) struct Switching {
    assist: Assist,
    /// Whose state is in run page and processor; `None` before the first look.
    current: Option<VmIndex>,
    /// Private state of the other one.
    parked: Parked,
    /// Why the last VTL call or return came to userspace.
    left: Option<Left>,
}

impl Switching {
    /// With VTL1's assist page.
    pub(super) fn new(assist: Assist) -> Self {
        Self {
            assist,
            current: None,
            parked: Parked::default(),
            left: None,
        }
    }

    /// After each look at the run page, which names `vm`.
    ///
    /// # Errors
    ///
    /// EINVAL for another VM than the one that stopped, and for a wrong switch page.
    pub(super) fn begin(&mut self, pinned: &mut Pinned<'_>, vm: VmIndex) -> Result {
        if let Some(current) = self.current {
            return if current == vm { Ok(()) } else { Err(EINVAL) };
        }
        let (vp, features, private) = pinned.parts();
        if let Some(other) = vtl_switch::other(vm) {
            // What is enabled is read again with each switch.
            vp.switch_page.read_enable().ok_or(EINVAL)?;
            let parked = vp.switch_page.read_parked(other).ok_or(EINVAL)?;
            if !parked.is_loadable(&features.limits, private.given_msrs.of(other)) {
                return Err(EINVAL);
            }
            self.parked = parked;
        }
        self.current = Some(vm);
        Ok(())
    }

    /// Takes interrupts for VTL0 that wait while VTL1 runs.
    ///
    /// # Errors
    ///
    /// EINTR when userspace has to see them.
    pub(super) fn take_proxied(&mut self, vp: &Vp) -> Result {
        if self.current == Some(VmIndex::VM2) {
            self.take_for_vtl0(vp)
        } else {
            Ok(())
        }
    }

    /// Has the next entry invalidate if the switch page says so: when the thread is inside, after each
    /// answer to a kick, and with each switch. A request that is written before a kick is so seen in
    /// time. It can't be lost any more: what an entry does not do, `Loaded` keeps.
    #[inline(never)]
    pub(super) fn take_flush(loaded: &mut Loaded<'_>) {
        /// The strongest request there is.
        const ALL: u64 = 1;
        let vm = loaded.operands.rcx.vm();
        let counter = loaded.vp.switch_page.read_flush(vm);
        if loaded.private.flushes.is_due(vm, counter) {
            loaded.private.flushes.note(vm, counter);
            loaded.operands.rcx = loaded.operands.rcx.with_invalidation_of(ALL);
            loaded.vp.switch_page.store_flushed(vm, counter);
            loaded.vp.stats.flushed();
        }
    }

    /// After an exit that is L1's and that nobody has dealt with. Returns false if it is no VTL call or
    /// return that the kernel may carry out; then nothing has changed.
    #[inline(never)]
    pub(super) fn switch_vtl_state(&mut self, loaded: &mut Loaded<'_>) -> bool {
        let vm = loaded.entry.rcx.vm();
        match self.validate(loaded, vm) {
            Ok(plan) => {
                let leaving = Self::save(loaded, &plan);
                rights(loaded, &plan);
                self.load(loaded, &plan, &leaving);
                self.clean_up(loaded, &plan, leaving);
                true
            }
            Err(left) => {
                if left.is_some() {
                    self.left = left;
                    loaded.vp.stats.left();
                }
                false
            }
        }
    }

    /// At the end of the call: hands the private state over.
    pub(super) fn end(&self, vp: &Vp) {
        let Some(current) = self.current else {
            return;
        };
        if let Some(other) = vtl_switch::other(current) {
            vp.switch_page.store_parked(other, &self.parked, current);
        }
        vp.switch_page.store_left(self.left);
    }
}

/// A switch that nothing stands in the way of any more.
struct Plan {
    switch: Switch,
    /// Private registers of the VTL that leaves, after its instruction.
    own: Own,
    /// RAX and RCX of the VTL that enters, if they are others.
    registers: Option<[u64; 2]>,
}

impl Plan {
    fn source(&self) -> VmIndex {
        self.switch.direction.source()
    }

    fn target(&self) -> VmIndex {
        self.switch.direction.target()
    }
}

impl Switching {
    /// Step 1: everything that can fail. The last of it tells VTL1, in its assist page, that it is
    /// entered, or not any more.
    fn validate(&self, loaded: &mut Loaded<'_>, vm: VmIndex) -> Result<Plan, Option<Left>> {
        let vp = loaded.vp;
        let enable = vp.switch_page.read_enable().unwrap_or(Enable::NONE);
        let caller = vp.run_page.read_caller();
        let exit = &loaded.operands.exit;
        let switch = match decide(vm, exit, enable, &caller, self.parked.halt) {
            Decision::Switch(switch) => switch,
            Decision::Left(left) => return Err(Some(left)),
            Decision::Neither => return Err(None),
        };
        if !is_enterable(loaded, switch.direction.target()) {
            return Err(Some(Left::NotEnterable));
        }
        let registers = match switch.direction {
            Direction::Call => self.announce(loaded, enable, &caller.own)?,
            Direction::Return | Direction::FastReturn => {
                self.take_back(loaded, enable, switch.direction)?
            }
        };
        let own = Own {
            rip: switch.next_rip,
            ..caller.own
        };
        Ok(Plan {
            switch,
            own,
            registers,
        })
    }

    /// Tells VTL1 of a call, unless it has to be told of an interrupt for VTL0 as well.
    fn announce(
        &self,
        loaded: &Loaded<'_>,
        enable: Enable,
        vtl0: &Own,
    ) -> Result<Option<[u64; 2]>, Left> {
        if enable.notifies() && could_take(&loaded.vp, vtl0) && !self.assist.is_asserted()? {
            return Err(Left::Notice);
        }
        self.assist.write_call(&loaded.section)?;
        Ok(None)
    }

    /// What VTL1 gives back with its return.
    fn take_back(
        &self,
        loaded: &Loaded<'_>,
        enable: Enable,
        direction: Direction,
    ) -> Result<Option<[u64; 2]>, Left> {
        let registers = match direction {
            Direction::Return => Some(self.assist.read_return(&loaded.section)?),
            _ => None,
        };
        if enable.resets_notice() {
            self.assist.clear_asserted(&loaded.section)?;
        }
        Ok(registers)
    }

    /// Step 2: the private state of the VTL that leaves.
    fn save(loaded: &mut Loaded<'_>, plan: &Plan) -> Parked {
        Parked {
            own: plan.own,
            halt: 0,
            msrs: loaded.save(plan.source()),
        }
    }

    /// Step 4: the private state of the VTL that enters.
    fn load(&self, loaded: &mut Loaded<'_>, plan: &Plan, leaving: &Parked) {
        let run_page = &loaded.vp.run_page;
        run_page.store_own(&self.parked.own);
        if let Some(registers) = plan.registers {
            run_page.store_returned(registers);
        }
        if let Some((offload, flags)) = self.parked.resumed_halt(run_page.read_offload()) {
            run_page.store_halt(offload, flags);
        }
        loaded.change(
            (plan.source(), &leaving.msrs),
            (plan.target(), &self.parked.msrs),
        );
    }

    /// Step 5: every place that held the state of one VTL has the other's by now; what is left is to
    /// say so. The audit record is the next entry's, whose reason is VMCALL.
    fn clean_up(&mut self, loaded: &mut Loaded<'_>, plan: &Plan, leaving: Parked) {
        self.parked = leaving;
        self.current = Some(plan.target());
        loaded.entry.rcx = loaded.operands.rcx.without_invalidation();
        loaded.vp.stats.switched(plan.switch.direction);
    }

    #[cold]
    fn take_for_vtl0(&mut self, vp: &Vp) -> Result {
        let enable = vp.switch_page.read_enable().unwrap_or(Enable::NONE);
        if !enable.takes_proxied() || self.parked.waits_for_userspace() {
            // `offload::prepare` finds that they are not the kernel's.
            return Ok(());
        }
        let (highest, some_stay) = offload::take_proxied(vp);
        self.parked.own.rvi = highest;
        vp.stats.proxied();
        if some_stay {
            return Err(EINTR);
        }
        let has_to_be_told = enable.notifies() && could_take(vp, &self.parked.own);
        // A page that is not there is userspace's, too.
        if has_to_be_told && !self.assist.is_asserted().unwrap_or(false) {
            return Err(EINTR);
        }
        Ok(())
    }
}

impl From<NotThere> for Left {
    fn from(_: NotThere) -> Self {
        Self::Assist
    }
}

/// Whether VTL0, with these registers, would take an interrupt.
fn could_take(vp: &Vp, vtl0: &Own) -> bool {
    vtl0.could_take(VirtualApic(&vp.vapic).tpr())
}

/// Returns true if the TDX module would enter a VM.
fn is_enterable(loaded: &mut Loaded<'_>, vm: VmIndex) -> bool {
    !loaded.vp.entry_check.is_pending(vm) || look(loaded, vm)
}

/// Asks before the first entry, and after writes to its VMCS.
#[cold]
fn look(loaded: &mut Loaded<'_>, vm: VmIndex) -> bool {
    let field = FieldId::virtual_apic_address(vm);
    let has_apic_page = match tdg_vp_rd(&mut tdcall::Instruction, field) {
        // What the TDX module has before the first write, and what the kernel writes for none.
        Ok(u64::MAX | NOWHERE) | Err(_) => false,
        Ok(_) => true,
    };
    let irqs = IrqsOff::in_section(&loaded.section);
    let vp = loaded.vp;
    let intercepts = &mut loaded.private.intercepts;
    has_apic_page && vp.entry_check.pass(vp, vm, intercepts, &irqs).is_ok()
}

/// Step 3: whose translations and predictions count from now on.
fn rights(loaded: &mut Loaded<'_>, plan: &Plan) {
    loaded.give_to(plan.target());
    Switching::take_flush(loaded);
}
