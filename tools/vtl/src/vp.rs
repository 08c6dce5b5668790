// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! One virtual processor: bound to its CPU and to this thread, with its run page, its L2 VMCS, and
//! the ioctl that runs it.
//!
//! Made by [`crate::Vtl::bind`]. Its parts: fields of the L2 VMCS (`fields`), start states
//! (`start`), events (`events`, `first`), registers without a field in the run page (`state`),
//! instructions that were stepped over (`step`).
//! [`crate::exit`] has what a run returns.

mod binding;
mod events;
mod fields;
mod first;
mod redelivery;
mod start;
mod state;
mod step;

use core::cell::Cell;
use core::sync::atomic::{AtomicU64, Ordering};
use std::rc::Rc;

use rustix::io::Errno;

use crate::abi::ExitInfo;
use crate::field;
use crate::run_page::{Canceller, Flush, RunPage};
use crate::{Error, Exit, Result, Status, Vtl, sys};

use binding::Binding;
pub use events::{Event, Exception};
use redelivery::Redelivery;
pub use start::{CODE_SELECTOR, DATA_SELECTOR, Mode, TASK_SELECTOR};
pub use state::{DebugRegisters, SharedRegister};

/// An L2 VM of the TD.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Vm(u8);

impl Vm {
    /// VM 1, where VTL0 runs.
    pub const VTL0: Self = Self(1);
    /// VM 2, where VTL1 runs.
    pub const VTL1: Self = Self(2);
    /// VM 3, not used by Hyper-V's levels.
    pub const THIRD: Self = Self(3);
    /// All L2 VMs that a TD can have; it may have fewer ([`crate::Info::num_l2_vms`]).
    pub const ALL: [Self; 3] = [Self::VTL0, Self::VTL1, Self::THIRD];

    /// The VM index, 1 to 3.
    pub const fn index(self) -> u64 {
        // CAST: widening.
        self.0 as u64
    }
}

/// Counts the flushes that concern every VM, and not only the one that a run page names.
static FLUSHES: AtomicU64 = AtomicU64::new(0);

/// Has each VM of this process, on whatever virtual processor, invalidate its translations before its
/// next entry.
pub(crate) fn flush_all_vms() {
    // ORDERING: counted before the run pages are changed and their threads kicked; a thread that
    // has read the old count enters after that only with what its run page requests.
    FLUSHES.fetch_add(1, Ordering::SeqCst);
}

/// What may make the translations stale that a VM left in the processor's caches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Epoch {
    renewals: u64,
    flushes: u64,
}

/// A lower VTL on a virtual processor. The thread is bound to the processor's CPU while handles
/// exist, so it can have handles of one CPU only.
///
/// A CPU has one virtual processor, whatever VM it runs: the run page, the extended state and the
/// registers of [`SharedRegister`] are common to all VMs, while each VM has its own L2 VMCS.
/// [`Self::sibling`] returns a handle for another VM on the same virtual processor.
///
/// ```no_run
/// use vtl::{Exit, Gpr, Mode, Vm, Vtl};
///
/// # fn main() -> Result<(), vtl::Error> {
/// let mut vp = Vtl::open()?.bind(0, Vm::VTL0)?;
/// vp.reset(Mode::Protected32, 0x10_0000)?;
/// vp.page().set_gpr(Gpr::Rsp, 0x20_0000);
/// if let Exit::Halt(halt) = vp.run()? {
///     halt.complete();
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Vp {
    vtl: Vtl,
    vm: Vm,
    page: RunPage,
    /// The epoch in which the VM has run last. In another one, or if it has not run yet, the next
    /// entry has to invalidate what is left in the processor's caches.
    has_run_in: Cell<Option<Epoch>>,
    /// An instruction was stepped over: what it ends has to end before the next entry.
    is_stepped: Cell<bool>,
    /// Bound to this thread, so this is neither `Send` nor `Sync`.
    binding: Rc<Binding>,
}

impl Vp {
    pub(crate) fn bind(vtl: Vtl, cpu: u32, vm: Vm) -> Result<Self> {
        let binding = Binding::new(cpu)?;
        let page = vtl.map_run_page(cpu)?;
        Ok(Self {
            vtl,
            vm,
            page,
            has_run_in: Cell::new(None),
            is_stepped: Cell::new(false),
            binding,
        })
    }

    /// Returns a handle for another VM on this virtual processor.
    ///
    /// This changes nothing. The registers in the run page are those of the VM that ran last: code
    /// that runs VMs alternately saves and restores them ([`RunPage::registers`]).
    ///
    /// ```no_run
    /// # fn main() -> Result<(), vtl::Error> {
    /// let mut vtl0 = vtl::Vtl::open()?.bind(0, vtl::Vm::VTL0)?;
    /// let mut vtl1 = vtl0.sibling(vtl::Vm::VTL1);
    /// vtl0.run()?;
    /// let parked = vtl0.page().registers();
    /// vtl1.start(vtl::Mode::Protected32, 0x8000_0000)?;
    /// vtl1.run()?;
    /// vtl0.page().set_registers(&parked);
    /// vtl0.run()?;
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn sibling(&self, vm: Vm) -> Self {
        Self {
            vtl: self.vtl.clone(),
            vm,
            page: self.page.clone(),
            has_run_in: Cell::new(None),
            is_stepped: Cell::new(false),
            binding: Rc::clone(&self.binding),
        }
    }

    /// The Linux CPU number, which is the VP index.
    pub fn cpu(&self) -> u32 {
        self.binding.cpu()
    }

    /// The VM this handle runs.
    pub fn vm(&self) -> Vm {
        self.vm
    }

    /// The VTL file from which this was made.
    pub fn vtl(&self) -> &Vtl {
        &self.vtl
    }

    /// The page shared with the kernel.
    pub fn page(&self) -> &RunPage {
        &self.page
    }

    /// A handle that cancels the run from another thread.
    pub fn canceller(&self) -> Canceller {
        self.page.canceller()
    }

    /// Resets this virtual processor for another guest: all lower-VTL state that the kernel keeps,
    /// and for each of the `num_l2_vms` VMs the MSRs that pass without an exit (none) and L2_CTLS
    /// (zero). Other fields of the L2 VMCS and memory rights are not changed, nor is a cancellation
    /// ended ([`Canceller::clear`]). The next entry to each VM invalidates its translations.
    ///
    /// # Errors
    /// [`Error::Command`], or [`Error::Tdcall`] with the status.
    pub fn renew(&mut self, num_l2_vms: u32) -> Result<()> {
        sys::reset(&self.vtl).map_err(Error::command("VTL_RESET"))?;
        self.binding.count_renewal();
        self.is_stepped.set(false);
        let vms = Vm::ALL.into_iter().zip(0..num_l2_vms).map(|(vm, _)| vm);
        for vm in vms {
            for word in 0..field::MSR_BITMAP_WORDS {
                self.write_id(field::msr_bitmap(vm, word), u64::MAX, u64::MAX)?;
            }
            self.write_id(field::l2_ctls(vm), 0, field::L2_CTLS_MASK)?;
        }
        self.page.reset();
        Ok(())
    }

    /// Runs the lower VTL until there is something to handle.
    ///
    /// # Errors
    /// [`Error::EntryRefused`] with the TDX module's status, [`Error::Run`]
    /// with the kernel's errno otherwise.
    pub fn run(&mut self) -> Result<Exit<'_>> {
        match self.enter()? {
            Some(info) => self.finish(info),
            None => Ok(Exit::Interrupted),
        }
    }

    /// Runs once; returns the registers of the last TDG.VP.ENTER, or `None` without an exit. If the
    /// kernel switches VTLs, the exit may be another VM's.
    pub(crate) fn enter(&self) -> Result<Option<ExitInfo>> {
        let epoch = self.prepare()?;
        match sys::return_to_lower_vtl(&self.vtl) {
            Ok(()) => {
                let info = self.page.exit_info();
                if redelivery::has_run(&info) {
                    self.has_run_in.set(Some(epoch));
                }
                Ok(Some(info))
            }
            Err(Errno::INTR) => Ok(None),
            Err(Errno::IO) => Err(Error::EntryRefused(Status::from_raw(
                self.page.exit_info().rax,
            ))),
            Err(errno) => Err(Error::Run {
                errno: errno.into(),
            }),
        }
    }

    /// Decodes an exit of this VM, after what has to follow it.
    pub(crate) fn finish(&self, info: ExitInfo) -> Result<Exit<'_>> {
        if let Some(redelivery) = Redelivery::of(&info) {
            self.redeliver(redelivery)?;
        }
        Ok(Exit::decode(self, info))
    }

    /// Prepares the next entry. Returns the epoch in which it is.
    fn prepare(&self) -> Result<Epoch> {
        self.finish_step()?;
        if self.page.aim(self.vm) {
            // It was requested for another VM, whose handle does not find it in the page any more.
            flush_all_vms();
        }
        let epoch = self.epoch();
        if self.has_run_in.get() != Some(epoch) {
            self.page.request_flush(Flush::All);
        }
        Ok(epoch)
    }

    fn epoch(&self) -> Epoch {
        Epoch {
            renewals: self.binding.renewals(),
            flushes: FLUSHES.load(Ordering::SeqCst),
        }
    }

    /// Returns true, once in an epoch, if the next entry of this VM has to invalidate. For a VM that
    /// the kernel may enter without [`Self::enter`]: the caller requests it by the switch page.
    pub(crate) fn is_flush_due(&self) -> bool {
        let epoch = Some(self.epoch());
        self.has_run_in.replace(epoch) != epoch
    }
}
