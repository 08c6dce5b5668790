// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! The virtual APIC of an L2: virtual-interrupt delivery and x2APIC virtualization on the page
//! that L1 gave. [SDM3 29]

use super::load::{primary, secondary};
use super::{Verdict, plain_exit};
use crate::mem::guest::GuestMemory;
use crate::vp::Vp;
use svm::intercept::Misc1;
use svm::vmcb::Event;
use svm::vmx_names::reason;
use tdx_model::Field;
use tdx_model::gpa::VmIndex;
use tdx_model::l2_exit::L2Exit;

const TPR: u64 = 0x80;
const PPR: u64 = 0xa0;
const EOI: u64 = 0xb0;
const ISR: u64 = 0x100;
const IRR: u64 = 0x200;
const SELF_IPI: u64 = 0x3f0;

const RFLAGS_IF: u64 = 1 << 9;
const WRITES_CR8: u16 = 1 << 8;

/// The page.
struct Page {
    memory: GuestMemory,
    start: u64,
}

impl Page {
    fn of(vp: &Vp, vm: VmIndex) -> Option<Self> {
        let gpa = vp.model.l2(vm).virtual_apic_gpa()?;
        Some(Self {
            memory: vp.platform.memory,
            start: gpa.0,
        })
    }

    fn get(&self, register: u64) -> u32 {
        let mut bytes = [0; 4];
        // TDG.VP.ENTER checked that the page is L1's; if it no longer is, it reads as zero.
        let _ = self.memory.read(self.start + register, &mut bytes);
        u32::from_le_bytes(bytes)
    }

    fn set(&self, register: u64, value: u32) {
        let _ = self
            .memory
            .write(self.start + register, &value.to_le_bytes());
    }

    fn word_of(base: u64, vector: u8) -> (u64, u32) {
        (base + 0x10 * u64::from(vector / 32), 1 << (vector % 32))
    }

    fn set_vector(&self, base: u64, vector: u8) {
        let (register, bit) = Self::word_of(base, vector);
        self.set(register, self.get(register) | bit);
    }

    fn clear_vector(&self, base: u64, vector: u8) {
        let (register, bit) = Self::word_of(base, vector);
        self.set(register, self.get(register) & !bit);
    }

    /// The highest vector of a 256-bit register, 0 if none.
    fn highest(&self, base: u64) -> u8 {
        let words = (0..8u32).rev();
        let found = words.filter_map(|word| {
            let bits = self.get(base + 0x10 * u64::from(word));
            bits.checked_ilog2().map(|bit| 32 * word + bit)
        });
        found.map(|vector| vector as u8).next().unwrap_or(0) // CAST: below 256
    }

    /// PPR virtualization.
    fn update_ppr(&self, svi: u8) -> u8 {
        let tpr = self.get(TPR) as u8; // CAST: the register has eight bits
        let ppr = if tpr >> 4 >= svi >> 4 {
            tpr
        } else {
            svi & 0xf0
        };
        self.set(PPR, u32::from(ppr));
        ppr
    }
}

fn status(vp: &Vp, vm: VmIndex) -> (u8, u8) {
    // CAST: RVI is the low byte, SVI the high byte.
    let word = vp.model.l2(vm).vmcs.get(Field::GuestInterruptStatus);
    (word as u8, (word >> 8) as u8)
}

fn set_status(vp: &mut Vp, vm: VmIndex, rvi: u8, svi: u8) {
    let word = u64::from(rvi) | (u64::from(svi) << 8);
    vp.model
        .l2_mut(vm)
        .vmcs
        .set(Field::GuestInterruptStatus, word);
}

fn has_delivery(vp: &Vp, vm: VmIndex) -> bool {
    let controls = vp.model.l2(vm).vmcs.get32(Field::SecondaryControls);
    controls & secondary::VIRTUAL_INTERRUPT_DELIVERY != 0
}

/// Called before a run and before events are loaded: delivers a virtual interrupt if possible, and
/// opens an interrupt window for one that is blocked or that L1 requested.
pub fn load(vp: &mut Vp, vm: VmIndex) {
    let Some(page) = Page::of(vp, vm) else { return };
    let tpr = page.get(TPR) as u8; // CAST: the register has eight bits
    let context = vp.l2_mut(vm);
    let control = &mut context.guest.vmcb.control;
    control.int_ctl = control
        .int_ctl
        .with_v_tpr(tpr >> 4)
        .with_v_irq(false)
        .with_v_ign_tpr(false)
        .with_v_intr_prio(0)
        .with_v_intr_vector(0);
    let vmcs = &vp.model.l2(vm).vmcs;
    if vmcs.get32(Field::PrimaryControls) & primary::INTERRUPT_WINDOW != 0 {
        return open_window(vp, vm, None);
    }
    let (rvi, svi) = status(vp, vm);
    if !has_delivery(vp, vm) {
        return;
    }
    if rvi >> 4 <= page.update_ppr(svi) >> 4 {
        if rvi >> 4 > svi >> 4 {
            // Only TPR holds it back, and CR8 can lower that.
            vp.l2_mut(vm).guest.vmcb.control.intercept_cr_write |= WRITES_CR8;
        }
        return;
    }
    let guest = &vp.l2_ref(vm).guest.vmcb;
    let is_takable = guest.save.rflags & RFLAGS_IF != 0
        && guest.control.int_state == 0
        && !super::event::has_entry_event(vp.model, vm);
    if is_takable {
        deliver(vp, vm, &page, rvi);
    } else {
        open_window(vp, vm, Some(rvi));
    }
}

/// Exits when the L2 could take an interrupt of this vector, or of any (interrupt window).
fn open_window(vp: &mut Vp, vm: VmIndex, vector: Option<u8>) {
    let control = &mut vp.l2_mut(vm).guest.vmcb.control;
    control.intercept_misc1 |= Misc1::VINTR;
    // TCG aborts when a guest lowers CR8 while V_IRQ is set (it raises the virtual interrupt
    // without holding its lock), so the emulator carries out such a write.
    control.intercept_cr_write |= WRITES_CR8;
    control.int_ctl = control
        .int_ctl
        .with_v_irq(true)
        .with_v_ign_tpr(vector.is_none())
        .with_v_intr_prio(vector.unwrap_or(0xff) >> 4)
        .with_v_intr_vector(vector.unwrap_or(0xff));
}

/// Virtual-interrupt delivery.
fn deliver(vp: &mut Vp, vm: VmIndex, page: &Page, vector: u8) {
    page.set_vector(ISR, vector);
    page.clear_vector(IRR, vector);
    page.set(PPR, u32::from(vector & 0xf0));
    set_status(vp, vm, page.highest(IRR), vector);
    let event = Event::new()
        .with_vector(vector)
        .with_kind(Event::INTERRUPT)
        .with_is_valid(true);
    vp.l2_mut(vm).guest.inject(event);
}

/// After a run: takes over the task priority, which CR8 may have changed.
pub fn store(vp: &mut Vp, vm: VmIndex) {
    let Some(page) = Page::of(vp, vm) else { return };
    let now = vp.l2_ref(vm).guest.vmcb.control.int_ctl.v_tpr() & 15;
    let tpr = page.get(TPR);
    if tpr >> 4 != u32::from(now) {
        page.set(TPR, u32::from(now) << 4);
    }
}

/// MOV from CR8.
pub fn read_cr8(vp: &Vp, vm: VmIndex) -> u64 {
    Page::of(vp, vm).map_or(0, |page| u64::from((page.get(TPR) >> 4) & 15))
}

/// MOV to CR8: TPR virtualization. The exit is trap-like.
pub fn write_tpr(vp: &mut Vp, vm: VmIndex, tpr: u8) -> Verdict {
    let Some(page) = Page::of(vp, vm) else {
        return Verdict::Internal;
    };
    page.set(TPR, u32::from(tpr));
    let vmcs = &vp.model.l2(vm).vmcs;
    let is_below = u64::from(tpr >> 4) < vmcs.get(Field::TprThreshold) & 15;
    if !has_delivery(vp, vm) && is_below {
        return Verdict::Exit(plain_exit(vp, vm, reason::TPR_BELOW_THRESHOLD));
    }
    Verdict::Internal
}

/// Offset in the page of an x2APIC register.
const fn offset_of(index: u32) -> u64 {
    ((index & 0xff) as u64) << 4
}

/// RDMSR of a virtualized x2APIC register.
pub fn read_register(vp: &Vp, vm: VmIndex, index: u32) -> u64 {
    Page::of(vp, vm).map_or(0, |page| u64::from(page.get(offset_of(index))))
}

/// WRMSR of a virtualized x2APIC register. `None`: the register is not virtualized.
pub fn write_register(vp: &mut Vp, vm: VmIndex, index: u32, value: u64) -> Option<Verdict> {
    let page = Page::of(vp, vm)?;
    let byte = u8::try_from(value).ok();
    match (offset_of(index), byte) {
        (TPR, Some(tpr)) => Some(write_tpr(vp, vm, tpr)),
        (EOI, Some(0)) if has_delivery(vp, vm) => Some(end_of_interrupt(vp, vm, &page)),
        (SELF_IPI, Some(vector)) if has_delivery(vp, vm) && vector >= 16 => {
            page.set_vector(IRR, vector);
            let (rvi, svi) = status(vp, vm);
            set_status(vp, vm, rvi.max(vector), svi);
            Some(Verdict::Internal)
        }
        _ => None,
    }
}

/// EOI virtualization. The exit is trap-like.
fn end_of_interrupt(vp: &mut Vp, vm: VmIndex, page: &Page) -> Verdict {
    let (rvi, vector) = status(vp, vm);
    page.clear_vector(ISR, vector);
    let svi = page.highest(ISR);
    set_status(vp, vm, rvi, svi);
    page.update_ppr(svi);
    let bitmaps = [
        Field::EoiExitBitmap0,
        Field::EoiExitBitmap1,
        Field::EoiExitBitmap2,
        Field::EoiExitBitmap3,
    ];
    let bitmap = vp.model.l2(vm).vmcs.get(bitmaps[usize::from(vector / 64)]);
    if (bitmap >> (vector % 64)) & 1 != 0 {
        return Verdict::Exit(L2Exit {
            qualification: u64::from(vector),
            ..plain_exit(vp, vm, reason::VIRTUALIZED_EOI)
        });
    }
    Verdict::Internal
}
