// SPDX-License-Identifier: GPL-2.0
//! VTL calls and returns without userspace: VTL0 (VM 1) and VTL1 (VM 2) alternate on one processor.
//!
//! ```text
//! exit: VMCALL ──► validate ──► save ──► rights ──► load ──► clean up ──► TDG.VP.ENTER of the other
//!                     │
//!                     └── anything unusual: an exit to userspace, with nothing changed
//! ```
//!
//! Everything that can fail comes before the first change, so a switch is done completely or not at
//! all; after it, everything is as if userspace had entered the other VTL. From the first read of
//! the run page to the end of the call, the kernel keeps the private state of the VTL that does not
//! run. `pure::vtl_switch` decides; `Documentation/vtl-switch.rst` describes the protocol.

use kernel::prelude::*;

use super::context::Loaded;
use super::deadline;
use super::offload;
use crate::cpu::guards::IrqsOff;
use crate::pure::deadline::Deadlines;
use crate::pure::field::VmIndex;
use crate::pure::offload::Offload;
use crate::pure::vtl_switch::{
    self, decide, Decision, Direction, Enable, Left, Own, Parked, Switch,
};
use crate::vp::assist::{Assist, NotThere};
use crate::vp::claim::{Claimed, Pinned};
use crate::vp::vapic::VirtualApic;
use crate::vp::Vp;

/// What a run keeps for the VTL that does not run. Exists only if the kernel carries out switches.
pub(super) struct Switching {
    assist: Assist,
    /// The VM whose state is in run page and processor; `None` before the first read.
    current: Option<VmIndex>,
    /// Private state of the other VM, except its MSRs, which the VP keeps.
    parked: Parked,
    /// Why the last VTL call or return was left to userspace.
    left: Option<Left>,
}

impl Switching {
    /// Uses VTL1's assist page `assist`.
    pub(super) fn new(assist: Assist) -> Self {
        Self {
            assist,
            current: None,
            parked: Parked::default(),
            left: None,
        }
    }

    /// To be called each time the run page has been read; it names `vm`.
    ///
    /// # Errors
    ///
    /// EINVAL if `vm` is not the VM that stopped, and for an invalid switch page.
    pub(super) fn begin(&mut self, pinned: &mut Pinned<'_, '_>, vm: VmIndex) -> Result {
        if let Some(current) = self.current {
            return if current == vm { Ok(()) } else { Err(EINVAL) };
        }
        let (vp, features, private) = pinned.parts();
        deadline::share_timer(&mut private.deadlines);
        if let Some(other) = vtl_switch::other(vm) {
            // What is enabled is read again at each switch.
            vp.switch_page.read_enable().ok_or(EINVAL)?;
            let parked = vp.switch_page.read_parked(other).ok_or(EINVAL)?;
            if !parked.is_loadable(&features.limits, private.given_msrs().of(other)) {
                return Err(EINVAL);
            }
            private.set_msrs(other, &parked.msrs);
            self.parked = parked;
        }
        self.current = Some(vm);
        Ok(())
    }

    /// Takes pending interrupts for VTL0 while VTL1 runs. Returns false if it does not: userspace
    /// handles them, or they are for the VM that runs.
    ///
    /// # Errors
    ///
    /// EINTR if userspace has to see them.
    pub(super) fn take_proxied(&mut self, vp: &Vp) -> Result<bool> {
        let enable = self.proxy(vp);
        enable.map_or(Ok(false), |enable| self.take_for_vtl0(vp, enable))
    }

    /// A deadline has ended a run or a halt of VTL1: posts the interrupt of VTL0's timer, as if the
    /// host had requested it. Returns false if userspace has to see the exit, also because VTL1 has
    /// to be notified; then it is posted, and `left` has the reason. Nobody sees one that comes
    /// before its time.
    #[cold]
    pub(super) fn take_timer(&mut self, vp: &Vp, deadlines: &mut Deadlines) -> bool {
        let offload = Offload::new(vp.run_page.read_offload(), VmIndex::VM1);
        let Some(enable) = self.proxy(vp).filter(|_| offload.takes_interrupts()) else {
            return deadline::is_early(vp, deadlines, VmIndex::VM2);
        };
        let vapic = VirtualApic(&vp.vapic);
        let mut is_posted = false;
        let is_handled = deadline::expire(vp, deadlines, VmIndex::VM2, true, |vector| {
            vapic.request_vector(vector);
            is_posted = true;
        });
        if is_posted {
            self.parked.own.rvi = vapic.highest();
            vp.stats.proxied();
        }
        is_handled && !(is_posted && self.has_to_be_told(vp, enable))
    }

    /// To be called after an exit for L1 that nothing else has handled. Returns false, with nothing
    /// changed, if it is no VTL call or return that the kernel may carry out.
    #[inline(never)]
    pub(super) fn switch_vtl_state(&mut self, loaded: &mut Loaded<'_>) -> bool {
        let vm = loaded.vm();
        match self.validate(loaded, vm) {
            Ok(plan) => {
                loaded.save(plan.source());
                rights(loaded, &plan);
                self.load(loaded, &plan);
                self.clean_up(loaded, &plan);
                true
            }
            Err(Some(left)) => {
                self.left = Some(left);
                loaded.vp.stats.left();
                false
            }
            Err(None) => {
                vm == VmIndex::VM2
                    && deadline::is_passed(&loaded.private.operands.exit)
                    && self.take_timer(&loaded.vp, &mut loaded.private.deadlines)
            }
        }
    }

    /// To be called at the end of the call: stores the private state in the switch page.
    pub(super) fn end(&self, claimed: &Claimed<'_>) {
        let vp = claimed.vp();
        if let Some((current, other)) = self
            .current
            .and_then(|vm| Some((vm, vtl_switch::other(vm)?)))
        {
            let parked = Parked {
                msrs: *claimed.msrs(other),
                ..self.parked
            };
            vp.switch_page.store_parked(other, &parked, current);
        }
        vp.switch_page.store_left(self.left);
    }
}

/// A switch whose checks have all passed.
struct Plan {
    switch: Switch,
    /// Private registers of the VTL that is left, after its instruction.
    own: Own,
    /// RAX and RCX of the VTL that is entered, if they change.
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
    /// Step 1: everything that can fail. Its last action tells VTL1, in its assist page, that it is
    /// entered, or no longer is.
    #[inline(always)]
    fn validate(&self, loaded: &mut Loaded<'_>, vm: VmIndex) -> Result<Plan, Option<Left>> {
        let vp = loaded.vp;
        let enable = vp.switch_page.read_enable().unwrap_or(Enable::NONE);
        let caller = vp.run_page.read_caller();
        let exit = &loaded.private.operands.exit;
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

    /// Tells VTL1 of a call, unless it has to be notified of an interrupt for VTL0 as well.
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

    /// Reads what VTL1 returns to VTL0.
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

    /// Step 4: loads the private state of the VTL that is entered.
    #[inline(always)]
    fn load(&self, loaded: &mut Loaded<'_>, plan: &Plan) {
        let run_page = &loaded.vp.run_page;
        run_page.store_own(&self.parked.own);
        if let Some(registers) = plan.registers {
            run_page.store_returned(registers);
        }
        if let Some(change) = self.parked.resumed_halt() {
            run_page.store_halt(change);
        }
        loaded.change(plan.source(), plan.target());
    }

    /// Step 5: all state has been exchanged; updates who is current. The audit record is that of
    /// the next entry, whose reason is VMCALL.
    #[inline(always)]
    fn clean_up(&mut self, loaded: &mut Loaded<'_>, plan: &Plan) {
        self.parked.own = plan.own;
        self.parked.halt = 0;
        self.current = Some(plan.target());
        loaded.vp.stats.switched(plan.switch.direction);
    }

    /// What is enabled, if the kernel handles interrupts for VTL0 now, while VTL1 runs. Otherwise
    /// `offload::prepare` finds that userspace does.
    fn proxy(&self, vp: &Vp) -> Option<Enable> {
        if self.current != Some(VmIndex::VM2) || self.parked.waits_for_userspace() {
            return None;
        }
        let enable = vp.switch_page.read_enable();
        enable.filter(|enable| enable.takes_proxied())
    }

    #[cold]
    fn take_for_vtl0(&mut self, vp: &Vp, enable: Enable) -> Result<bool> {
        let (highest, some_stay) = offload::take_proxied(vp);
        self.parked.own.rvi = highest;
        vp.stats.proxied();
        // Also if some stay: nobody looks again at what was taken with them.
        let has_to_be_told = self.has_to_be_told(vp, enable);
        if some_stay || has_to_be_told {
            return Err(EINTR);
        }
        Ok(true)
    }

    /// Returns true if userspace has to notify VTL1 of an interrupt that was posted for VTL0, which
    /// `left` says then.
    fn has_to_be_told(&mut self, vp: &Vp, enable: Enable) -> bool {
        // A page that can't be accessed is left to userspace, too.
        let has_to_be_told = enable.notifies()
            && could_take(vp, &self.parked.own)
            && !self.assist.is_asserted().unwrap_or(false);
        if has_to_be_told {
            self.left = Some(Left::Notice);
        }
        has_to_be_told
    }
}

impl From<NotThere> for Left {
    fn from(_: NotThere) -> Self {
        Self::Assist
    }
}

/// Returns true if VTL0, with these registers, would accept an interrupt.
fn could_take(vp: &Vp, vtl0: &Own) -> bool {
    vtl0.could_take(VirtualApic(&vp.vapic).tpr())
}

/// Returns true if the TDX module would enter a VM.
fn is_enterable(loaded: &mut Loaded<'_>, vm: VmIndex) -> bool {
    !loaded.vp.entry_check.is_pending(vm) || look(loaded, vm)
}

/// Checks before the first entry, and after writes to its VMCS.
#[cold]
fn look(loaded: &mut Loaded<'_>, vm: VmIndex) -> bool {
    let irqs = IrqsOff::in_section(&loaded.section);
    let vp = loaded.vp;
    let state = loaded.private.vms.of_mut(vm);
    vp.entry_check.pass(vp, vm, state, &irqs).is_ok()
}

/// Step 3: from now on the other VM's translations and predictions apply.
#[inline(always)]
fn rights(loaded: &mut Loaded<'_>, plan: &Plan) {
    loaded.give_to(plan.target());
    loaded.take_flush();
}
