// SPDX-License-Identifier: GPL-2.0
//! Numbers of the commands, each with its operand's type, and the proof that the header agrees.

use kernel::ioctl::{_IO, _IOR, _IOW, _IOWR};

use crate::glue::abi::{
    self, mshv_kick_cpus, mshv_map_device_intr, mshv_set_poll_file, mshv_sint_mask, mshv_tdcall,
    mshv_vp_registers, mshv_vtl_head, mshv_vtl_hvcall, mshv_vtl_hvcall_setup,
    mshv_vtl_partition_time, mshv_vtl_ram_disposition, mshv_vtl_set_eventfd, mshv_vtl_signal_event,
    mshv_vtl_sint_post_msg, mshv_vtl_xsave,
};

/// Type of every command.
const TYPE: u32 = 0xb8;
const _: () = assert!(TYPE == abi::MSHV_IOCTL);

macro_rules! commands {
    ($($name:ident = $number:expr, $header:ident;)+) => {
        $(
            #[doc = concat!("`MSHV_", stringify!($name), "`.")]
            pub(crate) const $name: u32 = $number;
            const _: () = assert!($name == abi::$header);
        )+
    };
}

// SINT_PAUSE_MESSAGE_STREAM has the same number as SET_POLL_FILE, on another file.
commands! {
    CHECK_EXTENSION = _IOW::<u32>(TYPE, 0x00), VTL_COMMAND_CHECK_EXTENSION;
    CREATE_VTL = _IOR::<u8>(TYPE, 0x1d), VTL_COMMAND_CREATE_VTL;
    VTL_INFO = _IOWR::<mshv_vtl_head>(TYPE, 0x60), VTL_COMMAND_VTL_INFO;
    VTL_POLICY = _IOWR::<mshv_vtl_head>(TYPE, 0x62), VTL_COMMAND_VTL_POLICY;
    RETURN_TO_LOWER_VTL = _IO(TYPE, 0x27), VTL_COMMAND_RETURN_TO_LOWER_VTL;
    GET_VP_REGISTERS = _IOWR::<mshv_vp_registers>(TYPE, 0x05), VTL_COMMAND_GET_VP_REGISTERS;
    SET_VP_REGISTERS = _IOW::<mshv_vp_registers>(TYPE, 0x06), VTL_COMMAND_SET_VP_REGISTERS;
    VTL_XSAVE_GET = _IOWR::<mshv_vtl_xsave>(TYPE, 0x63), VTL_COMMAND_VTL_XSAVE_GET;
    VTL_XSAVE_SET = _IOW::<mshv_vtl_xsave>(TYPE, 0x64), VTL_COMMAND_VTL_XSAVE_SET;
    VTL_SWITCH_SETUP = _IOW::<mshv_vtl_head>(TYPE, 0x65), VTL_COMMAND_VTL_SWITCH_SETUP;
    VTL_RESET = _IOW::<mshv_vtl_head>(TYPE, 0x68), VTL_COMMAND_VTL_RESET;
    SET_POLL_FILE = _IOW::<mshv_set_poll_file>(TYPE, 0x25), VTL_COMMAND_SET_POLL_FILE;
    KICK_CPUS = _IOW::<mshv_kick_cpus>(TYPE, 0x38), VTL_COMMAND_KICK_CPUS;
    MAP_REDIRECTED_DEVICE_INTERRUPT = _IOWR::<mshv_map_device_intr>(TYPE, 0x39), VTL_COMMAND_MAP_REDIRECTED_DEVICE_INTERRUPT;
    ADD_VTL0_MEMORY = _IOW::<mshv_vtl_ram_disposition>(TYPE, 0x21), VTL_COMMAND_ADD_VTL0_MEMORY;
    RESTORE_PARTITION_TIME = _IOW::<mshv_vtl_partition_time>(TYPE, 0x13), VTL_COMMAND_RESTORE_PARTITION_TIME;
    READ_VMX_CR4_FIXED1 = _IOR::<u64>(TYPE, 0x33), VTL_COMMAND_READ_VMX_CR4_FIXED1;
    TDCALL = _IOWR::<mshv_tdcall>(TYPE, 0x32), VTL_COMMAND_TDCALL;
    VTL_STATS = _IOWR::<mshv_vtl_head>(TYPE, 0x61), VTL_COMMAND_VTL_STATS;
    VTL_AUDIT_CHECKPOINT = _IOWR::<mshv_vtl_head>(TYPE, 0x66), VTL_COMMAND_VTL_AUDIT_CHECKPOINT;
    VTL_AUDIT_EVENT = _IOWR::<mshv_vtl_head>(TYPE, 0x67), VTL_COMMAND_VTL_AUDIT_EVENT;
    VTL_AUDIT_NOTE = _IOW::<mshv_vtl_head>(TYPE, 0x69), VTL_COMMAND_VTL_AUDIT_NOTE;
    HVCALL_SETUP = _IOW::<mshv_vtl_hvcall_setup>(TYPE, 0x1e), VTL_COMMAND_HVCALL_SETUP;
    HVCALL = _IOWR::<mshv_vtl_hvcall>(TYPE, 0x1f), VTL_COMMAND_HVCALL;
    SINT_SIGNAL_EVENT = _IOW::<mshv_vtl_signal_event>(TYPE, 0x22), VTL_COMMAND_SINT_SIGNAL_EVENT;
    SINT_POST_MESSAGE = _IOW::<mshv_vtl_sint_post_msg>(TYPE, 0x23), VTL_COMMAND_SINT_POST_MESSAGE;
    SINT_SET_EVENTFD = _IOW::<mshv_vtl_set_eventfd>(TYPE, 0x24), VTL_COMMAND_SINT_SET_EVENTFD;
    SINT_PAUSE_MESSAGE_STREAM = _IOW::<mshv_sint_mask>(TYPE, 0x25), VTL_COMMAND_SINT_PAUSE_MESSAGE_STREAM;
}
