// SPDX-License-Identifier: GPL-2.0
//! Virtual-APIC pages of VM 2 and VM 3 of a VP, which userspace chooses.
//!
//! A page may belong to the process that sets it. It is pinned then, until another one replaces it
//! or the VTL file is closed by which it was set. Before a CPU goes offline, the TDX module is made
//! to forget its pages; a page that could not be forgotten stays pinned.
//!
//! A thread that waits for the lock must be able to leave its CPU, because CPU hotplug waits for
//! threads that can't.

use kernel::prelude::*;
use kernel::sync::atomic::{Atomic, Relaxed};
use kernel::sync::lock::mutex::MutexBackend;
use kernel::sync::lock::Guard;
use kernel::sync::{new_mutex, Arc, Mutex};

use super::on_cpu::OnCpu;
use super::Vp;
use crate::cpu::guards::{IrqsOff, MigrateOff, PreemptOff};
use crate::cpu::tdcall;
use crate::glue::ffi;
use crate::mem::own_page::{self, PinnedPage};
use crate::pure::apic::TPR;
use crate::pure::field::{PerVm, VmIndex};
use crate::pure::status::{Operand, Status};
use crate::pure::tdcall::{tdg_vp_wr_no_virtual_apic, Call, Registers, Tdcall};
use crate::vp::machine::Machine;

/// Identifies a VTL file.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct ApicPageOwner(u64);

/// The pages that were set by one VTL file, on all VPs.
pub(crate) struct OwnedApicPages {
    machine: Arc<Machine>,
    pub(crate) owner: ApicPageOwner,
}

impl OwnedApicPages {
    /// Starts without any.
    pub(crate) fn new(machine: Arc<Machine>) -> Self {
        static OPENED: Atomic<u64> = Atomic::new(0);
        // ORDERING: the number only has to be unique.
        let owner = ApicPageOwner(OPENED.fetch_add(1, Relaxed));
        Self { machine, owner }
    }
}

impl Drop for OwnedApicPages {
    fn drop(&mut self) {
        for cpu in 0..self.machine.num_cpus() {
            if let Some(vp) = self.machine.vp(cpu) {
                vp.apic_pages.release(vp, self.owner);
            }
        }
    }
}

/// The new virtual-APIC page of a VM.
pub(crate) struct Replacement {
    pub(crate) vm: VmIndex,
    pub(crate) owner: ApicPageOwner,
    /// `None` for memory of a lower VTL, which can't be pinned. Afterwards the page that is needed no
    /// longer, which is to be dropped where the thread may sleep.
    pub(crate) page: Option<PinnedPage>,
}

/// The pinned pages of a VP.
#[pin_data]
pub(crate) struct ApicPages {
    #[pin]
    pinned: Mutex<KVec<PinnedApicPage>>,
    /// Where the kernel reads the task priority: the address of a pinned page, or zero if there is
    /// none, as always for VM 1. Only changes on the CPU of the VP, before the page is unpinned.
    visible: PerVm<Atomic<u64>>,
}

struct PinnedApicPage {
    vm: VmIndex,
    owner: ApicPageOwner,
    page: PinnedPage,
}

impl ApicPages {
    /// Starts without any.
    pub(crate) fn new() -> impl PinInit<Self> {
        pin_init!(Self {
            pinned <- new_mutex!(KVec::new(), "mshv_vtl_tdx::apic_pages"),
            visible: PerVm::new([const { Atomic::new(0) }; 4]),
        })
    }

    /// The task priority of a VM; `None` if the kernel can't read its page.
    pub(crate) fn task_priority(
        &self,
        vm: VmIndex,
        _on_cpu: OnCpu<'_>,
        _irqs: &IrqsOff,
    ) -> Option<u8> {
        // ORDERING: only changes on this CPU, and not while interrupts are disabled.
        let gpa = self.visible.of(vm).load(Relaxed);
        (gpa != 0).then(|| own_page::read_pinned(gpa, TPR))
    }

    fn show(&self, vm: VmIndex, gpa: u64) {
        // ORDERING: as above.
        self.visible.of(vm).store(gpa, Relaxed);
    }

    /// Waits until no other thread changes the pages, and allocates room for one more.
    ///
    /// # Errors
    ///
    /// The status for lack of memory.
    pub(crate) fn lock(&self) -> Result<Locked<'_>, Status> {
        let mut pinned = self.pinned.lock();
        let no_memory = Status::operand_invalid(Operand::R8);
        pinned.reserve(1, GFP_KERNEL).map_err(|_| no_memory)?;
        let pages = self;
        Ok(Locked { pages, pinned })
    }

    /// Makes the TDX module forget the page of a VM, on the CPU of the VP, and has the next entry
    /// of the VM checked. Returns true on success.
    pub(super) fn forget(&self, vm: VmIndex, vp: OnCpu<'_>, alone: &PreemptOff) -> bool {
        vp.entry_check.look_again(vm, vp, alone);
        match tdg_vp_wr_no_virtual_apic(&mut tdcall::Instruction, vm) {
            Ok(()) => {
                self.show(vm, 0);
                true
            }
            Err(status) => {
                let status = status.0;
                pr_warn!("virtual APIC page not released: status {status:#x}\n");
                false
            }
        }
    }

    /// Releases the pages of a VTL file that is being closed. They are those of `vp`.
    pub(crate) fn release(&self, vp: &Vp, owner: ApicPageOwner) {
        let forget = |vm| self.forget(vm, OnCpu::of(vp), &PreemptOff::new());
        self.pinned.lock().retain(|pinned| {
            let vm = pinned.vm;
            // The CPU is offline: it has made the TDX module forget the page if none is visible.
            let was_forgotten = || self.visible.of(vm).load(Relaxed) == 0;
            let is_forgotten =
                || ffi::on_cpu(vp.cpu.into(), &|| forget(vm)).unwrap_or_else(was_forgotten);
            pinned.owner != owner || !is_forgotten()
        });
    }
}

/// The pinned pages of a VP, locked, with room for one more.
pub(crate) struct Locked<'a> {
    pages: &'a ApicPages,
    pinned: Guard<'a, KVec<PinnedApicPage>, MutexBackend>,
}

impl Locked<'_> {
    /// Executes a request that sets the page of a VM.
    ///
    /// # Errors
    ///
    /// The status to answer with if it can't be executed.
    pub(crate) fn replace(
        &mut self,
        replacement: &mut Replacement,
        call: Call,
        on_cpu: OnCpu<'_>,
        stay: &MigrateOff,
    ) -> Result<Registers, Status> {
        let Replacement { vm, owner, page } = replacement;
        let vm = *vm;
        let answer = {
            // The IPI that stops the VP for good comes before this, and is_ready() is false, or
            // after it, and makes the TDX module forget the page.
            let _irqs = IrqsOff::in_task(stay);
            if !on_cpu.is_ready() {
                return Err(Status::operand_invalid(Operand::Rax));
            }
            let answer = tdcall::Instruction.tdcall(call);
            if Status(answer.rax).name() != Status::SUCCESS {
                return Ok(answer);
            }
            let gpa = page.as_ref().map_or(0, PinnedPage::gpa);
            self.pages.show(vm, gpa);
            answer
        };
        // The new address has replaced the earlier page.
        let place = self.pinned.iter().position(|other| other.vm == vm);
        let earlier = place.and_then(|place| self.pinned.remove(place).ok());
        let needed = core::mem::replace(page, earlier.map(|earlier| earlier.page));
        if let Some(page) = needed {
            let owner = *owner;
            let pinned = PinnedApicPage { vm, owner, page };
            if let Err(error) = self.pinned.push_within_capacity(pinned) {
                // `lock` has allocated room. If there were none, the page would have to stay
                // pinned.
                core::mem::forget(error);
            }
        }
        Ok(answer)
    }
}
