// SPDX-License-Identifier: GPL-2.0
//! MSRs that lower VTL and VTL2 share because the TDX module does not switch them, and which values
//! WRMSR accepts for them. A value that would fault must never reach WRMSR. [TDP 2.5]

/// Values of the shared MSRs, of a lower VTL or of VTL2.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct SharedMsrs {
    /// IA32_KERNEL_GS_BASE.
    pub kernel_gs_base: u64,
    /// IA32_STAR.
    pub star: u64,
    /// IA32_LSTAR.
    pub lstar: u64,
    /// IA32_FMASK.
    pub sfmask: u64,
    /// IA32_XSS.
    pub xss: u64,
    /// IA32_TSC_AUX.
    pub tsc_aux: u64,
}

/// Limits of this processor and TD for the shared state.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Limits {
    /// Number of L2 VMs of the TD.
    pub num_l2_vms: u8,
    /// Width of a linear address that WRMSR accepts, 48 or 57 bits: what the processor supports,
    /// even if VTL2 has not enabled it.
    pub address_bits: u8,
    /// Components that IA32_XSS may enable (`components.rs`); `None` without that MSR.
    pub xss: Option<u64>,
    /// True if IA32_TSC_AUX exists.
    pub has_tsc_aux: bool,
    /// Bits that may be set in MXCSR.
    pub mxcsr: u32,
}

impl SharedMsrs {
    /// The values after a reset, which every processor accepts.
    pub const RESET: Self = Self {
        kernel_gs_base: 0,
        star: 0,
        lstar: 0,
        sfmask: 0,
        xss: 0,
        tsc_aux: 0,
    };

    /// Returns true if the MSRs of SYSCALL differ from `host`'s, and the others do not, KERNEL_GS_BASE
    /// apart, which may: so it is with most guests. What to write is then known without comparing.
    pub const fn differs_as_usual(&self, host: &Self) -> bool {
        self.star != host.star
            && self.lstar != host.lstar
            && self.sfmask != host.sfmask
            && self.xss == host.xss
            && self.tsc_aux == host.tsc_aux
    }

    /// Returns true if the processor accepts every value: because it is within the limits, or
    /// because it is `given`, which the processor itself held when the same VM stopped last. What a
    /// lower VTL could write can be written again.
    #[inline]
    pub const fn is_loadable(&self, limits: &Limits, given: &Self) -> bool {
        self.is(given) || self.is_each_loadable(limits, given)
    }

    /// The common case: nothing has changed since the last exit.
    #[inline]
    const fn is(&self, given: &Self) -> bool {
        (self.kernel_gs_base ^ given.kernel_gs_base)
            | (self.lstar ^ given.lstar)
            | (self.sfmask ^ given.sfmask)
            | (self.xss ^ given.xss)
            | (self.tsc_aux ^ given.tsc_aux)
            == 0
    }

    #[cold]
    const fn is_each_loadable(&self, limits: &Limits, given: &Self) -> bool {
        let xss = match limits.xss {
            Some(mask) => mask,
            None => 0,
        };
        let is_tsc_aux = self.tsc_aux >> 32 == 0 && (limits.has_tsc_aux || self.tsc_aux == 0);
        (is_canonical(self.kernel_gs_base, limits.address_bits)
            || self.kernel_gs_base == given.kernel_gs_base)
            && (is_canonical(self.lstar, limits.address_bits) || self.lstar == given.lstar)
            && (self.sfmask >> 32 == 0 || self.sfmask == given.sfmask)
            && (is_tsc_aux || self.tsc_aux == given.tsc_aux)
            && (self.xss & !xss == 0 || self.xss == given.xss)
    }
}

/// Returns true if all bits above the low `bits` repeat the highest of these.
pub const fn is_canonical(address: u64, bits: u8) -> bool {
    if bits == 0 || bits > 64 {
        return false;
    }
    let unused = 64 - bits as u32;
    // CAST: sign extension is what canonical means.
    ((address << unused) as i64 >> unused) as u64 == address
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Limits = Limits {
        num_l2_vms: 2,
        address_bits: 48,
        xss: Some(0x1800),
        has_tsc_aux: true,
        mxcsr: 0xffff,
    };

    #[test]
    fn canonical_means_sign_extended() {
        assert!(is_canonical(0x7fff_ffff_ffff, 48));
        assert!(!is_canonical(0x8000_0000_0000, 48));
        assert!(is_canonical(0xffff_8000_0000_0000, 48));
        assert!(!is_canonical(0xff00_0000_0000_0000, 48));
        assert!(is_canonical(0xff00_0000_0000_0000, 57));
        assert!(is_canonical(u64::MAX, 64));
        assert!(!is_canonical(0, 0));
        assert!(!is_canonical(0, 65));
    }

    #[test]
    fn each_faulting_value_is_refused() {
        let good = SharedMsrs::default();
        assert!(good.is_loadable(&LIMITS, &good));
        assert!(SharedMsrs {
            star: u64::MAX,
            xss: 0x800,
            ..good
        }
        .is_loadable(&LIMITS, &good));
        let bad = [
            SharedMsrs {
                kernel_gs_base: 1 << 47,
                ..good
            },
            SharedMsrs {
                lstar: 1 << 63,
                ..good
            },
            SharedMsrs {
                sfmask: 1 << 32,
                ..good
            },
            SharedMsrs {
                tsc_aux: 1 << 32,
                ..good
            },
            SharedMsrs { xss: 1, ..good },
        ];
        for msrs in bad {
            assert!(!msrs.is_loadable(&LIMITS, &good), "{msrs:?}");
            assert!(msrs.is_loadable(&LIMITS, &msrs), "{msrs:?}");
        }
    }

    #[test]
    fn a_value_that_was_given_counts_for_its_own_register_only() {
        let given = SharedMsrs {
            kernel_gs_base: 1 << 55,
            ..SharedMsrs::default()
        };
        let moved = SharedMsrs {
            lstar: 1 << 55,
            ..SharedMsrs::default()
        };
        assert!(given.is_loadable(&LIMITS, &given));
        assert!(!moved.is_loadable(&LIMITS, &given));
        let limits = Limits {
            address_bits: 57,
            ..LIMITS
        };
        assert!(moved.is_loadable(&limits, &SharedMsrs::default()));
    }

    #[test]
    fn a_register_that_is_missing_can_only_be_zero() {
        let limits = Limits {
            xss: None,
            has_tsc_aux: false,
            ..LIMITS
        };
        assert!(SharedMsrs::default().is_loadable(&limits, &SharedMsrs::default()));
        assert!(!SharedMsrs {
            xss: 0x800,
            ..SharedMsrs::default()
        }
        .is_loadable(&limits, &SharedMsrs::default()));
        assert!(!SharedMsrs {
            tsc_aux: 1,
            ..SharedMsrs::default()
        }
        .is_loadable(&limits, &SharedMsrs::default()));
    }
}
