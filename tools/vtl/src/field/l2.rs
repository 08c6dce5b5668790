// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! Fields of the L2 VMCS, by their VMCS encodings. Part of [`crate::field`].

use crate::vp::Vm;

/// Width of a field, as the id encodes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Width {
    /// Two bytes.
    U16 = 1,
    /// Four bytes.
    U32 = 2,
    /// Eight bytes.
    U64 = 3,
}

/// A field of the L2 VMCS, by its VMCS encoding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct L2Field {
    encoding: u16,
    width: Width,
}

impl L2Field {
    const fn new(width: Width, encoding: u16) -> Self {
        Self { encoding, width }
    }

    /// The field with this VMCS encoding, for fields that this crate does not name. `None` for the
    /// encoding of a field's high half, which is not a field of its own.
    pub const fn from_encoding(encoding: u16) -> Option<Self> {
        let width = match (encoding >> 13) & 3 {
            0 => Width::U16,
            2 => Width::U32,
            _ => Width::U64,
        };
        if encoding & 1 == 0 {
            Some(Self::new(width, encoding))
        } else {
            None
        }
    }

    /// Its VMCS encoding.
    pub const fn encoding(self) -> u16 {
        self.encoding
    }

    /// The id of this field of `vm`: class 36, 44 or 52, context VCPU.
    pub const fn id(self, vm: Vm) -> u64 {
        const CONTEXT_VCPU: u64 = 2 << 52;
        const INCREMENT_BY_TWO: u64 = 1 << 50;
        let class = 36 + 8 * (vm.index() - 1);
        // CAST: widening.
        (class << 56)
            | CONTEXT_VCPU
            | INCREMENT_BY_TWO
            | ((self.width as u64) << 32)
            | self.encoding as u64
    }

    /// A write mask that covers the whole field.
    pub const fn full_mask(self) -> u64 {
        match self.width {
            Width::U16 => 0xffff,
            Width::U32 => 0xffff_ffff,
            Width::U64 => u64::MAX,
        }
    }
}

macro_rules! l2_fields {
    ($($width:ident { $($name:ident = $encoding:literal,)+ })+) => {
        impl L2Field {
            $($(
                #[doc = concat!("VMCS field ", stringify!($encoding), ".")]
                pub const $name: Self = Self::new(Width::$width, $encoding);
            )+)+
        }

        #[cfg(test)]
        pub(super) const ALL: &[L2Field] = &[$($(L2Field::$name,)+)+];
    };
}

l2_fields! {
    U16 {
        GUEST_ES_SELECTOR = 0x0800,
        GUEST_CS_SELECTOR = 0x0802,
        GUEST_SS_SELECTOR = 0x0804,
        GUEST_DS_SELECTOR = 0x0806,
        GUEST_FS_SELECTOR = 0x0808,
        GUEST_GS_SELECTOR = 0x080a,
        GUEST_LDTR_SELECTOR = 0x080c,
        GUEST_TR_SELECTOR = 0x080e,
        GUEST_INTERRUPT_STATUS = 0x0810,
    }
    U32 {
        PRIMARY_CONTROLS = 0x4002,
        EXCEPTION_BITMAP = 0x4004,
        PAGE_FAULT_ERROR_CODE_MASK = 0x4006,
        PAGE_FAULT_ERROR_CODE_MATCH = 0x4008,
        CR3_TARGET_COUNT = 0x400a,
        ENTRY_CONTROLS = 0x4012,
        ENTRY_INTERRUPTION_INFO = 0x4016,
        ENTRY_EXCEPTION_ERROR_CODE = 0x4018,
        ENTRY_INSTRUCTION_LENGTH = 0x401a,
        TPR_THRESHOLD = 0x401c,
        SECONDARY_CONTROLS = 0x401e,
        GUEST_ES_LIMIT = 0x4800,
        GUEST_CS_LIMIT = 0x4802,
        GUEST_SS_LIMIT = 0x4804,
        GUEST_DS_LIMIT = 0x4806,
        GUEST_FS_LIMIT = 0x4808,
        GUEST_GS_LIMIT = 0x480a,
        GUEST_LDTR_LIMIT = 0x480c,
        GUEST_TR_LIMIT = 0x480e,
        GUEST_GDTR_LIMIT = 0x4810,
        GUEST_IDTR_LIMIT = 0x4812,
        GUEST_ES_AR = 0x4814,
        GUEST_CS_AR = 0x4816,
        GUEST_SS_AR = 0x4818,
        GUEST_DS_AR = 0x481a,
        GUEST_FS_AR = 0x481c,
        GUEST_GS_AR = 0x481e,
        GUEST_LDTR_AR = 0x4820,
        GUEST_TR_AR = 0x4822,
        GUEST_INTERRUPTIBILITY = 0x4824,
        GUEST_SYSENTER_CS = 0x482a,
    }
    U64 {
        VIRTUAL_APIC_ADDRESS = 0x2012,
        EOI_EXIT_BITMAP0 = 0x201c,
        EOI_EXIT_BITMAP1 = 0x201e,
        EOI_EXIT_BITMAP2 = 0x2020,
        EOI_EXIT_BITMAP3 = 0x2022,
        XSS_EXITING_BITMAP = 0x202c,
        GUEST_IA32_DEBUGCTL = 0x2802,
        GUEST_IA32_PAT = 0x2804,
        GUEST_IA32_EFER = 0x2806,
        GUEST_PDPTE0 = 0x280a,
        GUEST_PDPTE1 = 0x280c,
        GUEST_PDPTE2 = 0x280e,
        GUEST_PDPTE3 = 0x2810,
        GUEST_IA32_PKRS = 0x2818,
        CR0_GUEST_HOST_MASK = 0x6000,
        CR4_GUEST_HOST_MASK = 0x6002,
        CR0_READ_SHADOW = 0x6004,
        CR4_READ_SHADOW = 0x6006,
        CR3_TARGET0 = 0x6008,
        CR3_TARGET1 = 0x600a,
        CR3_TARGET2 = 0x600c,
        CR3_TARGET3 = 0x600e,
        GUEST_CR0 = 0x6800,
        GUEST_CR3 = 0x6802,
        GUEST_CR4 = 0x6804,
        GUEST_ES_BASE = 0x6806,
        GUEST_CS_BASE = 0x6808,
        GUEST_SS_BASE = 0x680a,
        GUEST_DS_BASE = 0x680c,
        GUEST_FS_BASE = 0x680e,
        GUEST_GS_BASE = 0x6810,
        GUEST_LDTR_BASE = 0x6812,
        GUEST_TR_BASE = 0x6814,
        GUEST_GDTR_BASE = 0x6816,
        GUEST_IDTR_BASE = 0x6818,
        GUEST_DR7 = 0x681a,
        GUEST_PENDING_DEBUG = 0x6822,
        GUEST_SYSENTER_ESP = 0x6824,
        GUEST_SYSENTER_EIP = 0x6826,
        GUEST_IA32_S_CET = 0x6828,
        GUEST_SSP = 0x682a,
        GUEST_INTERRUPT_SSP_TABLE = 0x682c,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_field_is_what_its_encoding_says() {
        for field in ALL {
            assert_eq!(
                L2Field::from_encoding(field.encoding),
                Some(*field),
                "{field:x?}"
            );
        }
        assert_eq!(L2Field::from_encoding(0x2805), None);
    }

    #[test]
    fn no_field_stands_twice() {
        let mut encodings: Vec<_> = ALL.iter().map(|field| field.encoding).collect();
        encodings.sort_unstable();
        encodings.dedup();
        assert_eq!(encodings.len(), ALL.len());
    }
}
