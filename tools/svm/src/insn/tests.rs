// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! Encodings checked against an assembler's listing.

use super::*;
use crate::vmcb::Segment;

fn len(bytes: &[u8], mode: Mode) -> u8 {
    let mut padded = [0x90u8; 32];
    padded[..bytes.len()].copy_from_slice(bytes);
    decode(&padded, mode).map_or(0, |insn| insn.len_bytes)
}

#[test]
fn lengths_of_64_bit_code() {
    let cases: &[&[u8]] = &[
        &[0x0f, 0xa2],                                     // cpuid
        &[0xf4],                                           // hlt
        &[0x66, 0x0f, 0x01, 0xcc],                         // tdcall
        &[0x0f, 0x01, 0xc1],                               // vmcall
        &[0x0f, 0x01, 0xd1],                               // xsetbv
        &[0xf3, 0x0f, 0x09],                               // wbnoinvd
        &[0x0f, 0x22, 0xc0],                               // mov cr0, rax
        &[0x44, 0x0f, 0x22, 0xc0],                         // mov cr8, rax
        &[0x0f, 0x01, 0xf0],                               // lmsw ax
        &[0x48, 0x8b, 0x04, 0x25, 1, 2, 3, 4],             // mov rax, [abs]
        &[0x48, 0x8b, 0x05, 1, 2, 3, 4],                   // mov rax, [rip+x]
        &[0x48, 0xb8, 1, 2, 3, 4, 5, 6, 7, 8],             // mov rax, imm64
        &[0x66, 0xc7, 0x44, 0x24, 0x08, 1, 2],             // mov word [rsp+8], imm
        &[0x48, 0xc7, 0x84, 0xc8, 1, 2, 3, 4, 5, 6, 7, 8], // mov q [rax+rcx*8+d], imm
        &[0xa1, 1, 2, 3, 4, 5, 6, 7, 8],                   // mov eax, moffs64
        &[0xf6, 0x00, 1],                                  // test byte [rax], 1
        &[0xf7, 0x18],                                     // neg dword [rax]
        &[0xe4, 0x60],                                     // in al, 60h
        &[0x66, 0xed],                                     // in ax, dx
        &[0xf3, 0x66, 0x6f],                               // rep outsw
        &[0x0f, 0xba, 0x20, 3],                            // bt dword [rax], 3
        &[0x66, 0xe8, 1, 2, 3, 4],                         // call with useless 66
        &[0xc5, 0xf8, 0x77],                               // vzeroupper
        &[0xc4, 0xe3, 0x7d, 0x19, 0xc1, 0x01],             // vextractf128
        &[0xc5, 0xfd, 0x6f, 0x44, 0x24, 0x20],             // vmovdqa ymm, [rsp+20h]
        &[0x40, 0x66, 0x0f, 0x01, 0xcc],                   // rex then 66: rex ignored
    ];
    for case in cases {
        assert_eq!(
            usize::from(len(case, Mode::Code64)),
            case.len(),
            "{case:x?}"
        );
    }
}

#[test]
fn lengths_of_16_bit_code() {
    let cases: &[&[u8]] = &[
        &[0xb8, 1, 2],                   // mov ax, imm16
        &[0x66, 0xb8, 1, 2, 3, 4],       // mov eax, imm32
        &[0xa1, 1, 2],                   // mov ax, [abs16]
        &[0x8b, 0x46, 0x04],             // mov ax, [bp+4]
        &[0x8b, 0x06, 1, 2],             // mov ax, [abs16] by ModRM
        &[0x67, 0x8b, 0x04, 0x24],       // mov ax, [esp]
        &[0xea, 1, 2, 3, 4],             // jmp far
        &[0x66, 0xea, 1, 2, 3, 4, 5, 6], // jmp far 32
        &[0x0f, 0x84, 1, 2],             // je near
        &[0xc4, 0x07],                   // les, not VEX
    ];
    for case in cases {
        assert_eq!(
            usize::from(len(case, Mode::Code16)),
            case.len(),
            "{case:x?}"
        );
    }
}

#[test]
fn cut_short_or_endless_is_refused() {
    assert_eq!(decode(&[0x48, 0x8b], Mode::Code64), None);
    assert_eq!(decode(&[0x66; 32], Mode::Code64), None);
    assert_eq!(decode(&[], Mode::Code16), None);
}

#[expect(unsafe_code)] // UNSAFETY: a zeroed plain-data block
fn long_mode_vmcb() -> crate::Vmcb {
    // SAFETY: the VMCB is integers and arrays of integers, for which zero is a value.
    let mut vmcb: crate::Vmcb = unsafe { core::mem::zeroed() };
    vmcb.save.efer = 1 << 10;
    vmcb.save.cs.attributes = crate::segment::LONG;
    vmcb
}

#[test]
fn linear_addresses_follow_base_index_and_segment() {
    let mut vmcb = long_mode_vmcb();
    vmcb.save.rip = 0x1000;
    vmcb.save.gs = Segment {
        base: 0xffff_8000_0000_0000,
        ..Segment::default()
    };
    let gprs = Gprs {
        rax: 0x2000,
        rcx: 3,
        r12: 0x50,
        ..Gprs::default()
    };
    let address = |bytes: &[u8]| {
        let insn = decode(bytes, Mode::Code64).unwrap();
        insn.memory
            .unwrap()
            .linear_address(insn.len_bytes, &gprs, &vmcb.save)
    };
    assert_eq!(address(&[0x8b, 0x44, 0xc8, 0x10]), 0x2000 + 24 + 0x10);
    assert_eq!(
        address(&[0x8b, 0x05, 0xf0, 0xff, 0xff, 0xff]),
        0x1006 - 0x10
    );
    assert_eq!(address(&[0x65, 0x8b, 0x00]), 0xffff_8000_0000_2000);
    assert_eq!(address(&[0x41, 0x8b, 0x04, 0x24]), 0x50);
}

#[test]
fn descriptor_table_operands_have_the_vmx_form() {
    let vmcb = long_mode_vmcb();
    let info = |bytes: &[u8]| decode(bytes, Mode::Code64).unwrap().memory.unwrap();
    // sidt [rax+rcx*8+10h]: scale 3, 64-bit address, DS, index 1, base 0.
    let sidt = info(&[0x0f, 0x01, 0x4c, 0xc8, 0x10]);
    assert_eq!(
        sidt.vmx_instruction_info(),
        3 | (2 << 7) | (3 << 15) | (1 << 18)
    );
    assert_eq!(sidt.vmx_displacement(5, &vmcb.save), 0x10);
    // lgdt [abs]: neither index nor base.
    let lgdt = info(&[0x0f, 0x01, 0x14, 0x25, 0, 0x10, 0, 0]);
    assert_eq!(
        lgdt.vmx_instruction_info(),
        (2 << 7) | (3 << 15) | (1 << 22) | (1 << 27)
    );
}
