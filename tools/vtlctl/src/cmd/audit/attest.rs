// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! `vtlctl audit attest`: has the module make an event with somebody's nonce, saves the log with it,
//! and adds a quote or a TDREPORT that proves it.

use std::path::PathBuf;

use anyhow::Context as _;
use serde_json::json;
use vtl::{Mshv, tdx_guest};
use vtl_audit::file::Frame;
use vtl_audit::hash;

use super::log::Saver;
use crate::options::{self, digits};
use crate::{ExitStatus, Failure};

#[derive(clap::Args)]
pub(super) struct Arguments {
    /// Nonce of who wants to know: 64 hexadecimal digits
    #[arg(long, value_name = "HEX", value_parser = options::hex::<32>)]
    nonce: [u8; 32],
    /// Add a TDREPORT, which only this machine can check, instead of a quote
    #[arg(long)]
    report: bool,
    /// Take virtual processors out of the lower VTLs first, so that long stays are recorded
    #[arg(long)]
    kick: bool,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
    /// File to begin or to go on with
    file: PathBuf,
}

pub(super) fn main(arguments: &Arguments) -> Result<ExitStatus, Failure> {
    let mshv = Mshv::open()?;
    let (info, vtl) = (mshv.info()?, mshv.create_vtl()?);
    let attestation = vtl.attestation()?.context(
        "the module was loaded without attestation: load it with attest=try or attest=require",
    )?;
    let mut saver = Saver::open(&vtl, &info, &attestation, &arguments.file)?;
    let made = vtl.checkpoint(&arguments.nonce, arguments.kick);
    // Without a new event what there is can still be saved.
    saver.pass()?;
    let number = made?;
    let event = vtl.event(number, &attestation)?;
    let event = event.context("the event is no longer kept")?;
    let data = hash::report_data(&arguments.nonce, &hash::digest(&event));
    let evidence = match arguments.report {
        true => tdx_guest::report(&data).map(|report| (Frame::Report, report.to_vec())),
        false => tdx_guest::quote(&data).map(|quote| (Frame::Quote, quote)),
    };
    let (kind, evidence) =
        evidence.with_context(|| format!("event {number} is saved, without evidence"))?;
    // The register it tells has every event that was made meanwhile.
    saver.pass()?;
    saver.add(kind, &evidence)?;
    let digest = digits(&hash::digest(&event));
    if arguments.json {
        println!("{}", json!({ "event": number, "digest": digest }));
    } else {
        println!("event {number} carries the nonce, digest {digest}");
    }
    Ok(ExitStatus::Success)
}
