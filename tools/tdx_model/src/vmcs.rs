// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! Storage of one L2 VMCS, and the three layers of CR0 and CR4.
//!
//! The layers are the TDX module's own policy (*base*), what L1 requested (the VMCS fields as L1
//! reads them) and what the processor uses (*effective*) [ABI TDG.VP.WR, CR0 and CR4].

use crate::fields::{FIELD_COUNT, FIELDS, Field, INITIAL, initial};
use crate::td::TdConfig;

/// CR0 bits L1 may change: PG, AM, WP and 4:0. All others belong to the module.
pub(crate) const CR0_VARIABLE: u64 = 0x8005_001f;

/// CR0 bits the module owns and the value it gives them: NE set, all others clear.
pub(crate) const CR0_BASE_SHADOW: u64 = 1 << 5;

/// CR4 bits L1 may change in a TD that has every feature.
pub(crate) const CR4_VARIABLE: u64 = 0x03ff_1fbf;

/// CR4 bits the module owns and sets: MCE and VMXE.
pub(crate) const CR4_BASE_SHADOW: u64 = 1 << 6 | 1 << 13;

/// CR0 bits owned by the module.
pub(crate) const fn cr0_base_mask() -> u64 {
    !CR0_VARIABLE
}

/// CR4 bits owned by the module in this TD.
pub(crate) const fn cr4_base_mask(config: &TdConfig) -> u64 {
    !(CR4_VARIABLE & config.cr4_allowed())
}

/// The fields of one L2 VMCS, as plain values.
#[derive(Clone, Debug)]
pub struct Vmcs {
    values: [u64; FIELD_COUNT],
    effective: Effective,
}

/// What the processor uses instead of L1's masks and shadows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Effective {
    cr0_mask: u64,
    cr0_shadow: u64,
    cr4_mask: u64,
    cr4_shadow: u64,
}

impl Vmcs {
    /// The state of a fresh virtual processor of a TD without optional features.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            values: INITIAL,
            effective: Effective {
                cr0_mask: u64::MAX,
                cr0_shadow: 0x21,
                cr4_mask: u64::MAX,
                cr4_shadow: 0x2040,
            },
        }
    }

    /// The state of a fresh virtual processor of this TD.
    pub(crate) fn of_td(config: &TdConfig) -> Self {
        let mut vmcs = Self::new();
        for definition in &FIELDS {
            vmcs.set(definition.field, initial(config, definition.field));
        }
        vmcs
    }

    /// The value of a field.
    #[must_use]
    pub fn get(&self, field: Field) -> u64 {
        self.values.get(field as usize).copied().unwrap_or(0)
    }

    /// The value of a 32-bit field.
    #[must_use]
    pub fn get32(&self, field: Field) -> u32 {
        // CAST: 32-bit fields hold nothing above.
        self.get(field) as u32
    }

    /// Sets a field, cut to its width. No rule of L1's access applies.
    pub fn set(&mut self, field: Field, value: u64) {
        if let Some(slot) = self.values.get_mut(field as usize) {
            *slot = value & field.width_mask();
        }
    }

    /// Takes over L1's CR0 mask and shadow after one of them was written.
    pub(crate) fn recompute_cr0(&mut self) {
        let base = cr0_base_mask();
        let owned = self.get(Field::Cr0Mask);
        self.effective.cr0_mask = base | owned;
        self.effective.cr0_shadow =
            (self.get(Field::Cr0Shadow) & owned) | (CR0_BASE_SHADOW & base & !owned);
    }

    /// Takes over L1's CR4 mask and shadow after one of them was written.
    pub(crate) fn recompute_cr4(&mut self, config: &TdConfig) {
        let base = cr4_base_mask(config);
        let owned = self.get(Field::Cr4Mask);
        self.effective.cr4_mask = base | owned;
        self.effective.cr4_shadow =
            (self.get(Field::Cr4Shadow) & owned) | (CR4_BASE_SHADOW & base & !owned);
    }

    /// CR0 bits that an L2 access can not reach directly.
    #[must_use]
    pub const fn effective_cr0_mask(&self) -> u64 {
        self.effective.cr0_mask
    }

    /// What an L2 reads in the bits of [`Self::effective_cr0_mask`].
    #[must_use]
    pub const fn effective_cr0_shadow(&self) -> u64 {
        self.effective.cr0_shadow
    }

    /// CR4 bits that an L2 access can not reach directly.
    #[must_use]
    pub const fn effective_cr4_mask(&self) -> u64 {
        self.effective.cr4_mask
    }

    /// What an L2 reads in the bits of [`Self::effective_cr4_mask`].
    #[must_use]
    pub const fn effective_cr4_shadow(&self) -> u64 {
        self.effective.cr4_shadow
    }

    /// CR0 as the L2 reads it.
    #[must_use]
    pub fn visible_cr0(&self) -> u64 {
        let mask = self.effective.cr0_mask;
        (self.get(Field::GuestCr0) & !mask) | (self.effective.cr0_shadow & mask)
    }

    /// CR4 as the L2 reads it.
    #[must_use]
    pub fn visible_cr4(&self) -> u64 {
        let mask = self.effective.cr4_mask;
        (self.get(Field::GuestCr4) & !mask) | (self.effective.cr4_shadow & mask)
    }

    /// Returns true if L1 intercepts this exception, error-code filter of #PF included.
    ///
    /// The bit of the bitmap decides when the filter matches, its inverse when it does not.
    #[must_use]
    pub fn intercepts_exception(&self, vector: u8, error_code: u32) -> bool {
        let in_bitmap = self.get(Field::ExceptionBitmap) >> (vector & 31) & 1 != 0;
        if vector != 14 {
            return in_bitmap;
        }
        let filtered = error_code & self.get32(Field::PfErrorMask);
        in_bitmap == (filtered == self.get32(Field::PfErrorMatch))
    }
}

impl Default for Vmcs {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shadows_count_only_after_the_first_write() {
        let mut v = Vmcs::new();
        assert_eq!(
            (v.effective_cr0_shadow(), v.get(Field::Cr0Shadow)),
            (0x21, 0)
        );
        assert_eq!(v.visible_cr4(), 0x2040);
        v.set(Field::Cr0Mask, 1);
        v.recompute_cr0();
        assert_eq!(v.effective_cr0_mask(), !CR0_VARIABLE | 1);
        assert_eq!(v.effective_cr0_shadow(), 0x20);
        v.set(Field::Cr0Mask, u64::MAX);
        v.recompute_cr0();
        assert_eq!(v.visible_cr0(), 0);
    }

    #[test]
    fn base_mask_of_cr0_is_what_the_specification_lists() {
        let listed = 0xffff_ffff_0000_0000 | 0x1ff8_0000 | 1 << 17 | 0xffc0 | 1 << 5 | 3 << 29;
        assert_eq!(cr0_base_mask(), listed);
    }

    #[test]
    fn page_fault_filter_inverts_the_bitmap_bit() {
        let mut v = Vmcs::new();
        assert!(!v.intercepts_exception(14, 2));
        v.set(Field::PfErrorMatch, 1);
        assert!(v.intercepts_exception(14, 2));
        assert!(v.intercepts_exception(18, 0));
    }
}
