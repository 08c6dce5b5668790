// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! Reads the instruction at which a guest stopped, through the guest's own page tables.

use crate::mem::guest::GuestMemory;
use crate::mem::walk::{self, Paging};
use svm::insn::{self, Insn, MAX_LEN_BYTES, Mode};
use tdx_model::gpa::SHARED_BIT;

/// Guest-physical address of a linear one, without SHARED bit.
pub fn translate(guest: &svm::Vcpu, memory: &GuestMemory, linear: u64) -> Option<u64> {
    let save = &guest.vmcb.save;
    let paging = Paging {
        cr0: save.cr0,
        cr3: save.cr3,
        cr4: save.cr4,
        efer: save.efer,
    };
    let gpa = walk::translate(paging, linear, |gpa| memory.read_u64(gpa & !SHARED_BIT))?;
    Some(gpa & !SHARED_BIT)
}

/// The bytes at a guest's RIP. Fewer than a whole instruction where memory ends.
pub struct Fetched {
    bytes: [u8; MAX_LEN_BYTES],
    len: usize,
}

impl Fetched {
    /// The bytes.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}

/// Fetches the instruction at which a guest stopped, through its own page tables.
pub fn fetch(guest: &svm::Vcpu, memory: &GuestMemory) -> Fetched {
    let save = &guest.vmcb.save;
    let mut linear = save.rip;
    if Mode::of(save) != Mode::Code64 {
        linear = linear.wrapping_add(save.cs.base) & 0xffff_ffff;
    }
    let mut fetched = Fetched {
        bytes: [0; MAX_LEN_BYTES],
        len: 0,
    };
    while fetched.len < MAX_LEN_BYTES {
        let at = linear.wrapping_add(fetched.len as u64);
        let Some(gpa) = translate(guest, memory, at) else {
            break;
        };
        let in_page = 4096 - (at as usize & 4095);
        let end = MAX_LEN_BYTES.min(fetched.len + in_page);
        if !memory.read(gpa, &mut fetched.bytes[fetched.len..end]) {
            break;
        }
        fetched.len = end;
    }
    fetched
}

/// Decodes the instruction a guest stopped at.
pub fn decode(guest: &svm::Vcpu, memory: &GuestMemory) -> Option<Insn> {
    insn::decode(fetch(guest, memory).bytes(), Mode::of(&guest.vmcb.save))
}
