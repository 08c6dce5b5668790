// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! A secret at VTL1: VTL0 may guess it, but can neither read it nor try for long. With the argument
//! `userspace`, the kernel carries out no VTL calls, and nothing else changes.

use vtl::{
    Exit, GpaRange, Gpr, LowerMemory, Mode, Mshv, PageRights, SwitchEnable, Vm, Vtl, VtlPair,
    identity_tables,
};

const SECRET: u64 = 7777;
/// What VTL0 guesses, in this order; the last one is too late.
const GUESSES: [u64; 6] = [1, SECRET, 2, 3, 4, SECRET];

/// VTL1. Compares RDI with the secret, sets ESI to 1 if it is right, and returns:
/// ```text
/// 1: cmp dword [tries], 3; jae 2f; cmp rdi, [secret]; je 3f; inc dword [tries]
/// 2: xor esi, esi; jmp 4f
/// 3: mov dword [tries], 0; mov esi, 1
/// 4: mov eax, 1; mov ecx, 0x12; vmcall; jmp 1b
/// ```
const VTL1: &[u8] = b"\x83\x3d\x41\x00\x00\x00\x03\x73\x0f\x48\x3b\x3d\x30\x00\x00\x00\x74\x0a\
    \xff\x05\x30\x00\x00\x00\x31\xf6\xeb\x0f\xc7\x05\x22\x00\x00\x00\x00\x00\x00\x00\
    \xbe\x01\x00\x00\x00\xb8\x01\x00\x00\x00\xb9\x12\x00\x00\x00\x0f\x01\xc1\xeb\xc6";
/// After the code: the secret, and the number of wrong guesses in a row.
const SECRET_OFFSET: u64 = 0x40;

/// VTL0. Calls VTL1 with each guess of the list at RBX, writes the answer to port 0xe9, and finally
/// reads the secret at RDX:
/// ```text
/// 1: mov rdi, [rbx]; add rbx, 8; test rdi, rdi; jz 2f
///    xor eax, eax; mov ecx, 0x11; vmcall; mov eax, esi; out 0xe9, al; jmp 1b
/// 2: mov rax, [rdx]; hlt
/// ```
const VTL0: &[u8] = b"\x48\x8b\x3b\x48\x83\xc3\x08\x48\x85\xff\x74\x10\x31\xc0\xb9\x11\x00\x00\x00\
    \x0f\x01\xc1\x89\xf0\xe6\xe9\xeb\xe4\x48\x8b\x02\xf4";
const LIST_OFFSET: u64 = 0x40;

/// Offsets in the memory of each VTL: three levels of page tables, then its code. VTL1's has one
/// more page: its assist page.
const CODE: u64 = 3 * PAGE;
const ASSIST: u64 = 4 * PAGE;
const USED: u64 = 5 * PAGE;
const PAGE: u64 = 4096;
/// Memory of each VTL: a large page, whose rights are one.
const LEN: u64 = 2 << 20;

type Outcome<T> = Result<T, Box<dyn std::error::Error>>;

/// Returns memory that only `vm` has rights to, with page tables for its gigabyte, and `code`.
fn give(vtl: &Vtl, vm: Vm, range: GpaRange, code: &[u8]) -> Outcome<LowerMemory> {
    vtl.accept(&range)?;
    for other in [Vm::VTL0, Vm::VTL1] {
        let rights = if other == vm {
            PageRights::ALL
        } else {
            PageRights::NONE
        };
        vtl.lower(other).set_rights(&range, rights)?;
    }
    let memory = LowerMemory::map(range)?;
    let base = range.base();
    memory.write(0, &vec![0; usize::try_from(USED)?])?;
    memory.write(0, &identity_tables(base))?;
    memory.write(CODE, code)?;
    Ok(memory)
}

/// Returns VTL0 before its first guess, and VTL1 before its first call.
fn start(vtl: &Vtl, base: u64) -> Outcome<VtlPair> {
    let [vtl0_base, vtl1_base] = [base, base + LEN];
    let vtl0_memory = give(vtl, Vm::VTL0, GpaRange::new(vtl0_base, LEN)?, VTL0)?;
    let guesses: Vec<u8> = GUESSES
        .iter()
        .flat_map(|guess| guess.to_le_bytes())
        .collect();
    vtl0_memory.write(CODE + LIST_OFFSET, &guesses)?;
    let vtl1_memory = give(vtl, Vm::VTL1, GpaRange::new(vtl1_base, LEN)?, VTL1)?;
    vtl1_memory.write(CODE + SECRET_OFFSET, &SECRET.to_le_bytes())?;

    let vtl0 = vtl.bind(0, Vm::VTL0)?;
    vtl0.reset(Mode::Long64 { cr3: vtl0_base }, vtl0_base + CODE)?;
    vtl0.page()
        .set_gpr(Gpr::Rbx, vtl0_base + CODE + LIST_OFFSET);
    vtl0.page()
        .set_gpr(Gpr::Rdx, vtl1_base + CODE + SECRET_OFFSET);
    let assist = LowerMemory::map(GpaRange::new(vtl1_base + ASSIST, PAGE)?)?;
    let pair = VtlPair::new(vtl0, assist)?;
    pair.start_vtl1(Mode::Long64 { cr3: vtl1_base }, vtl1_base + CODE, 0)?;
    pair.vp(Vm::VTL1).new_apic_page()?;
    Ok(pair)
}

/// Returns the base of the last two large pages that the module claimed for lower VTLs.
fn find_memory() -> Outcome<u64> {
    let list = std::fs::read_to_string("/sys/module/mshv_vtl_tdx/parameters/vtl0_mem")?;
    let number = |text: &str| u64::from_str_radix(text.trim().trim_start_matches("0x"), 16);
    let numbers = list
        .split(',')
        .map(number)
        .collect::<Result<Vec<u64>, _>>()?;
    match numbers[..] {
        [.., base, len] if len >= 3 * LEN => Ok((base + len) / LEN * LEN - 2 * LEN),
        _ => Err(format!("no memory for two VTLs in {list}").into()),
    }
}

fn main() -> Outcome<()> {
    let vtl = Mshv::open()?.create_vtl()?;
    let calls = || {
        vtl.stats(0)
            .map(|stats| stats.map_or(0, |stats| stats.vtl.calls))
    };
    let mut pair = start(&vtl, find_memory()?)?;
    if std::env::args().nth(1).as_deref() != Some("userspace") {
        pair.set_enable(SwitchEnable::new().with_calls(true).with_returns(true));
    }
    let before = calls()?;
    let mut answers = 0;
    loop {
        match pair.run()? {
            (Vm::VTL0, Exit::Port(access)) => {
                let is_right = access.value() & 1 != 0;
                println!("VTL1 says {}", if is_right { "right" } else { "no" });
                access.complete();
                answers += 1;
            }
            (Vm::VTL0, Exit::EptViolation(violation)) => {
                println!("VTL0 may not read {:#x} itself", violation.gpa);
                break;
            }
            (_, Exit::Interrupted | Exit::NotEntered(_)) => {}
            (vm, other) => return Err(format!("{vm:?}: unexpected exit {}", other.name()).into()),
        }
    }
    println!("{} of {answers} calls by the kernel", calls()? - before);
    Ok(())
}
