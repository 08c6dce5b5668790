// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! Fields of a virtual processor, read and written by TDG.VP.RD and TDG.VP.WR: management,
//! CPUID_CONTROL, and the VMCS and MSR bitmaps of each L2 VM.

use super::{
    FieldRow, Key, Request, Table, Target, decode_for_write, locate, readable_from, vmcs_rules,
};
use crate::fields::{definition_of, definitions_from};
use crate::gpa::VmIndex;
use crate::status::Status;
use crate::td::TdConfig;
use crate::vcpu::{MSR_BITMAP_WORDS, TSC_DEADLINE_OFF, Vcpu, l2_ctls};

#[derive(Clone, Copy)]
enum VpField {
    VcpuIndex,
    CpuidSupervisorVe,
    CpuidUserVe,
    L2Ctls,
    TscDeadline,
    CpuidControl,
    /// A field of the host's, or of nobody.
    Hidden,
}

const ALL: u64 = u64::MAX;

static ROWS: &[FieldRow<VpField>] = &[
    // L1's virtual-APIC page.
    FieldRow::new(0x0120_0003_0000_0000, 128, 0, 0, VpField::Hidden),
    // #VE information, and what goes with it but is not part of the architecture.
    FieldRow::new(0x0220_0003_0000_0000, 6, 0, 0, VpField::Hidden),
    FieldRow::new(0x8220_0002_0000_0010, 2, 0, 0, VpField::Hidden),
    // General-purpose registers.
    FieldRow::new(0x1020_0003_0000_0000, 16, 0, 0, VpField::Hidden),
    FieldRow::new(0xa020_0002_0000_0002, 1, ALL, 0, VpField::VcpuIndex),
    FieldRow::new(
        0xa020_0000_0000_0007,
        1,
        0xff,
        0xff,
        VpField::CpuidSupervisorVe,
    ),
    FieldRow::new(0xa020_0000_0000_0008, 1, 0xff, 0xff, VpField::CpuidUserVe),
    FieldRow::new(0xa020_0003_0000_0050, 4, ALL, l2_ctls::ALL, VpField::L2Ctls),
    FieldRow::new(0xa020_0003_0000_0058, 4, ALL, ALL, VpField::TscDeadline),
    FieldRow::new(0xa120_0000_0000_0000, 128, 0xff, 3, VpField::CpuidControl),
];

/// The two classes a VM has, relative to its first.
#[derive(Clone, Copy, PartialEq, Eq)]
enum VmClass {
    Vmcs,
    MsrBitmap,
    /// L1's own words of the MSR bitmap, which it reads as the bitmap.
    Shadow,
}

/// Class of L1's VMCS, which L1 can't read.
const L1_VMCS_CLASS: u64 = 0;
/// Class of the VMCS of VM 1; the next VM's is 8 higher, those of the MSR
/// bitmap and its shadow 1 and 2 higher.
const FIRST_VM_CLASS: u64 = 36;

fn vm_class(vm: VmIndex, what: VmClass) -> u64 {
    let first = FIRST_VM_CLASS + 8 * (u64::from(vm.number()) - 1);
    match what {
        VmClass::Vmcs => first,
        VmClass::MsrBitmap => first + 1,
        VmClass::Shadow => first + 2,
    }
}

/// Decodes the class of an L2 VM the TD has.
fn decode_vm_class(config: &TdConfig, class: u64) -> Option<(VmIndex, VmClass)> {
    let above = class.checked_sub(FIRST_VM_CLASS)?;
    let what = match above & 7 {
        0 => VmClass::Vmcs,
        1 => VmClass::MsrBitmap,
        2 => VmClass::Shadow,
        _ => return None,
    };
    Some((config.l2_vm((above >> 3) + 1)?, what))
}

/// The context of one virtual processor.
pub(crate) struct VpTable<'a> {
    pub(crate) config: &'a TdConfig,
    pub(crate) vcpu: &'a Vcpu,
}

impl VpTable<'_> {
    fn value(&self, field: VpField, element: u64) -> u64 {
        let vcpu = self.vcpu;
        match field {
            VpField::VcpuIndex => u64::from(vcpu.index),
            VpField::CpuidSupervisorVe => u64::from(vcpu.cpuid_supervisor_ve),
            VpField::CpuidUserVe => u64::from(vcpu.cpuid_user_ve),
            VpField::L2Ctls => at(&vcpu.l2_ctls, element).copied().unwrap_or(0),
            VpField::TscDeadline => at(&vcpu.tsc_deadline, element).copied().unwrap_or(0),
            VpField::CpuidControl => at(&vcpu.cpuid_control, element)
                .copied()
                .map_or(0, u64::from),
            VpField::Hidden => 0,
        }
    }

    /// The first readable id of a VM at or after `key`.
    fn vm_readable_from(&self, vm: VmIndex, key: Key) -> Option<u64> {
        let vmcs = vm_class(vm, VmClass::Vmcs);
        let bitmap = vm_class(vm, VmClass::MsrBitmap);
        if key.class <= vmcs {
            let from = if key.class < vmcs { 0 } else { key.code };
            let row = definitions_from(from).iter().find(|d| d.read != 0);
            if let Some(row) = row {
                let id = vmcs << 56 | 1 << 50 | row.size_code() << 32 | u64::from(row.encoding);
                return Some(id | VCPU_CONTEXT);
            }
        }
        if key.class > bitmap {
            return None;
        }
        let word = if key.class < bitmap { 0 } else { key.code };
        let is_word = word < MSR_BITMAP_WORDS as u64;
        is_word.then_some(bitmap << 56 | VCPU_CONTEXT | 3 << 32 | word)
    }
}

const VCPU_CONTEXT: u64 = 2 << 52;

/// L1's VMCS has the fields that one of an L2 has.
fn is_l1_vmcs(key: Key) -> bool {
    key.class == L1_VMCS_CLASS && definition_of(key.code).is_some()
}

fn at<T>(slice: &[T], element: u64) -> Option<&T> {
    usize::try_from(element).ok().and_then(|i| slice.get(i))
}

fn at_mut<T>(slice: &mut [T], element: u64) -> Option<&mut T> {
    usize::try_from(element).ok().and_then(|i| slice.get_mut(i))
}

impl Table for VpTable<'_> {
    fn read(&self, key: Key) -> Result<u64, Status> {
        const UNKNOWN: Status = Status::METADATA_FIELD_ID_INCORRECT;
        if let Some((vm, what)) = decode_vm_class(self.config, key.class) {
            let l2 = self.vcpu.l2(vm);
            return match what {
                VmClass::MsrBitmap => at(&l2.msr_bitmap, key.code).copied().ok_or(UNKNOWN),
                VmClass::Shadow => match at(&l2.msr_bitmap, key.code) {
                    Some(_) => Err(Status::METADATA_FIELD_NOT_READABLE),
                    None => Err(UNKNOWN),
                },
                VmClass::Vmcs => {
                    let row = definition_of(key.code).ok_or(UNKNOWN)?;
                    if row.read == 0 {
                        return Err(Status::METADATA_FIELD_NOT_READABLE);
                    }
                    Ok(vmcs_rules::read(self.config, &l2.vmcs, row.field) & row.read)
                }
            };
        }
        if is_l1_vmcs(key) {
            return Err(Status::METADATA_FIELD_NOT_READABLE);
        }
        let (row, element) = locate(ROWS, key).ok_or(UNKNOWN)?;
        if row.read == 0 {
            return Err(Status::METADATA_FIELD_NOT_READABLE);
        }
        Ok(self.value(row.what, element) & row.read)
    }

    fn readable_from(&self, key: Key) -> Option<u64> {
        let vms = VmIndex::ALL
            .into_iter()
            .filter(|vm| vm.number() <= self.config.num_l2_vms);
        let of_vms = vms.filter_map(|vm| self.vm_readable_from(vm, key));
        of_vms
            .chain(readable_from(ROWS, key))
            .min_by_key(|id| Key::of(*id))
    }
}

/// Writes one element of a virtual processor and returns its old value, cut to the read mask.
///
/// `now` is the virtual TSC, which a deadline is checked against.
pub(crate) fn write(
    config: &TdConfig,
    vcpu: &mut Vcpu,
    now: u64,
    raw_id: u64,
    request: Request,
) -> Result<u64, Status> {
    const UNKNOWN: Status = Status::METADATA_FIELD_ID_INCORRECT;
    let key = decode_for_write(raw_id)?;
    if let Some((vm, what)) = decode_vm_class(config, key.class) {
        let l2 = vcpu.l2_mut(vm);
        return match what {
            VmClass::Vmcs => {
                let row = definition_of(key.code).ok_or(UNKNOWN)?;
                vmcs_rules::write(config, &mut l2.vmcs, row, request)
            }
            VmClass::MsrBitmap => {
                let word = at_mut(&mut l2.msr_bitmap, key.code).ok_or(UNKNOWN)?;
                let old = *word;
                *word = Target {
                    old,
                    write: ALL,
                    element: ALL,
                    is_gpa: false,
                }
                .merge(request)?;
                l2.msr_bitmap_writes += 1;
                Ok(old)
            }
            VmClass::Shadow => match at(&l2.msr_bitmap, key.code) {
                Some(_) => Err(Status::METADATA_FIELD_NOT_WRITABLE),
                None => Err(UNKNOWN),
            },
        };
    }
    if is_l1_vmcs(key) {
        return Err(Status::METADATA_FIELD_NOT_WRITABLE);
    }
    let (row, element) = locate(ROWS, key).ok_or(UNKNOWN)?;
    let old = VpTable { config, vcpu }.value(row.what, element);
    let target = Target {
        old,
        write: row.write,
        element: row.element_mask(),
        is_gpa: false,
    };
    let new = target.merge(request)?;
    store(vcpu, now, row.what, element, new)?;
    Ok(old & row.read)
}

fn store(vcpu: &mut Vcpu, now: u64, field: VpField, element: u64, new: u64) -> Result<(), Status> {
    // CAST: merge() has kept byte-sized fields inside a byte.
    let byte = new as u8;
    match field {
        VpField::VcpuIndex | VpField::Hidden => return Err(Status::METADATA_FIELD_NOT_WRITABLE),
        VpField::CpuidSupervisorVe => vcpu.cpuid_supervisor_ve = byte,
        VpField::CpuidUserVe => vcpu.cpuid_user_ve = byte,
        VpField::L2Ctls => set(&mut vcpu.l2_ctls, element, new),
        VpField::CpuidControl => set(&mut vcpu.cpuid_control, element, byte),
        VpField::TscDeadline => {
            if !is_reachable(new, now) {
                return Err(Status::OPERAND_INVALID);
            }
            set(&mut vcpu.tsc_deadline, element, new);
        }
    }
    Ok(())
}

fn set<T>(slice: &mut [T], element: u64, value: T) {
    if let Some(slot) = at_mut(slice, element) {
        *slot = value;
    }
}

/// A deadline may be off, in the past, or at a distance that is positive as a signed number.
const fn is_reachable(deadline: u64, now: u64) -> bool {
    deadline == TSC_DEADLINE_OFF || deadline <= now || (deadline - now) >> 63 == 0
}

#[cfg(test)]
mod tests {
    use super::super::read;
    use super::*;
    use crate::testing::with_td;

    const FULL: u64 = u64::MAX;

    fn id(vm: u64, encoding: u64) -> u64 {
        0x2424_0000_0000_0000 + ((vm - 1) << 59) + encoding
    }

    #[test]
    fn ready_made_ids_of_the_specification_work() {
        with_td(|td, vcpu, _| {
            let request = Request {
                value: 0x1000,
                mask: FULL,
            };
            assert_eq!(
                write(&td.config, vcpu, 0, 0x2424_0003_0000_6802, request),
                Ok(0)
            );
            let t = VpTable {
                config: &td.config,
                vcpu,
            };
            assert_eq!(read(&t, 0x2420_0000_0000_6802).value, 0x1000);
            assert_eq!(read(&t, 0x2c24_0003_0000_6802).value, 0);
            assert_eq!(read(&t, 0x2520_0003_0000_01ff).value, FULL);
            let unknown = [
                id(1, 0x6803),
                id(1, 0x2030),
                id(3, 0x6802),
                0x3520_0003_0000_0000,
                0x2520_0003_0000_0200,
                0x2620_0003_0000_0200,
            ];
            for id in unknown {
                assert_eq!(
                    read(&t, id).status,
                    Status::METADATA_FIELD_ID_INCORRECT,
                    "{id:#x}"
                );
            }
            for id in [id(1, 0x2010), 0x2620_0003_0000_0000] {
                assert_eq!(
                    read(&t, id).status,
                    Status::METADATA_FIELD_NOT_READABLE,
                    "{id:#x}"
                );
            }
        });
    }

    #[test]
    fn iteration_visits_every_readable_field_in_class_order() {
        with_td(|td, vcpu, _| {
            let t = VpTable {
                config: &td.config,
                vcpu,
            };
            let mut id = read(&t, FULL).next_id;
            assert_eq!(id, 0xa020_0002_0000_0002);
            let (mut seen, mut last) = (0, Key::FIRST);
            while id != FULL {
                assert!(Key::of(id) > last || seen == 0);
                last = Key::of(id);
                let out = read(&t, id);
                assert_eq!(out.status, Status::SUCCESS, "{id:#x}");
                id = out.next_id;
                seen += 1;
            }
            let vmcs = crate::fields::FIELDS.iter().filter(|d| d.read != 0).count();
            assert_eq!(seen, 11 + 128 + 2 * (vmcs + MSR_BITMAP_WORDS));
        });
    }

    #[test]
    fn deadline_too_far_away_is_refused_without_operand() {
        with_td(|td, vcpu, _| {
            let id = 0xa020_0003_0000_0059;
            let mut set = |value| write(&td.config, vcpu, 100, id, Request { value, mask: FULL });
            assert_eq!(set(FULL - 1), Err(Status::OPERAND_INVALID));
            assert_eq!(set(50), Ok(FULL));
            assert_eq!(set(1 << 62), Ok(50));
            assert_eq!(set(FULL), Ok(1 << 62));
            assert_eq!(vcpu.tsc_deadline(VmIndex::Vm1), None);
        });
    }

    #[test]
    fn l2_ctls_takes_three_bits_and_missing_vms_are_stored() {
        with_td(|td, vcpu, _| {
            let mut set = |vm: u64, value, mask| {
                write(
                    &td.config,
                    vcpu,
                    0,
                    0xa020_0003_0000_0050 + vm,
                    Request { value, mask },
                )
            };
            assert_eq!(set(1, 8, 8), Err(Status::METADATA_FIELD_NOT_WRITABLE));
            assert_eq!(set(1, 8, FULL), Err(Status::METADATA_FIELD_VALUE_NOT_VALID));
            assert_eq!(set(1, 3, FULL), Ok(0));
            assert_eq!(set(3, 7, 7), Ok(0));
            assert_eq!(set(4, 7, 7), Err(Status::METADATA_FIELD_ID_INCORRECT));
            assert_eq!(vcpu.l2_ctls(VmIndex::Vm1), 3);
        });
    }
}
