// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! Writes what an installation puts beside `vtl1ctl`, below a folder laid out as `/usr/share`: a manual
//! page for it and each of its commands, and completions. The command itself has to be small, because it is
//! in an initial RAM disk, so it does not contain them.

#[allow(dead_code, reason = "nothing is parsed here")]
#[path = "../src/cli.rs"]
mod cli;

use std::fs::{File, create_dir_all};
use std::path::{Path, PathBuf};

use clap::CommandFactory as _;
use clap_complete::Shell;

const NAME: &str = "vtl1ctl";

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let share = std::env::args_os().nth(1).ok_or("a folder is needed")?;
    let share = PathBuf::from(share);
    let pages = share.join("man/man1");
    create_dir_all(&pages)?;
    clap_mangen::generate_to(cli::Arguments::command(), &pages)?;
    for (shell, place) in [
        (Shell::Bash, "bash-completion/completions/vtl1ctl"),
        (Shell::Zsh, "zsh/site-functions/_vtl1ctl"),
        (Shell::Fish, "fish/vendor_completions.d/vtl1ctl.fish"),
    ] {
        write_completions(shell, &share.join(place))?;
    }
    Ok(())
}

fn write_completions(shell: Shell, path: &Path) -> std::io::Result<()> {
    if let Some(folder) = path.parent() {
        create_dir_all(folder)?;
    }
    let mut file = File::create(path)?;
    clap_complete::generate(shell, &mut cli::Arguments::command(), NAME, &mut file);
    Ok(())
}
