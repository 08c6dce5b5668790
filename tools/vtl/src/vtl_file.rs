// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! A VTL file: makes handles of virtual processors, and has the operations that concern several of
//! them. TDCALLs are in [`crate::tdcall`], memory rights in [`crate::rights`].

use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd, OwnedFd};
use std::sync::Arc;

use rustix::io::Errno;
use zerocopy::FromZeros as _;

use crate::abi::{self, operands};
use crate::audit::Ring;
use crate::info::Info;
use crate::run_page::{Flush, RunPage};
use crate::stats::Stats;
use crate::vp::{self, Vm, Vp};
use crate::{Error, GpaRange, LowerVtl, Result, SwitchPage, VapicPage, device, sys};

/// A VTL file. Clones share the descriptor, which is available by [`AsFd`].
#[derive(Clone, Debug)]
pub struct Vtl {
    fd: Arc<OwnedFd>,
}

/// Flags of [`Vtl::kick`].
#[bitfield_struct::bitfield(u64)]
#[derive(PartialEq, Eq)]
pub struct Kick {
    /// Return only after all of them have left the lower VTL.
    pub wait: bool,
    /// Set `cancel` in their run pages first, so that their runs end.
    pub cancel: bool,
    #[bits(62)]
    _reserved: u64,
}

/// A device interrupt that is redirected to VTL0 through VTL2.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RedirectedInterrupt {
    /// Vector of VTL2 that the device has to send.
    pub host_vector: u32,
    /// x2APIC ID of the processor to which the device has to send it.
    pub apic_id: u32,
}

impl Vtl {
    /// Of a descriptor that this crate has made.
    pub(crate) fn new(fd: OwnedFd) -> Self {
        Self { fd: Arc::new(fd) }
    }

    /// Opens `/dev/mshv_vtl`, the same object [`crate::Mshv::create_vtl`] makes.
    ///
    /// # Errors
    /// [`Error::Open`].
    pub fn open() -> Result<Self> {
        device::open(abi::DEV_MSHV_VTL).map(Self::new)
    }

    /// Binds this thread to `cpu`, and uses that CPU's virtual processor to run `vm`.
    ///
    /// Nothing else is changed: run page and L2 VMCS are as the last user left them. [`Vp::reset`]
    /// starts a guest.
    ///
    /// # Errors
    /// [`Error::Bind`] or [`Error::Map`].
    pub fn bind(&self, cpu: u32, vm: Vm) -> Result<Vp> {
        Vp::bind(self.clone(), cpu, vm)
    }

    /// Returns the handle of one lower VTL.
    pub fn lower(&self, vm: Vm) -> LowerVtl {
        LowerVtl::new(self.clone(), vm)
    }

    /// Maps the run page of `cpu`.
    ///
    /// # Errors
    /// [`Error::Map`].
    pub fn map_run_page(&self, cpu: u32) -> Result<RunPage> {
        RunPage::map(self, cpu).map_err(|errno| map_error("the run page", cpu, errno))
    }

    /// Maps the virtual-APIC page of VTL0 on `cpu`.
    ///
    /// # Errors
    /// [`Error::Map`].
    pub fn map_vapic_page(&self, cpu: u32) -> Result<VapicPage> {
        VapicPage::map(self, cpu).map_err(|errno| map_error("the virtual-APIC page", cpu, errno))
    }

    /// Maps the switch page of `cpu`.
    ///
    /// # Errors
    /// [`Error::Map`].
    pub fn map_switch_page(&self, cpu: u32) -> Result<SwitchPage> {
        SwitchPage::map(self, cpu).map_err(|errno| map_error("the switch page", cpu, errno))
    }

    /// Maps the audit ring of `cpu`; [`Info::audit_records`] is its length in records.
    ///
    /// # Errors
    /// [`Error::Map`].
    pub fn map_audit_ring(&self, cpu: u32, info: &Info) -> Result<Ring> {
        Ring::map(self, cpu, info.audit_records)
            .map_err(|errno| map_error("the audit ring", cpu, errno))
    }

    /// Reads the counters of the virtual processor of `cpu`; `None` if it has none.
    ///
    /// # Errors
    /// [`Error::Query`].
    pub fn stats(&self, cpu: u32) -> Result<Option<Stats>> {
        let mut answer = operands::RawStats::new_zeroed();
        match sys::query::<{ abi::command::VTL_STATS }, _>(self, cpu, &mut answer) {
            Ok(()) => Ok(Some(Stats::new(&answer))),
            Err(Errno::NXIO) => Ok(None),
            Err(errno) => Err(Error::Query {
                what: "counters",
                errno: errno.into(),
            }),
        }
    }

    /// Makes virtual processors leave lower VTLs. Each reads its run page again before it enters
    /// again; one that is halted does so, too.
    ///
    /// ```no_run
    /// # fn main() -> Result<(), vtl::Error> {
    /// let vtl = vtl::Vtl::open()?;
    /// let page = vtl.map_run_page(2)?;
    /// page.request_interrupt(0x31);
    /// vtl.kick([2], vtl::Kick::new())?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`Error::Command`].
    pub fn kick(&self, cpus: impl IntoIterator<Item = u32>, kick: Kick) -> Result<()> {
        let mask = cpu_mask(cpus);
        sys::kick(self, &mask, kick.into_bits()).map_err(Error::command("KICK_CPUS"))
    }

    /// Makes each of these virtual processors invalidate its translations before it executes
    /// another instruction of a lower VTL. On return, none of them uses older translations. A VM
    /// that another handle of this process runs there later invalidates its own then.
    ///
    /// To be called for all virtual processors after memory rights were revoked.
    ///
    /// # Errors
    /// [`Error::Command`].
    pub fn flush<'a>(&self, pages: impl IntoIterator<Item = &'a RunPage>) -> Result<()> {
        vp::flush_all_vms();
        let cpus: Vec<u32> = pages
            .into_iter()
            .map(|page| {
                page.request_flush(Flush::All);
                page.cpu()
            })
            .collect();
        self.kick(cpus, Kick::new().with_wait(true))
    }

    /// Makes `file` cancel runs of the virtual processor of `cpu` whenever it is readable. Replaces
    /// an earlier file, and ends with the VTL file.
    ///
    /// # Errors
    /// [`Error::Command`].
    pub fn set_poll_file(&self, cpu: u32, file: impl AsFd) -> Result<()> {
        sys::set_poll_file(self, cpu, Some(file.as_fd())).map_err(Error::command("SET_POLL_FILE"))
    }

    /// Removes the file of [`Self::set_poll_file`].
    ///
    /// # Errors
    /// [`Error::Command`].
    pub fn clear_poll_file(&self, cpu: u32) -> Result<()> {
        sys::set_poll_file(self, cpu, None).map_err(Error::command("SET_POLL_FILE"))
    }

    /// Redirects a device interrupt to VTL0, as `vector` (32 to 255) on the processor with this
    /// x2APIC ID. The mapping ends with the VTL file.
    ///
    /// # Errors
    /// [`Error::Command`].
    pub fn redirect_interrupt(&self, vector: u8, apic_id: u32) -> Result<RedirectedInterrupt> {
        let host_vector = sys::map_interrupt(self, map_operand(vector.into(), apic_id, 1))
            .map_err(Error::command("MAP_REDIRECTED_DEVICE_INTERRUPT"))?;
        Ok(RedirectedInterrupt {
            host_vector,
            apic_id,
        })
    }

    /// Removes a redirection.
    ///
    /// # Errors
    /// [`Error::Command`].
    pub fn release_interrupt(&self, interrupt: RedirectedInterrupt) -> Result<()> {
        let RedirectedInterrupt {
            host_vector,
            apic_id,
        } = interrupt;
        sys::map_interrupt(self, map_operand(host_vector, apic_id, 0))
            .map_err(Error::command("MAP_REDIRECTED_DEVICE_INTERRUPT"))?;
        Ok(())
    }

    /// Makes memory of a lower VTL usable for direct I/O, in whole pieces of 2 MiB. This applies to
    /// mappings that are made afterwards, until the last user of the devices is gone.
    ///
    /// # Errors
    /// [`Error::Command`].
    pub fn register_memory(&self, range: &GpaRange) -> Result<()> {
        const PAGE_SHIFT: u32 = 12;
        let operand = operands::RamDisposition {
            start_pfn: range.base() >> PAGE_SHIFT,
            last_pfn: range.end() >> PAGE_SHIFT,
        };
        sys::add_memory(self, operand).map_err(Error::command("ADD_VTL0_MEMORY"))
    }

    /// Returns the bits of CR4 that a lower VTL may set: IA32_VMX_CR4_FIXED1.
    ///
    /// # Errors
    /// [`Error::Command`].
    pub fn cr4_fixed1(&self) -> Result<u64> {
        sys::cr4_fixed1(self).map_err(Error::command("READ_VMX_CR4_FIXED1"))
    }

    /// Sets the time of the partition, which the kernel refuses with EOPNOTSUPP: nothing can set
    /// the time of a trust domain.
    ///
    /// # Errors
    /// [`Error::Command`], always.
    pub fn restore_partition_time(&self, reference_time_100ns: u64, tsc: u64) -> Result<()> {
        let operand = operands::PartitionTime {
            reference_time_100ns,
            tsc,
            ..operands::PartitionTime::default()
        };
        sys::restore_time(self, operand).map_err(Error::command("RESTORE_PARTITION_TIME"))
    }
}

impl TryFrom<OwnedFd> for Vtl {
    type Error = Error;

    /// A VTL file that other code opened. Commands of this crate must not reach another driver, which
    /// could take their operands for something else.
    ///
    /// # Errors
    /// [`Error::NoVtlFile`] for any other descriptor, which is closed.
    fn try_from(fd: OwnedFd) -> Result<Self> {
        if is_vtl_file(&fd) {
            Ok(Self::new(fd))
        } else {
            Err(Error::NoVtlFile)
        }
    }
}

/// Returns true if `fd` is the VTL device, or a file that `/dev/mshv` made: an anonymous inode, by
/// the name that the kernel shows.
fn is_vtl_file(fd: &OwnedFd) -> bool {
    const ANONYMOUS: &str = "anon_inode:mshv_vtl";
    let is_device = match (rustix::fs::fstat(fd), rustix::fs::stat(abi::DEV_MSHV_VTL)) {
        (Ok(own), Ok(device)) => {
            let is_character = rustix::fs::FileType::from_raw_mode(own.st_mode)
                == rustix::fs::FileType::CharacterDevice;
            is_character && own.st_rdev == device.st_rdev
        }
        _ => false,
    };
    is_device
        || std::fs::read_link(format!("/proc/self/fd/{}", fd.as_raw_fd()))
            .is_ok_and(|name| name.as_os_str() == ANONYMOUS)
}

impl AsFd for Vtl {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

fn map_error(what: &'static str, cpu: u32, errno: Errno) -> Error {
    Error::Map {
        what,
        cpu,
        errno: errno.into(),
    }
}

fn map_operand(vector: u32, apic_id: u32, create_mapping: u8) -> operands::MapInterrupt {
    operands::MapInterrupt {
        vector,
        apic_id,
        create_mapping,
        padding: [0; 7],
    }
}

/// Bit n of byte m stands for CPU 8 m + n. CPU numbers above the possible ones are ignored.
fn cpu_mask(cpus: impl IntoIterator<Item = u32>) -> Vec<u8> {
    /// The offset of a run page encodes the CPU in 16 bits.
    const MOST: u32 = 1 << 16;
    let mut mask = Vec::new();
    for cpu in cpus.into_iter().filter(|cpu| *cpu < MOST) {
        // CAST: widening.
        let byte = cpu as usize / 8;
        if mask.len() <= byte {
            mask.resize(byte + 1, 0);
        }
        mask[byte] |= 1 << (cpu % 8);
    }
    mask
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_mask_has_the_cpus_and_no_others(cpus in proptest::collection::btree_set(0u32..300, 0..20)) {
            let mask = cpu_mask(cpus.iter().copied());
            for cpu in 0..320 {
                let byte = mask.get(cpu as usize / 8).copied().unwrap_or(0);
                prop_assert_eq!((byte >> (cpu % 8)) & 1 != 0, cpus.contains(&cpu));
            }
        }
    }

    #[test]
    fn a_descriptor_that_is_no_vtl_file_is_refused() -> std::io::Result<()> {
        let (socket, _other) = std::os::unix::net::UnixStream::pair()?;
        let null = std::fs::File::open("/dev/null")?;
        let file = std::fs::File::open("/proc/self/exe")?;
        let list: [OwnedFd; 3] = [socket.into(), null.into(), file.into()];
        for fd in list {
            assert_eq!(Vtl::try_from(fd).err(), Some(Error::NoVtlFile));
        }
        Ok(())
    }

    #[test]
    fn a_cpu_that_cannot_exist_costs_no_memory() {
        assert_eq!(cpu_mask([u32::MAX, 1 << 16]), []);
    }

    #[test]
    fn kicks_have_the_flags_of_the_abi() {
        assert_eq!(Kick::new().with_wait(true).into_bits(), abi::KICK_WAIT);
        assert_eq!(Kick::new().with_cancel(true).into_bits(), abi::KICK_CANCEL);
    }
}
