// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! TDG.MEM.PAGE.ATTR.WR (leaf 24): changes what L2 VMs may do with a page.

use super::tdg_mem_page_accept::mapping_operand;
use super::{Call, Leaf, SUCCESS, Stop};
use crate::gpa::{Gpa, Level, Rights, VmIndex};
use crate::machine::{FlushScope, Machine};
use crate::page_state::{PageEntry, PageState, Walk};
use crate::status::{Operand, Status};
use crate::td::{L2Tables, TdConfig};
use crate::ve::Eeq;

/// Attribute word: the word is to be applied.
const VALID: u16 = 1 << 15;
/// Flag word: flush the VM's translations on this logical processor.
const INVEPT: u16 = 1 << 15;
/// Attribute word: bits that must be 0.
const RESERVED: u16 = 0x7f00;
/// Attribute word: suppress #VE, not supported.
const SVE: u16 = 1 << 7;
/// Mapping word: the page is not yet accepted.
const PENDING: u64 = 1 << 62;

/// The 16-bit word of a VM in a register with one word per VM, VM 0 in the lowest.
const fn word_of(register: u64, vm: u8) -> u16 {
    // CAST: the shift brings the word into the low 16 bits.
    (register >> (16 * vm)) as u16
}

pub(super) const fn put_word(register: u64, vm: VmIndex, word: u16) -> u64 {
    register | (word as u64) << (16 * vm.number())
}

pub(super) const fn attribute_word(rights: Rights) -> u16 {
    VALID | rights.bits() as u16
}

pub(super) fn mapping_word(gpa: Gpa, entry: PageEntry) -> u64 {
    let pending = if entry.state() == PageState::Pending {
        PENDING
    } else {
        0
    };
    gpa.0 | u64::from(entry.level().number()) | pending
}

/// What a call does after all its checks have passed.
struct Change {
    gpa: Gpa,
    entry: PageEntry,
    words: [Word; 3],
}

/// The change for one VM.
#[derive(Clone, Copy, Default)]
struct Word {
    /// New rights of its alias, which is removed if there are none.
    rights: Option<Rights>,
    /// Its word in RDX.
    output: u16,
}

pub(crate) fn tdg_mem_page_attr_wr<M: Machine>(mut call: Call<'_, '_, M>) -> Leaf {
    let flags = call.gprs.r8;
    let refusal = match check(&mut call) {
        Err(refusal) => refusal,
        Ok(change) => {
            // checks passed
            commit(&mut call, &change, flags);
            call.gprs.rcx = mapping_word(change.gpa, change.entry);
            call.gprs.rdx = outputs(change.words);
            return SUCCESS;
        }
    };
    if let Stop::Refused(_) = refusal.stop {
        call.gprs.rcx = 0;
        call.gprs.rdx = refusal.rdx;
    }
    Err(refusal.stop)
}

fn outputs(words: [Word; 3]) -> u64 {
    let all = words.into_iter().zip(VmIndex::ALL);
    all.fold(0, |rdx, (word, vm)| put_word(rdx, vm, word.output))
}

/// A refusal and what RDX becomes with it.
struct Refusal {
    stop: Stop,
    rdx: u64,
}

impl From<Stop> for Refusal {
    fn from(stop: Stop) -> Self {
        Self { stop, rdx: 0 }
    }
}

fn check<M: Machine>(call: &mut Call<'_, '_, M>) -> Result<Change, Refusal> {
    check_words(&call.td.config, call.gprs.rdx, call.gprs.r8)?;
    let (gpa, level) = mapping_operand(call.gprs.rcx, Level::Size1G)?;
    // Nothing there, or a larger page: the host has to map or demote.
    let not_there = Stop::ept_violation(gpa, Eeq::AttrWr { level });
    let walk = call.td.pages.walk(gpa, level);
    if matches!(walk, Walk::Leaf(entry) if entry.level() > level) {
        return Err(not_there.into());
    }
    call.lock_page(gpa)?;
    let entry = match walk {
        Walk::Leaf(entry) => entry,
        Walk::Table => {
            let mismatch = Status::PAGE_SIZE_MISMATCH.with(level.number());
            return Err(Stop::from(mismatch).into());
        }
        Walk::Missing => return Err(not_there.into()),
    };
    let words = check_vms(call, gpa, entry)?;
    Ok(Change { gpa, entry, words })
}

/// Goes through the VMs once. An illegal combination is refused at the end, so that RDX describes
/// all VMs; a missing table is refused immediately [ABI TDG.MEM.PAGE.ATTR.WR].
fn check_vms<M: Machine>(
    call: &Call<'_, '_, M>,
    gpa: Gpa,
    entry: PageEntry,
) -> Result<[Word; 3], Refusal> {
    let (attributes, flags) = (call.gprs.rdx, call.gprs.r8);
    let mut words = [Word::default(); 3];
    let mut is_legal = true;
    for (word, vm) in words.iter_mut().zip(VmIndex::ALL) {
        let new = word_of(attributes, vm.number());
        if new & VALID == 0 {
            continue;
        }
        let current = entry.rights(vm);
        let Some(merged) = merge(current, new, word_of(flags, vm.number())) else {
            is_legal = false;
            if current.is_present() {
                word.output = attribute_word(current);
            }
            continue;
        };
        *word = Word {
            rights: Some(merged),
            output: attribute_word(merged),
        };
        if current.is_present() {
            continue;
        }
        if !merged.is_present() {
            // There is no alias to remove, and the module returns the word unchanged.
            word.output = new;
        } else if !call.td.has_l2_table(vm, gpa, entry.level()) {
            return Err(table_missing(&call.td.config, vm, gpa).into());
        }
    }
    if is_legal {
        return Ok(words);
    }
    Err(Refusal {
        stop: Status::PAGE_ATTR_INVALID.into(),
        rdx: outputs(words),
    })
}

/// The L2's secure EPT ends above the level of the page. Details: VM and level of the missing table.
fn table_missing(config: &TdConfig, vm: VmIndex, gpa: Gpa) -> Stop {
    let level = Level::Size2M;
    if config.l2_tables == L2Tables::OnDemand {
        return Stop::ept_violation(gpa, Eeq::L2Walk { vm, level });
    }
    let details = u32::from(vm.number()) << 16 | level.number();
    Stop::Refused(Status::L2_SEPT_WALK_FAILED.with(details))
}

/// Words of VM 0 and of VMs that the TD does not have must be 0; another word that is not 0 must be
/// valid. The flags of a VM that exists can have any value.
fn check_words(config: &TdConfig, attributes: u64, flags: u64) -> Result<(), Stop> {
    for vm in 0..4 {
        let (attribute, flag) = (word_of(attributes, vm), word_of(flags, vm));
        let exists = config.l2_vm(u64::from(vm)).is_some();
        let is_attribute_bad = if exists {
            attribute != 0 && attribute & VALID == 0
        } else {
            attribute != 0
        };
        if is_attribute_bad {
            return Err(Stop::invalid(Operand::Rdx));
        }
        if !exists && flag != 0 {
            return Err(Stop::invalid(Operand::R8));
        }
    }
    Ok(())
}

/// The rights after the change; `None` if they are not a legal combination. Without any of R, W, Xs
/// and Xu there is no alias, whatever the other bits are. Bits outside the mask do not count.
fn merge(current: Rights, new: u16, flags: u16) -> Option<Rights> {
    let mask = flags & !VALID;
    let old = if current.is_present() {
        u16::from(current.bits())
    } else {
        0
    };
    let merged = (old & !mask) | (new & mask);
    // CAST: the low seven bits.
    let rights = Rights::from_bits(merged as u8);
    if !rights.is_present() {
        return Some(Rights::default());
    }
    (merged & (RESERVED | SVE) == 0 && rights.is_legal()).then_some(rights)
}

fn commit<M: Machine>(call: &mut Call<'_, '_, M>, change: &Change, flags: u64) {
    let Change { gpa, entry, words } = *change;
    let level = entry.level();
    for (word, vm) in words.into_iter().zip(VmIndex::ALL) {
        let is_change = |new: &Rights| new.is_present() || entry.rights(vm).is_present();
        if let Some(rights) = word.rights.filter(is_change) {
            let old = call.td.pages.l2_rights(vm, gpa).unwrap_or_default();
            call.td.pages.set_rights(gpa, level, vm, rights);
            let visible = call.td.pages.l2_rights(vm, gpa);
            let new = visible.unwrap_or_default();
            call.td.stale.reduce(vm, gpa, level, old, new);
            call.machine.l2_mapping_changed(vm, gpa, level, visible);
        }
        if word_of(flags, vm.number()) & INVEPT != 0 {
            call.flush_l2(vm, FlushScope::Ept);
        }
    }
}

#[cfg(test)]
mod tests;
