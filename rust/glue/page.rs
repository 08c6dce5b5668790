// SPDX-License-Identifier: GPL-2.0
//! Pages that the kernel shares with userspace and with the TDX module.

// UNSAFETY: access to memory that others write at the same time.
#![allow(unsafe_code)]

use core::arch::asm;
use core::marker::PhantomData;
use core::ops::Range;
use core::ptr::NonNull;

use kernel::alloc::flags::__GFP_ZERO;
use kernel::mm::virt::{VmaMixedMap, VmaNew};
use kernel::page::{Page, PAGE_SIZE};
use kernel::prelude::*;

use crate::glue::ffi;

/// A zeroed page of kernel memory that may also be mapped by userspace.
///
/// # Invariants
///
/// `base` is the kernel address of `page`, aligned to its size and valid as long as `page` is owned.
pub(crate) struct SharedPage {
    page: Page,
    base: NonNull<u8>,
    phys: u64,
}

// SAFETY: `base` is an address of the direct map, the same on every CPU; each access through it is one
// instruction, and there is never a reference to the page.
unsafe impl Send for SharedPage {}
// SAFETY: As above.
unsafe impl Sync for SharedPage {}

impl SharedPage {
    /// Allocates a page.
    pub(crate) fn new() -> Result<Self> {
        let page = Page::alloc_page(GFP_KERNEL | __GFP_ZERO)?;
        let base = ffi::page_address(&page).ok_or(ENOMEM)?;
        let phys = ffi::page_phys(&page);
        // INVARIANT: `page_address` gave the address of this page; there is no highmem on x86-64.
        Ok(Self { page, base, phys })
    }

    /// Returns the page itself.
    pub(crate) fn page(&self) -> &Page {
        &self.page
    }

    /// Returns its guest-physical address, which is L1's physical address.
    pub(crate) fn phys(&self) -> u64 {
        self.phys
    }

    /// Maps the page as the whole of a new mapping.
    pub(crate) fn map(&self, vma: &VmaNew) -> Result {
        self.map_at(vma.set_mixedmap(), vma.start())
    }

    /// Maps the page at an address of a new mapping.
    pub(crate) fn map_at(&self, area: &VmaMixedMap, address: usize) -> Result {
        area.vm_insert_page(address, &self.page)
    }

    /// Returns the place of an integer of the page; `None` if it is not aligned or not within the
    /// page, which does not happen, because all offsets are constants of `pure::uapi`.
    fn at<T: Integer>(&self, offset: usize) -> Option<Place<'_, T>> {
        let is_within = offset < PAGE_SIZE && offset % size_of::<T>() == 0;
        let place = self.base.as_ptr().wrapping_add(offset).cast();
        // INVARIANT: An aligned integer that begins in the page ends in it; `self` owns the page.
        is_within.then_some(Place(place, PhantomData))
    }

    fn read<T: Integer>(&self, offset: usize) -> T {
        self.at(offset).map_or(T::default(), |place| place.read())
    }

    fn write<T: Integer>(&self, offset: usize, value: T) {
        if let Some(place) = self.at(offset) {
            place.write(value);
        }
    }

    /// Returns the address of consecutive words, for instructions that read them; `None` if not all are
    /// in the page, which does not happen, because all offsets are constants of `pure::uapi`. Others may
    /// change the words meanwhile.
    pub(crate) fn words_at(&self, offset: usize, len: usize) -> Option<*const u64> {
        let is_within = offset % 8 == 0 && offset <= PAGE_SIZE && len <= (PAGE_SIZE - offset) / 8;
        is_within.then(|| self.base.as_ptr().wrapping_add(offset).cast_const().cast())
    }

    /// Copies consecutive words out of the page, each once.
    pub(crate) fn read_words(&self, offset: usize, words: &mut [u64]) {
        for (index, word) in words.iter_mut().enumerate() {
            *word = self.read(offset + 8 * index);
        }
    }

    /// Copies consecutive words into the page, each once.
    pub(crate) fn write_words(&self, offset: usize, words: &[u64]) {
        for (index, word) in words.iter().enumerate() {
            self.write(offset + 8 * index, *word);
        }
    }

    /// The same for a fixed number, without a loop.
    pub(crate) fn write_few<const LEN: usize>(&self, offset: usize, words: &[u64; LEN]) {
        for (index, word) in words.iter().enumerate() {
            self.write(offset + 8 * index, *word);
        }
    }

    /// Finds consecutive words once, to be written one by one; `None` if not all are in the page.
    #[inline(always)]
    pub(crate) fn few_at<const LEN: usize>(&self, offset: usize) -> Option<Few<'_, LEN>> {
        let first = self.words_at(offset, LEN)?.cast_mut();
        // INVARIANT: `words_at` returns the address of as many words in the page, which `self` owns.
        Some(Few(first, PhantomData))
    }

    /// SHA-256 of a part of the page, which nobody writes meanwhile.
    pub(crate) fn sha256(&self, offset: u32, len_bytes: u32) -> [u8; 32] {
        ffi::page_sha256(&self.page, offset, len_bytes)
    }

    /// Stores x87 and SSE state in the page, in FXSAVE format.
    pub(crate) fn store_fx_state(&self, offset: usize) {
        const IMAGE_BYTES: usize = 512;
        if offset % 16 != 0 || offset > PAGE_SIZE - IMAGE_BYTES {
            return; // never: a constant, too
        }
        let image = self.base.as_ptr().wrapping_add(offset);
        // SAFETY: The image is within the page, which `self` owns, and aligned; nothing of it is
        // read.
        unsafe { asm!("fxsave64 [{}]", in(reg) image, options(nostack, preserves_flags)) }
    }

    /// Reads a byte, once.
    pub(crate) fn read_u8(&self, offset: usize) -> u8 {
        self.read(offset)
    }

    /// Reads a word, once.
    pub(crate) fn read_u32(&self, offset: usize) -> u32 {
        self.read(offset)
    }

    /// Reads a word, once.
    pub(crate) fn read_u64(&self, offset: usize) -> u64 {
        self.read(offset)
    }

    /// Writes a byte, once.
    pub(crate) fn write_u8(&self, offset: usize, value: u8) {
        self.write(offset, value);
    }

    /// Writes a word, once.
    pub(crate) fn write_u32(&self, offset: usize, value: u32) {
        self.write(offset, value);
    }

    /// Writes a word, once.
    pub(crate) fn write_u64(&self, offset: usize, value: u64) {
        self.write(offset, value);
    }

    /// Zeroes the page from an offset on, which is a multiple of 8.
    pub(crate) fn clear_from(&self, first: usize) {
        self.clear(first..PAGE_SIZE);
    }

    /// Zeroes a part of the page, whose ends are multiples of 8.
    pub(crate) fn clear(&self, part: Range<usize>) {
        for offset in part.step_by(8) {
            self.write(offset, 0_u64);
        }
    }

    /// Writes `new` where `old` still stands, as one access and a full barrier. Returns true if it did.
    pub(crate) fn replace_u64(&self, offset: usize, old: u64, new: u64) -> bool {
        let Some(place) = self.at::<u64>(offset) else {
            return false;
        };
        let found: u64;
        // SAFETY: `at` gives an aligned place in the page, which `self` owns.
        unsafe {
            asm!("lock cmpxchg [{}], {}", in(reg) place.0, in(reg) new, inout("rax") old => found,
                options(nostack));
        }
        found == old
    }

    /// Reads a word and leaves zero, as one access and a full barrier.
    pub(crate) fn take_u64(&self, offset: usize) -> u64 {
        self.exchange_u64(offset, 0)
    }

    /// Sets a bit of a word, as one access and a full barrier. Returns true if it was clear.
    pub(crate) fn set_bit_u32(&self, offset: usize, bit: u32) -> bool {
        self.lock_bts_u32(offset, u64::from(bit % u32::BITS)) == 0
    }

    /// Sets bits of a word, as one access and a full barrier.
    pub(crate) fn set_bits_u32(&self, offset: usize, bits: u32) {
        self.lock_or_u32(offset, bits.into());
    }

    /// Clears bits of a word, as one access and a full barrier.
    pub(crate) fn clear_bits_u32(&self, offset: usize, bits: u32) {
        self.lock_and_u32(offset, u64::from(!bits));
    }

    /// Sets bits of a byte, as one access and a full barrier.
    pub(crate) fn set_bits_u8(&self, offset: usize, bits: u8) {
        self.lock_or_u8(offset, bits.into());
    }

    /// Clears bits of a byte, as one access and a full barrier.
    pub(crate) fn clear_bits_u8(&self, offset: usize, bits: u8) {
        self.lock_and_u8(offset, u64::from(!bits));
    }
}

/// Where an integer of a [`SharedPage`] is.
///
/// # Invariants
///
/// The pointer is to an aligned integer of a page that exists for `'page`.
struct Place<'page, T>(*mut T, PhantomData<&'page SharedPage>);

impl<T: Integer> Place<'_, T> {
    #[inline(always)]
    fn read(&self) -> T {
        // SAFETY: By the invariant. Others may change the integer at the same time; a volatile read of
        // it is one instruction.
        unsafe { self.0.read_volatile() }
    }

    #[inline(always)]
    fn write(&self, value: T) {
        // SAFETY: As above.
        unsafe { self.0.write_volatile(value) }
    }
}

/// Some words of a [`SharedPage`].
///
/// # Invariants
///
/// The pointer is to `LEN` aligned words of a page that exists for `'page`.
pub(crate) struct Few<'page, const LEN: usize>(*mut u64, PhantomData<&'page SharedPage>);

impl<const LEN: usize> Few<'_, LEN> {
    /// Writes a word, once. `number` is below `LEN`.
    #[inline(always)]
    pub(crate) fn write(&self, number: usize, word: u64) {
        if number < LEN {
            // INVARIANT: one of the words.
            Place::<'_, u64>(self.0.wrapping_add(number), PhantomData).write(word);
        }
    }
}

/// What is read and written by one instruction.
///
/// The kernel crate's atomics would do for one size. Userspace, and the host, may use another for a
/// part of the same word, and so does the kernel (`scan_proxy_irr` is a byte, and set with a locked
/// operation on the word that it begins): that the language does not allow its atomics, but the
/// processor does. They also are calls of C functions, and this is on the way of every switch.
trait Integer: Copy + Default {}
impl Integer for u8 {}
impl Integer for u32 {}
impl Integer for u64 {}

/// Methods of one locked instruction, which is a full barrier. They return what it leaves in the register
/// of the operand.
///
/// No change of a page is repeated until it succeeds: others, as userspace, may change the same word all
/// the time, and interrupt handlers are among the callers.
macro_rules! locked {
    ($($visibility:vis fn $name:ident($integer:ty) = $instruction:literal;)+) => {
        impl SharedPage {
            $($visibility fn $name(&self, offset: usize, operand: u64) -> u64 {
                let Some(place) = self.at::<$integer>(offset) else {
                    return 0;
                };
                let left;
                // SAFETY: `at` gives an aligned place in the page, which `self` owns. The instruction
                // accesses no other: the index of a bit is below 32.
                unsafe {
                    asm!($instruction, place = in(reg) place.0,
                        operand = inout(reg_abcd) operand => left, options(nostack));
                }
                left
            })+
        }
    };
}

locked! {
    fn lock_or_u8(u8) = "lock or [{place}], {operand:l}";
    fn lock_and_u8(u8) = "lock and [{place}], {operand:l}";
    fn lock_or_u32(u32) = "lock or [{place}], {operand:e}";
    fn lock_and_u32(u32) = "lock and [{place}], {operand:e}";
    // All ones if the bit was set.
    fn lock_bts_u32(u32) = "lock bts dword ptr [{place}], {operand:e}\nsbb {operand}, {operand}";
    // Reads a word and leaves another.
    pub(crate) fn exchange_u64(u64) = "xchg [{place}], {operand}";
}
