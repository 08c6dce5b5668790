// SPDX-License-Identifier: GPL-2.0
//! x87, SSE and the further components of XCR0 of the lower VTLs.
//!
//! L1 has XSAVE on, and the TDX module leaves every component live between L1 and L2. So each VP has
//! an XSAVE image of its own; x87 and SSE in it are exchanged with the run page at each entry. The
//! task's own state is saved by `kernel_fpu_begin` and comes back with the return to userspace. PKRU is
//! apart: the kernel keeps it in the register, and an interrupt would feel it.

// UNSAFETY: XSAVE, XRSTOR and their image.
#![allow(unsafe_code)]

use core::arch::asm;
use core::ptr::NonNull;

use kernel::prelude::*;
use kernel::types::NotThreadSafe;

use crate::cpu::features::Features;
use crate::cpu::guards::IrqsOff;
use crate::cpu::msr::Xfd;
use crate::glue::abi;
use crate::pure::registers::XFEM_START;
use crate::pure::xsave::{FX_WORDS, XSTATE_BV_WORD};

const XSTATE_X87_SSE: u64 = 0x3;
const XSTATE_PKRU: u64 = 1 << 9;
/// Legacy region and header.
const XSAVE_MIN_BYTES: usize = 512 + 64;
/// Of an FXSAVE image: MXCSR_MASK, and its value when the processor stores none.
const MXCSR_MASK_OFFSET: usize = 28;
const MXCSR_MASK_DEFAULT: u32 = 0xffbf;

/// How the processor saves extended state.
#[derive(Clone, Copy)]
pub(crate) struct Format {
    /// XCR0; zero: the processor has FXSAVE only.
    xcr0: u64,
    len_bytes: usize,
    /// XGETBV tells which components are in use.
    has_xinuse: bool,
}

impl Format {
    /// XCR0 of VTL2; zero: the processor has FXSAVE only.
    pub(crate) fn xcr0(&self) -> u64 {
        self.xcr0
    }

    /// Length of an image.
    pub(crate) fn len_bytes(&self) -> usize {
        self.len_bytes
    }

    /// Asks the processor. `xsave_bytes` is the largest image for any XCR0, `None` without XSAVE;
    /// `has_xinuse`: XGETBV takes 1.
    pub(crate) fn new(xsave_bytes: Option<usize>, has_xinuse: bool) -> Self {
        let Some(len_bytes) = xsave_bytes else {
            return Self {
                xcr0: 0,
                len_bytes: XSAVE_MIN_BYTES,
                has_xinuse: false,
            };
        };
        Self {
            // SAFETY: XSAVE is on.
            xcr0: unsafe { xgetbv(0) },
            len_bytes: len_bytes.max(XSAVE_MIN_BYTES),
            has_xinuse,
        }
    }

    /// Components that are not in their initial state, as far as the processor tells.
    fn components_in_use(&self) -> u64 {
        if !self.has_xinuse {
            return u64::MAX;
        }
        // SAFETY: `has_xinuse` says that XSAVE is on and that 1 is taken.
        unsafe { xgetbv(1) }
    }
}

/// XCR0 (0), or the components of it that are in use (1).
///
/// # Safety
///
/// XSAVE is on, and the processor takes `index`.
unsafe fn xgetbv(index: u32) -> u64 {
    let (low, high): (u32, u32);
    // SAFETY: By the requirement above XGETBV exists and does not fault.
    unsafe {
        asm!("xgetbv", in("ecx") index, out("eax") low, out("edx") high, options(nomem, nostack));
    }
    u64::from(high) << 32 | u64::from(low)
}

/// Extended state of a lower VTL while it does not run.
///
/// # Invariants
///
/// `image` points to `format.len_bytes` zeroed or XSAVEd bytes, aligned to a page, owned.
pub(crate) struct ExtendedState {
    image: NonNull<u64>,
    format: Format,
    /// XCR0 while the lower VTL runs; XSETBV takes it.
    xfem: u64,
}

// SAFETY: The image is owned memory of the direct map.
unsafe impl Send for ExtendedState {}

impl ExtendedState {
    /// Initial state of every component.
    pub(crate) fn new(features: &Features) -> Result<Self> {
        let format = features.format;
        // SAFETY: The size is not zero; in a task that may sleep.
        let image = unsafe { abi::vtl_alloc_zeroed(format.len_bytes) };
        let image = NonNull::new(image.cast()).ok_or(ENOMEM)?;
        // INVARIANT: just allocated, zeroed, with this size.
        Ok(Self {
            image,
            format,
            xfem: XFEM_START,
        })
    }

    /// XCR0 of the lower VTL.
    pub(crate) fn xfem(&self) -> u64 {
        self.xfem
    }

    /// Sets XCR0 of the lower VTL to a value that `pure::registers` let through.
    pub(crate) fn set_xfem(&mut self, xfem: u64) {
        self.xfem = xfem;
    }

    /// Changes XCR0 between VTL2's value and the lower VTL's, where they differ.
    fn write_xcr0(&self, value: u64, _section: &Section) {
        if self.format.xcr0 == 0 || self.xfem == self.format.xcr0 {
            return;
        }
        let (low, high) = halves(value);
        // SAFETY: XSAVE is on, and XSETBV takes both values. The registers of components that are
        // off keep what they hold; `save` and `restore` run with VTL2's value.
        unsafe {
            asm!("xsetbv", in("ecx") 0, in("eax") low, in("edx") high, options(nomem, nostack));
        }
    }

    /// x87 and SSE state in FXSAVE format.
    pub(crate) fn legacy_image(&mut self) -> &mut [u64; FX_WORDS] {
        // SAFETY: By the invariant the image is valid and longer; `&mut self` makes it exclusive.
        unsafe { &mut *self.image.as_ptr().cast() }
    }

    /// The whole image, in the standard format. Who writes to it leaves it such that XRSTOR takes it.
    pub(crate) fn words(&mut self) -> &mut [u64] {
        let len = self.format.len_bytes / size_of::<u64>();
        // SAFETY: By the invariant so many words are valid; `&mut self` makes them exclusive.
        unsafe { core::slice::from_raw_parts_mut(self.image.as_ptr(), len) }
    }

    /// Loads the registers with this state. IA32_XFD may be zero afterwards.
    pub(crate) fn restore(&mut self, xfd: &mut Xfd<'_>, section: &Section) {
        xfd.clear_for(|| self.components());
        self.load_image();
        self.write_xcr0(self.xfem, section);
    }

    /// Stores the registers as this state. IA32_XFD may be zero afterwards.
    pub(crate) fn save(&mut self, xfd: &mut Xfd<'_>, section: &Section) {
        self.write_xcr0(self.format.xcr0, section);
        xfd.clear_for(|| self.format.components_in_use());
        self.store_image();
    }

    /// Makes it the initial state.
    pub(crate) fn reset(&mut self) {
        self.words().fill(0);
        self.xfem = XFEM_START;
    }

    /// Components that the image has.
    fn components(&mut self) -> u64 {
        self.words().get(XSTATE_BV_WORD).copied().unwrap_or(0)
    }

    fn load_image(&mut self) {
        let image = self.image.as_ptr();
        if self.format.xcr0 == 0 {
            // SAFETY: By the invariant the image is valid; MXCSR in it was checked by
            // `pure::controls`, or stored by the processor.
            unsafe { asm!("fxrstor64 [{}]", in(reg) image, options(nostack, readonly)) };
            return;
        }
        if let Some(present) = self.words().get_mut(XSTATE_BV_WORD) {
            *present |= XSTATE_X87_SSE;
        }
        let (low, high) = halves(self.format.xcr0 & !XSTATE_PKRU);
        // SAFETY: As above; the header is zero but for components of XCR0, as XSAVE or
        // `pure::xsave` left it.
        unsafe {
            asm!("xrstor64 [{}]", in(reg) image, in("eax") low, in("edx") high,
                options(nostack, readonly));
        }
    }

    fn store_image(&mut self) {
        let image = self.image.as_ptr();
        if self.format.xcr0 == 0 {
            // SAFETY: By the invariant the image is valid, and `&mut self` makes it exclusive.
            unsafe { asm!("fxsave64 [{}]", in(reg) image, options(nostack)) };
            return;
        }
        let (low, high) = halves(self.format.xcr0 & !XSTATE_PKRU);
        // SAFETY: As above, and long enough for every component of XCR0.
        unsafe {
            asm!("xsave64 [{}]", in(reg) image, in("eax") low, in("edx") high, options(nostack));
        }
    }
}

impl Drop for ExtendedState {
    fn drop(&mut self) {
        // SAFETY: Allocated in `new` with the same size.
        unsafe { abi::free_pages_exact(self.image.as_ptr().cast(), self.format.len_bytes) }
    }
}

/// The registers are the module's: the task's state is in memory until it returns to userspace.
/// Neither another task nor a softirq runs on this CPU; interrupts do, but may not use the
/// registers.
#[must_use]
pub(crate) struct Section(NotThreadSafe);

impl Section {
    /// Puts the task's state away.
    pub(crate) fn begin() -> Self {
        // SAFETY: In a task with interrupts on that is not in such a section: whoever begins one has
        // the claim to a VP, or loads the module. Paired with the call in `drop`.
        unsafe { abi::kernel_fpu_begin_mask(0) };
        Self(NotThreadSafe)
    }
}

impl Drop for Section {
    fn drop(&mut self) {
        // SAFETY: Paired with the call in `begin`, on the same CPU.
        unsafe { abi::kernel_fpu_end() };
    }
}

/// Reads PKRU; zero without protection keys.
pub(crate) fn read_pkru(has_pkru: bool, _section: &Section) -> u32 {
    if !has_pkru {
        return 0;
    }
    let value: u32;
    // SAFETY: The kernel has turned protection keys on, so RDPKRU exists.
    unsafe {
        asm!("rdpkru", in("ecx") 0, out("eax") value, out("edx") _,
            options(nomem, nostack, preserves_flags));
    }
    value
}

/// Changes PKRU, if there is something to change. Without protection keys both values are zero.
pub(crate) fn change_pkru(from: u32, to: u32, _irqs: &IrqsOff) {
    if from != to {
        // SAFETY: One of both is not zero, so the kernel has turned protection keys on and WRPKRU
        // exists. PKRU only concerns access to userspace's memory, and there is none with interrupts
        // off; the caller puts VTL2's value back.
        unsafe {
            asm!("wrpkru", in("ecx") 0, in("eax") to, in("edx") 0,
                options(nostack, preserves_flags));
        }
    }
}

/// Bits that MXCSR may have on this processor.
///
/// # Errors
///
/// ENOMEM.
pub(crate) fn mxcsr_mask() -> Result<u32> {
    #[repr(C, align(16))]
    struct Image([u32; 128]);
    // Not on the stack: the kernel aligns that to 8 bytes only, whatever the compiler thinks.
    let mut image = KBox::new(Image([0; 128]), GFP_KERNEL)?;
    {
        let _section = Section::begin();
        // SAFETY: The image is aligned and has the 512 bytes that FXSAVE writes.
        unsafe { asm!("fxsave64 [{}]", in(reg) &raw mut *image, options(nostack)) };
    }
    Ok(match image.0[MXCSR_MASK_OFFSET / 4] {
        0 => MXCSR_MASK_DEFAULT,
        mask => mask,
    })
}

/// EAX and EDX of the XSAVE instructions.
fn halves(mask: u64) -> (u32, u32) {
    (mask as u32, (mask >> 32) as u32) // CAST: low and high half
}
