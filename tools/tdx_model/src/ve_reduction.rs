// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! TD_CTLS.REDUCE_VE and FEATURE_PARAVIRT_CTRL: which features of the processor L1 asks its host for,
//! by a #VE, and which it does without [ABI TD_CTLS; ABI FEATURE_PARAVIRT_CTRL].
//!
//! `cpuid.rs` and `msr_reduced.rs` ask [`Td::has_feature`].

use crate::td::{Td, td_ctls};

/// A feature of which L1 decides: the number is its bit in FEATURE_PARAVIRT_CTRL.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Feature {
    CoreCapabilities = 0,
    Dca = 1,
    Est = 2,
    /// Machine checks: CPUID has two bits for them, MCE and MCA.
    Mca = 3,
    Mtrr = 4,
    Pconfig = 5,
    RdtA = 6,
    RdtM = 7,
    Acpi = 8,
    Tm2 = 9,
    Tme = 10,
    TscDeadline = 11,
}

impl Feature {
    /// The bits of all features.
    pub(crate) const ALL: u64 = (1 << 12) - 1;

    const fn bit(self) -> u64 {
        1 << self as u32
    }

    /// Returns true if every TD has the feature that does not reduce its #VE, whatever the host says.
    const fn is_in_every_td(self) -> bool {
        matches!(self, Self::CoreCapabilities | Self::Mca | Self::Mtrr)
    }
}

impl Td<'_> {
    /// Returns true if L1 has set TD_CTLS.REDUCE_VE.
    #[must_use]
    pub fn reduces_ve(&self) -> bool {
        self.td_ctls & td_ctls::REDUCE_VE != 0
    }

    /// Returns true if the TD has a feature that the host has configured, or not.
    pub(crate) fn has_feature(&self, feature: Feature, is_configured: bool) -> bool {
        if self.reduces_ve() {
            is_configured && self.feature_paravirt & feature.bit() != 0
        } else {
            is_configured || feature.is_in_every_td()
        }
    }

    /// The same for the MSRs of a feature. This host configures those that its processor has.
    pub(crate) fn has_msrs_of(&self, feature: Feature) -> bool {
        let is_configured = match feature {
            Feature::Mca | Feature::Mtrr => true,
            Feature::TscDeadline => self.config.cpu.has_tsc_deadline,
            _ => false,
        };
        self.has_feature(feature, is_configured)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::with_td;

    #[test]
    fn reduction_removes_features_that_l1_does_not_ask_for() {
        with_td(|td, _, _| {
            for feature in [Feature::Est, Feature::Mtrr] {
                td.td_ctls = 0;
                td.feature_paravirt = 0;
                assert!(td.has_feature(feature, true), "{feature:?}");
                let without = td.has_feature(feature, false);
                assert_eq!(without, feature == Feature::Mtrr, "{feature:?}");
                td.td_ctls = td_ctls::REDUCE_VE;
                assert!(!td.has_feature(feature, true), "{feature:?}");
                td.feature_paravirt = feature.bit();
                assert!(td.has_feature(feature, true), "{feature:?}");
                assert!(!td.has_feature(feature, false), "{feature:?}");
            }
        });
    }
}
