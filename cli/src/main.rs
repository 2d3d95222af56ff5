//! The `tokenry` command.

use std::{io::Write, process::ExitCode};

use clap::{
    CommandFactory, Parser, Subcommand,
    error::{ContextKind, ContextValue, Error, ErrorKind},
};
use clap_complete::Shell;
use tokenry::{
    bootstrap::{self, Bootstrap},
    console::{
        Console,
        failure::{EXIT_CODES, Failure, Kind},
        output,
    },
    migrate::{self, Migrate},
    serve::{self, Serve},
    tag_key::{self, TagKeyCommand},
    value_key::{self, ValueKeyCommand},
};

/// Run Tokenry on this computer, create the accounts of a deployment, and call the API
#[derive(Debug, Parser)]
#[command(name = "tokenry", version, after_long_help = EXIT_CODES)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Serve(Serve),
    Bootstrap(Bootstrap),
    Migrate(Migrate),
    #[command(subcommand)]
    ValueKey(ValueKeyCommand),
    #[command(subcommand)]
    TagKey(TagKeyCommand),
    #[command(flatten)]
    Console(Console),
    /// Print the completion script for a shell
    Completions {
        shell: Shell,
    },
}

#[tokio::main]
async fn main() -> ExitCode {
    let cli = Cli::try_parse().unwrap_or_else(|error| without_values(error).exit());
    let done = match cli.command {
        Command::Serve(args) => serve::run(args).await.map_err(other),
        Command::Bootstrap(args) => bootstrap::run(args).await.map_err(other),
        Command::Migrate(args) => migrate::run(args).await.map_err(other),
        Command::ValueKey(command) => value_key::run(command).await.map_err(other),
        Command::TagKey(command) => tag_key::run(command).await.map_err(other),
        Command::Console(console) => console.run().await,
        Command::Completions { shell } => completions(shell),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            // `eprintln!` would panic if standard error is closed.
            let _ = writeln!(std::io::stderr(), "{failure}");
            failure.exit_code()
        }
    }
}

fn other(line: String) -> Failure {
    Failure::new(Kind::Other, line)
}

fn completions(shell: Shell) -> Result<(), Failure> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "tokenry", &mut script);
    output::print(String::from_utf8_lossy(&script).trim_end())
}

/// Removes possible secrets from a clap error: values of unexpected arguments, and text that looks
/// like a token. The user may have passed a secret as an argument.
fn without_values(mut error: Error) -> Error {
    let stray = matches!(
        error.kind(),
        ErrorKind::UnknownArgument | ErrorKind::TooManyValues
    );
    for kind in [
        ContextKind::InvalidArg,
        ContextKind::InvalidValue,
        ContextKind::InvalidSubcommand,
    ] {
        let Some(ContextValue::String(text)) = error.get(kind) else {
            continue;
        };
        if text.contains("tk_") || (stray && !text.starts_with('-')) {
            error.remove(kind);
            error.remove(ContextKind::Suggested);
        }
    }
    error
}
