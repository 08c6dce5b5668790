// SPDX-License-Identifier: GPL-2.0
//! x87, SSE and the further components of XCR0 of the lower VTLs.
//!
//! L1 uses XSAVE, and the TDX module leaves every component unchanged when it switches between L1
//! and L2. So each VP has an XSAVE image of its own; x87 and SSE in it are exchanged with the run
//! page at each entry. `kernel_fpu_begin` saves the task's own state, which is restored on return
//! to userspace. PKRU is handled separately: the kernel keeps it in the register, and an interrupt
//! handler would use the wrong value.

// UNSAFETY: XSAVE, XRSTOR, XSETBV, and accesses to the image.
#![allow(unsafe_code)]

use core::arch::asm;

use kernel::prelude::*;
use kernel::types::NotThreadSafe;

use crate::cpu::guards::IrqsOff;
use crate::cpu::msr::Xfd;
use crate::glue::abi::{self, ends_in_c};
use crate::glue::ffi;
use crate::glue::page::SharedPage;
use crate::pure::exit::RawExit;
use crate::pure::registers::XFEM_START;
use crate::pure::xsave::{FX_MXCSR, FX_STATE_WORDS, FX_WORDS, XSTATE_BV_WORD};

const XSTATE_X87_SSE: u64 = 0x3;
const XSTATE_AVX: u8 = 1 << 2;
const XSTATE_PKRU: u64 = 1 << 9;
const WORD_BYTES: usize = size_of::<u64>();
/// Legacy region and header.
const XSAVE_MIN_BYTES: usize = 512 + 64;
/// Alignment of an image that XSAVE and XRSTOR require.
const IMAGE_ALIGN: usize = 64;
/// MXCSR_MASK is the high half of this word of an image; the default applies if it is zero.
const MXCSR_MASK_WORD: usize = 3;
const MXCSR_MASK_DEFAULT: u32 = 0xffbf;

/// How the processor saves extended state.
///
/// # Invariants
///
/// The kernel has enabled XSAVE. If `has_xinuse` is true, XGETBV accepts index 1.
#[derive(Clone, Copy)]
pub(crate) struct Format {
    xcr0: u64,
    len_bytes: usize,
    /// XGETBV reports which components are in use.
    has_xinuse: bool,
}

impl Format {
    /// XCR0 of VTL2.
    pub(crate) fn xcr0(&self) -> u64 {
        self.xcr0
    }

    /// Length of an image.
    pub(crate) fn len_bytes(&self) -> usize {
        self.len_bytes
    }

    /// Reads it from the processor. `None` if the kernel does not use XSAVE.
    pub(crate) fn detect() -> Option<Self> {
        if ffi::cpuid(1, 0).ecx & (1 << 27) == 0 {
            return None; // OSXSAVE
        }
        let largest_bytes = ffi::cpuid(0xd, 0).ecx as usize; // CAST: u32 fits
        let has_xinuse = ffi::cpuid(0xd, 1).eax & (1 << 2) != 0; // XGETBV of 1
        let mut format = Self {
            xcr0: 0,
            len_bytes: largest_bytes.max(XSAVE_MIN_BYTES),
            has_xinuse,
        };
        format.xcr0 = format.xgetbv(0);
        Some(format)
    }

    /// Components that are not in their initial state; all, if the processor can't tell.
    fn components_in_use(&self) -> u64 {
        if self.has_xinuse {
            self.xgetbv(1)
        } else {
            u64::MAX
        }
    }

    /// Returns XCR0 (index 0), or the components of it that are in use (index 1, if supported).
    fn xgetbv(&self, index: u32) -> u64 {
        let index = index & u32::from(self.has_xinuse);
        let (low, high): (u32, u32);
        // SAFETY: By the invariant, established in `detect`, XGETBV exists and accepts `index`.
        unsafe {
            asm!("xgetbv", in("ecx") index, out("eax") low, out("edx") high,
                options(nomem, nostack));
        }
        u64::from(high) << 32 | u64::from(low)
    }
}

/// Extended state of a lower VTL while it does not run.
///
/// # Invariants
///
/// The image is the words of `memory` from `first_word` to `end_word`, at `image`: `format.len_bytes`,
/// at least `XSAVE_MIN_BYTES`, aligned as XSAVE requires. `memory` never grows, so its address does not
/// change. x87 and SSE are marked as present.
pub(crate) struct ExtendedState {
    memory: KVec<u64>,
    first_word: usize,
    end_word: usize,
    image: *mut u64,
    format: Format,
    /// XCR0 while the lower VTL runs; XSETBV accepts it.
    xfem: u64,
}

// SAFETY: The image belongs to `memory`, which may be sent.
unsafe impl Send for ExtendedState {}

impl ExtendedState {
    /// Creates the initial state of every component.
    pub(crate) fn new(format: Format) -> Result<Self> {
        let len_bytes = format.len_bytes + IMAGE_ALIGN;
        let mut memory = KVec::from_elem(0, len_bytes.div_ceil(WORD_BYTES), GFP_KERNEL)?;
        let address = memory.as_ptr().addr();
        let first_word = address.wrapping_neg() % IMAGE_ALIGN / WORD_BYTES;
        // INVARIANT: skipping `first_word` takes fewer bytes than `memory` is longer than the
        // image. `reset` marks the components.
        let mut state = Self {
            image: memory.as_mut_ptr().wrapping_add(first_word),
            first_word,
            end_word: first_word + format.len_bytes / WORD_BYTES,
            memory,
            format,
            xfem: XFEM_START,
        };
        state.reset();
        Ok(state)
    }

    /// XCR0 of the lower VTL.
    pub(crate) fn xfem(&self) -> u64 {
        self.xfem
    }

    /// Sets XCR0 of the lower VTL to a value that `pure::registers` accepts.
    pub(crate) fn set_xfem(&mut self, xfem: u64) {
        self.xfem = xfem;
    }

    /// Switches XCR0 between VTL2's value and the lower VTL's, if they differ.
    #[inline(always)]
    fn write_xcr0(&self, value: u64, _section: &Section) {
        if self.xfem == self.format.xcr0 {
            return;
        }
        let (low, high) = halves(value);
        // SAFETY: XSAVE is enabled by the invariant of `Format`, and XSETBV accepts both values:
        // VTL2's is the kernel's own, `set_xfem` takes only checked ones. Registers of disabled
        // components keep their contents; `save` and `restore` run with VTL2's value.
        unsafe {
            asm!("xsetbv", in("ecx") 0, in("eax") low, in("edx") high, options(nomem, nostack));
        }
    }

    /// The x87 and SSE state in FXSAVE format.
    pub(crate) fn legacy_image(&mut self) -> &mut [u64; FX_WORDS] {
        // SAFETY: By the invariant, established in `new`, every image is longer than that. The
        // reference borrows `self`.
        unsafe { &mut *self.image.cast() }
    }

    /// Fills x87 and SSE of the image from an FXSAVE image in a page, each word once; MXCSR becomes
    /// `mxcsr`, which was checked. The rest of them takes any value.
    ///
    /// With AVX registers if there are any: they are about to be loaded, and that takes half as many
    /// instructions as the shortest string instruction.
    #[inline(always)]
    pub(crate) fn fill_legacy(
        &mut self,
        page: &SharedPage,
        offset: usize,
        mxcsr: u32,
        _section: &Section,
    ) {
        let Some(from) = page.words_at(offset, FX_STATE_WORDS) else {
            return; // never: a constant
        };
        // SAFETY: `words_at` returns the address of as many words in the page; others may change them
        // meanwhile. By the invariant, established in `new`, the image is longer, and aligned.
        // `_section` proves that the vector registers are the module's, and XCR0 says if AVX has its.
        // The direction flag is clear in Rust.
        unsafe {
            asm!("test {xcr0:l}, {avx}",
                "jz 2f",
                "vmovdqu ymm0, [rsi]",
                "vmovdqu ymm1, [rsi + 32]",
                "vmovdqu ymm2, [rsi + 64]",
                "vmovdqu ymm3, [rsi + 96]",
                "vmovdqu ymm4, [rsi + 128]",
                "vmovdqu ymm5, [rsi + 160]",
                "vmovdqu ymm6, [rsi + 192]",
                "vmovdqu ymm7, [rsi + 224]",
                "vmovdqu ymm8, [rsi + 256]",
                "vmovdqu ymm9, [rsi + 288]",
                "vmovdqu ymm10, [rsi + 320]",
                "vmovdqu ymm11, [rsi + 352]",
                "vmovdqu ymm12, [rsi + 384]",
                "vmovdqa [rdi], ymm0",
                "vmovdqa [rdi + 32], ymm1",
                "vmovdqa [rdi + 64], ymm2",
                "vmovdqa [rdi + 96], ymm3",
                "vmovdqa [rdi + 128], ymm4",
                "vmovdqa [rdi + 160], ymm5",
                "vmovdqa [rdi + 192], ymm6",
                "vmovdqa [rdi + 224], ymm7",
                "vmovdqa [rdi + 256], ymm8",
                "vmovdqa [rdi + 288], ymm9",
                "vmovdqa [rdi + 320], ymm10",
                "vmovdqa [rdi + 352], ymm11",
                "vmovdqa [rdi + 384], ymm12",
                "jmp 3f",
                "2: mov ecx, {len}",
                "rep movsq",
                "sub rdi, 8 * {len}",
                "3: mov [rdi + {at_mxcsr}], {mxcsr:e}",
                xcr0 = in(reg_abcd) self.format.xcr0, avx = const XSTATE_AVX,
                len = const FX_STATE_WORDS, at_mxcsr = const FX_MXCSR, mxcsr = in(reg) mxcsr,
                inout("rsi") from => _, inout("rdi") self.image => _, out("rcx") _,
                options(nostack));
        }
    }

    /// The whole image, in the standard format. A caller that writes to it must leave an image that
    /// XRSTOR accepts, with x87 and SSE present.
    pub(crate) fn words(&mut self) -> &mut [u64] {
        let image = self.memory.get_mut(self.first_word..self.end_word);
        image.unwrap_or_default() // never: the memory is that long
    }

    /// Loads the registers from this state. IA32_XFD may be zero afterwards.
    pub(crate) fn restore(&mut self, xfd: &mut Xfd<'_>, section: &Section) {
        xfd.clear_for(|| self.components());
        self.restore_all(section);
    }

    /// The same on a processor without IA32_XFD.
    #[inline(always)]
    pub(crate) fn restore_all(&mut self, section: &Section) {
        self.load_image();
        self.write_xcr0(self.xfem, section);
    }

    /// Saves the registers to this state, except x87 and SSE: those belong to the run page, from
    /// which the image is filled. IA32_XFD may be zero afterwards.
    pub(crate) fn save(&mut self, xfd: &mut Xfd<'_>, section: &Section) {
        self.write_xcr0(self.format.xcr0, section);
        xfd.clear_for(|| self.format.components_in_use());
        self.store_further();
    }

    /// The same on a processor without IA32_XFD.
    #[inline(always)]
    pub(crate) fn save_all(&mut self, section: &Section) {
        self.write_xcr0(self.format.xcr0, section);
        self.store_further();
    }

    #[inline(always)]
    fn store_further(&mut self) {
        self.store_image(self.format.xcr0 & !(XSTATE_X87_SSE | XSTATE_PKRU));
    }

    /// Resets to the initial state.
    pub(crate) fn reset(&mut self) {
        self.words().fill(0);
        if let Some(present) = self.words().get_mut(XSTATE_BV_WORD) {
            *present = XSTATE_X87_SSE;
        }
        self.xfem = XFEM_START;
    }

    /// Components present in the image.
    fn components(&mut self) -> u64 {
        self.words().get(XSTATE_BV_WORD).copied().unwrap_or(0)
    }

    #[inline(always)]
    fn load_image(&mut self) {
        let image = self.image;
        let (low, high) = halves(self.format.xcr0 & !XSTATE_PKRU);
        // SAFETY: By the invariant, established in `new`, the image is aligned and complete. MXCSR
        // in it was checked by `pure::controls`, or stored by the processor; the header has only
        // bits of XCR0 set, as XSAVE or `pure::xsave` left it.
        unsafe {
            asm!("xrstor64 [{}]", in(reg) image, in("eax") low, in("edx") high,
                options(nostack, readonly));
        }
    }

    #[inline(always)]
    fn store_image(&mut self, components: u64) {
        let image = self.image;
        let (low, high) = halves(components);
        // SAFETY: By the invariant, established in `new`, the image is aligned and long enough for
        // every component of XCR0.
        unsafe {
            asm!("xsave64 [{}]", in(reg) image, in("eax") low, in("edx") high, options(nostack));
        }
    }
}

/// A section in which the module owns the FPU registers: the task's state is in memory until it
/// returns to userspace. No other task and no softirq runs on this CPU meanwhile; interrupts do,
/// but must not use these registers.
#[must_use]
pub(crate) struct Section(NotThreadSafe);

impl Section {
    /// Saves the task's state.
    pub(crate) fn begin() -> Self {
        // SAFETY: In task context, with interrupts enabled, and not within another section: callers
        // hold the claim to a VP or are loading the module. Paired with the call in `drop`.
        unsafe { abi::kernel_fpu_begin_mask(0) };
        Self(NotThreadSafe)
    }
}

ends_in_c! {
    Section: kernel_fpu_end;
}

/// Reads PKRU; zero if protection keys are disabled.
pub(crate) fn read_pkru(has_pkru: bool, _section: &Section) -> u32 {
    if !has_pkru {
        return 0;
    }
    let value: u32;
    // SAFETY: The kernel has enabled protection keys (`has_pkru`), so RDPKRU exists.
    unsafe {
        asm!("rdpkru", in("ecx") 0, out("eax") value, out("edx") _,
            options(nomem, nostack, preserves_flags));
    }
    value
}

/// Changes PKRU if the values differ. Both are zero if protection keys are disabled.
pub(crate) fn change_pkru(from: u32, to: u32, _irqs: &IrqsOff) {
    if from != to {
        // SAFETY: One of the values is not zero, so the kernel has enabled protection keys and
        // WRPKRU exists. PKRU only affects accesses to user memory, and none happens with
        // interrupts disabled; the caller restores VTL2's value.
        unsafe {
            asm!("wrpkru", in("ecx") 0, in("eax") to, in("edx") 0,
                options(nostack, preserves_flags));
        }
    }
}

/// Stores an exit in a page, each word once, with SSE registers: that takes half as many instructions.
/// Their contents are lost; the caller has saved them.
#[inline(always)]
pub(crate) fn store_exit(page: &SharedPage, offset: usize, exit: &RawExit, _section: &Section) {
    const EXIT_WORDS: usize = size_of::<RawExit>() / WORD_BYTES;
    const _: () = assert!(EXIT_WORDS == 11);
    let Some(to) = page.words_at(offset, EXIT_WORDS) else {
        return; // never: a constant
    };
    let to = to.cast_mut();
    // SAFETY: `words_at` returns the address of as many words in the page, which anybody may write;
    // `exit` has as many. `_section` proves that the vector registers are the module's.
    unsafe {
        asm!("movups xmm0, [{from}]",
            "movups xmm1, [{from} + 16]",
            "movups xmm2, [{from} + 32]",
            "movups xmm3, [{from} + 48]",
            "movups xmm4, [{from} + 64]",
            "mov {last}, [{from} + 80]",
            "movups [{to}], xmm0",
            "movups [{to} + 16], xmm1",
            "movups [{to} + 32], xmm2",
            "movups [{to} + 48], xmm3",
            "movups [{to} + 64], xmm4",
            "mov [{to} + 80], {last}",
            from = in(reg) core::ptr::from_ref(exit), to = in(reg) to, last = out(reg) _,
            options(nostack, preserves_flags));
    }
}

/// Returns the bits of MXCSR that this processor allows.
///
/// # Errors
///
/// ENOMEM.
pub(crate) fn mxcsr_mask(format: Format) -> Result<u32> {
    let mut state = ExtendedState::new(format)?;
    {
        let _section = Section::begin();
        state.store_image(XSTATE_X87_SSE);
    }
    let word = state.words().get(MXCSR_MASK_WORD).copied();
    Ok(match word.unwrap_or(0) >> 32 {
        0 => MXCSR_MASK_DEFAULT,
        mask => mask as u32, // CAST: the high half
    })
}

/// EAX and EDX for an XSAVE instruction.
fn halves(mask: u64) -> (u32, u32) {
    (mask as u32, (mask >> 32) as u32) // CAST: low and high half
}
