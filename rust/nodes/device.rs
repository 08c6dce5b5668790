// SPDX-License-Identifier: GPL-2.0
//! The device nodes: who may open them, and the dispatch of commands and mappings.
//!
//! Next down the flow: `request.rs` for commands, `mem.rs` for mappings. devtmpfs gives nodes of
//! misc devices mode 0600.

use kernel::error::to_result;
use kernel::fs::File;
use kernel::miscdevice::{MiscDevice, MiscDeviceRegistration};
use kernel::mm::virt::VmaNew;
use kernel::prelude::*;
use kernel::sync::{new_mutex, Arc, ArcBorrow, Mutex};

use crate::glue::ffi;
use crate::mem;
use crate::mem::registered;
use crate::nodes::args::Argument;
use crate::nodes::attest;
use crate::nodes::commands;
use crate::nodes::descriptor::{self, Table};
use crate::nodes::info;
use crate::nodes::kick;
use crate::nodes::poll_file::{self, PollFile};
use crate::nodes::redirect;
use crate::nodes::registers;
use crate::nodes::request;
use crate::nodes::reset;
use crate::nodes::vtl_page;
use crate::nodes::vtl_switch;
use crate::nodes::xsave;
use crate::observe::event;
use crate::observe::stats::RefusalKind;
use crate::observe::trace;
use crate::run;
use crate::vp::apic_pages::{ApicPageOwner, OwnedApicPages};
use crate::vp::assist::Assists;
use crate::vp::machine::{self, Machine};
use crate::vp::users::UsedPages;

/// `/dev/mshv`.
pub(crate) struct Mshv;

/// `/dev/mshv_vtl`, and files made by `MSHV_CREATE_VTL`.
pub(crate) struct Vtl;

/// `/dev/mshv_vtl_low`.
pub(crate) struct Low;

/// One open VTL file.
#[pin_data]
pub(crate) struct VtlFile {
    machine: Arc<Machine>,
    /// Files that cancel runs. Each is released when the process that set it has closed its last
    /// descriptor of this file.
    #[pin]
    poll_files: Mutex<KVec<PollFile>>,
    /// Redirected interrupts, released with this file.
    #[pin]
    redirects: Mutex<KVec<redirect::Mapping>>,
    /// Virtual-APIC pages set by this file, released with it.
    pages: OwnedApicPages,
    /// Run pages mapped through this file. The last file that has mapped one leaves it blocking
    /// interrupts.
    run_pages: UsedPages,
    /// VPs whose VTL calls the kernel carries out, in runs through this file.
    #[pin]
    assists: Assists,
    _memory: registered::User,
}

impl VtlFile {
    fn new(machine: Arc<Machine>) -> Result<Arc<Self>> {
        let pages = OwnedApicPages::new(machine.clone());
        let run_pages = UsedPages::new(machine.clone())?;
        let assists = Assists::new(machine.num_cpus())?;
        let init = pin_init!(Self {
            machine,
            pages,
            run_pages,
            assists <- assists,
            poll_files <- new_mutex!(KVec::new(), "mshv_vtl_tdx::poll_files"),
            redirects <- new_mutex!(KVec::new(), "mshv_vtl_tdx::redirects"),
            _memory: registered::User::new(),
        });
        Arc::pin_init(init, GFP_KERNEL)
    }

    /// The machine.
    pub(crate) fn machine(&self) -> &Machine {
        &self.machine
    }

    /// The machine, for taking a reference.
    pub(crate) fn shared_machine(&self) -> &Arc<Machine> {
        &self.machine
    }

    /// The redirected interrupts of this file.
    pub(crate) fn redirects(&self) -> &Mutex<KVec<redirect::Mapping>> {
        &self.redirects
    }

    /// VPs whose VTL calls the kernel carries out.
    pub(crate) fn assists(&self) -> &Assists {
        &self.assists
    }

    /// Identifies this file as the owner of virtual-APIC pages.
    pub(crate) fn owner(&self) -> ApicPageOwner {
        self.pages.owner
    }

    /// Replaces the file that cancels the runs of a VP, on behalf of the current process. `file` is
    /// the VTL file itself.
    ///
    /// # Errors
    ///
    /// As `poll_file::new`. EBADF if another thread has closed the VTL file's descriptor.
    pub(crate) fn set_poll_file(&self, file: &File, cpu: u32, descriptor: i32) -> Result {
        let table = Table::current();
        let new = poll_file::new(&self.machine, cpu, descriptor, table)?;
        let mut files = self.poll_files.lock();
        poll_file::replace(&mut files, cpu, new)?;
        // If the last descriptor was closed before this point, `closed_by` has run already and
        // would miss the new entry. If it is closed later, `closed_by` waits for the lock.
        if !descriptor::is_open(file) {
            poll_file::forget(&mut files, table);
            return Err(EBADF);
        }
        Ok(())
    }

    /// Releases what is held for a process that has no descriptor any more.
    pub(crate) fn closed_by(&self, table: Table) {
        poll_file::forget(&mut self.poll_files.lock(), table);
    }
}

/// Checks the privilege that every open needs, and returns the machine.
pub(crate) fn open() -> Result<Arc<Machine>> {
    if !ffi::has_cap_sys_admin() {
        return Err(EPERM);
    }
    machine::machine().ok_or(ENODEV)
}

#[vtable]
impl MiscDevice for Mshv {
    type Ptr = Arc<Machine>;

    fn open(_file: &File, _misc: &MiscDeviceRegistration<Self>) -> Result<Arc<Machine>> {
        open()
    }

    fn ioctl(
        machine: ArcBorrow<'_, Machine>,
        _file: &File,
        command: u32,
        argument: usize,
    ) -> Result<isize> {
        let argument = Argument::new(argument);
        match command {
            commands::CHECK_EXTENSION => request::check_extension(&machine, argument),
            commands::CREATE_VTL => {
                let vtl = VtlFile::new(machine.into())?;
                let number = descriptor::new(vtl)?;
                event::vtl_created(machine.control());
                Ok(number)
            }
            commands::VTL_INFO => info::info(&machine, argument),
            commands::VTL_POLICY => info::policy(argument),
            _ => Err(ENOTTY),
        }
    }
}

#[vtable]
impl MiscDevice for Vtl {
    type Ptr = Arc<VtlFile>;

    fn open(file: &File, _misc: &MiscDeviceRegistration<Self>) -> Result<Arc<VtlFile>> {
        let vtl = VtlFile::new(open()?)?;
        descriptor::adopt(file);
        Ok(vtl)
    }

    fn mmap(vtl: ArcBorrow<'_, VtlFile>, _file: &File, vma: &VmaNew) -> Result {
        vtl_page::map(&vtl.machine, &vtl.run_pages, vma)
    }

    #[inline(always)]
    fn ioctl(
        vtl: ArcBorrow<'_, VtlFile>,
        file: &File,
        command: u32,
        argument: usize,
    ) -> Result<isize> {
        // The others would make it slower if they shared its registers and its stack frame.
        match command {
            commands::RETURN_TO_LOWER_VTL => run(&vtl),
            // What runs are ended by comes about as often.
            commands::KICK_CPUS => {
                kick::kick_cpus(&vtl.machine, Argument::new(argument))?;
                Ok(0)
            }
            _ => {
                // A register, and no memory that all of them would have to write their result to.
                let code = Self::other_code(&vtl, file, command, argument);
                to_result(code)?;
                Ok(code as isize) // CAST: widening
            }
        }
    }
}

impl Vtl {
    /// As [`Self::other`]: what C returns.
    #[inline(never)]
    fn other_code(vtl: &VtlFile, file: &File, command: u32, argument: usize) -> c_int {
        match Self::other(vtl, file, command, argument) {
            Ok(code) => code as c_int, // CAST: all are small
            Err(error) => error.to_errno(),
        }
    }

    fn other(vtl: &VtlFile, file: &File, command: u32, argument: usize) -> Result<isize> {
        let argument = Argument::new(argument);
        match command {
            commands::VTL_STATS => info::stats(&vtl.machine, argument),
            commands::ADD_VTL0_MEMORY => request::add_vtl0_memory(argument),
            commands::READ_VMX_CR4_FIXED1 => request::read_cr4_fixed1(argument),
            commands::RESTORE_PARTITION_TIME => Err(EOPNOTSUPP),
            commands::TDCALL => request::tdcall::tdcall(vtl, argument),
            commands::GET_VP_REGISTERS => registers::get(&vtl.machine, argument),
            commands::SET_VP_REGISTERS => registers::set(&vtl.machine, argument),
            commands::VTL_XSAVE_GET => xsave::get(&vtl.machine, argument),
            commands::VTL_XSAVE_SET => xsave::set(&vtl.machine, argument),
            commands::VTL_SWITCH_SETUP => vtl_switch::set_up(vtl, argument),
            commands::VTL_RESET => reset::reset(&vtl.machine, argument),
            commands::MAP_REDIRECTED_DEVICE_INTERRUPT => redirect::map(vtl, argument),
            commands::SET_POLL_FILE => kick::set_poll_file(vtl, file, argument),
            commands::VTL_AUDIT_CHECKPOINT => attest::checkpoint(&vtl.machine, argument),
            commands::VTL_AUDIT_EVENT => attest::event(&vtl.machine, argument),
            commands::VTL_AUDIT_NOTE => attest::note(&vtl.machine, argument),
            _ => Err(ENOTTY),
        }
    }
}

/// Runs the VP of this CPU. Counts and traces a refusal.
#[inline(always)]
fn run(vtl: &VtlFile) -> Result<isize> {
    let machine = &vtl.machine;
    match run::return_to_lower_vtl(machine, &vtl.assists) {
        Ok(()) => Ok(0),
        Err(error) => Err(refused(machine, error)),
    }
}

#[cold]
fn refused(machine: &Machine, error: Error) -> Error {
    if let Some(vp) = machine.current_vp() {
        vp.stats.refused(RefusalKind::of(error));
    }
    let errno = error.to_errno().unsigned_abs();
    trace::vtl_refused(commands::RETURN_TO_LOWER_VTL, 0, u64::from(errno));
    error
}

#[vtable]
impl MiscDevice for Low {
    type Ptr = Arc<registered::User>;

    fn open(file: &File, _misc: &MiscDeviceRegistration<Self>) -> Result<Self::Ptr> {
        open()?;
        mem::opened(file);
        Ok(Arc::new(registered::User::new(), GFP_KERNEL)?)
    }

    fn mmap(_user: ArcBorrow<'_, registered::User>, _file: &File, vma: &VmaNew) -> Result {
        mem::map_lower_memory(vma)
    }
}
