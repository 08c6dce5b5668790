// SPDX-License-Identifier: GPL-2.0
//! Fields of the run page about interrupts and halts: requests by others (`proxy_irr`), what the
//! kernel may handle (`offload_flags`, the timer), and the registers that it then reads and changes.
//!
//! A requester sets the bit in `proxy_irr`, then `scan_proxy_irr`, then kicks. A taker clears
//! `scan_proxy_irr` before it takes bits. All of these are full barriers, so either a bit is taken,
//! or the kick comes after the flag was cleared, and the flag is set again when it is answered. A kick is
//! not left out if the flag was set already: userspace sets it, too, and nobody knows when it will kick.

use super::RunPage;
use crate::pure::apic::{self, Priorities, Vector, WORDS};
use crate::pure::deadline::ApicTimer;
use crate::pure::handled::Guest;
use crate::pure::offload::HaltChange;
use crate::pure::uapi::run as offset;
use crate::pure::uapi::run::GUEST_STATE;
use crate::pure::uapi::timer;
use crate::pure::vtl_switch::{Caller, Own};

const SCAN: usize = offset::SCAN_PROXY_IRR;

const RAX: usize = GUEST_STATE;
const RCX: usize = GUEST_STATE + 0x08;
const RSP: usize = GUEST_STATE + 0x20;
const RFLAGS: usize = GUEST_STATE + 0x80;
const SSP: usize = GUEST_STATE + 0x90;
const RVI: usize = GUEST_STATE + 0x98;
const SVI: usize = GUEST_STATE + 0x99;

impl RunPage {
    /// Reads what the kernel may handle by itself.
    pub(crate) fn read_offload(&self) -> u8 {
        self.0.read_u8(offset::OFFLOAD_FLAGS)
    }

    /// Records a halt, or its end, in `offload_flags` and `flags`. Other threads may set and clear further
    /// bits of the former meanwhile.
    pub(crate) fn store_halt(&self, change: HaltChange) {
        let HaltChange { set, clear, flags } = change;
        if set != 0 {
            self.0.set_bits_u8(offset::OFFLOAD_FLAGS, set);
        }
        if clear != 0 {
            self.0.clear_bits_u8(offset::OFFLOAD_FLAGS, clear);
        }
        self.0.write_u32(offset::FLAGS, flags);
    }

    /// Posts an interrupt. The VP's thread has to be kicked then.
    pub(crate) fn post(&self, vector: Vector) {
        let word = offset::PROXY_IRR + 4 * vector.word();
        self.0.set_bits_u32(word, vector.bit());
        self.0.set_bits_u8(SCAN, 1);
    }

    /// Posts interrupts of the host, except those that userspace blocks. Returns true if there are any:
    /// then the VP's thread has to be kicked.
    pub(crate) fn post_proxied(&self, vectors: &[u32; WORDS]) -> bool {
        let mut is_any = false;
        for (index, vectors) in vectors.iter().enumerate() {
            let blocked = self.0.read_u32(offset::PROXY_IRR_BLOCKED + 4 * index);
            if vectors & !blocked != 0 {
                self.post_unblocked(index, vectors & !blocked);
                is_any = true;
            }
        }
        if is_any {
            self.0.set_bits_u8(SCAN, 1);
        }
        is_any
    }

    /// Posts one word of interrupts of the host. Takes back those that are blocked meanwhile, but none that
    /// somebody else has requested: either this sees that they are blocked, or [`Self::block_proxied`]
    /// sees the bits.
    fn post_unblocked(&self, index: usize, vectors: u32) {
        let word = offset::PROXY_IRR + 4 * index;
        let (mut left, mut posted) = (vectors, 0);
        while left != 0 {
            let bit = left.trailing_zeros();
            left &= left - 1;
            posted |= u32::from(self.0.set_bit_u32(word, bit)) << bit;
        }
        let blocked = self.0.read_u32(offset::PROXY_IRR_BLOCKED + 4 * index);
        if posted & blocked != 0 {
            self.0.clear_bits_u32(word, posted & blocked);
        }
    }

    /// Blocks all interrupts of the host, and drops those that were requested.
    pub(crate) fn block_proxied(&self) {
        for index in 0..WORDS {
            self.0
                .write_u32(offset::PROXY_IRR_BLOCKED + 4 * index, u32::MAX);
        }
        self.0.clear_bits_u8(SCAN, u8::MAX);
        for index in 0..WORDS {
            self.0
                .clear_bits_u32(offset::PROXY_IRR + 4 * index, u32::MAX);
        }
    }

    /// Takes the requested interrupts and passes each word of them to `deliver`, except those that
    /// exit to userspace. Returns true if there are some of these; then `scan_proxy_irr` is set
    /// again.
    pub(crate) fn take_proxied(&self, mut deliver: impl FnMut(usize, u32)) -> bool {
        self.0.clear_bits_u8(SCAN, u8::MAX);
        let mut some_stay = false;
        for index in 0..WORDS {
            let word = offset::PROXY_IRR + 4 * index;
            let requested = self.0.read_u32(word);
            if requested == 0 {
                continue;
            }
            let exit_mask = self.0.read_u32(offset::PROXY_IRR_EXIT_MASK + 4 * index);
            let stays = apic::stays(index, exit_mask);
            some_stay |= requested & stays != 0;
            let taken = requested & !stays;
            if taken != 0 {
                // One that is requested again before this is delivered with it.
                self.0.clear_bits_u32(word, taken);
                deliver(index, taken);
            }
        }
        if some_stay {
            self.0.set_bits_u8(SCAN, 1);
        }
        some_stay
    }

    /// Reads the registers that tell what the lower VTL did.
    pub(crate) fn read_guest(&self) -> Guest {
        Guest {
            rax: self.0.read_u64(GUEST_STATE),
            rcx: self.0.read_u64(GUEST_STATE + 0x08),
            rdx: self.0.read_u64(GUEST_STATE + 0x10),
            rflags: self.0.read_u64(RFLAGS),
            rip: self.read_rip(),
        }
    }

    /// Reads the registers that a VTL call or return uses, and those that it saves.
    pub(crate) fn read_caller(&self) -> Caller {
        Caller {
            rax: self.0.read_u64(RAX),
            rcx: self.0.read_u64(RCX),
            own: Own {
                rsp: self.0.read_u64(RSP),
                rip: self.read_rip(),
                rflags: self.0.read_u64(RFLAGS),
                ssp: self.0.read_u64(SSP),
                rvi: self.0.read_u8(RVI),
                svi: self.0.read_u8(SVI),
            },
        }
    }

    /// Stores the registers of a VTL that it does not share with the other.
    pub(crate) fn store_own(&self, own: &Own) {
        let Own {
            rsp,
            rip,
            rflags,
            ssp,
            rvi,
            svi,
        } = *own;
        self.0.write_u64(RSP, rsp);
        self.store_rip(rip);
        self.0.write_u64(RFLAGS, rflags);
        self.0.write_u64(SSP, ssp);
        self.0.write_u8(RVI, rvi);
        self.0.write_u8(SVI, svi);
    }

    /// Stores RAX and RCX of the lower VTL.
    pub(crate) fn store_returned(&self, [rax, rcx]: [u64; 2]) {
        self.0.write_u64(RAX, rax);
        self.0.write_u64(RCX, rcx);
    }

    /// Sets RIP of the lower VTL.
    pub(crate) fn store_rip(&self, rip: u64) {
        self.0.write_u64(offset::GUEST_STATE_RIP, rip);
    }

    /// Sets the result of the lower VTL's RDMSR to zero.
    pub(crate) fn store_msr_zero(&self) {
        self.0.write_u64(GUEST_STATE, 0);
        self.0.write_u64(GUEST_STATE + 0x10, 0);
    }

    /// Reads what decides about the next interrupt; the task priority is passed in.
    pub(crate) fn read_priorities(&self, tpr: u8) -> Priorities {
        Priorities {
            rvi: self.0.read_u8(RVI),
            svi: self.0.read_u8(SVI),
            tpr,
        }
    }

    /// Sets RVI, the highest requested vector.
    pub(crate) fn store_rvi(&self, rvi: u8) {
        self.0.write_u8(RVI, rvi);
    }

    /// Raises RVI to a vector that is requested, too.
    pub(crate) fn raise_rvi(&self, vector: Vector) {
        self.store_rvi(self.0.read_u8(RVI).max(vector.get()));
    }

    /// Reads the timer of VM 1's APIC, each field once.
    pub(crate) fn read_timer(&self) -> ApicTimer {
        ApicTimer {
            deadline: self.0.read_u64(offset::TIMER + timer::DEADLINE),
            vector: self.0.read_u8(offset::TIMER + timer::VECTOR),
        }
    }

    /// Stores the value of IA32_TSC_DEADLINE.
    pub(crate) fn store_timer_deadline(&self, deadline: u64) {
        self.0.write_u64(offset::TIMER + timer::DEADLINE, deadline);
    }

    /// Clears the update flag of the deadline, which has been programmed.
    pub(crate) fn consume_deadline(&self) {
        self.0.write_u8(offset::TSC_DEADLINE_UPDATE, 0);
    }
}
