// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! `vtlctl man` and `vtlctl completions`: what an installation puts beside the command. Both come from
//! the same description as `--help`.

use std::io::Write as _;
use std::path::PathBuf;

use anyhow::Context as _;
use clap::Command;
use clap_complete::Shell;

use crate::{ExitStatus, Failure};

#[derive(clap::Args)]
pub(crate) struct Man {
    /// Folder for the pages, which is made if there is none
    #[arg(value_name = "FOLDER")]
    folder: PathBuf,
}

#[derive(clap::Args)]
#[command(after_help = "Example:
  vtlctl completions bash >/usr/share/bash-completion/completions/vtlctl")]
pub(crate) struct Completions {
    /// Shell that is to complete
    shell: Shell,
}

/// Writes a page for `command` and one for each of its commands.
pub(crate) fn man(arguments: &Man, command: Command) -> Result<ExitStatus, Failure> {
    let folder = &arguments.folder;
    std::fs::create_dir_all(folder)
        .and_then(|()| clap_mangen::generate_to(command, folder))
        .with_context(|| format!("cannot write manual pages to {}", folder.display()))
        .map_err(|error| Failure::new(ExitStatus::File, error))?;
    Ok(ExitStatus::Success)
}

/// Prints what the shell is to source.
pub(crate) fn completions(
    arguments: &Completions,
    mut command: Command,
) -> Result<ExitStatus, Failure> {
    let script = script(arguments.shell, &mut command);
    // Not print!, which panics when a pipe ends early.
    std::io::stdout().write_all(&script)?;
    Ok(ExitStatus::Success)
}

fn script(shell: Shell, command: &mut Command) -> Vec<u8> {
    let mut script = Vec::new();
    clap_complete::generate(shell, command, "vtlctl", &mut script);
    script
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory as _;

    /// The names of all commands.
    fn names() -> Vec<String> {
        let command = crate::Arguments::command();
        let names = command.get_subcommands().map(|it| it.get_name().to_owned());
        names.collect()
    }

    #[test]
    fn every_command_has_a_page_and_the_first_one_lists_the_statuses() -> anyhow::Result<()> {
        let folder = std::env::temp_dir().join(format!("vtlctl-man-{}", std::process::id()));
        let arguments = Man {
            folder: folder.join("man1"),
        };
        let made = man(&arguments, crate::Arguments::command());
        let read = |name: String| std::fs::read_to_string(arguments.folder.join(name));
        let first = read("vtlctl.1".to_owned());
        let pages: Vec<_> = names()
            .into_iter()
            .map(|name| read(format!("vtlctl-{name}.1")))
            .collect();
        std::fs::remove_dir_all(&folder)?;
        assert!(made.is_ok());
        assert!(first?.contains("a file of audit records is incomplete"));
        for page in pages {
            assert!(page?.starts_with(".ie \\n(.g"));
        }
        Ok(())
    }

    #[test]
    fn a_folder_that_cannot_be_made_is_named() {
        let arguments = Man {
            folder: PathBuf::from("/dev/null/man1"),
        };
        let failure = man(&arguments, crate::Arguments::command()).expect_err("no folder");
        assert_eq!(failure.status, ExitStatus::File);
        assert!(format!("{:#}", failure.error).contains("/dev/null/man1"));
    }

    #[test]
    fn every_shell_completes_every_command() {
        for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
            let script = script(shell, &mut crate::Arguments::command());
            let text = String::from_utf8(script).expect("text");
            for name in names() {
                assert!(text.contains(&name), "{shell} {name}");
            }
            assert!(text.contains("no-reboot"), "{shell}");
        }
    }

    /// Asked as by a user who has typed `vtlctl bo` and the tabulator key.
    #[test]
    fn bash_completes_what_was_begun() -> anyhow::Result<()> {
        let script = String::from_utf8(script(Shell::Bash, &mut crate::Arguments::command()))?;
        let ask = "COMP_WORDS=(vtlctl bo) COMP_CWORD=1; _vtlctl vtlctl bo vtlctl; echo \"${COMPREPLY[@]}\"";
        let output = std::process::Command::new("bash")
            .args(["-c", &format!("{script}\n{ask}")])
            .output()?;
        assert_eq!(String::from_utf8_lossy(&output.stdout).trim(), "boot");
        Ok(())
    }
}
