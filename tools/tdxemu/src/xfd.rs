// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! Emulates IA32_XFD: while it disables a component, XSAVE does not save it and XRSTOR does not
//! load it.
//!
//! QEMU's processor has no IA32_XFD, no AMX, and no way to intercept XSAVE. So AVX replaces
//! tile data, and disabling takes effect when the register is written: while the bit is set, the
//! upper halves of the vector registers are kept here, and the registers contain a marker. XSAVE
//! then saves the marker, and what XRSTOR loads is lost when the bit is cleared: code that moves
//! the component at the wrong time loses it, as with real tile data. The #NM of XRSTOR and of AVX
//! instructions is not emulated.

// UNSAFETY: XSAVE and XRSTOR, with control registers that allow them.
#![expect(unsafe_code)]

use core::arch::asm;

use crate::extra_msrs::{XFD, XFD_AVX};
use crate::vp::Vp;

/// AVX in XSTATE_BV, XCR0 and masks.
const AVX: u64 = 1 << 2;
const X87_SSE_AVX: u64 = 7;
const CR4_OSXSAVE: u64 = 1 << 18;
/// In words: MXCSR with its mask, XSTATE_BV, the upper halves.
const MXCSR: usize = 3;
const XSTATE_BV: usize = 64;
const UPPER_HALVES: usize = 72;
const WORDS: usize = UPPER_HALVES + 32;
/// In place of what is hidden.
const MARK: u64 = 0x7d7d_7d7d_7d7d_7d7d;

#[repr(C, align(64))]
struct Image([u64; WORDS]);

impl Image {
    /// What is in the registers.
    fn of_registers() -> Self {
        let mut image = Self([0; WORDS]);
        with_avx(|| {
            // SAFETY: XSAVE and AVX are enabled; the image is aligned and long enough for AVX.
            unsafe {
                asm!("xsave64 [{}]", in(reg) &raw mut image, in("eax") AVX as u32, in("edx") 0,
                    options(nostack));
            }
        });
        image
    }

    fn load(&self) {
        with_avx(|| {
            // SAFETY: XSAVE and AVX are enabled; XSAVE made the image, except for the contents of
            // the upper halves. The emulator uses no vector register.
            unsafe {
                asm!("xrstor64 [{}]", in(reg) &raw const *self, in("eax") AVX as u32, in("edx") 0,
                    options(nostack, readonly));
            }
        });
    }
}

/// What IA32_XFD hides of a virtual processor.
pub struct Hidden(Option<Image>);

impl Hidden {
    /// Nothing.
    pub const fn new() -> Self {
        Self(None)
    }

    fn hide(&mut self) {
        let kept = Image::of_registers();
        // A component in its initial state stays there, so XGETBV still reports it as not in use.
        if kept.0[XSTATE_BV] & AVX != 0 {
            let mut marked = Image(kept.0);
            marked.0[UPPER_HALVES..].fill(MARK);
            marked.load();
        }
        self.0 = Some(kept);
    }

    fn reveal(&mut self) {
        let Some(mut kept) = self.0.take() else {
            return;
        };
        // MXCSR is loaded along with AVX, but not disabled.
        kept.0[MXCSR] = Image::of_registers().0[MXCSR];
        kept.load();
    }
}

/// Writes one of the registers that the processor lacks. Returns `None`, without any change, if it
/// does not accept the value.
pub fn write_extra_msr(vp: &mut Vp, index: u32, value: u64) -> Option<()> {
    let hides_avx = |vp: &Vp| vp.extra_msrs.read(XFD).unwrap_or(0) & XFD_AVX != 0;
    let before = hides_avx(vp);
    vp.extra_msrs.write(index, value)?;
    match (before, hides_avx(vp)) {
        (false, true) => vp.hidden.hide(),
        (true, false) => vp.hidden.reveal(),
        _ => {}
    }
    Some(())
}

/// Runs `action` with XSAVE and AVX on.
fn with_avx(action: impl FnOnce()) {
    let (cr4, low, high): (u64, u32, u32);
    // SAFETY: CR4.OSXSAVE and AVX in XCR0 enable instructions that the emulator uses only here;
    // both get their old values back below. The emulator always runs with interrupts disabled.
    unsafe {
        asm!(
            "mov {cr4}, cr4",
            "mov {new}, {cr4}",
            "or {new}, {osxsave}",
            "mov cr4, {new}",
            "xgetbv",
            "mov {low:e}, eax",
            "or eax, {avx}",
            "xsetbv",
            cr4 = out(reg) cr4, new = out(reg) _, low = out(reg) low,
            osxsave = const CR4_OSXSAVE, avx = const X87_SSE_AVX,
            in("ecx") 0, out("eax") _, out("edx") high, options(nostack),
        );
    }
    action();
    // SAFETY: As above.
    unsafe {
        asm!("xsetbv", "mov cr4, {cr4}", cr4 = in(reg) cr4, in("ecx") 0, in("eax") low,
            in("edx") high, options(nostack));
    }
}
