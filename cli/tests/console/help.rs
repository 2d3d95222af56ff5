//! Tests of the help, and of the options that all commands that call the API have.

use crate::{run, tokenry};

#[test]
fn a_command_without_its_subcommand_prints_help_and_fails() {
    let home = tempfile::tempdir().unwrap();
    for (arguments, usage) in [
        (&[][..], "Usage: tokenry "),
        (&["user"], "Usage: tokenry user "),
    ] {
        let ran = run(tokenry(home.path(), arguments), "");
        assert_eq!((ran.code, ran.stdout.as_str()), (2, ""), "{ran:?}");
        assert!(ran.stderr.contains(usage), "{ran:?}");
        assert!(!ran.stderr.contains("error"), "{ran:?}");
    }
}
