// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! The host's Hyper-V identity, as far as it needs no hardware: CPUID leaves, what hypercalls are given,
//! and a processor's synthetic interrupt controller and timers. [TLFS]
//!
//! `host/` carries out what this file decides.

pub mod call;
pub mod timers;

/// Highest leaf of the hypervisor range.
const MAX_LEAF: u32 = 0x4000_000c;

/// A hypervisor leaf: EAX, EBX, ECX, EDX.
///
/// What is not offered is absent: no hypercall page, no reference TSC page, no recommendations; and
/// no timers unless the machine has a processor that can keep them.
pub fn cpuid(leaf: u32, has_timers: bool) -> [u32; 4] {
    let word = |bytes: [u8; 4]| u32::from_le_bytes(bytes);
    let (timer_msrs, timer_mode) = match has_timers {
        true => (ACCESS_SYNTHETIC_TIMER_REGS, TIMERS_DIRECT_MODE),
        false => (0, 0),
    };
    match leaf {
        0x4000_0000 => [MAX_LEAF, word(*b"Micr"), word(*b"osof"), word(*b"t Hv")],
        0x4000_0001 => [word(*b"Hv#1"), 0, 0, 0],
        // Build, version 10.0.
        0x4000_0002 => [20_348, 10 << 16, 0, 0],
        0x4000_0003 => [
            FEATURES | timer_msrs,
            PRIVILEGES_HIGH,
            0,
            FREQUENCY_MSRS | timer_mode,
        ],
        // End interrupts of the SynIC by the interrupt controller, which the host does not see; never
        // retry a spin lock by hypercall.
        0x4000_0004 => [1 << 9, u32::MAX, 0, 0],
        // Isolation: no paravisor, type TDX, the shared bit is bit 47 and active.
        0x4000_000c => [0, 3 | (1 << 5) | (47 << 6), 0, 0],
        _ => [0; 4],
    }
}

/// Reference counter, SynIC, hypercall and VP-index MSRs, frequency MSRs, invariant TSC.
const FEATURES: u32 = (1 << 1) | (1 << 2) | (1 << 5) | (1 << 6) | (1 << 11) | (1 << 15);
const ACCESS_SYNTHETIC_TIMER_REGS: u32 = 1 << 3;
/// PostMessages, SignalEvents, AccessVSM (VTL1 may be enabled), isolation.
const PRIVILEGES_HIGH: u32 = (1 << 4) | (1 << 5) | (1 << 16) | (1 << 22);
const FREQUENCY_MSRS: u32 = 1 << 8;
const TIMERS_DIRECT_MODE: u32 = 1 << 19;

/// Synthetic MSRs.
pub mod msr {
    #![allow(missing_docs)]
    pub const GUEST_OS_ID: u32 = 0x4000_0000;
    pub const HYPERCALL: u32 = 0x4000_0001;
    pub const VP_INDEX: u32 = 0x4000_0002;
    pub const TIME_REF_COUNT: u32 = 0x4000_0020;
    pub const TSC_FREQUENCY: u32 = 0x4000_0022;
    pub const APIC_FREQUENCY: u32 = 0x4000_0023;
    pub const SCONTROL: u32 = 0x4000_0080;
    pub const SVERSION: u32 = 0x4000_0081;
    pub const SIEFP: u32 = 0x4000_0082;
    pub const SIMP: u32 = 0x4000_0083;
    pub const EOM: u32 = 0x4000_0084;
    pub const SINT0: u32 = 0x4000_0090;
    pub const SINT15: u32 = 0x4000_009f;
    pub const STIMER0_CONFIG: u32 = 0x4000_00b0;
    pub const STIMER3_COUNT: u32 = 0x4000_00b7;
    pub const TSC_INVARIANT_CONTROL: u32 = 0x4000_0118;
}

/// Status of a hypercall.
pub mod status {
    #![allow(missing_docs)]
    pub const SUCCESS: u16 = 0;
    pub const INVALID_HYPERCALL_CODE: u16 = 2;
    pub const INVALID_HYPERCALL_INPUT: u16 = 3;
    pub const INVALID_ALIGNMENT: u16 = 4;
    pub const INVALID_PARAMETER: u16 = 5;
    pub const INVALID_PARTITION_ID: u16 = 0xd;
    pub const INVALID_VP_INDEX: u16 = 0xe;
    pub const INVALID_CONNECTION_ID: u16 = 0x12;
    pub const INSUFFICIENT_BUFFERS: u16 = 0x13;
    pub const INVALID_SYNIC_STATE: u16 = 0x18;
    pub const INVALID_DEVICE_ID: u16 = 0x57;
    pub const VTL_ALREADY_ENABLED: u16 = 0x86;
}

/// Number of synthetic interrupt sources.
pub const SINTS: usize = 16;
/// A message slot.
pub const MESSAGE_BYTES: u64 = 256;
/// Event flags of one SINT.
pub const FLAGS_PER_SINT: u32 = 2048;

const ENABLED: u64 = 1;
const PAGE_MASK: u64 = !0xfff;
const SINT_MASKED: u64 = 1 << 16;
const SINT_POLLING: u64 = 1 << 18;

/// The synthetic interrupt controller of one processor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Synic {
    control: u64,
    siefp: u64,
    simp: u64,
    sint: [u64; SINTS],
}

impl Synic {
    /// After reset: off, every source masked.
    pub const RESET: Self = Self {
        control: 0,
        siefp: 0,
        simp: 0,
        sint: [SINT_MASKED; SINTS],
    };

    /// On, every source masked.
    pub const ENABLED: Self = Self {
        control: ENABLED,
        ..Self::RESET
    };

    /// RDMSR. `None` if it is not one of its registers.
    pub fn read(&self, index: u32) -> Option<u64> {
        match index {
            msr::SCONTROL => Some(self.control),
            msr::SVERSION => Some(1),
            msr::SIEFP => Some(self.siefp),
            msr::SIMP => Some(self.simp),
            msr::EOM => Some(0),
            msr::SINT0..=msr::SINT15 => Some(self.sint[(index - msr::SINT0) as usize]),
            _ => None,
        }
    }

    /// WRMSR. Returns `None` to refuse: no such register, a read-only one, or a vector below 16 for
    /// a SINT that is not masked.
    pub fn write(&mut self, index: u32, value: u64) -> Option<()> {
        match index {
            msr::SCONTROL => self.control = value,
            msr::SIEFP => self.siefp = value,
            msr::SIMP => self.simp = value,
            msr::EOM => {}
            msr::SINT0..=msr::SINT15 => {
                if value & (SINT_MASKED | SINT_POLLING) == 0 && value & 0xff < 16 {
                    return None;
                }
                self.sint[(index - msr::SINT0) as usize] = value;
            }
            _ => return None,
        }
        Some(())
    }

    fn source(&self, sint: u8) -> Option<u64> {
        let source = *self.sint.get(usize::from(sint))?;
        (self.control & ENABLED != 0 && source & SINT_MASKED == 0).then_some(source)
    }

    /// The vector to post after a message or flag for `sint`; none if it polls.
    pub fn vector(&self, sint: u8) -> Option<u8> {
        let source = self.source(sint)?;
        (source & SINT_POLLING == 0).then_some(source as u8) // CAST: the vector is the low byte
    }

    /// Address of the message slot of `sint`, if it can take one.
    pub fn message_slot(&self, sint: u8) -> Option<u64> {
        self.source(sint)?;
        (self.simp & ENABLED != 0)
            .then_some((self.simp & PAGE_MASK) + MESSAGE_BYTES * u64::from(sint))
    }

    /// Address of the byte that holds an event flag, and its bit.
    pub fn event_flag(&self, sint: u8, flag: u32) -> Option<(u64, u8)> {
        self.source(sint)?;
        if self.siefp & ENABLED == 0 || flag >= FLAGS_PER_SINT {
            return None;
        }
        let sint_bytes = u64::from(FLAGS_PER_SINT / 8);
        let byte = (self.siefp & PAGE_MASK) + sint_bytes * u64::from(sint) + u64::from(flag / 8);
        Some((byte, 1 << (flag % 8)))
    }
}

/// A message as it is laid out in its slot: type, size, flags, origin, then the payload.
pub type Message = [u8; MESSAGE_BYTES as usize];

/// Room for the payload of a message.
pub const PAYLOAD_BYTES: usize = 240;

/// Makes a message; of a payload that is too long, the rest is left out.
pub fn message(kind: u32, payload: &[u8]) -> Message {
    let mut bytes = [0; MESSAGE_BYTES as usize];
    let payload = &payload[..payload.len().min(PAYLOAD_BYTES)];
    bytes[..4].copy_from_slice(&kind.to_le_bytes());
    bytes[4] = payload.len() as u8; // CAST: at most 240
    bytes[16..][..payload.len()].copy_from_slice(payload);
    bytes
}

/// Type of a message that notifies VTL2 of interrupts for a lower VTL.
pub const PROXY_INTERRUPT: u32 = 0x8001_000f;

/// A message that asserts `count` vectors from `first` on for VTL0: a single one by its number, more
/// by a map of all vectors.
pub fn proxied(first: u8, count: u8) -> Message {
    let mut payload = [0; 36];
    if count <= 1 {
        payload[4] = first;
    } else {
        payload[1] = 1;
        for vector in (first..=u8::MAX).take(usize::from(count)) {
            payload[4 + usize::from(vector / 8)] |= 1 << (vector % 8);
        }
    }
    message(PROXY_INTERRUPT, &payload)
}

/// Messages of one processor that wait for their slots, oldest first.
#[derive(Debug)]
pub struct Queue {
    waiting: [(u8, Message); QUEUE_LEN],
    len: usize,
}

/// The host holds this many for a processor.
pub const QUEUE_LEN: usize = 8;

impl Queue {
    /// Nothing waits.
    pub const EMPTY: Self = Self {
        waiting: [(0, [0; MESSAGE_BYTES as usize]); QUEUE_LEN],
        len: 0,
    };

    /// Queues a message for the slot of `sint`. Returns false if the queue is full.
    pub fn push(&mut self, sint: u8, message: &Message) -> bool {
        let Some(free) = self.waiting.get_mut(self.len) else {
            return false;
        };
        *free = (sint, *message);
        self.len += 1;
        true
    }

    /// Returns true if a message waits for the slot of `sint`.
    pub fn has(&self, sint: u8) -> bool {
        self.waiting[..self.len].iter().any(|(of, _)| *of == sint)
    }

    /// Takes out the oldest message for `sint`.
    pub fn pop(&mut self, sint: u8) -> Option<Message> {
        let position = self.waiting[..self.len]
            .iter()
            .position(|(of, _)| *of == sint)?;
        let (_, message) = self.waiting[position];
        self.waiting[position..self.len].rotate_left(1);
        self.len -= 1;
        Some(message)
    }
}

/// Offset of a message's flags, and the flag that requests an EOM.
pub const MESSAGE_FLAGS: u64 = 5;
/// See [`MESSAGE_FLAGS`].
pub const MESSAGE_PENDING: u8 = 1;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn leaves_name_hyper_v_and_tdx_isolation() {
        let [max, ebx, ecx, edx] = cpuid(0x4000_0000, false);
        assert_eq!(max, 0x4000_000c);
        let name: Vec<u8> = [ebx, ecx, edx]
            .iter()
            .flat_map(|w| w.to_le_bytes())
            .collect();
        assert_eq!(name, b"Microsoft Hv");
        assert_eq!(cpuid(0x4000_0001, false)[0].to_le_bytes(), *b"Hv#1");
        assert_eq!((cpuid(0x4000_0003, false)[1] >> 22) & 1, 1);
        let [config_a, config_b, ..] = cpuid(0x4000_000c, false);
        assert_eq!(
            (config_a, config_b & 0xf, (config_b >> 6) & 0x3f),
            (0, 3, 47)
        );
        assert_eq!(cpuid(0x4000_000d, false), [0; 4]);
    }

    #[test]
    fn leaf_of_the_features_has_timers_only_where_somebody_keeps_them() {
        // [TLFS "Feature Identification"]: AccessSyntheticTimerRegs, AccessVSM, and timers in direct mode.
        for (has_timers, bit) in [(false, 0), (true, 1)] {
            let [eax, ebx, _, edx] = cpuid(0x4000_0003, has_timers);
            assert_eq!(((eax >> 3) & 1, (edx >> 19) & 1), (bit, bit));
            assert_eq!((ebx >> 16) & 1, 1);
        }
    }

    fn enabled() -> Synic {
        let mut synic = Synic::RESET;
        for (index, value) in [
            (msr::SCONTROL, 1),
            (msr::SIMP, 0x5001),
            (msr::SIEFP, 0x6001),
            (msr::SINT0 + 2, 0xf3),
        ] {
            synic.write(index, value).unwrap();
        }
        synic
    }

    #[test]
    fn synic_is_silent_until_control_page_and_source_are_enabled() {
        let on = enabled();
        assert_eq!(on.message_slot(2), Some(0x5200));
        assert_eq!(on.event_flag(2, 9), Some((0x6201, 2)));
        assert_eq!(on.vector(2), Some(0xf3));
        for (index, value) in [(msr::SCONTROL, 0), (msr::SINT0 + 2, 0x1_00f3)] {
            let mut off = on;
            off.write(index, value).unwrap();
            assert_eq!(off.message_slot(2), None);
            assert_eq!(off.event_flag(2, 0), None);
            assert_eq!(off.vector(2), None);
        }
        let mut pages = on;
        pages.write(msr::SIMP, 0x5000).unwrap();
        pages.write(msr::SIEFP, 0x6000).unwrap();
        assert_eq!(
            (pages.message_slot(2), pages.event_flag(2, 0)),
            (None, None)
        );
        assert_eq!(on.message_slot(16), None);
        assert_eq!(on.event_flag(2, 2048), None);
    }

    #[test]
    fn synic_registers_keep_their_values_and_bad_vectors_are_refused() {
        let mut synic = enabled();
        assert_eq!(synic.read(msr::SINT0), Some(0x1_0000));
        assert_eq!(synic.read(msr::SIMP), Some(0x5001));
        assert_eq!(
            (synic.read(msr::SVERSION), synic.read(msr::EOM)),
            (Some(1), Some(0))
        );
        assert_eq!(synic.write(msr::SVERSION, 1), None);
        assert_eq!(synic.write(msr::SINT15 + 1, 0), None);
        assert_eq!(synic.write(msr::SINT0, 15), None);
        assert_eq!(synic.write(msr::SINT0, (1 << 18) | 5), Some(()));
        assert_eq!(synic.read(msr::SINT0 - 1), None);
    }

    #[test]
    fn messages_wait_in_order_and_not_more_than_there_is_room_for() {
        let mut queue = Queue::EMPTY;
        assert_eq!(queue.pop(0), None);
        for kind in 0..QUEUE_LEN as u32 {
            let sint = (kind % 2) as u8;
            assert!(queue.push(sint, &message(kind, &[])));
        }
        assert!(!queue.push(0, &message(99, &[])));
        let kinds = |queue: &mut Queue, sint| {
            core::iter::from_fn(|| queue.pop(sint).map(|m| m[0])).collect::<Vec<u8>>()
        };
        assert_eq!(kinds(&mut queue, 1), [1, 3, 5, 7]);
        assert!(!queue.has(1) && queue.has(0));
        assert!(queue.push(1, &message(9, &[])));
        assert_eq!(kinds(&mut queue, 0), [0, 2, 4, 6]);
        assert_eq!(kinds(&mut queue, 1), [9]);
    }

    #[test]
    fn messages_have_header_and_payload_in_place() {
        let long = message(0x8000_0001, &[7; 300]);
        assert_eq!(long[..6], [1, 0, 0, 0x80, 240, 0]);
        assert_eq!((long[15], long[16], long[255]), (0, 7, 7));
        let single = proxied(0x41, 1);
        assert_eq!(single[..5], [0xf, 0, 1, 0x80, 36]);
        assert_eq!(single[16..24], [0, 0, 0, 0, 0x41, 0, 0, 0]);
        let several = proxied(0xfe, 9);
        assert_eq!(several[16..20], [0, 1, 0, 0]);
        assert_eq!(several[20 + 31], 0xc0);
        assert!(several[20..51].iter().all(|byte| *byte == 0));
    }

    #[test]
    fn source_that_polls_takes_messages_without_an_interrupt() {
        let mut synic = enabled();
        synic.write(msr::SINT0 + 2, (1 << 18) | 0xf3).unwrap();
        assert_eq!(
            (synic.vector(2), synic.message_slot(2)),
            (None, Some(0x5200))
        );
    }
}
