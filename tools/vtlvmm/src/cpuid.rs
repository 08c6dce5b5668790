// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! CPUID as the guest sees it: a table of what it gets of this VTL's own CPUID, and the leaves that
//! describe the virtual machine.
//!
//! A feature is shown only if the kernel module and this crate keep its state for the guest. What
//! is not in the table is zero, the TDX leaf in particular.

/// A processor, as described by its own CPUID.
#[derive(Clone, Copy, Debug)]
pub struct CpuidSubject {
    /// Its x2APIC ID.
    pub apic_id: u32,
    /// How many there are.
    pub count: u32,
    /// Frequency of the time-stamp counter.
    pub tsc_khz: u64,
}

/// State that CPUID shows and that the guest changes.
#[derive(Clone, Copy, Debug, Default)]
pub struct State {
    /// CR4.
    pub cr4: u64,
    /// XCR0.
    pub xcr0: u64,
}

/// EAX, EBX, ECX, EDX.
pub type Answer = [u32; 4];

/// Extended state that the guest may enable: x87, SSE, AVX.
pub const XCR0_MOST: u64 = 0b111;

/// Frequency of the APIC timer, and the one from which the TSC's is computed, if it divides the
/// TSC's.
const CRYSTAL_KHZ: u64 = 25_000;
const LAST_BASIC: u32 = 0x16;
const LAST_EXTENDED: u32 = 0x8000_0008;

/// Bits of a register that are the processor's own.
struct Row {
    leaf: u32,
    subleaf: Option<u32>,
    kept: Answer,
}

const ALL: u32 = u32::MAX;

/// A value with these bits set.
const fn bits(numbers: &[u32]) -> u32 {
    let mut word = 0;
    let mut at = 0;
    while at < numbers.len() {
        word |= 1 << numbers[at];
        at += 1;
    }
    word
}

/// SSE3, PCLMULQDQ, SSSE3, FMA, CX16, PCID, SSE4.1, SSE4.2, MOVBE, POPCNT, AES, XSAVE, AVX, F16C,
/// RDRAND. Not MONITOR, VMX, SMX, PDCM, MTRRs, machine checks.
const FEATURES_ECX: u32 = bits(&[0, 1, 9, 12, 13, 17, 19, 20, 22, 23, 25, 26, 28, 29, 30]);
/// FPU, VME, DE, PSE, TSC, MSR, PAE, CX8, APIC, SEP, PGE, CMOV, PAT, PSE-36, CLFSH, MMX, FXSR, SSE,
/// SSE2, SS.
const FEATURES_EDX: u32 = bits(&[
    0, 1, 2, 3, 4, 5, 6, 8, 9, 11, 13, 15, 16, 17, 19, 23, 24, 25, 26, 27,
]);
/// FSGSBASE, BMI1, AVX2, SMEP, BMI2, ERMS, INVPCID, RDSEED, ADX, SMAP, CLFLUSHOPT, CLWB, SHA.
const STRUCTURED_EBX: u32 = bits(&[0, 3, 5, 7, 8, 9, 10, 18, 19, 20, 23, 24, 29]);
/// UMIP, GFNI, VAES, VPCLMULQDQ, RDPID. Not PKU, LA57, WAITPKG, CET.
const STRUCTURED_ECX: u32 = bits(&[2, 8, 9, 10, 22]);
/// FSRM, MD_CLEAR, SPEC_CTRL, STIBP, ARCH_CAPABILITIES, SSBD.
const STRUCTURED_EDX: u32 = bits(&[4, 10, 26, 27, 29, 31]);

const ROWS: [Row; 14] = [
    Row {
        leaf: 0x0,
        subleaf: None,
        kept: [0, ALL, ALL, ALL],
    },
    Row {
        leaf: 0x1,
        subleaf: None,
        kept: [ALL, 0xff00, FEATURES_ECX, FEATURES_EDX],
    },
    Row {
        leaf: 0x2,
        subleaf: None,
        kept: [ALL; 4],
    },
    // Without the numbers of cores and threads.
    Row {
        leaf: 0x4,
        subleaf: None,
        kept: [0x3fff, ALL, ALL, ALL],
    },
    Row {
        leaf: 0x7,
        subleaf: Some(0),
        kept: [0, STRUCTURED_EBX, STRUCTURED_ECX, STRUCTURED_EDX],
    },
    // XSAVEOPT, XSAVEC, XGETBV with ECX = 1.
    Row {
        leaf: 0xd,
        subleaf: Some(1),
        kept: [0b111, 0, 0, 0],
    },
    Row {
        leaf: 0xd,
        subleaf: Some(2),
        kept: [ALL, ALL, 0, 0],
    },
    // LAHF, LZCNT, PREFETCHW; SYSCALL, NX, 1 GiB pages, RDTSCP, long mode.
    Row {
        leaf: 0x8000_0001,
        subleaf: None,
        kept: [0, 0, bits(&[0, 5, 8]), bits(&[11, 20, 26, 27, 29])],
    },
    Row {
        leaf: 0x8000_0002,
        subleaf: None,
        kept: [ALL; 4],
    },
    Row {
        leaf: 0x8000_0003,
        subleaf: None,
        kept: [ALL; 4],
    },
    Row {
        leaf: 0x8000_0004,
        subleaf: None,
        kept: [ALL; 4],
    },
    Row {
        leaf: 0x8000_0005,
        subleaf: None,
        kept: [ALL; 4],
    },
    Row {
        leaf: 0x8000_0006,
        subleaf: None,
        kept: [ALL; 4],
    },
    Row {
        leaf: 0x8000_0008,
        subleaf: None,
        kept: [0xff, bits(&[12, 14, 15, 24]), 0, 0],
    },
];

/// Answers CPUID; `own` is the instruction at this level.
pub fn answer(
    leaf: u32,
    subleaf: u32,
    processor: CpuidSubject,
    state: State,
    own: impl Fn(u32, u32) -> Answer,
) -> Answer {
    let masked = masked(leaf, subleaf, own);
    match leaf {
        0x0 => [LAST_BASIC, masked[1], masked[2], masked[3]],
        0x1 => features(masked, processor, state),
        // The APIC timer runs in every state of the processor.
        0x6 => [1 << 2, 0, 0, 0],
        0xb => topology(subleaf, processor),
        0xd => extended_state(subleaf, masked, state),
        0x15 => time_stamp_counter(processor.tsc_khz),
        0x16 => base_frequency(processor.tsc_khz),
        0x4000_0000..=0x4fff_ffff => hypervisor(leaf),
        0x8000_0000 => [LAST_EXTENDED, 0, 0, 0],
        // The TSC runs at one rate, as in every TD.
        0x8000_0007 => [0, 0, 0, 1 << 8],
        0x8000_0008 => address_bits(masked),
        _ => masked,
    }
}

fn masked(leaf: u32, subleaf: u32, own: impl Fn(u32, u32) -> Answer) -> Answer {
    let is_row =
        |row: &&Row| row.leaf == leaf && row.subleaf.is_none_or(|wanted| wanted == subleaf);
    match ROWS.iter().find(is_row) {
        Some(row) => {
            let own = own(leaf, subleaf);
            std::array::from_fn(|register| own[register] & row.kept[register])
        }
        None => [0; 4],
    }
}

fn features([eax, ebx, ecx, edx]: Answer, processor: CpuidSubject, state: State) -> Answer {
    const CR4_OSXSAVE: u64 = 1 << 18;
    const OSXSAVE: u32 = 1 << 27;
    /// x2APIC, TSC deadline, under a hypervisor.
    const ALWAYS: u32 = bits(&[21, 24, 31]);
    const SEVERAL_IDS: u32 = 1 << 28;
    let os_xsave = if state.cr4 & CR4_OSXSAVE != 0 {
        OSXSAVE
    } else {
        0
    };
    let several = if processor.count > 1 { SEVERAL_IDS } else { 0 };
    let ids = (processor.apic_id << 24) | (processor.count.min(0xff) << 16);
    [eax, ebx | ids, ecx | ALWAYS | os_xsave, edx | several]
}

/// One package of single-threaded cores.
fn topology(subleaf: u32, processor: CpuidSubject) -> Answer {
    const SMT: u32 = 1;
    const CORE: u32 = 2;
    // IDs may have gaps: the level has room for the highest there can be.
    let id_bits = (processor.count.max(processor.apic_id + 1))
        .next_power_of_two()
        .ilog2();
    let (shift, count, kind) = match subleaf {
        0 => (0, 1, SMT),
        1 => (id_bits, processor.count, CORE),
        _ => (0, 0, 0),
    };
    [
        shift,
        count,
        (kind << 8) | (subleaf & 0xff),
        processor.apic_id,
    ]
}

fn extended_state(subleaf: u32, masked: Answer, state: State) -> Answer {
    const AVX: u64 = 1 << 2;
    const LEGACY_LEN: u32 = 576;
    const AVX_LEN: u32 = 256;
    let len = |components: u64| LEGACY_LEN + if components & AVX != 0 { AVX_LEN } else { 0 };
    match subleaf {
        // CAST: three bits.
        0 => [XCR0_MOST as u32, len(state.xcr0), len(XCR0_MOST), 0],
        1 => [masked[0], len(state.xcr0), 0, 0],
        _ => masked,
    }
}

/// TSC frequency as a multiple of a crystal's [SDM2 CPUID].
fn time_stamp_counter(tsc_khz: u64) -> Answer {
    let crystal_khz = crystal_khz(tsc_khz);
    // CAST: ratios and frequencies of processors.
    [
        1,
        (tsc_khz / crystal_khz) as u32,
        (crystal_khz * 1000) as u32,
        0,
    ]
}

/// Frequency of the crystal, which the APIC timer counts.
pub const fn crystal_khz(tsc_khz: u64) -> u64 {
    if tsc_khz % CRYSTAL_KHZ == 0 && tsc_khz != 0 {
        CRYSTAL_KHZ
    } else {
        1
    }
}

fn base_frequency(tsc_khz: u64) -> Answer {
    const BUS_MHZ: u32 = 100;
    let mhz = u32::try_from(tsc_khz / 1000).unwrap_or(u32::MAX);
    [mhz, mhz, BUS_MHZ, 0]
}

/// A guest uses x2APIC without interrupt remapping only under a hypervisor that it knows. So this
/// has KVM's signature, and of its features only the one that says that port 0x80 is not used for
/// delays.
fn hypervisor(leaf: u32) -> Answer {
    const SIGNATURE: [u32; 3] = [
        u32::from_le_bytes(*b"KVMK"),
        u32::from_le_bytes(*b"VMKV"),
        u32::from_le_bytes(*b"M\0\0\0"),
    ];
    const FEATURES: u32 = 0x4000_0001;
    const NO_IO_DELAY: u32 = 1 << 1;
    match leaf {
        0x4000_0000 => [FEATURES, SIGNATURE[0], SIGNATURE[1], SIGNATURE[2]],
        FEATURES => [NO_IO_DELAY, 0, 0, 0],
        _ => [0; 4],
    }
}

/// Guest-physical addresses end where the SHARED bit is; linear ones have four levels of tables.
fn address_bits([own, ebx, ..]: Answer) -> Answer {
    const PRIVATE_BITS: u32 = 46;
    const LINEAR_BITS: u32 = 48;
    [own.min(PRIVATE_BITS) | (LINEAR_BITS << 8), ebx, 0, 0]
}

#[cfg(test)]
mod tests {
    use super::*;

    const PROCESSOR: CpuidSubject = CpuidSubject {
        apic_id: 2,
        count: 4,
        tsc_khz: 2_400_000,
    };

    /// A processor with everything.
    fn ask(leaf: u32, subleaf: u32) -> Answer {
        answer(leaf, subleaf, PROCESSOR, State::default(), |_, _| [ALL; 4])
    }

    #[test]
    fn no_leaf_tells_of_tdx_or_of_what_nobody_keeps() {
        for leaf in [
            0x3, 0x5, 0xa, 0xf, 0x10, 0x12, 0x14, 0x17, 0x19, 0x1d, 0x1e, 0x21, 0x23,
        ] {
            assert_eq!(ask(leaf, 0), [0; 4], "{leaf:#x}");
        }
        let [_, _, ecx, edx] = ask(1, 0);
        for (register, bit) in [(ecx, 3), (ecx, 5), (ecx, 6), (edx, 7), (edx, 12), (edx, 14)] {
            assert_eq!(register & (1 << bit), 0, "bit {bit}");
        }
        let [_, ebx, ecx, _] = ask(7, 0);
        // AVX-512, PKU, WAITPKG, CET, LA57.
        for (register, bit) in [(ebx, 16), (ecx, 3), (ecx, 5), (ecx, 7), (ecx, 16)] {
            assert_eq!(register & (1 << bit), 0, "bit {bit}");
        }
        assert_eq!(ask(7, 1), [0; 4]);
    }

    #[test]
    fn what_the_processor_lacks_is_not_shown() {
        let poor = answer(1, 0, PROCESSOR, State::default(), |_, _| [0; 4]);
        assert_eq!(poor[2], bits(&[21, 24, 31]));
        assert_eq!(poor[1], (2 << 24) | (4 << 16));
    }

    #[test]
    fn osxsave_and_the_size_follow_the_guest() {
        let state = State {
            cr4: 1 << 18,
            xcr0: 0b111,
        };
        let shown = answer(1, 0, PROCESSOR, state, |_, _| [0; 4]);
        assert_ne!(shown[2] & (1 << 27), 0);
        assert_eq!(
            answer(0xd, 0, PROCESSOR, state, |_, _| [0; 4]),
            [7, 832, 832, 0]
        );
        assert_eq!(ask(0xd, 0), [7, 576, 832, 0]);
    }

    #[test]
    fn the_frequency_can_be_computed_exactly() {
        for (tsc_khz, expected) in [
            (2_400_000, [1, 96, 25_000_000, 0]),
            (2_450_123, [1, 2_450_123, 1000, 0]),
        ] {
            let processor = CpuidSubject {
                tsc_khz,
                ..PROCESSOR
            };
            let [denominator, numerator, hz, _] =
                answer(0x15, 0, processor, State::default(), |_, _| [0; 4]);
            assert_eq!([denominator, numerator, hz, 0], expected);
            let found = u64::from(hz) * u64::from(numerator) / u64::from(denominator);
            assert_eq!(found, tsc_khz * 1000);
        }
    }

    #[test]
    fn the_topology_has_room_for_every_id() {
        assert_eq!(ask(0xb, 0), [0, 1, 0x100, 2]);
        assert_eq!(ask(0xb, 1), [2, 4, 0x201, 2]);
        assert_eq!(ask(0xb, 2), [0, 0, 2, 2]);
    }

    #[test]
    fn the_hypervisor_is_one_that_linux_knows() {
        let [max, words @ ..] = ask(0x4000_0000, 0);
        let text: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
        assert_eq!((max, &text[..]), (0x4000_0001, &b"KVMKVMKVM\0\0\0"[..]));
        assert_eq!(ask(0x4000_0100, 0), [0; 4]);
    }
}
