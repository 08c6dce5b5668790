// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! What a check sees of the guest: physical memory, and the registers of its processors.

use std::thread;
use std::time::Duration;

use vm_memory::{Bytes as _, GuestAddress, GuestMemory};

use super::random;
use super::roots::Tops;
use super::tables::top_table;
use super::text::IMAGES;
use crate::walk::{ADDRESS, LA57, LMA, PG};

/// Guest-physical memory.
pub trait Physical {
    /// Fills `bytes` from `gpa` on. Returns false if not all of it is memory.
    fn read(&self, gpa: u64, bytes: &mut [u8]) -> bool;

    /// Waits until a change that is half made may have gone on.
    fn pause(&self) {
        // About 0.1 ms. Not always the same, or a change that is made again and again could be in step with it.
        let any = random::number() % 100;
        thread::sleep(Duration::from_micros(50 + any));
    }
}

/// How often something is looked at that is wrong only if it is so each time, because Linux does the same for a
/// moment.
pub(super) const LOOKS: usize = 8;

impl<M: GuestMemory> Physical for M {
    fn read(&self, gpa: u64, bytes: &mut [u8]) -> bool {
        self.read_slice(bytes, GuestAddress(gpa)).is_ok()
    }
}

/// A descriptor-table register.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Table {
    /// Linear address.
    pub base: u64,
    /// Offset of its last byte.
    pub limit: u64,
}

/// Registers of a processor, all read at one moment at which it did not run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Registers {
    /// Privilege level.
    pub cpl: u8,
    /// CR0.
    pub cr0: u64,
    /// CR3.
    pub cr3: u64,
    /// CR4.
    pub cr4: u64,
    /// IA32_EFER.
    pub efer: u64,
    /// Interrupt descriptors.
    pub idtr: Table,
    /// Segment descriptors.
    pub gdtr: Table,
    /// Where SYSCALL goes to.
    pub lstar: u64,
    /// Segments of SYSCALL and SYSRET.
    pub star: u64,
    /// Flags that SYSCALL clears.
    pub sfmask: u64,
    /// Where SYSENTER goes to.
    pub sysenter_eip: u64,
    /// What its page tables had at the addresses of the kernel's image.
    pub tops: Tops,
}

/// Page tables of a processor in long mode.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Root {
    /// The address of CR3, without its other bits.
    pub cr3: u64,
    /// Four or five.
    pub levels: u32,
}

impl Registers {
    /// Its page tables; none unless it is in long mode.
    pub const fn root(&self) -> Option<Root> {
        if self.cr0 & PG == 0 || self.efer & LMA == 0 {
            return None;
        }
        Some(Root {
            cr3: self.cr3 & ADDRESS,
            levels: if self.cr4 & LA57 != 0 { 5 } else { 4 },
        })
    }

    /// If the kernel's page tables and userspace's are separate, userspace's are in the page after the kernel's:
    /// those before its own, if it may be so.
    pub fn neighbour(&self) -> Option<Root> {
        const OF_USER: u64 = 1 << 12;
        let root = self.root().filter(|root| root.cr3 & OF_USER != 0)?;
        Some(Root {
            cr3: root.cr3 & !OF_USER,
            ..root
        })
    }

    /// Reads what is to be read while the processor does not run: its page tables can't be freed then.
    #[must_use]
    pub fn with_tops<P: Physical>(self, memory: &P) -> Self {
        let top = |root: Option<Root>| top_table(memory, root?, IMAGES.start);
        Self {
            tops: Tops {
                own: top(self.root()),
                neighbour: top(self.neighbour()),
            },
            ..self
        }
    }
}

/// Reads linear memory page by page. Returns false unless all of it is mapped to memory.
pub fn read_linear<P: Physical>(memory: &P, root: Root, linear: u64, bytes: &mut [u8]) -> bool {
    let mut at = linear;
    let mut rest = bytes;
    while !rest.is_empty() {
        let Some(leaf) = super::tables::leaf(memory, root, at) else {
            return false;
        };
        let offset = at & (leaf.len - 1);
        // CAST: `min` keeps it at the length of the slice.
        let len = (leaf.len - offset).min(rest.len() as u64) as usize;
        let (now, later) = rest.split_at_mut(len);
        if !memory.read(leaf.gpa + offset, now) {
            return false;
        }
        rest = later;
        // CAST: widening.
        at = at.wrapping_add(len as u64);
    }
    true
}
