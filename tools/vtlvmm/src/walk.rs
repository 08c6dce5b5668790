// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! From a linear address of the guest to guest-physical memory: segmentation is the caller's, this
//! is paging in its three forms that a guest here can have. [SDM3 4]

use std::sync::atomic::Ordering;

use vm_memory::{
    AtomicAccess, AtomicInteger, Bytes as _, GuestAddress, GuestMemory, VolatileMemory as _,
};

/// How the guest translates.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Paging {
    /// CR0.
    pub cr0: u64,
    /// CR3.
    pub cr3: u64,
    /// CR4.
    pub cr4: u64,
    /// EFER.
    pub efer: u64,
}

/// What an access is, for the rights of the pages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Of data, to read.
    Read,
    /// Of data, to write.
    Write,
    /// Of an instruction.
    Fetch,
}

/// Memory with the guest's tables.
#[derive(Debug)]
pub struct Tables<'a, M> {
    /// All of it.
    pub memory: &'a M,
    /// What the guest may write, where entries are marked.
    pub writable: &'a M,
}

/// Whose access it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Privilege {
    /// CPL 3.
    pub is_user: bool,
    /// RFLAGS.AC: the supervisor may access pages of the user.
    pub is_ac_set: bool,
}

/// Why an address has no translation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Miss {
    /// #PF with this error code.
    Fault(u32),
    /// The address is not canonical: #GP.
    NotCanonical,
    /// Another processor has changed the tables meanwhile: the guest has to try again.
    Changed,
    /// An entry has to be marked, and is where the guest must not write.
    Protected,
}

pub(crate) const PRESENT: u64 = 1;
pub(crate) const WRITABLE: u64 = 1 << 1;
pub(crate) const USER: u64 = 1 << 2;
const ACCESSED: u64 = 1 << 5;
const DIRTY: u64 = 1 << 6;
pub(crate) const LARGE: u64 = 1 << 7;
pub(crate) const NO_EXECUTE: u64 = 1 << 63;
pub(crate) const ADDRESS: u64 = 0x000f_ffff_ffff_f000;

const WP: u64 = 1 << 16;
pub(crate) const PG: u64 = 1 << 31;
const PSE: u64 = 1 << 4;
const PAE: u64 = 1 << 5;
pub(crate) const LA57: u64 = 1 << 12;
const SMEP: u64 = 1 << 20;
const SMAP: u64 = 1 << 21;
pub(crate) const LMA: u64 = 1 << 10;
const NXE: u64 = 1 << 11;

impl Paging {
    /// That of 64-bit code, as far as an instruction is fetched.
    pub const fn long(cr3: u64) -> Self {
        Self {
            cr0: PG,
            cr3,
            cr4: PAE,
            efer: LMA,
        }
    }

    /// Translates an access of the processor as the processor does: checks its rights, and marks the
    /// entries accessed, and the page dirty, where the guest may write. Protection keys and shadow
    /// stacks are not checked; the guest has neither.
    ///
    /// # Errors
    /// What the guest gets instead of the access.
    pub fn access<M: GuestMemory>(
        &self,
        tables: &Tables<'_, M>,
        linear: u64,
        kind: Kind,
        privilege: Privilege,
    ) -> Result<u64, Miss> {
        if self.cr0 & PG == 0 {
            return Ok(linear & 0xffff_ffff);
        }
        let walk = Walk {
            paging: self,
            memory: tables.memory,
            checked: Some(Checked {
                kind,
                privilege,
                writable: tables.writable,
            }),
        };
        walk.translate(linear)
    }

    /// The address, if it is mapped. Rights are not checked: the processor has fetched from there.
    pub fn translate<M: GuestMemory>(&self, memory: &M, linear: u64) -> Option<u64> {
        if self.cr0 & PG == 0 {
            return Some(linear & 0xffff_ffff);
        }
        let walk = Walk {
            paging: self,
            memory,
            checked: None,
        };
        walk.translate(linear).ok()
    }
}

/// One translation.
struct Walk<'a, M> {
    paging: &'a Paging,
    memory: &'a M,
    checked: Option<Checked<'a, M>>,
}

/// An access that the processor would make, with its consequences.
struct Checked<'a, M> {
    kind: Kind,
    privilege: Privilege,
    writable: &'a M,
}

/// An entry that was read, and the rights of all entries up to it: those bits that give one are set,
/// and [`NO_EXECUTE`] is inverted.
#[derive(Clone, Copy)]
struct Found {
    at: u64,
    entry: u64,
    rights: u64,
}

impl<M: GuestMemory> Walk<'_, M> {
    fn translate(&self, linear: u64) -> Result<u64, Miss> {
        let Paging { cr3, cr4, efer, .. } = *self.paging;
        if efer & LMA != 0 {
            let levels = if cr4 & LA57 != 0 { 5 } else { 4 };
            if !is_canonical(linear, levels) {
                return Err(Miss::NotCanonical);
            }
            return self.long(cr3 & ADDRESS, linear, levels);
        }
        let linear = linear & 0xffff_ffff;
        if cr4 & PAE == 0 {
            return self.two_levels(linear);
        }
        let pointer: u64 = self.load((cr3 & 0xffff_ffe0) + 8 * (linear >> 30))?;
        if pointer & PRESENT == 0 {
            return Err(self.fault(0));
        }
        self.long(pointer & ADDRESS, linear, 2)
    }

    /// Tables of 512 entries, `levels` of them.
    fn long(&self, table: u64, linear: u64, levels: u32) -> Result<u64, Miss> {
        let mut table = table;
        let mut rights = WRITABLE | USER | NO_EXECUTE;
        for level in (0..levels).rev() {
            let shift = 12 + 9 * level;
            let at = table + 8 * ((linear >> shift) & 0x1ff);
            let entry: u64 = self.load(at)?;
            if entry & PRESENT == 0 {
                return Err(self.fault(0));
            }
            rights &= entry ^ NO_EXECUTE;
            let found = Found { at, entry, rights };
            // Of the upper levels only the third has large pages, of 1 GiB.
            if level == 0 || (entry & LARGE != 0 && level <= 2) {
                self.use_page::<u64>(found)?;
                let offset = (1 << shift) - 1;
                return Ok((entry & ADDRESS & !offset) | (linear & offset));
            }
            self.mark::<u64>(found, ACCESSED)?;
            table = entry & ADDRESS;
        }
        Err(self.fault(0))
    }

    fn two_levels(&self, linear: u64) -> Result<u64, Miss> {
        let at = (self.paging.cr3 & 0xffff_f000) + 4 * (linear >> 22);
        let directory = self.load_32(at)?;
        let mut found = Found {
            at,
            entry: directory,
            rights: directory | NO_EXECUTE,
        };
        if directory & LARGE != 0 && self.paging.cr4 & PSE != 0 {
            self.use_page::<u32>(found)?;
            return Ok((directory & 0xffc0_0000) | (linear & 0x3f_ffff));
        }
        self.mark::<u32>(found, ACCESSED)?;
        found.at = (directory & 0xffff_f000) + 4 * ((linear >> 12) & 0x3ff);
        found.entry = self.load_32(found.at)?;
        found.rights &= found.entry | NO_EXECUTE;
        self.use_page::<u32>(found)?;
        Ok((found.entry & 0xffff_f000) | (linear & 0xfff))
    }

    fn load_32(&self, at: u64) -> Result<u64, Miss> {
        let entry = u64::from(self.load::<u32>(at)?);
        if entry & PRESENT == 0 {
            return Err(self.fault(0));
        }
        Ok(entry)
    }

    /// An entry, read once. Tables outside of memory translate nothing.
    fn load<T: AtomicAccess>(&self, at: u64) -> Result<T, Miss> {
        let loaded = self.memory.load(GuestAddress(at), Ordering::Relaxed);
        loaded.map_err(|_| self.fault(0))
    }

    /// Checks the rights to the page of the last entry, and marks the entry.
    fn use_page<T: Entry>(&self, found: Found) -> Result<(), Miss> {
        let Some(Checked {
            kind, privilege, ..
        }) = self.checked
        else {
            return Ok(());
        };
        if !self.is_allowed(found.rights, kind, privilege) {
            return Err(self.fault(1));
        }
        let dirty = if kind == Kind::Write { DIRTY } else { 0 };
        self.mark::<T>(found, ACCESSED | dirty)
    }

    /// [SDM3 4.6.1]
    fn is_allowed(&self, rights: u64, kind: Kind, privilege: Privilege) -> bool {
        let Paging { cr0, cr4, .. } = *self.paging;
        let is_of_user = rights & USER != 0;
        if privilege.is_user && !is_of_user {
            return false;
        }
        let (is_enforced, is_given, keeps_out) = match kind {
            Kind::Read => (false, true, cr4 & SMAP != 0 && !privilege.is_ac_set),
            Kind::Write => (
                privilege.is_user || cr0 & WP != 0,
                rights & WRITABLE != 0,
                cr4 & SMAP != 0 && !privilege.is_ac_set,
            ),
            Kind::Fetch => (
                self.paging.efer & NXE != 0,
                rights & NO_EXECUTE != 0,
                cr4 & SMEP != 0,
            ),
        };
        let is_kept_out = keeps_out && is_of_user && !privilege.is_user;
        !is_kept_out && (is_given || !is_enforced)
    }

    /// Sets bits of an entry, if it is still the one that was read.
    fn mark<T: Entry>(&self, found: Found, bits: u64) -> Result<(), Miss> {
        let Found { at, entry, .. } = found;
        let Some(Checked { writable, .. }) = self.checked else {
            return Ok(());
        };
        if entry & bits == bits {
            return Ok(());
        }
        let slice = writable.get_slice(GuestAddress(at), size_of::<T>());
        let slice = slice.map_err(|_| Miss::Protected)?;
        let word = slice.get_atomic_ref::<T::Atomic>(0);
        let word = word.map_err(|_| self.fault(0))?;
        if T::replace(word, entry, entry | bits) {
            Ok(())
        } else {
            Err(Miss::Changed)
        }
    }

    /// #PF; `present` is bit 0 of its error code.
    fn fault(&self, present: u32) -> Miss {
        let Some(Checked {
            kind, privilege, ..
        }) = self.checked
        else {
            return Miss::Fault(present);
        };
        let Paging { cr4, efer, .. } = *self.paging;
        // Fetches are told from reads only where the guest could forbid them.
        let is_told = cr4 & SMEP != 0 || (cr4 & PAE != 0 && efer & NXE != 0);
        let of_kind = match kind {
            Kind::Read => 0,
            Kind::Write => 1 << 1,
            Kind::Fetch => u32::from(is_told) << 4,
        };
        Miss::Fault(present | of_kind | (u32::from(privilege.is_user) << 2))
    }
}

/// An entry of 32 or 64 bits.
trait Entry {
    type Atomic: AtomicInteger;

    /// Stores `new` in place of `old`. Returns false if something else was there.
    fn replace(word: &Self::Atomic, old: u64, new: u64) -> bool;
}

impl Entry for u64 {
    type Atomic = std::sync::atomic::AtomicU64;

    fn replace(word: &Self::Atomic, old: u64, new: u64) -> bool {
        word.compare_exchange(old, new, Ordering::SeqCst, Ordering::Relaxed)
            .is_ok()
    }
}

impl Entry for u32 {
    type Atomic = std::sync::atomic::AtomicU32;

    fn replace(word: &Self::Atomic, old: u64, new: u64) -> bool {
        // CAST: both come from an entry of 32 bits.
        let (old, new) = (old as u32, new as u32);
        word.compare_exchange(old, new, Ordering::SeqCst, Ordering::Relaxed)
            .is_ok()
    }
}

/// Returns true if the bits above those that are translated are copies of the highest one.
pub(crate) const fn is_canonical(linear: u64, levels: u32) -> bool {
    let unused = 64 - (12 + 9 * levels);
    // CAST: the sign is what this is about.
    ((linear << unused) as i64 >> unused) as u64 == linear
}

#[cfg(test)]
mod tests;
