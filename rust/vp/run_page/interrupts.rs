// SPDX-License-Identifier: GPL-2.0
//! The run page, as far as interrupts and halts go: what others ask for (`proxy_irr`), what the
//! kernel may do about it (`offload_flags`), and the registers that it then reads and changes.
//!
//! Others ask in this order: bit in `proxy_irr`, `scan_proxy_irr`, kick. Whoever takes bits clears
//! `scan_proxy_irr` first. All are full barriers, so a bit is either taken, or its asker finds the
//! flag clear and kicks.

use super::RunPage;
use crate::pure::apic::{self, Priorities, Vector, WORDS};
use crate::pure::handled::Guest;
use crate::pure::uapi::run as offset;
use crate::pure::uapi::run::GUEST_STATE;

/// The word that `scan_proxy_irr` is the first byte of.
const SCAN_WORD: usize = offset::SCAN_PROXY_IRR;
const SCAN_BYTE: u32 = 0xff;

const RFLAGS: usize = GUEST_STATE + 0x80;
const RVI: usize = GUEST_STATE + 0x98;
const SVI: usize = GUEST_STATE + 0x99;

impl RunPage {
    /// Reads what the kernel may handle itself.
    pub(crate) fn read_offload(&self) -> u8 {
        self.0.read_u8(offset::OFFLOAD_FLAGS)
    }

    /// Notes a halt, or its end, in `offload_flags` and `flags`.
    pub(crate) fn store_halt(&self, offload: u8, flags: u32) {
        self.0.write_u8(offset::OFFLOAD_FLAGS, offload);
        self.0.write_u32(offset::FLAGS, flags);
    }

    /// Asks the VP to take an interrupt. Returns whether its thread has to be kicked: not when an
    /// earlier question, whose asker kicks, is still open.
    pub(crate) fn ask_for(&self, vector: Vector) -> bool {
        let word = offset::PROXY_IRR + 4 * vector.word();
        self.0.set_bits_u32(word, vector.bit());
        self.0.set_bits_u32(SCAN_WORD, 1) & SCAN_BYTE == 0
    }

    /// Asks the VP to take interrupts of the host, but for those that userspace blocks. Returns
    /// whether its thread has to be kicked.
    pub(crate) fn ask_for_proxied(&self, vectors: &[u32; WORDS]) -> bool {
        let mut is_any = false;
        for (index, vectors) in vectors.iter().enumerate() {
            let blocked = self.0.read_u32(offset::PROXY_IRR_BLOCKED + 4 * index);
            if vectors & !blocked != 0 {
                let word = offset::PROXY_IRR + 4 * index;
                self.0.set_bits_u32(word, vectors & !blocked);
                // Blocked meanwhile: this finds it, or `block_proxied` finds the bits.
                let blocked = self.0.read_u32(offset::PROXY_IRR_BLOCKED + 4 * index);
                if vectors & blocked != 0 {
                    self.0.clear_bits_u32(word, vectors & blocked);
                }
                is_any = true;
            }
        }
        is_any && self.0.set_bits_u32(SCAN_WORD, 1) & SCAN_BYTE == 0
    }

    /// Blocks all interrupts of the host, and forgets those that were asked for.
    pub(crate) fn block_proxied(&self) {
        for index in 0..WORDS {
            self.0
                .write_u32(offset::PROXY_IRR_BLOCKED + 4 * index, u32::MAX);
        }
        self.0.clear_bits_u32(SCAN_WORD, SCAN_BYTE);
        for index in 0..WORDS {
            self.0
                .clear_bits_u32(offset::PROXY_IRR + 4 * index, u32::MAX);
        }
    }

    /// Takes the interrupts that were asked for and gives each word of them to `deliver`, but for
    /// those that userspace wants to see. Returns whether there are some of these; then
    /// `scan_proxy_irr` is set again.
    pub(crate) fn take_proxied(&self, mut deliver: impl FnMut(usize, u32)) -> bool {
        self.0.clear_bits_u32(SCAN_WORD, SCAN_BYTE);
        let mut some_stay = false;
        for index in 0..WORDS {
            let word = offset::PROXY_IRR + 4 * index;
            if self.0.read_u32(word) == 0 {
                continue;
            }
            let exit_mask = self.0.read_u32(offset::PROXY_IRR_EXIT_MASK + 4 * index);
            let stays = apic::stays(index, exit_mask);
            let old = self.0.clear_bits_u32(word, !stays);
            some_stay |= old & stays != 0;
            if old & !stays != 0 {
                deliver(index, old & !stays);
            }
        }
        if some_stay {
            self.0.set_bits_u32(SCAN_WORD, 1);
        }
        some_stay
    }

    /// Reads the registers that say what the lower VTL did.
    pub(crate) fn read_guest(&self) -> Guest {
        Guest {
            rax: self.0.read_u64(GUEST_STATE),
            rcx: self.0.read_u64(GUEST_STATE + 0x08),
            rdx: self.0.read_u64(GUEST_STATE + 0x10),
            rflags: self.0.read_u64(RFLAGS),
            rip: self.read_rip(),
        }
    }

    /// Moves the lower VTL on to another instruction.
    pub(crate) fn store_rip(&self, rip: u64) {
        self.0.write_u64(offset::GUEST_STATE_RIP, rip);
    }

    /// Gives the lower VTL zero as what it has read from an MSR.
    pub(crate) fn store_msr_zero(&self) {
        self.0.write_u64(GUEST_STATE, 0);
        self.0.write_u64(GUEST_STATE + 0x10, 0);
    }

    /// Reads what decides about the next interrupt, with the task priority from elsewhere.
    pub(crate) fn read_priorities(&self, tpr: u8) -> Priorities {
        Priorities {
            rvi: self.0.read_u8(RVI),
            svi: self.0.read_u8(SVI),
            tpr,
        }
    }

    /// Tells the TDX module the highest vector that is requested.
    pub(crate) fn store_rvi(&self, rvi: u8) {
        self.0.write_u8(RVI, rvi);
    }

    /// Tells the TDX module that this vector is requested, too.
    pub(crate) fn raise_rvi(&self, vector: Vector) {
        self.store_rvi(self.0.read_u8(RVI).max(vector.get()));
    }

    /// The deadline of the run page is programmed.
    pub(crate) fn consume_deadline(&self) {
        self.0.write_u8(offset::TSC_DEADLINE_UPDATE, 0);
    }
}
