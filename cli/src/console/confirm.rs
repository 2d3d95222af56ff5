//! Asks for a confirmation before a command deletes the data of many users.

use std::io::{self, IsTerminal, Write};

use clap::Args;

use super::failure::{Failure, Kind};

/// The confirmation of a command
#[derive(Clone, Copy, Debug, Args)]
pub struct Confirm {
    /// Do not ask for confirmation
    #[arg(long)]
    yes: bool,
}

impl Confirm {
    /// Asks at the terminal whether to delete `what`, unless the option `--yes` is set.
    ///
    /// # Errors
    /// The user does not confirm, or standard input is not a terminal.
    pub fn delete(self, what: &str) -> Result<(), Failure> {
        if self.yes {
            return Ok(());
        }
        let stdin = io::stdin();
        if !stdin.is_terminal() {
            let line = format!("to delete {what}, confirm with --yes");
            return Err(Failure::usage(line));
        }
        let mut terminal = io::stderr();
        let _ = write!(
            terminal,
            "Delete {what}? You cannot undo this. Type yes to confirm: "
        );
        let _ = terminal.flush();
        let mut typed = String::new();
        let read = stdin.read_line(&mut typed);
        read.map_err(|error| Failure::usage(format!("cannot read the terminal: {error}")))?;
        if ["y", "yes"].contains(&typed.trim().to_lowercase().as_str()) {
            Ok(())
        } else {
            Err(Failure::new(Kind::Other, "nothing is deleted"))
        }
    }
}
