// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! Start states: at the 64-bit entry of a Linux, at the entry of a Multiboot kernel, and in real mode at a page
//! that another processor named. In both, interrupts go through the virtual-APIC page, and the kernel module
//! delivers them.

use vtl::field::{self, L2Field};
use vtl::vapic::ApicRegister;
use vtl::{Gpr, Mode, Offload, Vectors, Vp};

use crate::image::Start;
use crate::linux::{self, Entry};
use crate::memory::place;
use crate::msr;
use crate::multiboot;

pub(super) const CR0_NE: u64 = 1 << 5;
pub(super) const CR0_NW: u64 = 1 << 29;
pub(super) const CR0_CD: u64 = 1 << 30;
pub(super) const CR4_MCE: u64 = 1 << 6;
pub(super) const CR4_VMXE: u64 = 1 << 13;

/// Bits of CR0 that exit when the guest changes them: what TDX does not allow, or would not do.
const CR0_OWNED: u64 = CR0_NE | CR0_NW | CR0_CD;
/// Bits of CR4 likewise. The guest sees neither, though both are set.
const CR4_OWNED: u64 = CR4_MCE | CR4_VMXE;

/// The boot processor.
pub(super) fn begin(vp: &Vp, start: Start) -> vtl::Result<()> {
    match start {
        Start::Linux(entry) => at_entry(vp, entry),
        Start::Multiboot(entry) => at_multiboot_entry(vp, entry),
    }
}

/// In 32-bit protected mode without paging, all segments from 0 on.
fn at_multiboot_entry(vp: &Vp, entry: multiboot::Entry) -> vtl::Result<()> {
    vp.reset(Mode::Protected32, entry.rip)?;
    vp.page().set_gpr(Gpr::Rax, multiboot::LOADER_MAGIC);
    vp.page().set_gpr(Gpr::Rbx, entry.information);
    common(vp)
}

/// In 64-bit mode by Linux' boot protocol.
fn at_entry(vp: &Vp, entry: Entry) -> vtl::Result<()> {
    let mode = Mode::Long64 {
        cr3: place::PAGE_TABLES,
    };
    vp.reset(mode, entry.rip)?;
    vp.write(L2Field::GUEST_GDTR_BASE, place::DESCRIPTORS)?;
    vp.write(L2Field::GUEST_GDTR_LIMIT, linux::DESCRIPTORS_LIMIT)?;
    vp.write(L2Field::GUEST_CS_SELECTOR, linux::CODE_SELECTOR.into())?;
    for selector in [
        L2Field::GUEST_DS_SELECTOR,
        L2Field::GUEST_ES_SELECTOR,
        L2Field::GUEST_SS_SELECTOR,
    ] {
        vp.write(selector, linux::DATA_SELECTOR.into())?;
    }
    vp.page().set_gpr(Gpr::Rsi, entry.rsi);
    common(vp)
}

/// Another processor, at a page below 1 MiB [SDM3 9.4.4].
pub(super) fn at_page(vp: &Vp, page: u8) -> vtl::Result<()> {
    vp.reset(Mode::Real16 { segment_base: 0 }, 0)?;
    vp.write(L2Field::GUEST_CS_SELECTOR, u64::from(page) << 8)?;
    vp.write(L2Field::GUEST_CS_BASE, u64::from(page) << 12)?;
    for selector in [
        L2Field::GUEST_DS_SELECTOR,
        L2Field::GUEST_ES_SELECTOR,
        L2Field::GUEST_FS_SELECTOR,
        L2Field::GUEST_GS_SELECTOR,
        L2Field::GUEST_SS_SELECTOR,
    ] {
        vp.write(selector, 0)?;
    }
    common(vp)
}

fn common(vp: &Vp) -> vtl::Result<()> {
    const VIRTUAL_INTERRUPT_DELIVERY: u64 = 1 << 9;
    let cr0 = vp.read(L2Field::GUEST_CR0)?;
    let cr4 = vp.read(L2Field::GUEST_CR4)?;
    // The shadow first: it counts from the first write of a mask on.
    vp.write(L2Field::CR0_READ_SHADOW, cr0)?;
    vp.write(L2Field::CR0_GUEST_HOST_MASK, CR0_OWNED)?;
    vp.write(L2Field::CR4_READ_SHADOW, cr4 & !CR4_OWNED)?;
    vp.write(L2Field::CR4_GUEST_HOST_MASK, CR4_OWNED)?;
    for bitmap in [
        L2Field::EOI_EXIT_BITMAP0,
        L2Field::EOI_EXIT_BITMAP1,
        L2Field::EOI_EXIT_BITMAP2,
        L2Field::EOI_EXIT_BITMAP3,
    ] {
        vp.write(bitmap, 0)?;
    }
    vp.write_masked(
        L2Field::SECONDARY_CONTROLS,
        VIRTUAL_INTERRUPT_DELIVERY,
        VIRTUAL_INTERRUPT_DELIVERY,
    )?;
    for (word, bits) in msr::bitmap() {
        vp.write_id(field::msr_bitmap(vp.vm(), word), bits, u64::MAX)?;
    }
    let apic = vp.vtl().map_vapic_page(vp.cpu())?;
    for vectors in [
        vtl::VapicPage::set_requested,
        vtl::VapicPage::set_in_service,
        vtl::VapicPage::set_level_triggered,
    ] {
        vectors(&apic, Vectors::NONE);
    }
    apic.write(ApicRegister::Tpr, 0);
    let page = vp.page();
    let _ = page.take_interrupts();
    page.set_exit_interrupts(Vectors::NONE);
    page.set_offload(Offload::new().with_interrupts(true).with_x2apic(true));
    Ok(())
}
