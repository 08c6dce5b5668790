// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! The virtual-APIC page of a VM on one virtual processor: its APIC as the processor sees it.

use core::sync::atomic::{AtomicU32, Ordering};
use std::fs::File;
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt as _;
use std::sync::Arc;

use rustix::io::Errno;

use crate::sys::{Mapping, Protection};
use crate::{Vectors, abi};

/// A register of the APIC, by its offset in the page. The MSR in x2APIC mode is 0x800 plus a
/// sixteenth of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names are the registers' names")]
#[repr(usize)]
pub enum ApicRegister {
    Id = 0x20,
    Version = 0x30,
    Tpr = 0x80,
    Ppr = 0xa0,
    Eoi = 0xb0,
    Ldr = 0xd0,
    Spurious = 0xf0,
    Error = 0x280,
    CommandLow = 0x300,
    CommandHigh = 0x310,
    Timer = 0x320,
    Thermal = 0x330,
    PerformanceCounter = 0x340,
    Lint0 = 0x350,
    Lint1 = 0x360,
    LocalError = 0x370,
    InitialCount = 0x380,
    CurrentCount = 0x390,
    DivideConfiguration = 0x3e0,
}

/// A mapped virtual-APIC page of one CPU: that of VTL0 ([`crate::Vtl::map_vapic_page`]), or another
/// VM's ([`crate::Vp::new_apic_page`]). Clones refer to the same page.
///
/// ```no_run
/// use vtl::vapic::ApicRegister;
///
/// # fn main() -> Result<(), vtl::Error> {
/// let apic = vtl::Vtl::open()?.map_vapic_page(0)?;
/// apic.write(ApicRegister::Spurious, 0x1ff);
/// apic.request(0x31);
/// assert!(apic.requested().contains(0x31));
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct VapicPage {
    page: Arc<Mapping>,
}

fn errno_of(error: std::io::Error) -> Errno {
    Errno::from_io_error(&error).unwrap_or(Errno::IO)
}

/// Offset of 256 bits, 32 in each 16 bytes.
const IN_SERVICE: usize = 0x100;
const TRIGGER_MODE: usize = 0x180;
const REQUESTED: usize = 0x200;

impl VapicPage {
    pub(crate) fn map(fd: impl AsFd, cpu: u32) -> Result<Self, Errno> {
        let offset = abi::page_offset(abi::PAGE_KIND_VAPIC, cpu);
        let page = Mapping::new(fd, offset, abi::PAGE_LEN, Protection::ReadWrite)?;
        Ok(Self {
            page: Arc::new(page),
        })
    }

    /// A page of zeros in this process. It is locked, so it keeps its physical address.
    pub(crate) fn of_this_process() -> Result<Self, Errno> {
        Ok(Self {
            page: Arc::new(Mapping::locked(abi::PAGE_LEN)?),
        })
    }

    /// Where the page is in memory, which only an administrator learns. It is never used for anything
    /// else while the kernel has it pinned, even if it is unmapped here.
    pub(crate) fn physical_address(&self) -> Result<u64, Errno> {
        const ENTRY_LEN: u64 = 8;
        const PRESENT: u64 = 1 << 63;
        const FRAME: u64 = (1 << 55) - 1;
        // CAST: widening.
        let (address, page_len) = (self.page.start().addr().get() as u64, abi::PAGE_LEN as u64);
        let list = File::open("/proc/self/pagemap").map_err(errno_of)?;
        let mut entry = [0; 8];
        list.read_exact_at(&mut entry, address / page_len * ENTRY_LEN)
            .map_err(errno_of)?;
        let entry = u64::from_le_bytes(entry);
        match entry & FRAME {
            0 => Err(Errno::PERM),
            _ if entry & PRESENT == 0 => Err(Errno::NOMEM),
            frame => Ok(frame * page_len),
        }
    }

    /// Reads a register.
    pub fn read(&self, register: ApicRegister) -> u32 {
        self.word(register as usize).load(Ordering::SeqCst)
    }

    /// Writes a register, without the effects that the write has in an APIC.
    pub fn write(&self, register: ApicRegister, value: u32) {
        self.word(register as usize).store(value, Ordering::SeqCst);
    }

    /// Requested vectors (IRR).
    pub fn requested(&self) -> Vectors {
        self.vectors(REQUESTED)
    }

    /// Vectors in service (ISR).
    pub fn in_service(&self) -> Vectors {
        self.vectors(IN_SERVICE)
    }

    /// Level-triggered vectors (TMR), whose EOI exits.
    pub fn level_triggered(&self) -> Vectors {
        self.vectors(TRIGGER_MODE)
    }

    /// Sets an edge-triggered interrupt in the IRR. The processor delivers the vector in RVI: set
    /// it to the highest requested one ([`crate::RunPage::set_interrupt_status`]) before the next
    /// run.
    pub fn request(&self, vector: u8) {
        let (word, bit) = Vectors::place(vector);
        let at = 16 * word;
        self.word(TRIGGER_MODE + at)
            .fetch_and(!bit, Ordering::SeqCst);
        self.word(REQUESTED + at).fetch_or(bit, Ordering::SeqCst);
    }

    /// Sets the requested vectors.
    pub fn set_requested(&self, vectors: Vectors) {
        self.set_vectors(REQUESTED, vectors);
    }

    /// Sets the vectors in service.
    pub fn set_in_service(&self, vectors: Vectors) {
        self.set_vectors(IN_SERVICE, vectors);
    }

    /// Sets the level-triggered vectors.
    pub fn set_level_triggered(&self, vectors: Vectors) {
        self.set_vectors(TRIGGER_MODE, vectors);
    }

    fn vectors(&self, offset: usize) -> Vectors {
        let word = |number| self.word(offset + 16 * number).load(Ordering::SeqCst);
        Vectors::from_words(core::array::from_fn(word))
    }

    fn set_vectors(&self, offset: usize, vectors: Vectors) {
        for (number, bits) in vectors.words().into_iter().enumerate() {
            self.word(offset + 16 * number)
                .store(bits, Ordering::SeqCst);
        }
    }

    fn word(&self, offset: usize) -> &AtomicU32 {
        self.page.word(offset)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page() -> Result<VapicPage, Errno> {
        Ok(VapicPage {
            page: Arc::new(Mapping::anonymous(abi::PAGE_LEN)?),
        })
    }

    #[test]
    fn vectors_are_where_the_processor_has_them() -> Result<(), Errno> {
        let apic = page()?;
        apic.set_level_triggered(Vectors::from_iter([0x31, 0x32]));
        apic.request(0x31);
        assert_eq!(apic.word(0x210).load(Ordering::Relaxed), 1 << 17);
        assert_eq!(apic.level_triggered(), Vectors::from_iter([0x32]));
        apic.set_in_service(Vectors::from_iter([0xff]));
        assert_eq!(apic.word(0x170).load(Ordering::Relaxed), 1 << 31);
        assert_eq!(apic.in_service().highest(), Some(0xff));
        apic.set_requested(Vectors::NONE);
        assert!(apic.requested().is_empty());
        Ok(())
    }

    #[test]
    fn registers_keep_what_is_written() -> Result<(), Errno> {
        let apic = page()?;
        apic.write(ApicRegister::Tpr, 0x20);
        apic.write(ApicRegister::DivideConfiguration, 0xb);
        assert_eq!(apic.word(0x80).load(Ordering::Relaxed), 0x20);
        assert_eq!(apic.read(ApicRegister::DivideConfiguration), 0xb);
        Ok(())
    }
}
