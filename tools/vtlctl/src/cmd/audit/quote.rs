// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! `vtlctl audit quote`: the quote in a saved log, for programs that check signatures of quotes.

use std::path::PathBuf;

use anyhow::{Context as _, anyhow};
use serde_json::json;
use vtl_audit::{Contents, Evidence};

use crate::{ExitStatus, Failure};

#[derive(clap::Args)]
pub(super) struct Arguments {
    /// Print one JSON object
    #[arg(long)]
    json: bool,
    /// File that `attest` has added a quote to
    file: PathBuf,
    /// File to write
    output: PathBuf,
}

pub(super) fn main(arguments: &Arguments) -> Result<ExitStatus, Failure> {
    let bytes = super::read(&arguments.file)?;
    let quote = newest(&bytes)
        .with_context(|| format!("cannot use {}", arguments.file.display()))
        .map_err(|error| Failure::new(ExitStatus::File, error))?;
    super::write_other(&arguments.file, &arguments.output, quote)?;
    match arguments.json {
        true => println!("{}", json!({ "bytes": quote.len() })),
        false => println!("a quote of {} bytes written", quote.len()),
    }
    Ok(ExitStatus::Success)
}

/// The quote that `verify` takes if it is given none.
fn newest(file: &[u8]) -> anyhow::Result<&[u8]> {
    let contents = Contents::read(file).map_err(|why| anyhow!("{why}"))?;
    let quote = contents.quotes.last().context("there is no quote in it")?;
    Evidence::from_quote(quote).map_err(|why| anyhow!("its quote is none: {why}"))?;
    Ok(quote)
}

#[cfg(test)]
mod tests {
    use super::*;
    use vtl_audit::event::CONTROL;
    use vtl_audit::file::{Frame, write};
    use vtl_audit::testing::Module;

    /// By whatever name: otherwise the evidence would be gone.
    #[test]
    fn the_log_itself_is_never_overwritten() -> anyhow::Result<()> {
        let folder = std::env::temp_dir().join(format!("vtlctl-quote-{}", std::process::id()));
        std::fs::create_dir_all(&folder)?;
        let module = Module::load(&[0, CONTROL]);
        let quote = write::frame(Frame::Quote, &module.quote(4, &[0; 64])).unwrap_or_default();
        let log = [module.file(), quote].concat();
        let (file, link) = (folder.join("log"), folder.join("link"));
        std::fs::write(&file, &log)?;
        std::fs::hard_link(&file, &link)?;
        let to = |output: PathBuf| {
            main(&Arguments {
                json: false,
                file: file.clone(),
                output,
            })
        };
        assert!(to(link.clone()).is_err() && to(file.clone()).is_err());
        assert_eq!(std::fs::read(&file)?, log);
        assert!(to(folder.join("quote")).is_ok());
        std::fs::remove_dir_all(&folder)?;
        Ok(())
    }

    #[test]
    fn the_last_quote_comes_out_as_it_went_in() {
        let mut module = Module::load(&[0, CONTROL]);
        let mut file = module.file();
        let why = newest(&file).err().map(|why| why.to_string());
        assert_eq!(why.as_deref(), Some("there is no quote in it"));
        for number in 1..3 {
            module.checkpoint(None);
            let quote = module.quote(4, &[number; 64]);
            file.extend(write::frame(Frame::Quote, &quote).unwrap_or_default());
        }
        assert_eq!(newest(&file).ok(), Some(&*module.quote(4, &[2; 64])));
        file.extend(write::frame(Frame::Quote, b"none").unwrap_or_default());
        assert!(newest(&file).is_err());
        assert!(newest(b"").is_err());
    }
}
