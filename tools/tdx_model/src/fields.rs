// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! The table of L2 VMCS fields: encoding, size, who may read and write which bits, initial value.
//!
//! `vmcs.rs` stores the values, `metadata/vp.rs` gives L1 access by these masks, special rules are
//! in `metadata/vmcs_rules.rs`. For L1 no other fields exist [ABI L2 VMCS].
//!
//! Initial control values in the table are those of a TD without PERFMON, PKS and WAITPKG, on a
//! processor with the usual default-1 controls and without MONITOR; [`initial`] adjusts them.

use crate::td::{TdConfig, attributes};

/// Rules that hold for a field as a whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Any value inside the write mask.
    Plain,
    /// L1 may write only a valid private guest-physical address.
    Gpa,
}

/// One row of the table.
#[derive(Clone, Copy, Debug)]
pub(crate) struct FieldDef {
    pub(crate) field: Field,
    pub(crate) encoding: u16,
    pub(crate) size_bytes: u8,
    pub(crate) read: u64,
    pub(crate) write: u64,
    pub(crate) initial: u64,
    pub(crate) kind: Kind,
}

impl FieldDef {
    /// Element size as coded in a metadata field id.
    pub(crate) const fn size_code(&self) -> u64 {
        match self.size_bytes {
            1 => 0,
            2 => 1,
            4 => 2,
            _ => 3,
        }
    }
}

const ALL: u64 = u64::MAX;

const fn element_mask(size_bytes: u8) -> u64 {
    match size_bytes {
        1 => 0xff,
        2 => 0xffff,
        4 => 0xffff_ffff,
        _ => ALL,
    }
}

macro_rules! vmcs_fields {
    ($($name:ident $encoding:literal $size:literal, $read:expr, $write:expr, $initial:expr, $kind:ident;)*) => {
        /// A field of the L2 VMCS, by the name the SDM gives it.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        #[repr(u8)]
        #[allow(missing_docs)]
        pub enum Field {
            $($name,)*
        }

        /// All fields in ascending order of encoding; the index is the enum's value.
        pub(crate) static FIELDS: [FieldDef; FIELD_COUNT] = TABLE;

        pub(crate) const TABLE: [FieldDef; FIELD_COUNT] = [
            $(FieldDef {
                field: Field::$name,
                encoding: $encoding,
                size_bytes: $size,
                read: $read & element_mask($size),
                write: $write & element_mask($size),
                initial: $initial,
                kind: Kind::$kind,
            },)*
        ];

        /// How many fields there are.
        pub(crate) const FIELD_COUNT: usize = [$(Field::$name),*].len();
    };
}

#[rustfmt::skip]
vmcs_fields! {
    Vpid 0x0000 2, 0, 0, 0, Plain;
    PostedInterruptVector 0x0002 2, ALL, 0, 0xffff, Plain;
    EptpIndex 0x0004 2, 0, 0, 0, Plain;
    HlatPrefixSize 0x0006 2, ALL, ALL, 0, Plain;
    GuestEsSelector 0x0800 2, ALL, ALL, 0, Plain;
    GuestCsSelector 0x0802 2, ALL, ALL, 0, Plain;
    GuestSsSelector 0x0804 2, ALL, ALL, 0, Plain;
    GuestDsSelector 0x0806 2, ALL, ALL, 0, Plain;
    GuestFsSelector 0x0808 2, ALL, ALL, 0, Plain;
    GuestGsSelector 0x080a 2, ALL, ALL, 0, Plain;
    GuestLdtrSelector 0x080c 2, ALL, ALL, 0, Plain;
    GuestTrSelector 0x080e 2, ALL, ALL, 0, Plain;
    GuestInterruptStatus 0x0810 2, ALL, ALL, 0, Plain;
    PmlIndex 0x0812 2, 0, 0, 0, Plain;
    GuestUinv 0x0814 2, ALL, ALL, 0, Plain;
    IoBitmapA 0x2000 8, ALL, 0, 0xffff_ffff_ffff_ffff, Plain;
    IoBitmapB 0x2002 8, ALL, 0, 0xffff_ffff_ffff_ffff, Plain;
    MsrBitmapAddress 0x2004 8, 0, 0, 0, Plain;
    ExitMsrStoreAddress 0x2006 8, 0, 0, 0, Plain;
    ExitMsrLoadAddress 0x2008 8, 0, 0, 0, Plain;
    EntryMsrLoadAddress 0x200a 8, 0, 0, 0, Plain;
    ExecutiveVmcs 0x200c 8, 0, 0, 0, Plain;
    PmlAddress 0x200e 8, 0, 0, 0, Plain;
    TscOffset 0x2010 8, 0, 0, 0, Plain;
    VirtualApicAddress 0x2012 8, ALL, 0xffff_ffff_ffff_f000, 0xffff_ffff_ffff_ffff, Gpa;
    ApicAccessAddress 0x2014 8, 0, 0, 0, Plain;
    PostedInterruptDescriptor 0x2016 8, ALL, 0, ALL, Plain;
    VmFunctionControls 0x2018 8, ALL, 0, 0, Plain;
    Eptp 0x201a 8, 0xfff0_0000_0000_0fff, 0x80, 0x1e, Plain;
    EoiExitBitmap0 0x201c 8, ALL, ALL, 0, Plain;
    EoiExitBitmap1 0x201e 8, ALL, ALL, 0, Plain;
    EoiExitBitmap2 0x2020 8, ALL, ALL, 0, Plain;
    EoiExitBitmap3 0x2022 8, ALL, ALL, 0, Plain;
    EptpListAddress 0x2024 8, 0, 0, 0, Plain;
    VmreadBitmap 0x2026 8, 0, 0, 0, Plain;
    VmwriteBitmap 0x2028 8, 0, 0, 0, Plain;
    VeInfoAddress 0x202a 8, ALL, 0, 0xffff_ffff_ffff_ffff, Gpa;
    XssExitingBitmap 0x202c 8, ALL, ALL, 0, Plain;
    EnclsExitingBitmap 0x202e 8, ALL, 0, 0xffff_ffff_ffff_ffff, Plain;
    TscMultiplier 0x2032 8, 0, 0, 0, Plain;
    TertiaryControls 0x2034 8, ALL, 0xe, 0x80, Plain;
    EnclvExitingBitmap 0x2036 8, ALL, 0, 0xffff_ffff_ffff_ffff, Plain;
    LowPasidDirectory 0x2038 8, 0, 0, 0, Plain;
    HighPasidDirectory 0x203a 8, 0, 0, 0, Plain;
    SharedEptp 0x203c 8, 0, 0, 0, Plain;
    PconfigExitingBitmap 0x203e 8, 0, 0, 0xffff_ffff_ffff_ffff, Plain;
    HlatPointer 0x2040 8, ALL, 0xf_ffff_ffff_f018, 0, Gpa;
    SpecCtrlMask 0x204a 8, 0, 0, 0, Plain;
    SpecCtrlShadow 0x204c 8, 0, 0, 0, Plain;
    GuestPhysicalAddress 0x2400 8, ALL, ALL, 0, Plain;
    VmcsLinkPointer 0x2800 8, 0, 0, 0xffff_ffff_ffff_ffff, Plain;
    GuestDebugctl 0x2802 8, 0xffff_ffff_ffff_dfff, 0xffc7, 0, Plain;
    GuestPat 0x2804 8, ALL, ALL, 0x0007_0406_0007_0406, Plain;
    GuestEfer 0x2806 8, ALL, 0x501, 0x901, Plain;
    GuestPerfGlobalCtrl 0x2808 8, ALL, ALL, 0xff, Plain;
    Pdpte0 0x280a 8, ALL, ALL, 0xffff_ffff_ffff_ffff, Gpa;
    Pdpte1 0x280c 8, ALL, ALL, 0xffff_ffff_ffff_ffff, Gpa;
    Pdpte2 0x280e 8, ALL, ALL, 0xffff_ffff_ffff_ffff, Gpa;
    Pdpte3 0x2810 8, ALL, ALL, 0xffff_ffff_ffff_ffff, Gpa;
    GuestRtitCtl 0x2814 8, ALL, ALL, 0, Plain;
    GuestLbrCtl 0x2816 8, ALL, ALL, 0, Plain;
    GuestPkrs 0x2818 8, ALL, ALL, 0, Plain;
    PinControls 0x4000 4, ALL, 0, 0x3f, Plain;
    PrimaryControls 0x4002 4, ALL, 0x48d9_9a04, 0xb522_6dfa, Plain;
    ExceptionBitmap 0x4004 4, ALL, 0xfffb_ffff, 0x4_0000, Plain;
    PfErrorMask 0x4006 4, ALL, ALL, 0, Plain;
    PfErrorMatch 0x4008 4, ALL, ALL, 0, Plain;
    Cr3TargetCount 0x400a 4, ALL, ALL, 0, Plain;
    ExitControls 0x400c 4, ALL, 0, 0x1f3c_8204, Plain;
    ExitMsrStoreCount 0x400e 4, 0, 0, 0, Plain;
    ExitMsrLoadCount 0x4010 4, 0, 0, 0, Plain;
    EntryControls 0x4012 4, ALL, 0x200, 0x003e_c004, Plain;
    EntryMsrLoadCount 0x4014 4, 0, 0, 0, Plain;
    EntryInterruptionInfo 0x4016 4, ALL, ALL, 0, Plain;
    EntryErrorCode 0x4018 4, ALL, ALL, 0, Plain;
    EntryInstructionLength 0x401a 4, ALL, ALL, 0, Plain;
    TprThreshold 0x401c 4, ALL, ALL, 0, Plain;
    SecondaryControls 0x401e 4, ALL, 0xc51_3e0c, 0x1338_b3fa, Plain;
    PleGap 0x4020 4, ALL, ALL, 0, Plain;
    PleWindow 0x4022 4, ALL, ALL, 0, Plain;
    InstructionTimeout 0x4024 4, ALL, 0, 0, Plain;
    TdHkid 0x4026 4, 0, 0, 0, Plain;
    InstructionError 0x4400 4, ALL, ALL, 0, Plain;
    ExitReason 0x4402 4, ALL, ALL, 0, Plain;
    ExitInterruptionInfo 0x4404 4, ALL, ALL, 0, Plain;
    ExitErrorCode 0x4406 4, ALL, ALL, 0, Plain;
    IdtVectoringInfo 0x4408 4, ALL, ALL, 0, Plain;
    IdtVectoringErrorCode 0x440a 4, ALL, ALL, 0, Plain;
    ExitInstructionLength 0x440c 4, ALL, ALL, 0, Plain;
    ExitInstructionInfo 0x440e 4, ALL, ALL, 0, Plain;
    GuestEsLimit 0x4800 4, ALL, ALL, 0xffff_ffff, Plain;
    GuestCsLimit 0x4802 4, ALL, ALL, 0xffff_ffff, Plain;
    GuestSsLimit 0x4804 4, ALL, ALL, 0xffff_ffff, Plain;
    GuestDsLimit 0x4806 4, ALL, ALL, 0xffff_ffff, Plain;
    GuestFsLimit 0x4808 4, ALL, ALL, 0xffff_ffff, Plain;
    GuestGsLimit 0x480a 4, ALL, ALL, 0xffff_ffff, Plain;
    GuestLdtrLimit 0x480c 4, ALL, ALL, 0xffff, Plain;
    GuestTrLimit 0x480e 4, ALL, ALL, 0xffff, Plain;
    GuestGdtrLimit 0x4810 4, ALL, ALL, 0xffff, Plain;
    GuestIdtrLimit 0x4812 4, ALL, ALL, 0, Plain;
    GuestEsAccess 0x4814 4, ALL, ALL, 0xc093, Plain;
    GuestCsAccess 0x4816 4, ALL, ALL, 0xc09b, Plain;
    GuestSsAccess 0x4818 4, ALL, ALL, 0xc093, Plain;
    GuestDsAccess 0x481a 4, ALL, ALL, 0xc093, Plain;
    GuestFsAccess 0x481c 4, ALL, ALL, 0xc093, Plain;
    GuestGsAccess 0x481e 4, ALL, ALL, 0xc093, Plain;
    GuestLdtrAccess 0x4820 4, ALL, ALL, 0x1_0082, Plain;
    GuestTrAccess 0x4822 4, ALL, ALL, 0x8b, Plain;
    GuestInterruptibility 0x4824 4, ALL, ALL, 0, Plain;
    GuestActivity 0x4826 4, ALL, 0, 0, Plain;
    GuestSmbase 0x4828 4, 0, 0, 0, Plain;
    GuestSysenterCs 0x482a 4, ALL, ALL, 0, Plain;
    PreemptionTimer 0x482e 4, 0, 0, 0, Plain;
    Cr0Mask 0x6000 8, ALL, ALL, 0xffff_ffff_ffff_ffff, Plain;
    Cr4Mask 0x6002 8, ALL, ALL, 0xffff_ffff_ffff_ffff, Plain;
    Cr0Shadow 0x6004 8, ALL, ALL, 0, Plain;
    Cr4Shadow 0x6006 8, ALL, ALL, 0, Plain;
    Cr3Target0 0x6008 8, ALL, ALL, 0, Plain;
    Cr3Target1 0x600a 8, ALL, ALL, 0, Plain;
    Cr3Target2 0x600c 8, ALL, ALL, 0, Plain;
    Cr3Target3 0x600e 8, ALL, ALL, 0, Plain;
    ExitQualification 0x6400 8, ALL, ALL, 0, Plain;
    IoRcx 0x6402 8, ALL, ALL, 0, Plain;
    IoRsi 0x6404 8, ALL, ALL, 0, Plain;
    IoRdi 0x6406 8, ALL, ALL, 0, Plain;
    IoRip 0x6408 8, ALL, ALL, 0, Plain;
    GuestLinearAddress 0x640a 8, ALL, ALL, 0, Plain;
    GuestCr0 0x6800 8, ALL, 0x8005_001f, 0x21, Plain;
    GuestCr3 0x6802 8, ALL, ALL, 0, Gpa;
    GuestCr4 0x6804 8, ALL, 0x3ff_1fbf, 0x2040, Plain;
    GuestEsBase 0x6806 8, ALL, ALL, 0, Plain;
    GuestCsBase 0x6808 8, ALL, ALL, 0, Plain;
    GuestSsBase 0x680a 8, ALL, ALL, 0, Plain;
    GuestDsBase 0x680c 8, ALL, ALL, 0, Plain;
    GuestFsBase 0x680e 8, ALL, ALL, 0, Plain;
    GuestGsBase 0x6810 8, ALL, ALL, 0, Plain;
    GuestLdtrBase 0x6812 8, ALL, ALL, 0, Plain;
    GuestTrBase 0x6814 8, ALL, ALL, 0, Plain;
    GuestGdtrBase 0x6816 8, ALL, ALL, 0, Plain;
    GuestIdtrBase 0x6818 8, ALL, ALL, 0, Plain;
    GuestDr7 0x681a 8, ALL, ALL, 0x400, Plain;
    GuestRsp 0x681c 8, ALL, ALL, 0, Plain;
    GuestRip 0x681e 8, ALL, ALL, 0xffff_fff0, Plain;
    GuestRflags 0x6820 8, ALL, ALL, 0x2, Plain;
    GuestPendingDebug 0x6822 8, ALL, ALL, 0, Plain;
    GuestSysenterEsp 0x6824 8, ALL, ALL, 0, Plain;
    GuestSysenterEip 0x6826 8, ALL, ALL, 0, Plain;
    GuestSCet 0x6828 8, ALL, ALL, 0, Plain;
    GuestSsp 0x682a 8, ALL, ALL, 0, Plain;
    GuestInterruptSspTable 0x682c 8, ALL, ALL, 0, Plain;
    HostGsBase 0x6c08 8, 0, 0, 0, Plain;
    HostRsp 0x6c14 8, 0, 0, 0, Plain;
    HostRip 0x6c16 8, 0, 0, 0, Plain;
    HostSsp 0x6c1a 8, 0, 0, 0, Plain;
}

/// The initial value of every field, in table order.
pub(crate) const INITIAL: [u64; FIELD_COUNT] = {
    let mut values = [0; FIELD_COUNT];
    let mut i = 0;
    while i < FIELD_COUNT {
        values[i] = TABLE[i].initial;
        i += 1;
    }
    values
};

/// RDPMC exiting, which a TD with PERFMON does without.
const PRIMARY_RDPMC: u64 = 1 << 11;
/// Enable user wait and pause.
const SECONDARY_USER_WAIT: u64 = 1 << 26;
/// Load the host's and save the guest's IA32_PERF_GLOBAL_CTRL at exits.
const EXIT_PERF_GLOBAL_CTRL: u64 = 1 << 12 | 1 << 30;
/// Load the guest's IA32_PERF_GLOBAL_CTRL at entries.
const ENTRY_PERF_GLOBAL_CTRL: u64 = 1 << 13;
/// Load the guest's IA32_PKRS at entries.
const ENTRY_PKRS: u64 = 1 << 22;

/// The initial value of a field in this TD.
pub(crate) fn initial(config: &TdConfig, field: Field) -> u64 {
    let value = INITIAL.get(field as usize).copied().unwrap_or(0);
    let is_debug = config.has_attributes(attributes::DEBUG);
    let has_perfmon = config.has_attributes(attributes::PERFMON);
    let with = |has: bool, bits: u64| if has { bits } else { 0 };
    match field {
        Field::PrimaryControls => value & !with(has_perfmon, PRIMARY_RDPMC),
        Field::SecondaryControls => value | with(config.cpu.has_waitpkg, SECONDARY_USER_WAIT),
        Field::ExitControls => value | with(has_perfmon || is_debug, EXIT_PERF_GLOBAL_CTRL),
        Field::EntryControls => {
            let has_pks = config.has_attributes(attributes::PKS);
            value
                | with(has_perfmon || is_debug, ENTRY_PERF_GLOBAL_CTRL)
                | with(has_pks || is_debug, ENTRY_PKRS)
        }
        _ => value,
    }
}

impl Field {
    /// The field with this encoding.
    #[must_use]
    pub fn from_encoding(encoding: u64) -> Option<Self> {
        definition_of(encoding).map(|d| d.field)
    }

    /// The encoding of this field.
    #[must_use]
    pub fn encoding(self) -> u64 {
        self.definition().map_or(0, |d| u64::from(d.encoding))
    }

    fn definition(self) -> Option<&'static FieldDef> {
        FIELDS.get(self as usize)
    }

    /// All ones of the field's width.
    pub(crate) fn width_mask(self) -> u64 {
        self.definition().map_or(0, |d| element_mask(d.size_bytes))
    }
}

/// The row for an encoding.
pub(crate) fn definition_of(encoding: u64) -> Option<&'static FieldDef> {
    let index = FIELDS
        .binary_search_by_key(&encoding, |d| u64::from(d.encoding))
        .ok()?;
    FIELDS.get(index)
}

/// The first row whose encoding is at least this, and all after it.
pub(crate) fn definitions_from(encoding: u64) -> &'static [FieldDef] {
    let first = FIELDS.partition_point(|d| u64::from(d.encoding) < encoding);
    FIELDS.get(first..).unwrap_or(&[])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::with_td;

    #[test]
    fn table_is_sorted_even_and_indexed_by_the_enum() {
        for (i, d) in FIELDS.iter().enumerate() {
            assert_eq!(d.field as usize, i);
            assert_eq!(d.encoding & 1, 0);
            assert_eq!(d.field.encoding(), u64::from(d.encoding));
            assert_eq!(Field::from_encoding(d.field.encoding()), Some(d.field));
            assert_eq!(d.initial & !element_mask(d.size_bytes), 0, "{:?}", d.field);
            assert_eq!(d.write & !d.read & !d.write, 0);
        }
        assert!(FIELDS.windows(2).all(|w| w[0].encoding < w[1].encoding));
    }

    #[test]
    fn initial_controls_follow_perfmon_pks_debug_and_waitpkg() {
        with_td(|td, _, _| {
            const CONTROLS: [Field; 4] = [
                Field::PrimaryControls,
                Field::SecondaryControls,
                Field::ExitControls,
                Field::EntryControls,
            ];
            let mut of = |attributes, has_waitpkg| {
                td.config.attributes = attributes;
                td.config.cpu.has_waitpkg = has_waitpkg;
                CONTROLS.map(|field| initial(&td.config, field))
            };
            let [primary, secondary, exit, entry] = of(0, false);
            assert_eq!(
                [primary, secondary, exit, entry],
                [0xb522_6dfa, 0x1338_b3fa, 0x1f3c_8204, 0x003e_c004]
            );
            let perfmon = [
                primary & !0x800,
                secondary,
                exit | 0x4000_1000,
                entry | 0x2000,
            ];
            assert_eq!(of(1 << 63, false), perfmon);
            let pks = [primary, secondary, exit, entry | 1 << 22];
            assert_eq!(of(1 << 30, false), pks);
            let debug = [
                primary,
                secondary,
                exit | 0x4000_1000,
                entry | 0x2000 | 1 << 22,
            ];
            assert_eq!(of(1, false), debug);
            assert_eq!(of(0, true)[1], secondary | 1 << 26);
        });
    }

    #[test]
    fn size_follows_the_width_bits_of_the_encoding() {
        for d in &FIELDS {
            let want = match d.encoding >> 13 & 3 {
                0 => 2,
                2 => 4,
                _ => 8,
            };
            assert_eq!(d.size_bytes, want, "{:?}", d.field);
        }
    }

    #[test]
    fn entry_count_is_the_one_of_the_specification() {
        // 144 rows, four of which stand for 2, 4, 4 and 4 consecutive encodings.
        assert_eq!(FIELD_COUNT, 144 + 1 + 3 + 3 + 3);
    }
}
