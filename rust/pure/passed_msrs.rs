// SPDX-License-Identifier: GPL-2.0
//! Which MSRs userspace may let a lower VTL access without an exit.
//!
//! A clear bit in an L2's MSR bitmap lets the access through to the processor, unless the TDX
//! module intercepts it itself. What the TDX module does not switch between L1 and L2 then leaks to
//! the other side, so a bit may be cleared only for an MSR with a row here. Initially all bits are
//! set, and setting a bit is always allowed. [ABI TD MSR table] [TDP 2.5]

/// What keeps the values of lower VTL and VTL2 apart.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum MsrKeeper {
    /// The TDX module: the MSR is in the VMCS or in the virtual-APIC page, or emulated.
    TdxModule,
    /// `run/context.rs`, if the TD has the MSR; if not, the TDX module refuses the access.
    Kernel,
    /// Nothing needs to: it is a command, or has the same value on both sides.
    Stateless,
}

/// A range of MSRs that may be passed through.
#[derive(Clone, Copy, Debug)]
pub struct Row {
    first: u32,
    last: u32,
    /// Who keeps the values apart.
    pub keeper: MsrKeeper,
    reads: bool,
    writes: bool,
}

const fn both(first: u32, last: u32, keeper: MsrKeeper) -> Row {
    Row {
        first,
        last,
        keeper,
        reads: true,
        writes: true,
    }
}

const fn read_only(index: u32, keeper: MsrKeeper) -> Row {
    Row {
        writes: false,
        ..both(index, index, keeper)
    }
}

const fn write_only(index: u32, keeper: MsrKeeper) -> Row {
    Row {
        reads: false,
        ..both(index, index, keeper)
    }
}

/// All of them, sorted. Not listed, because nothing switches them: performance counters, PEBS and
/// DS_AREA, processor trace, last-branch records, user interrupts, UARCH_MISC_CTL, CSTAR. Writes of
/// IA32_XSS must exit to userspace: they could enable components that nothing switches. So must those
/// of DEBUGCTL: TR and BTS would store branches where VTL2's DS_AREA points to (`vmcs_write.rs`).
#[rustfmt::skip]
pub static ROWS: [Row; 31] = [
    read_only(0x10, MsrKeeper::Stateless),             // TIME_STAMP_COUNTER
    both(0x48, 0x48, MsrKeeper::Kernel),               // SPEC_CTRL
    write_only(0x49, MsrKeeper::Stateless),            // PRED_CMD
    both(0xe1, 0xe1, MsrKeeper::Kernel),               // UMWAIT_CONTROL
    read_only(0x10a, MsrKeeper::TdxModule),            // ARCH_CAPABILITIES
    write_only(0x10b, MsrKeeper::Stateless),           // FLUSH_CMD
    both(0x122, 0x122, MsrKeeper::Kernel),             // TSX_CTRL
    both(0x174, 0x176, MsrKeeper::TdxModule),          // SYSENTER_CS, ESP, EIP
    read_only(0x1a0, MsrKeeper::TdxModule),            // MISC_ENABLE
    both(0x1c4, 0x1c5, MsrKeeper::Kernel),             // XFD, XFD_ERR
    read_only(0x1d9, MsrKeeper::TdxModule),            // DEBUGCTL
    both(0x277, 0x277, MsrKeeper::TdxModule),          // PAT
    read_only(0x345, MsrKeeper::TdxModule),            // PERF_CAPABILITIES
    both(0x6a0, 0x6a0, MsrKeeper::Kernel),             // U_CET
    both(0x6a2, 0x6a2, MsrKeeper::TdxModule),          // S_CET
    both(0x6a4, 0x6a7, MsrKeeper::Kernel),             // PL0_SSP to PL3_SSP
    both(0x6a8, 0x6a8, MsrKeeper::TdxModule),          // INTERRUPT_SSP_TABLE_ADDR
    both(0x6e1, 0x6e1, MsrKeeper::TdxModule),          // PKRS
    both(0x808, 0x808, MsrKeeper::TdxModule),          // X2APIC_TPR
    both(0x80a, 0x80b, MsrKeeper::TdxModule),          // X2APIC_PPR, EOI
    both(0x810, 0x827, MsrKeeper::TdxModule),          // X2APIC_ISR, TMR, IRR
    both(0x83f, 0x83f, MsrKeeper::TdxModule),          // X2APIC_SELF_IPI
    read_only(0xda0, MsrKeeper::Kernel),               // XSS
    both(0xc000_0080, 0xc000_0080, MsrKeeper::TdxModule), // EFER
    both(0xc000_0081, 0xc000_0081, MsrKeeper::Kernel), // STAR
    both(0xc000_0082, 0xc000_0082, MsrKeeper::Kernel), // LSTAR
    both(0xc000_0084, 0xc000_0084, MsrKeeper::Kernel), // FMASK
    both(0xc000_0100, 0xc000_0100, MsrKeeper::TdxModule), // FS_BASE
    both(0xc000_0101, 0xc000_0101, MsrKeeper::TdxModule), // GS_BASE
    both(0xc000_0102, 0xc000_0102, MsrKeeper::Kernel), // KERNEL_GS_BASE
    both(0xc000_0103, 0xc000_0103, MsrKeeper::Kernel), // TSC_AUX
];

/// Words of a quarter of the bitmap: reads of MSRs 0 to 1FFF, reads of C0000000 to C0001FFF, then
/// writes of both. [SDM3 26.6.9]
const QUARTER: u64 = 128;

/// Returns true if writing `value` under `mask` to a word of a bitmap clears only bits of MSRs with
/// a row.
pub fn may_clear(word: u64, value: u64, mask: u64) -> bool {
    if word >= 4 * QUARTER {
        return false;
    }
    let cleared = mask & !value;
    let first = high_half(word) | (64 * (word % QUARTER) as u32); // CAST: below 8192
    let is_write = word >= 2 * QUARTER;
    (0..64)
        .filter(|bit| (cleared >> bit) & 1 == 1)
        .all(|bit| is_passed(first + bit, is_write))
}

const fn high_half(word: u64) -> u32 {
    if (word / QUARTER) % 2 == 1 {
        0xc000_0000
    } else {
        0
    }
}

fn is_passed(index: u32, is_write: bool) -> bool {
    ROWS.iter().any(|row| {
        (row.first..=row.last).contains(&index) && if is_write { row.writes } else { row.reads }
    })
}

#[cfg(any(test, CONFIG_KUNIT = "y"))]
#[cfg_attr(
    CONFIG_KUNIT = "y",
    kernel::prelude::kunit_tests(vtl_passed_msrs),
    allow(unsafe_code)
)]
mod tests {
    use super::*;

    /// Word and bit of an access, derived separately from the layout of the bitmap.
    fn position(index: u32, is_write: bool) -> (u64, u64) {
        let low = u64::from(index & 0x1fff);
        let quarter = u64::from(index >> 31) + 2 * u64::from(is_write);
        (128 * quarter + low / 64, 1 << (low % 64))
    }

    fn passes(index: u32, is_write: bool) -> bool {
        let (word, bit) = position(index, is_write);
        may_clear(word, 0, bit)
    }

    /// Results for reading and for writing.
    fn both_ways(index: u32) -> (bool, bool) {
        (passes(index, false), passes(index, true))
    }

    #[test]
    fn rows_are_sorted_and_apart() {
        for pair in ROWS.windows(2) {
            assert!(pair[0].first <= pair[0].last && pair[0].last < pair[1].first);
        }
    }

    #[test]
    fn what_a_paravisor_passes_through_may_be_passed() {
        let read = [0x10, 0xc000_0103, 0xc000_0080, 0xc000_0081, 0xc000_0082];
        for index in read.into_iter().chain([0xc000_0084, 0x174, 0x175, 0x176]) {
            assert_eq!((index, passes(index, false)), (index, true));
        }
        let both = [0xc000_0100, 0xc000_0101, 0xc000_0102, 0x48, 0x6a0, 0x6a2];
        let cet = [0x6a4, 0x6a5, 0x6a6, 0x6a7, 0x6a8];
        for index in both.into_iter().chain(cet).chain([0x1c4, 0x1c5]) {
            assert_eq!((index, both_ways(index)), (index, (true, true)));
        }
        for word in [0x20, 0x120] {
            assert!(may_clear(word, 0x7fff_ffff_ffff_f6ff, u64::MAX));
        }
    }

    #[test]
    fn what_nobody_switches_stays_intercepted() {
        let counters = (0xc1..=0xc8).chain(0x186..=0x18d).chain(0x309..=0x310);
        let pebs = (0x38d..=0x392).chain(0x3f1..=0x3f7).chain(0x4c1..=0x4c8);
        let trace = (0x560..=0x561).chain(0x570..=0x572).chain(0x580..=0x587);
        let branches = (0x14ce..=0x14cf)
            .chain(0x1500..=0x16ff)
            .chain(0x1200..=0x12ff);
        let rest = (0x985..=0x98a).chain([0x600, 0x1a6, 0x1a7, 0x1b01, 0xc000_0083]);
        let all = counters
            .chain(pebs)
            .chain(trace)
            .chain(branches)
            .chain(rest);
        for index in all {
            assert_eq!((index, both_ways(index)), (index, (false, false)));
        }
    }

    #[test]
    fn reading_does_not_mean_writing() {
        for index in [0x10, 0x10a, 0x1a0, 0x1d9, 0x345, 0xda0] {
            assert_eq!((index, both_ways(index)), (index, (true, false)));
        }
        for index in [0x49, 0x10b] {
            assert_eq!((index, both_ways(index)), (index, (false, true)));
        }
    }

    #[test]
    fn every_bit_of_every_word_means_the_msr_of_the_layout() {
        let mut passed = 0;
        for half in [0, 0xc000_0000] {
            for index in half..half + 0x2000 {
                for is_write in [false, true] {
                    let (word, bit) = position(index, is_write);
                    let row = ROWS.iter().find(|r| r.first <= index && index <= r.last);
                    let wanted = row.is_some_and(|r| if is_write { r.writes } else { r.reads });
                    assert_eq!((index, may_clear(word, !bit, bit)), (index, wanted));
                    passed += u32::from(wanted);
                }
            }
        }
        assert!(passed > 100);
    }

    #[test]
    fn setting_bits_and_touching_none_is_always_allowed() {
        for word in 0..512 {
            assert!(may_clear(word, u64::MAX, u64::MAX));
            assert!(may_clear(word, 0, 0));
        }
    }

    #[test]
    fn one_bad_bit_among_good_ones_is_enough() {
        // STAR, LSTAR and FMASK, and CSTAR between them.
        assert!(may_clear(130, 0, 0x16));
        assert!(!may_clear(130, 0, 0x1e));
        assert!(may_clear(130, 8, 0x1e));
        assert!(!may_clear(130, 0, u64::MAX));
    }

    #[test]
    fn there_are_512_words() {
        for word in [512, 513, 0x2012, 0xff_ffff, u64::MAX] {
            assert!(!may_clear(word, u64::MAX, u64::MAX));
        }
    }
}
