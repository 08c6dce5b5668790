// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! A VTL call and its return, carried out by the kernel and by userspace.
//!
//! VTL0 reads the time-stamp counter before and after its call, so the figures contain nothing else.

use anyhow::bail;
use vtl::{Exit, GpaRange, Gpr, LowerMemory, PageRights, SwitchEnable, Vm, Vtl, VtlPair};

use crate::layout::{Layout, ModeName};

/// VTL0. Calls VTL1, and exits by CPUID with the ticks in R9:
/// ```text
/// 1: rdtsc; shl rdx, 32; lea r8, [rax+rdx]; xor eax, eax; mov ecx, 0x11; vmcall
///    rdtsc; shl rdx, 32; lea r9, [rax+rdx]; sub r9, r8; cpuid; jmp 1b
/// ```
const VTL0: &[u8] =
    b"\x0f\x31\x48\xc1\xe2\x20\x4c\x8d\x04\x10\x31\xc0\xb9\x11\x00\x00\x00\x0f\x01\xc1\
    \x0f\x31\x48\xc1\xe2\x20\x4c\x8d\x0c\x10\x4d\x29\xc1\x0f\xa2\xeb\xdb";
/// VTL1, a fast return: `1: mov eax, 1; mov ecx, 0x12; vmcall; jmp 1b`.
const VTL1: &[u8] = b"\xb8\x01\x00\x00\x00\xb9\x12\x00\x00\x00\x0f\x01\xc1\xeb\xf1";
const PAGE: u64 = 4096;
/// Where they are, from the load offset of the layout, with VTL1's assist page.
const VTL1_AT: u64 = PAGE;
const ASSIST_AT: u64 = 2 * PAGE;

/// Prepares both VTLs in `memory`, to which VTL0 has all rights, on `cpu`.
pub(super) fn start(vtl: &Vtl, cpu: u32, memory: GpaRange) -> anyhow::Result<VtlPair> {
    let layout = Layout::new(ModeName::Long, memory, None)?;
    vtl.set_rights(&memory, Vm::VTL1, PageRights::ALL)?;
    let mapped = LowerMemory::map(memory)?;
    for (offset, table) in layout.tables()? {
        mapped.write(offset, &table)?;
    }
    let entry = layout.entry();
    mapped.write(layout.load_offset(), VTL0)?;
    mapped.write(layout.load_offset() + VTL1_AT, VTL1)?;
    let vtl0 = vtl.bind(cpu, Vm::VTL0)?;
    vtl0.reset(layout.start_mode(), entry)?;
    let assist = LowerMemory::map(GpaRange::new(entry + ASSIST_AT, PAGE)?)?;
    let pair = VtlPair::new(vtl0, assist)?;
    pair.start_vtl1(layout.start_mode(), entry + VTL1_AT, 0)?;
    pair.vp(Vm::VTL1).new_apic_page()?;
    Ok(pair)
}

/// Who carries out the calls and returns.
#[derive(Clone, Copy)]
pub(super) enum By {
    Kernel,
    Userspace,
}

/// One call and its return. `None` if something else ended the run, which the ticks would contain.
pub(super) fn call_return(pair: &mut VtlPair, by: By) -> anyhow::Result<Option<u64>> {
    let by_kernel = matches!(by, By::Kernel);
    pair.set_enable(
        SwitchEnable::new()
            .with_calls(by_kernel)
            .with_returns(by_kernel),
    );
    let mut is_undisturbed = true;
    loop {
        let answered = match pair.run()? {
            (Vm::VTL0, Exit::Cpuid(cpuid)) => {
                cpuid.answer([0; 4]);
                true
            }
            (_, Exit::Interrupted | Exit::NotEntered(_)) => {
                is_undisturbed = false;
                false
            }
            (vm, other) => bail!(
                "expected a CPUID exit of VTL0, found {vm:?}: {}",
                other.name()
            ),
        };
        if answered {
            let ticks = pair.vp(Vm::VTL0).page().gpr(Gpr::R9);
            return Ok(is_undisturbed.then_some(ticks));
        }
    }
}
