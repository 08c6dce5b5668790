// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! Interrupt fields of the run page: those requested by others, what the kernel may handle, why the
//! lower VTL is halted, and its timer.

use core::mem::offset_of;
use core::sync::atomic::{AtomicU8, AtomicU32, AtomicU64, Ordering};

use super::{RunPage, context};
use crate::Vectors;
use crate::abi::{ApicTimer, RUN_TIMER, RunPageLayout};

/// What the kernel may handle for VTL0 without an exit to userspace.
#[bitfield_struct::bitfield(u8)]
#[derive(PartialEq, Eq)]
pub struct Offload {
    /// Post requested interrupts to the virtual-APIC page, and carry out HLT and reads of guest
    /// idle.
    pub interrupts: bool,
    /// Carry out writes of the x2APIC's interrupt command register, too.
    pub x2apic: bool,
    #[bits(6)]
    _halts: u8,
}

/// Why a lower VTL is halted: it is not entered, and the thread sleeps instead.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Halt {
    /// By HLT: an interrupt ends it only if the guest can accept it.
    Hlt,
    /// By a read of guest idle: an interrupt ends it in any case.
    GuestIdle,
    /// For a reason that only userspace can end, such as waiting for a SIPI.
    Userspace,
    /// Halted, for none of these reasons.
    Plain,
}

/// A cache flush that an instruction of the guest asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CacheFlush {
    /// WBINVD.
    WriteBackInvalidate = 1,
    /// WBNOINVD.
    WriteBack = 2,
}

const RUN_HALTED: u32 = 1 << 0;
const OFFLOADS: u8 = 0x1f;
const HALT_OTHER: u8 = 1 << 5;
const HALT_HLT: u8 = 1 << 6;
const HALT_IDLE: u8 = 1 << 7;
const UPDATE: u8 = 1 << 0;
/// Lower ones belong to exceptions.
const FIRST_VECTOR: u8 = 16;

macro_rules! timer {
    ($field:ident) => {
        RUN_TIMER + offset_of!(ApicTimer, $field)
    };
}

impl Halt {
    /// Decodes the halt bits of the offload flags; `None` if none is set.
    pub(crate) const fn from_reasons(byte: u8) -> Option<Self> {
        match byte & (HALT_OTHER | HALT_HLT | HALT_IDLE) {
            0 => None,
            byte if byte & HALT_OTHER != 0 => Some(Self::Userspace),
            byte if byte & HALT_HLT != 0 => Some(Self::Hlt),
            _ => Some(Self::GuestIdle),
        }
    }

    /// Encodes it as bits of the offload flags.
    pub(crate) const fn reasons(self) -> u8 {
        match self {
            Self::Hlt => HALT_HLT,
            Self::GuestIdle => HALT_IDLE,
            Self::Userspace => HALT_OTHER,
            Self::Plain => 0,
        }
    }
}

impl RunPage {
    /// Requests an interrupt of VTL0, from any thread. Call [`crate::Vtl::kick`] afterwards if the
    /// virtual processor may be running or halted.
    pub fn request_interrupt(&self, vector: u8) {
        let (word, bit) = Vectors::place(vector);
        let base = offset_of!(RunPageLayout, proxy_irr);
        // ORDERING: the kernel clears the flag before it reads the bits, so the bit must be set
        // first.
        self.page
            .word::<AtomicU32>(base + 4 * word)
            .fetch_or(bit, Ordering::SeqCst);
        self.scan().store(1, Ordering::SeqCst);
    }

    /// Takes the interrupts that others have requested, including those that the kernel requested
    /// on behalf of the host. Without [`Offload::interrupts`] there may be some after each
    /// [`crate::Exit::Interrupted`].
    pub fn take_interrupts(&self) -> Vectors {
        // ORDERING: a thread that sets a bit after this also sets the flag again.
        self.scan().store(0, Ordering::SeqCst);
        let base = offset_of!(RunPageLayout, proxy_irr);
        Vectors::from_words(core::array::from_fn(|word| {
            self.page
                .word::<AtomicU32>(base + 4 * word)
                .swap(0, Ordering::SeqCst)
        }))
    }

    /// Vectors that the host may not request: all of them, until userspace changes this.
    pub fn blocked_interrupts(&self) -> Vectors {
        self.vectors(offset_of!(RunPageLayout, proxy_irr_blocked))
    }

    /// Sets the vectors that the host may not request.
    pub fn set_blocked_interrupts(&self, vectors: Vectors) {
        self.set_vectors(offset_of!(RunPageLayout, proxy_irr_blocked), vectors);
    }

    /// Vectors that are left to userspace with [`Offload::interrupts`].
    pub fn exit_interrupts(&self) -> Vectors {
        self.vectors(offset_of!(RunPageLayout, proxy_irr_exit_mask))
    }

    /// Sets the vectors that are left to userspace.
    pub fn set_exit_interrupts(&self, vectors: Vectors) {
        self.set_vectors(offset_of!(RunPageLayout, proxy_irr_exit_mask), vectors);
    }

    /// What the kernel may handle without an exit.
    pub fn offload(&self) -> Offload {
        Offload::from_bits(self.offload_byte().load(Ordering::Relaxed) & OFFLOADS)
    }

    /// Sets what the kernel may handle without an exit. Only while the virtual processor is not
    /// running: the kernel records halts in the same byte.
    pub fn set_offload(&self, offload: Offload) {
        let halts = self.offload_byte().load(Ordering::Relaxed) & !OFFLOADS;
        let byte = halts | (offload.into_bits() & OFFLOADS);
        self.offload_byte().store(byte, Ordering::Relaxed);
    }

    /// Why the lower VTL is halted, if it is.
    pub fn halt(&self) -> Option<Halt> {
        let flags: &AtomicU32 = self.page.word(offset_of!(RunPageLayout, flags));
        if flags.load(Ordering::Relaxed) & RUN_HALTED == 0 {
            return None;
        }
        let byte = self.offload_byte().load(Ordering::Relaxed);
        Some(Halt::from_reasons(byte).unwrap_or(Halt::Plain))
    }

    /// Halts the lower VTL, or ends a halt. Only while the virtual processor is not running.
    pub fn set_halt(&self, halt: Option<Halt>) {
        let reason = halt.map_or(0, Halt::reasons);
        let byte = self.offload_byte().load(Ordering::Relaxed) & OFFLOADS;
        self.offload_byte().store(byte | reason, Ordering::Relaxed);
        let flags = if halt.is_some() { RUN_HALTED } else { 0 };
        self.set_u32(offset_of!(RunPageLayout, flags), flags);
    }

    /// RVI and SVI: the highest virtual interrupt that is requested, and the highest in service.
    pub fn interrupt_status(&self) -> (u8, u8) {
        let byte = |offset| self.page.word::<AtomicU8>(offset).load(Ordering::Relaxed);
        (byte(context!(guest.rvi)), byte(context!(guest.svi)))
    }

    /// Sets RVI and SVI.
    pub fn set_interrupt_status(&self, rvi: u8, svi: u8) {
        self.set_u8(context!(guest.rvi), rvi);
        self.set_u8(context!(guest.svi), svi);
    }

    /// Makes the lower VTL exit with [`crate::Exit::Deadline`] when the TSC reaches `deadline`,
    /// even if it is halted.
    pub fn arm_deadline(&self, deadline: u64) {
        self.set_u64(context!(l2_tsc_deadline.deadline), deadline);
        // ORDERING: this thread itself makes the ioctl that reads both.
        self.set_u8(context!(l2_tsc_deadline.update), UPDATE);
    }

    /// Disarms the deadline.
    pub fn disarm_deadline(&self) {
        self.arm_deadline(0);
    }

    /// The deadline that the next run arms; `None` if the kernel has armed it already, or none is
    /// set.
    pub fn deadline(&self) -> Option<u64> {
        let update: &AtomicU8 = self.page.word(context!(l2_tsc_deadline.update));
        let deadline: &AtomicU64 = self.page.word(context!(l2_tsc_deadline.deadline));
        let is_new = update.load(Ordering::Relaxed) & UPDATE != 0;
        Some(deadline.load(Ordering::Relaxed)).filter(|deadline| is_new && *deadline != 0)
    }

    /// Leaves the timer of VTL0's APIC to the kernel, together with [`Offload::interrupts`]: writes of
    /// IA32_TSC_DEADLINE do not exit to userspace, and the kernel posts this vector once the deadline
    /// has passed. `None` leaves it to userspace. Set a vector only while the timer is in TSC-deadline
    /// mode and not masked.
    ///
    /// A deadline set by [`set_timer_deadline`](Self::set_timer_deadline) also has to be armed, by
    /// [`arm_deadline`](Self::arm_deadline).
    pub fn set_timer_vector(&self, vector: Option<u8>) {
        self.set_u8(timer!(vector), vector.unwrap_or(0));
    }

    /// Vector of the timer, if the kernel serves it.
    pub fn timer_vector(&self) -> Option<u8> {
        let vector: &AtomicU8 = self.page.word(timer!(vector));
        Some(vector.load(Ordering::Relaxed)).filter(|vector| *vector >= FIRST_VECTOR)
    }

    /// Value of VTL0's IA32_TSC_DEADLINE, if the kernel serves the timer.
    pub fn timer_deadline(&self) -> u64 {
        self.u64(timer!(deadline))
    }

    /// Sets the value of VTL0's IA32_TSC_DEADLINE. Only while the virtual processor is not running.
    pub fn set_timer_deadline(&self, deadline: u64) {
        self.set_u64(timer!(deadline), deadline);
    }

    /// Makes the kernel ask the host for a cache flush before the next entry.
    pub fn request_cache_flush(&self, flush: CacheFlush) {
        let flags: &AtomicU64 = self.page.word(context!(vp_state.flags));
        // CAST: the discriminant.
        flags.fetch_or(flush as u64, Ordering::Relaxed);
    }

    fn scan(&self) -> &AtomicU8 {
        self.page.word(offset_of!(RunPageLayout, scan_proxy_irr))
    }

    fn offload_byte(&self) -> &AtomicU8 {
        self.page.word(offset_of!(RunPageLayout, offload_flags))
    }

    fn vectors(&self, offset: usize) -> Vectors {
        Vectors::from_words(core::array::from_fn(|word| {
            self.page
                .word::<AtomicU32>(offset + 4 * word)
                .load(Ordering::SeqCst)
        }))
    }

    fn set_vectors(&self, offset: usize, vectors: Vectors) {
        for (word, bits) in vectors.words().into_iter().enumerate() {
            self.page
                .word::<AtomicU32>(offset + 4 * word)
                .store(bits, Ordering::SeqCst);
        }
    }
}
