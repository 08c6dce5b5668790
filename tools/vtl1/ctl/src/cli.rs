// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! The command line, of which `examples/vtl1ctl_manual.rs` makes the manual pages.

use std::path::PathBuf;

use clap::{Parser, Subcommand};

/// Use the secure kernel at VTL1: sign, seal, count. Its keys never leave it.
#[derive(Parser)]
#[command(version, after_help = STATUS_HELP)]
pub(crate) struct Arguments {
    /// The device of the driver
    #[arg(long, value_name = "FILE", default_value = "/dev/vtl1")]
    pub(crate) device: PathBuf,
    #[command(subcommand)]
    pub(crate) what: What,
}

#[derive(Subcommand)]
pub(crate) enum What {
    /// Print the version of the interface, the most bytes of an input, and which keys VTL1 has.
    Identify,
    /// Print the signature of a file, HMAC-SHA-256 with VTL1's key.
    Sign {
        /// File of at most 16 KiB; - is standard input
        file: PathBuf,
    },
    /// Increment VTL1's counter and print it. It never goes back.
    Counter,
    /// Encrypt standard input, at most 16 KiB, to standard output. Only the same keys unseal it.
    Seal,
    /// Decrypt standard input, which seal has made, to standard output.
    Unseal,
}

pub(crate) const STATUS_HELP: &str = "Exit status:
  0  success
  1  there is no VTL1, or it or the driver refused
  2  the command line is wrong
  3  a file can't be read or written, or is too long
  4  unseal: the input was changed, or sealed with other keys

Example:
  vtl1ctl seal <password >password.sealed";
