// SPDX-License-Identifier: GPL-2.0
//! What an open file can ask for: the device nodes, their commands and mappings, and files in
//! debugfs.
//!
//! `device` decides who may open a node and dispatches commands; each other file implements one
//! command or one node. Next down the flow: `run.rs` for `MSHV_RETURN_TO_LOWER_VTL`, `mem.rs` for
//! mappings.

pub(crate) mod args;
pub(crate) mod attest;
mod c;
pub(crate) mod commands;
pub(crate) mod debugfs;
pub(crate) mod descriptor;
pub(crate) mod device;
pub(crate) mod hvcall;
pub(crate) mod hyper_v;
pub(crate) mod info;
pub(crate) mod kick;
pub(crate) mod poll_file;
pub(crate) mod redirect;
pub(crate) mod registers;
pub(crate) mod request;
pub(crate) mod reset;
pub(crate) mod shutdown;
pub(crate) mod sint;
pub(crate) mod vtl_page;
pub(crate) mod vtl_switch;
pub(crate) mod xsave;
